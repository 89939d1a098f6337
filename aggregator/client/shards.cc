#include "aggregator/client/shards.h"

#include <algorithm>

#include "aggregator/client/table.h"
#include "common/base/clock.h"
#include "common/base/text.h"

namespace orgtrail::client {
namespace {

std::string N(uint64_t n) { return HumanCount(static_cast<double>(n)); }

}  // namespace

std::string ShardsLine(std::span<const ShardFacts> shards) {
  uint64_t bytes = 0;
  for (const ShardFacts& s : shards) bytes += s.bytes;
  const auto sealed = std::count_if(shards.begin(), shards.end(), [](const ShardFacts& s) { return s.sealed; });
  const auto repacked = std::count_if(shards.begin(), shards.end(), [](const ShardFacts& s) { return s.repacked; });
  std::string line = std::to_string(shards.size()) + ": " + std::to_string(sealed) + " sealed";
  if (sealed > 0) line += ", " + std::to_string(repacked) + " of them repacked";
  line += "; " + HumanBytes(bytes);
  if (!shards.empty() && shards.back().end > shards.front().first) line += "; leaves " + N(shards.front().first) + " to " + N(shards.back().end - 1);
  return line;
}

std::string ShardsTable(std::span<const ShardFacts> shards, bool color) {
  Table table({"SHARD", "STATE", "BYTES", "FIRST LEAF", "LAST LEAF", "LAST LOGGED"});
  for (const ShardFacts& s : shards) {
    table.Add({std::to_string(s.number), s.repacked ? "repacked" : s.sealed ? "sealed" : "growing", HumanBytes(s.bytes), s.end > s.first ? N(s.first) : "-",
               s.end > s.first ? N(s.end - 1) : "-", s.last_logged_ns == 0 ? "-" : Rfc3339(absl::FromUnixNanos(s.last_logged_ns))});
  }
  return table.Text(color);
}

std::string ShardsJson(std::span<const ShardFacts> shards) {
  std::string json = "[";
  for (const ShardFacts& s : shards) {
    if (json.size() > 1) json += ",";
    json += "{\"number\":" + std::to_string(s.number) + ",\"sealed\":" + (s.sealed ? "true" : "false") + ",\"repacked\":" + (s.repacked ? "true" : "false");
    json += ",\"bytes\":" + std::to_string(s.bytes) + ",\"firstLeaf\":" + std::to_string(s.first) + ",\"endLeaf\":" + std::to_string(s.end);
    json += ",\"lastLogged\":" + (s.last_logged_ns == 0 ? std::string("null") : JsonString(Rfc3339(absl::FromUnixNanos(s.last_logged_ns)))) + "}";
  }
  return json + "]";
}

}  // namespace orgtrail::client
