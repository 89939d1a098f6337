#include "aggregator/ledger/pruner.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/base/status.h"
#include "common/format/batch.h"
#include "common/format/control.h"
#include "common/format/note_text.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kBetweenLooks = absl::Minutes(1), kWhileLogged = absl::Milliseconds(100), kAfterFailure = absl::Hours(1);
constexpr absl::Duration kDay = absl::Hours(24);
constexpr size_t kControlsAtOnce = 1024;
constexpr uint64_t kLeavesLooked = 4096;   // behind a shard, for a batch that quotes it whole: agents do in each heartbeat

int64_t Nanos(absl::Duration d) { return absl::ToInt64Nanoseconds(d); }

}  // namespace

Pruner::Pruner(PrunerOptions options, Ledger& ledger, Committer& committer, Fs& fs, const Clock& clock)
    : options_(std::move(options)), ledger_(ledger), committer_(committer), fs_(fs), clock_(clock), log_(ledger.origin()) {}

absl::Status Pruner::Load() {
  RETURN_IF_ERROR(Follow());
  Publish();
  return absl::OkStatus();
}

absl::Status Pruner::Follow() {
  for (;;) {
    const std::vector<uint64_t> leaves = ledger_.ControlLeaves(followed_, kControlsAtOnce);
    for (const uint64_t index : leaves) {
      ASSIGN_OR_RETURN(const std::string entry, ledger_.ReadEntry(index));
      if (const absl::Status taken = log_.Take(index, entry); !taken.ok()) {
        LogError("A leaf about retention is not what it may be; it counts for nothing.", {{"leaf", std::to_string(index)}, {"why", Describe(taken)}});
      }
      followed_ = index + 1;
    }
    if (leaves.size() < kControlsAtOnce) break;
  }
  return absl::OkStatus();
}

absl::Status Pruner::Submit(const RetentionLeaf& leaf) {
  RETURN_IF_ERROR(log_.Check(ledger_.head().size, leaf));   // nobody else appends OTR2 leaves: what holds now holds then
  Admitted item;
  item.leaf = std::make_shared<Leaf>();
  item.leaf->bytes = leaf.Encode();
  auto logged = std::make_shared<std::atomic<bool>>(false);
  item.then = [logged](const SignedHead&, uint64_t) { *logged = true; };
  RETURN_IF_ERROR(committer_.Submit(std::move(item)));
  submitted_ = std::move(logged);
  return absl::OkStatus();
}

void Pruner::Refuse(const std::string& why) {
  LogError("A retention order is refused.", {{"file", options_.order_file}, {"why", why}});
  if (options_.tell) options_.tell("RETENTION_REFUSED", true, options_.order_file + ": " + why);
}

// An order that governance signed, put beside the ledger: the log announces it.
void Pruner::ReadOrder() {
  const absl::StatusOr<std::string> note = ReadFile(fs_, options_.order_file, 64 << 10);
  if (!note.ok() || *note == refused_note_) return;
  RetentionLeaf leaf;
  leaf.wall_ns = static_cast<uint64_t>(clock_.WallNanos());
  leaf.minimum = log_.minimum();
  leaf.newest_ns = log_.raises().empty() ? 0 : log_.raises().back().newest_ns;
  leaf.note = *note;
  const absl::StatusOr<RetentionOrder> order = RetentionOrder::Decode(NoteText(*note));
  if (order.ok() && log_.newest() && log_.newest()->order.Text() == order->Text()) return;   // announced
  absl::Status said = order.status();
  if (said.ok()) said = note->size() <= 8000 ? Submit(leaf) : absl::InvalidArgumentError("longer than 8,000 bytes");
  if (absl::IsResourceExhausted(said)) return;   // the ledger is full or behind: again in a minute
  if (!said.ok()) {
    refused_note_ = *note;
    return Refuse(std::string(said.message()));
  }
  if (options_.tell) {
    options_.tell("RETENTION_ORDERED", false, absl::StrCat("governance orders that bodies are kept for ", order->keep_days,
                                                           " days; before the policy's delay is over nothing goes, and nothing without ledger.retention"));
  }
}

// By when an agent had seen the log with all of a shard in it: the latest of its clock and ours. Nothing: no batch says so yet.
absl::StatusOr<std::optional<int64_t>> Pruner::SeenAt(uint64_t end) {
  if (seen_end_ == end && seen_ns_) return seen_ns_;
  seen_end_ = end;
  seen_ns_.reset();
  const uint64_t stop = std::min(ledger_.head().size, end + kLeavesLooked);
  for (uint64_t index = end; index < stop; ++index) {
    ASSIGN_OR_RETURN(const RawLeaf raw, ledger_.ReadRaw(index));
    const absl::StatusOr<FrameView> frame = FrameView::Decode(raw.bytes);
    if (!frame.ok()) continue;
    ASSIGN_OR_RETURN(const BatchEntry entry, BatchEntry::Decode(frame->entry));
    const auto close_ns = static_cast<int64_t>(entry.header.wall_close_ns);
    if (entry.header.seen_size < end || close_ns > raw.logged_ns + Nanos(kDay)) continue;   // a clock that is fast says nothing
    seen_ns_ = std::max(close_ns, raw.logged_ns);
    break;
  }
  return seen_ns_;
}

