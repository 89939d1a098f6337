#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "absl/strings/str_format.h"
#include "aggregator/client/context.h"
#include "aggregator/client/table.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/format/note.h"

namespace orgtrail::client {
namespace {

std::string Ago(const Context& context, int64_t ns) {
  return HumanAge(static_cast<double>(context.clock.WallNanos() - ns) / 1e9) + " ago";
}

std::string AlarmJsonOf(const pb::Alarm& a) {
  std::string json = "{\"id\":" + JsonString(a.id()) + ",\"code\":" + JsonString(a.code()) + ",\"severity\":" + JsonString(a.severity());
  json += ",\"subject\":" + JsonString(a.subject()) + ",\"raised\":" + JsonString(Rfc3339(absl::FromUnixNanos(a.raised_ns()), 3));
  json += ",\"cleared\":" + (a.cleared_ns() != 0 ? JsonString(Rfc3339(absl::FromUnixNanos(a.cleared_ns()), 3)) : std::string("null"));
  json += ",\"count\":" + std::to_string(a.count()) + ",\"detail\":" + JsonString(a.detail());
  json += ",\"acknowledgedBy\":" + JsonString(a.acknowledged_by()) + ",\"note\":" + JsonString(a.note()) + "}";
  return json;
}

std::string PaintSeverity(const Context& context, const std::string& severity) {
  if (severity == "page") return Paint(context.color(), "1;31", severity);
  if (severity == "warn") return Paint(context.color(), "33", severity);
  return severity;
}

absl::Status Status(Context& context) {
  ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
  ASSIGN_OR_RETURN(pb::StatusResponse s, rpc->Status());
  if (context.output() != Output::kTable) {
    std::string json = "{\"version\":" + JsonString(s.version()) + ",\"org\":" + JsonString(s.org()) + ",\"origin\":" + JsonString(s.origin());
    json += std::string(",\"demo\":") + (s.demo() ? "true" : "false") + ",\"treeSize\":" + std::to_string(s.tree_size());
    json += ",\"events\":" + std::to_string(s.events()) + ",\"eventsPerSecond\":" + absl::StrFormat("%.1f", s.events_per_second());
    json += ",\"ledgerBytes\":" + std::to_string(s.ledger_bytes()) + ",\"diskFreeBytes\":" + std::to_string(s.disk_free_bytes());
    json += ",\"daysLeft\":" + (s.days_left() < 0 ? std::string("null") : absl::StrFormat("%.1f", s.days_left()));
    json += ",\"agents\":{\"live\":" + std::to_string(s.agents_live()) + ",\"silent\":" + std::to_string(s.agents_silent()) +
            ",\"total\":" + std::to_string(s.agents_total()) + "}";
    json += ",\"ledgerFullSince\":" + (s.ledger_full_since_ns() == 0 ? std::string("null") : JsonString(Rfc3339(absl::FromUnixNanos(s.ledger_full_since_ns()))));
    json += ",\"subscriptions\":" + std::to_string(s.subscriptions()) + ",\"followers\":[";
    for (int i = 0; i < s.followers_size(); ++i) {
      const auto& f = s.followers(i);
      json += (i ? "," : "") + ("{\"name\":" + JsonString(f.name())) + ",\"cursor\":" + std::to_string(f.cursor()) +
              ",\"behind\":" + std::to_string(f.behind()) + "}";
    }
    json += "],\"alarmsOpen\":" + std::to_string(s.alarms_open()) + ",\"alarms\":[";
    for (int i = 0; i < s.alarms_size(); ++i) json += (i ? "," : "") + AlarmJsonOf(s.alarms(i));
    std::printf("%s]}\n", json.c_str());
    return absl::OkStatus();
  }
  const bool color = context.color();
  std::printf("%s  %s%s\n", Paint(color, "1", s.org()).c_str(), s.origin().c_str(), s.demo() ? Paint(color, "33", "  DEMO (1-of-1 governance)").c_str() : "");
  std::printf("  aggregator   %s, up %s\n", s.version().c_str(), HumanAge(static_cast<double>(context.clock.WallNanos() - s.started_ns()) / 1e9).c_str());
  std::printf("  ingest       %s records/s (last minute), %s records, %s leaves\n", absl::StrFormat("%.1f", s.events_per_second()).c_str(),
              HumanCount(static_cast<double>(s.events())).c_str(), HumanCount(static_cast<double>(s.tree_size())).c_str());
  std::printf("  ledger       %s, %s free%s\n", HumanBytes(s.ledger_bytes()).c_str(), HumanBytes(s.disk_free_bytes()).c_str(),
              s.days_left() < 0 ? "" : (", about " + HumanCount(s.days_left()) + " days left").c_str());
  if (s.ledger_full_since_ns() != 0) {
    std::printf("               %s\n", Paint(color, "1;31", "FULL since " + Rfc3339(absl::FromUnixNanos(s.ledger_full_since_ns())) +
                                                             ": nothing is logged, agents keep their records").c_str());
    std::printf("               %s\n", Printable(s.ledger_full_why()).c_str());
  }
  const std::string silent = std::to_string(s.agents_silent()) + " silent";
  std::printf("  agents       %u live, %s, %u enrolled\n", s.agents_live(), s.agents_silent() ? Paint(color, "31", silent).c_str() : silent.c_str(), s.agents_total());
  std::string followers;
  for (const auto& f : s.followers()) {
    followers += (followers.empty() ? "" : ", ") + f.name() + (f.behind() == 0 ? " caught up" : " " + HumanCount(static_cast<double>(f.behind())) + " leaves behind");
  }
  std::printf("  followers    %s; %u feed subscriptions\n", followers.c_str(), s.subscriptions());
  if (Checkpoint c; true) {
    const std::string note = s.checkpoint();
    absl::StatusOr<Checkpoint> parsed = Checkpoint::Decode(note.substr(0, note.find("\n\n") + 1));
    if (parsed.ok()) std::printf("  checkpoint   size %llu, root %s\n", static_cast<unsigned long long>(parsed->size), Base64(parsed->root.view()).c_str());
  }
  if (s.alarms_open() == 0) {
    std::printf("  alarms       %s\n", Paint(color, "32", "none open").c_str());
  } else {
    std::printf("  alarms       %u open\n", s.alarms_open());
    for (const pb::Alarm& a : s.alarms()) {
      std::printf("    %s  %s  %s  %s\n", PaintSeverity(context, a.severity()).c_str(), a.code().c_str(), Printable(a.subject()).c_str(), Printable(a.detail()).c_str());
    }
  }
  return absl::OkStatus();
}

}  // namespace

void AddAlarms(CLI::App& app, Context& context) {
  struct Flags {
    bool all = false;
    uint32_t max = 100;
    std::string id, note;
  };
  auto f = std::make_shared<Flags>();
  CLI::App* alarms = app.add_subcommand("alarms", "What somebody should look at: open alarms, worst first");
  alarms->require_subcommand(0, 1);
  alarms->add_flag("--all", f->all, "Acknowledged and cleared ones too");
  alarms->add_option("--max", f->max, "At most this many")->capture_default_str();
  CLI::App* ack = alarms->add_subcommand("ack", "Acknowledge one, with a note for those who come after");
  ack->add_option("id", f->id, "The alarm's id")->required();
  ack->add_option("--note", f->note, "What was found or done")->required();
  ack->callback([f, &context] {
    context.Run([&]() -> absl::Status {
      ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
      pb::AcknowledgeAlarmRequest request;
      request.set_id(f->id);
      request.set_note(f->note);
      RETURN_IF_ERROR(rpc->AcknowledgeAlarm(request));
      std::printf("acknowledged %s\n", f->id.c_str());
      return absl::OkStatus();
    });
  });
  alarms->callback([alarms, f, &context] {
    if (!alarms->get_subcommands().empty()) return;
    context.Run([&]() -> absl::Status {
      ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
      pb::ListAlarmsRequest request;
      request.set_all(f->all);
      request.set_max(f->max);
      ASSIGN_OR_RETURN(pb::ListAlarmsResponse answer, rpc->ListAlarms(request));
      if (context.output() != Output::kTable) {
        const bool document = context.output() == Output::kJson;
        if (document) std::printf("[");
        for (int i = 0; i < answer.alarms_size(); ++i) {
          std::printf("%s%s%s", document && i ? ",\n" : "", AlarmJsonOf(answer.alarms(i)).c_str(), document ? "" : "\n");
        }
        if (document) std::printf("]\n");
        return absl::OkStatus();
      }
      if (answer.alarms_size() == 0) std::printf("no open alarms\n");
      Table table({"SEVERITY", "CODE", "SUBJECT", "RAISED", "STATE", "COUNT", "DETAIL", "ID"});
      for (const pb::Alarm& a : answer.alarms()) {
        const std::string state = a.cleared_ns() != 0 ? "cleared" : (a.acknowledged_by().empty() ? "open" : "acknowledged");
        table.Add({a.severity(), a.code(), a.subject(), Ago(context, a.raised_ns()), state, std::to_string(a.count()), a.detail(), a.id()});
      }
      std::printf("%s", table.Text(context.color()).c_str());
      return absl::OkStatus();
    });
  });
}

void AddStatus(CLI::App& app, Context& context) {
  app.add_subcommand("status", "One screen: ingest rate, lag of each follower, fleet, alarms")->callback([&context] {
    context.Run([&] { return Status(context); });
  });
  app.add_subcommand("version", "The version of this program")->callback([] { std::printf("orgtrail %s\n", ORGTRAIL_VERSION); });
  auto shell = std::make_shared<std::string>();
  CLI::App* completion = app.add_subcommand("completion", "Tab completion: source <(orgtrail completion bash)");
  completion->add_option("shell", *shell, "bash or zsh")->required()->check(CLI::IsMember({"bash", "zsh"}));
  completion->callback([shell, &app] {
    std::fputs((*shell == "bash" ? BashCompletion(app) : ZshCompletion(app)).c_str(), stdout);
  });
  CLI::App* man = app.add_subcommand("man", "The manual page, in roff: orgtrail man | man -l -");
  man->callback([&app] {
    std::fputs(ManPage(app, "orgtrail", "the command line of an organization's audit trail").c_str(), stdout);
  });
}

}  // namespace orgtrail::client
