#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "aggregator/client/alarm.h"
#include "aggregator/client/context.h"
#include "aggregator/client/table.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail::client {
namespace {

constexpr size_t kShortId = 8;   // enough to acknowledge one by

struct AlarmFlags {
  bool all = false;
  uint32_t max = 100;
  std::string id, code, note;
};

std::string TimeOrNull(int64_t ns) { return ns != 0 ? JsonString(Rfc3339(absl::FromUnixNanos(ns), 3)) : std::string("null"); }

std::string Ago(const Context& context, int64_t ns) {
  return HumanAge(static_cast<double>(context.clock.WallNanos() - ns) / 1e9) + " ago";
}

absl::Status List(Context& context, const AlarmFlags& f) {
  ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
  pb::ListAlarmsRequest request;
  request.set_all(f.all);
  request.set_max(f.max);
  ASSIGN_OR_RETURN(pb::ListAlarmsResponse answer, rpc->ListAlarms(request));
  if (context.output() != Output::kTable) {
    const bool document = context.output() == Output::kJson;
    if (document) std::printf("[");
    for (int i = 0; i < answer.alarms_size(); ++i) {
      std::printf("%s%s%s", document && i ? ",\n" : "", AlarmJson(answer.alarms(i)).c_str(), document ? "" : "\n");
    }
    if (document) std::printf("]\n");
    return absl::OkStatus();
  }
  if (answer.alarms_size() == 0) std::printf("%s\n", f.all ? "no alarm was ever raised" : "no open alarms; --all shows acknowledged and past ones");
  Table table(f.all ? std::vector<std::string>{"SEVERITY", "CODE", "SUBJECT", "RAISED", "STATE", "COUNT", "DETAIL", "ID", "NOTE"}
                    : std::vector<std::string>{"SEVERITY", "CODE", "SUBJECT", "RAISED", "COUNT", "DETAIL", "ID"});
  for (const pb::Alarm& a : answer.alarms()) {
    const std::string id = a.id().substr(0, kShortId), count = std::to_string(a.count());
    if (f.all) {
      table.Add({a.severity(), a.code(), a.subject(), Ago(context, a.raised_ns()), a.state(), count, a.detail(), id, a.note()});
    } else {
      table.Add({a.severity(), a.code(), a.subject(), Ago(context, a.raised_ns()), count, a.detail(), id});
    }
  }
  std::printf("%s", table.Text(context.color()).c_str());
  return absl::OkStatus();
}

absl::Status Acknowledge(Context& context, const AlarmFlags& f) {
  if (f.id.empty() == f.code.empty()) {
    context.exit_code = kUsage;
    return absl::InvalidArgumentError("give the ID of one alarm, or --code CODE for every open one of a code");
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
  pb::AcknowledgeAlarmRequest request;
  request.set_id(f.id);
  request.set_code(f.code);
  request.set_note(f.note);
  ASSIGN_OR_RETURN(pb::AcknowledgeAlarmResponse answer, rpc->AcknowledgeAlarm(request));
  for (const pb::Alarm& a : answer.alarms()) {
    std::printf("%s %s: %s\n", a.code().c_str(), Printable(a.subject()).c_str(),
                a.state() == "cleared" ? "acknowledged, and over" : "acknowledged; it clears when its cause is gone");
  }
  return absl::OkStatus();
}

}  // namespace

std::string AlarmJson(const v1::Alarm& a) {
  std::string json = "{\"id\":" + JsonString(a.id()) + ",\"code\":" + JsonString(a.code()) + ",\"severity\":" + JsonString(a.severity());
  json += ",\"state\":" + JsonString(a.state()) + ",\"kind\":" + JsonString(a.kind()) + ",\"subject\":" + JsonString(a.subject());
  json += ",\"raised\":" + TimeOrNull(a.raised_ns()) + ",\"last\":" + TimeOrNull(a.last_ns()) + ",\"cleared\":" + TimeOrNull(a.cleared_ns());
  json += ",\"count\":" + std::to_string(a.count()) + ",\"detail\":" + JsonString(a.detail());
  json += ",\"acknowledgedBy\":" + JsonString(a.acknowledged_by()) + ",\"note\":" + JsonString(a.note()) + "}";
  return json;
}

std::string PaintSeverity(bool color, std::string_view severity) {
  if (severity == "page") return Paint(color, "1;31", severity);
  if (severity == "warn") return Paint(color, "33", severity);
  return std::string(severity);
}

void AddAlarms(CLI::App& app, Context& context) {
  auto f = std::make_shared<AlarmFlags>();
  CLI::App* alarms = app.add_subcommand("alarms", "What somebody should look at: open alarms, worst first");
  alarms->require_subcommand(0, 1);
  alarms->add_flag("--all", f->all, "Acknowledged and cleared ones too, with their notes");
  alarms->add_option("--max", f->max, "At most this many")->capture_default_str();
  alarms->footer("open          nobody has looked at it\nacknowledged  somebody has, and its cause goes on: it clears when that is gone\n"
                 "cleared       over: its cause is gone, or it was an event and somebody acknowledged it\n");
  CLI::App* ack = alarms->add_subcommand("ack", "Acknowledge one, or all of a code, with a note for those who come after");
  ack->add_option("id", f->id, "The alarm's id, or its first characters");
  ack->add_option("--code", f->code, "Every open alarm of this code, as after an upgrade of all agents");
  ack->add_option("--note", f->note, "What was found or done")->required();
  ack->footer("Example:\n  orgtrail alarms ack 3f0c81aa --note 'restored from backup by mistake; enrolled anew'\n"
              "  orgtrail alarms ack --code AGENT_CHANGED --note 'upgrade to 1.2, change 4711'\n");
  ack->callback([f, &context] { context.Run([&] { return Acknowledge(context, *f); }); });
  alarms->callback([alarms, f, &context] {
    if (alarms->get_subcommands().empty()) context.Run([&] { return List(context, *f); });
  });
}

}  // namespace orgtrail::client