// A clock that jumped ahead must not cost a year of records: some agent's says the same.
bool Pruner::IsClockConfirmed() const {
  const int64_t now = clock_.WallNanos();
  for (const AgentHead& head : ledger_.Heads()) {
    if (head.uuid != options_.own && static_cast<int64_t>(head.wall_close_ns) >= now - Nanos(kDay)) return true;
  }
  return false;
}

absl::StatusOr<std::optional<RetentionLeaf>> Pruner::NextRaise(absl::Duration keep) {
  const int64_t now = clock_.WallNanos();
  std::optional<RetentionLeaf> raise;
  next_ns_ = 0;
  for (const ShardFacts& s : ledger_.Sealed()) {
    if (s.end <= log_.minimum()) continue;
    ASSIGN_OR_RETURN(const std::optional<int64_t> seen_ns, SeenAt(s.end));
    if (!seen_ns) break;
    const int64_t due = std::max({s.last_logged_ns, *seen_ns}) + Nanos(keep + kDay);
    if (due > now || now < log_.newest()->effective_ns) {
      next_ns_ = std::max(due, log_.newest()->effective_ns);
      break;
    }
    if (!raise) raise.emplace();
    raise->minimum = s.end;
    raise->newest_ns = s.last_logged_ns;
  }
  if (!raise) return raise;
  if (!IsClockConfirmed()) {
    why_ = "no agent's clock confirms the aggregator's: nothing goes until one that is live says the same time";
    return std::optional<RetentionLeaf>();
  }
  raise->wall_ns = static_cast<uint64_t>(now);
  raise->note = log_.newest()->note;
  return raise;
}

Tick Pruner::Step(Tick now) {
  why_.clear();
  absl::Status done = Follow();
  if (done.ok() && submitted_ != nullptr) {
    if (!*submitted_) return now + kWhileLogged;
    submitted_.reset();
    done = Follow();
  }
  if (done.ok()) ReadOrder();
  if (submitted_ != nullptr) return now + kWhileLogged;
  const bool is_wanted = options_.keep > absl::ZeroDuration();
  if (is_wanted && done.ok()) {
    // What the log said before an end of the process is done first.
    const absl::StatusOr<bool> dropped = ledger_.DropBodies(log_);
    if (absl::IsUnavailable(dropped.status())) return now + kBetweenLooks;   // it is being repacked
    done = dropped.status();
    if (dropped.ok() && !*dropped) {
      Publish();
      return clock_.Now() + (clock_.Now() - now);   // as long a rest: at most half a core
    }
  }
  if (done.ok() && is_wanted && log_.newest()) {
    absl::StatusOr<std::optional<RetentionLeaf>> raise = NextRaise(std::max(options_.keep, log_.newest()->order.keep()));
    done = raise.status();
    if (raise.ok() && *raise) done = Submit(**raise);
    if (done.ok() && submitted_ != nullptr) {
      LogInfo("Bodies expire: the log says so first.", {{"below", std::to_string((*raise)->minimum)}});
      return now + kWhileLogged;
    }
  }
  if (!done.ok()) {
    why_ = std::string(done.message());
    LogError("Bodies that expired cannot be dropped; it is tried again in an hour.", {{"error", Describe(done)}});
  }
  Publish();
  return now + (done.ok() ? kBetweenLooks : kAfterFailure);
}

void Pruner::Publish() {
  RetentionFacts f;
  f.keep = options_.keep;
  if (log_.newest()) {
    f.order_days = log_.newest()->order.keep_days;
    f.order_leaf = log_.newest()->leaf;
    f.effective_ns = log_.newest()->effective_ns;
  }
  f.minimum = log_.minimum();
  if (!log_.raises().empty()) f.minimum_leaf = log_.raises().back().leaf;
  if (f.minimum < ledger_.head().size) {
    const absl::StatusOr<RawLeaf> oldest = ledger_.ReadRaw(f.minimum);
    if (oldest.ok()) f.oldest_body_ns = oldest->logged_ns;
  }
  f.next_ns = next_ns_;
  f.why = why_;
  if (f.why.empty() && options_.keep > absl::ZeroDuration() && f.order_days == 0) f.why = "ledger.retention waits for governance's order: orgtrail retention order";
  if (f.why.empty() && options_.keep == absl::ZeroDuration() && f.order_days != 0) f.why = "ledger.retention is not set: an order alone drops nothing";
  facts_.With([&](RetentionFacts& facts) { facts = std::move(f); });
}

}  // namespace orgtrail
