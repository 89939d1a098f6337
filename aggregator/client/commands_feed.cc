#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <memory>
#include <thread>

#include "aggregator/client/context.h"
#include "aggregator/client/cursor_file.h"
#include "aggregator/client/envelope.h"
#include "aggregator/client/table.h"
#include "common/base/guarded.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail::client {
namespace {

struct FeedFlags {
  std::string from = "now", order = "arrival", cursor_file, file;
  std::vector<std::string> accounts, regions, attributes;
  uint64_t max = 0;
  bool no_follow = false, envelope = false, own = false;
};

sigset_t Interrupts() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}
// Before any thread is started (connecting does): a thread that had them open would let them end the process.
void HoldInterrupts() {
  const sigset_t set = Interrupts();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

// Ctrl-C and SIGTERM end a feed between records: the cursor is saved, the exit code is 0.
class Interrupt {
 public:
  explicit Interrupt(std::function<void()> act) : set_(Interrupts()) {
    thread_ = std::thread([this, act = std::move(act)] {
      int signal = 0;
      sigwait(&set_, &signal);
      if (!done_.Peek([](bool d) { return d; })) act();
    });
  }
  ~Interrupt() {
    done_.With([](bool& d) { d = true; });
    pthread_kill(thread_.native_handle(), SIGTERM);
    thread_.join();
  }

 private:
  const sigset_t set_;
  Guarded<bool> done_{false};
  std::thread thread_;
};

constexpr size_t kLeastCursor = 40;   // characters; what is shorter is no cursor, but a time that was mistyped

absl::StatusOr<pb::SubscribeRequest> RequestOf(const Context& context, const FeedFlags& f, const std::string& saved_cursor) {
  pb::SubscribeRequest request;
  if (f.order != "arrival") return absl::InvalidArgumentError("--order: arrival");
  if (!saved_cursor.empty()) {
    request.set_cursor(saved_cursor);
  } else if (f.from == "start") {
    request.set_start(true);
  } else if (f.from == "now") {
    request.set_now(true);
  } else if (absl::Time t; ParseWhen(f.from, context.clock.Wall(), &t)) {
    request.set_time_ns(absl::ToUnixNanos(t));
  } else if (f.from.size() < kLeastCursor) {
    return absl::InvalidArgumentError("--from " + f.from + ": start, now, a time such as 2026-11-20T09:00:00Z, 2026-11-20 or -2h, or a whole cursor");
  } else {
    request.set_cursor(f.from);
  }
  for (const std::string& a : f.accounts) {
    if (!IsAccountId(a)) return absl::InvalidArgumentError("--account " + a + ": 12 digits");
    request.add_accounts(a);
  }
  for (const std::string& r : f.regions) request.add_regions(r);
  for (const std::string& spec : f.attributes) {
    const size_t eq = spec.find('=');
    if (eq == std::string::npos) return absl::InvalidArgumentError("--attribute: KEY=VALUE, such as EventName=DeleteBucket");
    pb::Attribute* a = request.add_attributes();
    a->set_key(spec.substr(0, eq));
    a->set_value(spec.substr(eq + 1));
  }
  request.set_follow(!f.no_follow);
  request.set_own(f.own);
  request.set_max(f.max);
  request.set_bodies_only(!f.envelope && context.output() != Output::kTable);
  return request;
}

absl::Status Follow(Context& context, const FeedFlags& f) {
  HoldInterrupts();
  ASSIGN_OR_RETURN(CursorFile cursor, CursorFile::Open(context.fs, f.cursor_file, f.file));
  ASSIGN_OR_RETURN(pb::SubscribeRequest request, RequestOf(context, f, cursor.cursor()));
  ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
  const bool table = context.output() == Output::kTable && f.file.empty();
  Interrupt interrupt([&] { rpc->Cancel(); });
  absl::Status written;
  bool first = true;
  uint64_t gone = 0;
  std::string out;
  absl::Status ended = rpc->Subscribe(request, [&](const pb::FeedMessage& message) {
    out.clear();
    for (const pb::Event& e : message.events()) {
      if (table) {
        EventLine l = LineOf(e, absl::UTCTimeZone());
        if (first) std::printf("%s\n", Paint(context.color(), "1", "TIME                 ACCOUNT       REGION      WHO                   WHAT").c_str());
        first = false;
        char row[512];
        std::snprintf(row, sizeof row, "%-19s  %-12s  %-10s  %-20s  %-40s %s\n", l.time.c_str(), Printable(l.account).c_str(), Printable(l.region).c_str(),
                      Printable(l.principal).substr(0, 20).c_str(), Printable(l.event).c_str(),
                      l.error.empty() ? "" : Paint(context.color(), "31", Printable(l.error)).c_str());
        out += row;
      } else {
        if (e.record().empty() && !f.envelope) {   // a line is a record's bytes
          ++gone;
          continue;
        }
        out += f.envelope ? EnvelopeJson(e) : e.record();
        out += '\n';
      }
    }
    written = cursor.Write(out, message.cursor());
    if (written.ok() && message.has_completeness() && isatty(STDERR_FILENO) && message.caught_up() && f.no_follow) {
      std::fprintf(stderr, "%s\n", Describe(message.completeness()).c_str());
    }
    return written.ok();
  });
  if (gone != 0) {
    std::fprintf(stderr, "orgtrail: %llu records have no body any more and are left out; --envelope shows where they were\n",
                 static_cast<unsigned long long>(gone));
  }
  RETURN_IF_ERROR(written);
  if (absl::IsCancelled(ended)) return absl::OkStatus();
  return ended;
}

}  // namespace

void AddFeed(CLI::App& app, Context& context) {
  auto f = std::make_shared<FeedFlags>();
  CLI::App* feed = app.add_subcommand("feed", "The merged feed: every record, once, in order; resumable");
  feed->add_option("--from", f->from, "start, now, a time (RFC 3339, -2h) or a cursor")->capture_default_str();
  feed->add_option("--order", f->order, "arrival: as logged, lowest delay")->capture_default_str();
  feed->add_option("--account", f->accounts, "Only this account; repeat for several");
  feed->add_option("--region", f->regions, "Only this region; repeat for several");
  feed->add_option("--attribute,-a", f->attributes, "KEY=VALUE, exact, as in `events lookup`; repeat to AND");
  feed->add_option("--max", f->max, "Stop after this many");
  feed->add_flag("--no-follow", f->no_follow, "Stop when everything logged so far was shown");
  feed->add_flag("--own", f->own, "orgtrail's own records too");
  feed->add_flag("--envelope", f->envelope, "Wrap each record with cursor, account, agent, leaf, times");
  feed->add_option("--cursor-file", f->cursor_file, "Remember where it got to; the next run goes on exactly there");
  feed->add_option("--output-file,--output", f->file, "Append to this file; with --cursor-file nothing is written twice, whatever is killed");
  feed->footer("A pipe cannot be exactly-once: what was written before a kill may not have been read. --output with --cursor-file can.\n\n"
               "Example:\n  orgtrail feed --from start --cursor-file trail.cursor --output trail.jsonl\n");
  feed->callback([f, &context] { context.Run([&] { return Follow(context, *f); }); });
}

}  // namespace orgtrail::client
