#include "aggregator/config.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/yaml.h"

namespace orgtrail {

namespace {

constexpr uint64_t kLeastMap = 16 << 20, kLeastTail = 1 << 20, kLeastShard = 1 << 20, kLeastScrub = 1 << 20, kLeastConnection = 32 << 20;
constexpr absl::Duration kLeastRetention = absl::Hours(24 * 400);   // common/format/retention.h: kRetentionFloorDays

// What a shard may grow to before the next begins: its last transactions need room beyond it.
uint64_t LargestShard(uint64_t map_bytes) { return map_bytes / 4 * 3; }

}  // namespace

std::string AggregatorConfig::Origin() const {
  std::string origin = "orgtrail." + domain + "/" + org;
  if (!home) origin += "/" + region;
  return origin;
}

absl::StatusOr<AggregatorConfig> ParseAggregatorConfig(std::string_view path, std::string_view text) {
  ASSIGN_OR_RETURN(YamlFile file, YamlFile::Parse(path, text));
  AggregatorConfig c;
  const YamlNode root = file.root();
  root.String("org", &c.org);
  root.String("domain", &c.domain);
  root.String("region", &c.region);
  root.Bool("home", &c.home);
  root.String("management_account", &c.management_account);
  root.Strings("accounts", &c.accounts);
  root.Strings("regions", &c.regions);
  root.String("state_dir", &c.state_dir);
  root.String("listen", &c.listen);
  YamlNode enrol = root.Map("enrol");
  enrol.String("listen", &c.enrol_listen);
  enrol.String("method", &c.enrol_method);
  enrol.Duration("certificate_life", &c.certificate_life);
  YamlNode metrics = root.Map("metrics");
  metrics.String("listen", &c.metrics_listen);
  YamlNode tls = root.Map("tls");
  tls.String("certificate", &c.tls_certificate);
  tls.String("key", &c.tls_key);
  tls.String("ca_certificate", &c.ca_certificate);
  tls.String("ca_key", &c.ca_key);
  YamlNode keys = root.Map("keys");
  keys.String("log", &c.log_key);
  keys.String("secrets", &c.secrets);
  YamlNode policy = root.Map("policy");
  policy.String("note", &c.policy_note);
  policy.String("body", &c.policy_body);
  YamlNode ledger = root.Map("ledger");
  ledger.Bytes("map_bytes", &c.ledger_map_bytes);
  c.ledger_shard_bytes = 0;
  ledger.Bytes("shard_bytes", &c.ledger_shard_bytes);
  ledger.Duration("shard_period", &c.ledger_shard_period);
  ledger.Bool("repack", &c.ledger_repack);
  std::string retention = "forever";
  ledger.String("retention", &retention);
  if (retention != "forever") ledger.Duration("retention", &c.ledger_retention);
  if (retention != "forever" && c.ledger_retention < kLeastRetention) {
    ledger.Complain("retention", "forever, or at least 400d: nothing younger is ever pruned");
  }
  ledger.String("key_encryption_key", &c.ledger_kek);
  ledger.Bytes("tail_bytes", &c.tail_bytes);
  YamlNode scrub = ledger.Map("scrub");
  scrub.Bytes("rate", &c.scrub_rate);
  scrub.Duration("pause", &c.scrub_pause);
  YamlNode history = root.Map("history");
  history.Duration("keep", &c.history_keep);
  std::string reads = "allow";
  root.String("reads", &reads);
  if (reads != "allow" && reads != "refuse") root.Complain("reads", "allow or refuse");
  c.reads_allow = reads == "allow";
  YamlNode alarms = root.Map("alarms");
  alarms.String("webhook", &c.alarm_webhook);
  alarms.String("exec", &c.alarm_exec);
  alarms.Duration("coverage_grace", &c.coverage_grace);
  YamlNode ingest = root.Map("ingest");
  ingest.Duration("heartbeat_interval", &c.heartbeat_interval);
  ingest.Int("batch_interval_ms", &c.batch_interval_ms, 5, 1000);
  ingest.Int("verify_threads", &c.verify_threads, 1, 64);
  ingest.Bytes("connection_bytes", &c.connection_bytes);
  if (c.connection_bytes < kLeastConnection) ingest.Complain("connection_bytes", "at least 32MiB");

  if (!IsName(c.org)) root.Complain("org", "an organization id such as o-demo");
  if (!IsName(c.region)) root.Complain("region", "a region such as us-east-1");
  if (!IsAccountId(c.management_account)) root.Complain("management_account", "a 12-digit account id in quotes");
  for (const std::string& a : c.accounts) {
    if (!IsAccountId(a)) root.Complain("accounts", "12-digit account ids in quotes");
  }
  for (const std::string& r : c.regions) {
    if (!IsName(r)) root.Complain("regions", "names such as eu-west-1");
  }
  if (c.state_dir.empty() || c.state_dir[0] != '/') root.Complain("state_dir", "an absolute path");
  if (!IsHostPort(c.listen)) root.Complain("listen", "ADDRESS:PORT such as 0.0.0.0:7443");
  if (!IsHostPort(c.enrol_listen)) enrol.Complain("listen", "ADDRESS:PORT such as 0.0.0.0:7444");
  if (!c.metrics_listen.empty() && !IsHostPort(c.metrics_listen)) metrics.Complain("listen", "ADDRESS:PORT such as 127.0.0.1:7481, or \"\" for none");
  if (c.policy_note.empty() != c.policy_body.empty()) policy.Complain("note", "note and body, or neither");
  if (c.ledger_map_bytes < kLeastMap) ledger.Complain("map_bytes", "at least 16MiB; 1TiB is usual and costs no disk");
  if (c.ledger_shard_bytes == 0) c.ledger_shard_bytes = std::min(AggregatorConfig{}.ledger_shard_bytes, LargestShard(c.ledger_map_bytes));
  const bool is_map_good = c.ledger_map_bytes >= kLeastMap;
  if (is_map_good && (c.ledger_shard_bytes < kLeastShard || c.ledger_shard_bytes > LargestShard(c.ledger_map_bytes))) {
    ledger.Complain("shard_bytes", "1MiB to three quarters of map_bytes; 16GiB is usual");
  }
  if (c.ledger_shard_period < absl::Seconds(1)) ledger.Complain("shard_period", "at least 1s; 30d is usual");
  if (c.scrub_rate != 0 && c.scrub_rate < kLeastScrub) scrub.Complain("rate", "bytes a second, at least 1MiB; 0 for never");
  if (c.scrub_pause < absl::Seconds(1)) scrub.Complain("pause", "at least 1s; 24h is usual");
  if (c.tail_bytes < kLeastTail) ledger.Complain("tail_bytes", "at least 1MiB");
  if (c.history_keep < absl::Hours(1)) history.Complain("keep", "at least 1h; 90d is usual");
  const auto scheme = [&](std::string_view s) { return c.alarm_webhook.starts_with(s); };
  if (!c.alarm_webhook.empty() && !scheme("https://") && !scheme("http://") && !scheme("unix:/")) {
    alarms.Complain("webhook", "an address such as https://alerts.example.org/orgtrail");
  }
  if (!c.alarm_exec.empty() && c.alarm_exec[0] != '/') alarms.Complain("exec", "the absolute path of a program");
  if (c.coverage_grace < absl::ZeroDuration()) alarms.Complain("coverage_grace", "a length of time such as 1h");
  if (c.enrol_method != "token") enrol.Complain("method", "token");
  for (const auto& [key, value] : {std::pair{"certificate", &c.tls_certificate}, {"key", &c.tls_key},
                                   {"ca_certificate", &c.ca_certificate}, {"ca_key", &c.ca_key}}) {
    if (value->empty()) tls.Complain(key, "the path of a PEM file; `orgtrail org init` makes them");
  }
  if (c.log_key.empty()) keys.Complain("log", "the path of the log's signing key; `orgtrail org init` makes it");
  if (c.secrets.empty()) keys.Complain("secrets", "the path of a file of 32 random bytes; `orgtrail org init` makes it");
  if (c.certificate_life < absl::Minutes(5)) enrol.Complain("certificate_life", "at least 5m; 24h is usual");
  if (c.heartbeat_interval < absl::Seconds(1) || c.heartbeat_interval > absl::Seconds(60)) {
    ingest.Complain("heartbeat_interval", "1s to 60s");
  }
  RETURN_IF_ERROR(file.Finish());
  return c;
}

namespace {

// A YAML scalar no reader takes for anything but this text.
std::string Quoted(const std::string& text) { return JsonString(text); }

std::string Bytes(uint64_t n) {
  static constexpr std::pair<int, const char*> kUnits[] = {{40, "TiB"}, {30, "GiB"}, {20, "MiB"}, {10, "KiB"}};
  for (const auto& [shift, unit] : kUnits) {
    if (n != 0 && n % (uint64_t{1} << shift) == 0) return std::to_string(n >> shift) + unit;
  }
  return std::to_string(n);
}

std::string Length(absl::Duration d) {
  const int64_t ms = absl::ToInt64Milliseconds(d);
  static constexpr std::pair<int64_t, const char*> kUnits[] = {{86'400'000, "d"}, {3'600'000, "h"}, {60'000, "m"}, {1000, "s"}};
  for (const auto& [unit, name] : kUnits) {
    if (ms != 0 && ms % unit == 0 && (unit != 86'400'000 || ms > unit)) return std::to_string(ms / unit) + name;
  }
  return std::to_string(ms) + "ms";
}

std::string Line(std::string_view key, const std::string& value, std::string_view comment = "") {
  std::string line(key);
  line += ": " + value;
  if (!comment.empty()) {
    if (line.size() < 40) line.resize(40, ' ');
    line += "  # ";
    line += comment;
  }
  return line + "\n";
}

}  // namespace

std::string RenderAggregatorConfig(const AggregatorConfig& c) {
  const auto list = [](const std::vector<std::string>& items) {
    return "[" + absl::StrJoin(items, ", ", [](std::string* out, const std::string& s) { *out += Quoted(s); }) + "]";
  };
  std::string y =
      "# orgtrail-aggregator: every key, with its default or what `orgtrail org init` chose. `orgtrail-aggregator --check` validates it.\n";
  y += Line("org", Quoted(c.org), "the organization's id; also the trust domain of every certificate");
  y += Line("domain", Quoted(c.domain), "the log's origin is orgtrail.<domain>/<org>; never change it");
  y += Line("region", Quoted(c.region));
  y += Line("home", c.home ? "true" : "false", "the home log; agents of any listed region may use it");
  y += Line("management_account", Quoted(c.management_account));
  y += Line("accounts", list(c.accounts), "members; join tokens are made for these only");
  y += Line("regions", list(c.regions));
  y += Line("state_dir", Quoted(c.state_dir));
  y += Line("listen", Quoted(c.listen), "gRPC, mutual TLS: agents and people. 0.0.0.0:7443 for other machines");
  y += "enrol:\n";
  y += Line("  listen", Quoted(c.enrol_listen), "enrolment; the join token pins the CA");
  y += Line("  method", Quoted(c.enrol_method));
  y += Line("  certificate_life", Length(c.certificate_life), "agents renew at half of it");
  y += "metrics:\n";
  y += Line("  listen", Quoted(c.metrics_listen), "Prometheus text at /metrics; /healthz, /readyz; \"\": off");
  y += "tls:\n";
  y += Line("  certificate", Quoted(c.tls_certificate)) + Line("  key", Quoted(c.tls_key));
  y += Line("  ca_certificate", Quoted(c.ca_certificate)) + Line("  ca_key", Quoted(c.ca_key));
  y += "keys:\n";
  y += Line("  log", Quoted(c.log_key), "signs every checkpoint: keep a copy offline (docs/KEYS.md)");
  y += Line("  secrets", Quoted(c.secrets), "MAC keys of cursors and page tokens");
  y += "policy:\n";
  y += Line("  note", Quoted(c.policy_note)) + Line("  body", Quoted(c.policy_body));
  y += "ledger:\n";
  y += Line("  map_bytes", Bytes(c.ledger_map_bytes), "reserved address space of the shard that grows, sparse; not disk");
  y += Line("  shard_bytes", Bytes(c.ledger_shard_bytes), "a shard of this size is sealed, and the next begins …");
  y += Line("  shard_period", Length(c.ledger_shard_period), "… or after this long, whichever comes first");
  y += Line("  repack", c.ledger_repack ? "true" : "false", "rewrite sealed shards densely in the background: half a core at most");
  y += Line("  retention", c.ledger_retention == absl::ZeroDuration() ? "forever" : Length(c.ledger_retention),
            "or 400d and more: older bodies expire, once governance orders it (orgtrail retention order); hashes stay");
  y += Line("  key_encryption_key", Quoted(c.ledger_kek), "a file of 32 random bytes: batch keys are encrypted under it on disk; \"\": they are not. Keep a copy");
  y += Line("  tail_bytes", Bytes(c.tail_bytes), "newest leaves kept in memory for followers");
  y += "  scrub:\n";
  y += Line("    rate", Bytes(c.scrub_rate), "a second: all that is kept is read through and checked, round after round; 0: never");
  y += Line("    pause", Length(c.scrub_pause), "between two rounds");
  y += "history:\n";
  y += Line("  keep", Length(c.history_keep), "lookups reach this far back; the ledger as far as ledger.retention says");
  y += Line("reads", c.reads_allow ? "allow" : "refuse", "when a read cannot be logged (disk full): allow (journal it) or refuse");
  y += "alarms:\n";
  y += Line("  webhook", Quoted(c.alarm_webhook), "POSTs each alarm as JSON");
  y += Line("  exec", Quoted(c.alarm_exec), "runs a program with each alarm on its standard input");
  y += Line("  coverage_grace", Length(c.coverage_grace), "from the start, until an account that never had an agent is COVERAGE_MISSING");
  y += "ingest:\n";
  y += Line("  heartbeat_interval", Length(c.heartbeat_interval), "agents without data say so this often; 3 missed are SILENT_AGENT");
  y += Line("  batch_interval_ms", std::to_string(c.batch_interval_ms), "least time between an agent's batches; raised under load");
  y += Line("  verify_threads", std::to_string(c.verify_threads));
  y += Line("  connection_bytes", Bytes(c.connection_bytes), "what all connections may buffer; beyond it streams end and come again");
  return y;
}

}  // namespace orgtrail
