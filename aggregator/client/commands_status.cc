#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "absl/strings/str_format.h"
#include "aggregator/client/alarm.h"
#include "aggregator/client/context.h"
#include "aggregator/client/shards.h"
#include "aggregator/client/table.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/format/note_text.h"

namespace orgtrail::client {
namespace {

std::string Days(int64_t seconds) { return std::to_string(seconds / 86'400) + " days"; }

std::string RetentionText(const pb::StatusResponse::Retention& r) {
  std::string text = r.keep_s() == 0 ? "bodies are kept for ever" : "bodies are kept " + Days(r.keep_s());
  if (r.order_days() != 0) text += "; governance ordered " + std::to_string(r.order_days()) + " days (leaf " + std::to_string(r.order_leaf()) + ")";
  if (r.oldest_body_ns() != 0) text += "; the oldest is of " + Rfc3339(absl::FromUnixNanos(r.oldest_body_ns()));
  if (r.minimum() != 0) text += "; those below leaf " + std::to_string(r.minimum()) + " expired (leaf " + std::to_string(r.minimum_leaf()) + ")";
  if (r.next_ns() != 0) text += "; the next may go at " + Rfc3339(absl::FromUnixNanos(r.next_ns()));
  return text;
}

std::string RetentionJson(const pb::StatusResponse::Retention& r) {
  const auto time = [](int64_t ns) { return ns == 0 ? std::string("null") : JsonString(Rfc3339(absl::FromUnixNanos(ns))); };
  std::string json = "{\"keepDays\":" + (r.keep_s() == 0 ? std::string("null") : std::to_string(r.keep_s() / 86'400));
  json += ",\"orderDays\":" + (r.order_days() == 0 ? std::string("null") : std::to_string(r.order_days()) + ",\"orderLeaf\":" + std::to_string(r.order_leaf()));
  json += ",\"effective\":" + time(r.effective_ns()) + ",\"minimum\":" + std::to_string(r.minimum());
  if (r.minimum() != 0) json += ",\"minimumLeaf\":" + std::to_string(r.minimum_leaf());
  return json + ",\"oldestBody\":" + time(r.oldest_body_ns()) + ",\"next\":" + time(r.next_ns()) + ",\"why\":" + JsonString(r.why()) + "}";
}

std::vector<ShardFacts> ShardsOf(const pb::StatusResponse& s) {
  std::vector<ShardFacts> shards;
  for (const auto& shard : s.shards()) {
    shards.push_back({shard.number(), shard.first_leaf(), shard.end_leaf(), shard.last_logged_ns(), shard.bytes(), shard.sealed(), shard.repacked()});
  }
  return shards;
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
    json += ",\"shards\":" + ShardsJson(ShardsOf(s));
    json += ",\"ledgerFullSince\":" + (s.ledger_full_since_ns() == 0 ? std::string("null") : JsonString(Rfc3339(absl::FromUnixNanos(s.ledger_full_since_ns()))));
    json += ",\"retention\":" + RetentionJson(s.retention());
    json += ",\"subscriptions\":" + std::to_string(s.subscriptions()) + ",\"followers\":[";
    for (int i = 0; i < s.followers_size(); ++i) {
      const auto& f = s.followers(i);
      json += (i ? "," : "") + ("{\"name\":" + JsonString(f.name())) + ",\"cursor\":" + std::to_string(f.cursor()) +
              ",\"behind\":" + std::to_string(f.behind()) + "}";
    }
    json += "],\"alarmsOpen\":" + std::to_string(s.alarms_open()) + ",\"alarmsAcknowledged\":" + std::to_string(s.alarms_acknowledged()) + ",\"alarms\":[";
    for (int i = 0; i < s.alarms_size(); ++i) json += (i ? "," : "") + AlarmJson(s.alarms(i));
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
  const std::vector<ShardFacts> shards = ShardsOf(s);
  std::printf("  shards       %s\n", ShardsLine(shards).c_str());
  if (context.wide()) std::printf("%s", ShardsTable(shards, color).c_str());
  if (s.ledger_full_since_ns() != 0) {
    std::printf("               %s\n", Paint(color, "1;31", "FULL since " + Rfc3339(absl::FromUnixNanos(s.ledger_full_since_ns())) +
                                                             ": nothing is logged, agents keep their records").c_str());
    std::printf("               %s\n", Printable(s.ledger_full_why()).c_str());
  }
  std::printf("  retention    %s\n", RetentionText(s.retention()).c_str());
  if (!s.retention().why().empty()) std::printf("               %s\n", Printable(s.retention().why()).c_str());
  const std::string silent = std::to_string(s.agents_silent()) + " silent";
  std::printf("  agents       %u live, %s, %u enrolled\n", s.agents_live(), s.agents_silent() ? Paint(color, "31", silent).c_str() : silent.c_str(), s.agents_total());
  std::string followers;
  for (const auto& f : s.followers()) {
    followers += (followers.empty() ? "" : ", ") + f.name() + (f.behind() == 0 ? " caught up" : " " + HumanCount(static_cast<double>(f.behind())) + " leaves behind");
  }
  std::printf("  followers    %s; %u feed subscriptions\n", followers.c_str(), s.subscriptions());
  if (const absl::StatusOr<Checkpoint> parsed = Checkpoint::Decode(NoteText(s.checkpoint())); parsed.ok()) {
    std::printf("  checkpoint   size %llu, root %s\n", static_cast<unsigned long long>(parsed->size), Base64(parsed->root.view()).c_str());
  }
  const std::string known = s.alarms_acknowledged() == 0 ? "" : ", " + std::to_string(s.alarms_acknowledged()) + " acknowledged";
  if (s.alarms_open() == 0) {
    std::printf("  alarms       %s%s\n", Paint(color, "32", "none open").c_str(), known.c_str());
  } else {
    std::printf("  alarms       %u open%s\n", s.alarms_open(), known.c_str());
    for (const pb::Alarm& a : s.alarms()) {
      std::printf("    %s  %s  %s  %s\n", PaintSeverity(context.color(), a.severity()).c_str(), a.code().c_str(), Printable(a.subject()).c_str(), Printable(a.detail()).c_str());
    }
  }
  return absl::OkStatus();
}

}  // namespace

void AddStatus(CLI::App& app, Context& context) {
  app.add_subcommand("status", "One screen: ingest rate, lag of each follower, fleet, alarms")->callback([&context] {
    context.Run([&] { return Status(context); });
  });
}

}  // namespace orgtrail::client
