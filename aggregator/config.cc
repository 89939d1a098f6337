#include "aggregator/config.h"

#include "absl/strings/str_join.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/config/yaml.h"

namespace orgtrail {

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
  root.Map("metrics").String("listen", &c.metrics_listen);
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
  ledger.Bytes("tail_bytes", &c.tail_bytes);
  root.Map("history").Duration("keep", &c.history_keep);
  std::string reads = "allow";
  root.String("reads", &reads);
  if (reads != "allow" && reads != "refuse") root.Complain("reads", "allow or refuse");
  c.reads_allow = reads == "allow";
  YamlNode alarms = root.Map("alarms");
  alarms.String("webhook", &c.alarm_webhook);
  alarms.String("exec", &c.alarm_exec);
  YamlNode ingest = root.Map("ingest");
  ingest.Duration("heartbeat_interval", &c.heartbeat_interval);
  ingest.Int("batch_interval_ms", &c.batch_interval_ms, 5, 1000);
  ingest.Int("verify_threads", &c.verify_threads, 1, 64);

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

std::string RenderAggregatorConfig(const AggregatorConfig& c) {
  const auto quoted = [](const std::vector<std::string>& items) {
    return absl::StrJoin(items, ", ", [](std::string* out, const std::string& s) { *out += "\"" + s + "\""; });
  };
  std::string y;
  y += "# orgtrail-aggregator: every key, with its default or what `orgtrail org init` chose. `orgtrail-aggregator --check` validates it.\n";
  y += "org: " + c.org + "                       # the organization's id; also the trust domain of every certificate\n";
  y += "domain: " + c.domain + "       # the log's origin is orgtrail.<domain>/<org>; never change it\n";
  y += "region: " + c.region + "\n";
  y += std::string("home: ") + (c.home ? "true" : "false") + "                        # the home log; agents of any listed region may use it\n";
  y += "management_account: \"" + c.management_account + "\"\n";
  y += "accounts: [" + quoted(c.accounts) + "]\n";
  y += "regions: [" + quoted(c.regions) + "]\n";
  y += "state_dir: " + c.state_dir + "\n";
  y += "listen: " + c.listen + "              # gRPC, mutual TLS: agents and people. 0.0.0.0:7443 for other machines\n";
  y += "enrol:\n";
  y += "  listen: " + c.enrol_listen + "            # enrolment; the join token pins the CA\n";
  y += "  method: " + c.enrol_method + "\n";
  y += "  certificate_life: 24h                 # agents renew at half of it\n";
  y += "metrics:\n  listen: " + c.metrics_listen + "            # Prometheus text at /metrics; /healthz, /readyz\n";
  y += "tls:\n";
  y += "  certificate: " + c.tls_certificate + "\n  key: " + c.tls_key + "\n  ca_certificate: " + c.ca_certificate + "\n  ca_key: " + c.ca_key + "\n";
  y += "keys:\n";
  y += "  log: " + c.log_key + "      # signs every checkpoint: keep a copy offline (docs/KEYS.md)\n";
  y += "  secrets: " + c.secrets + "  # MAC keys of cursors and page tokens\n";
  y += "policy:\n  note: " + c.policy_note + "\n  body: " + c.policy_body + "\n";
  y += "ledger:\n";
  y += "  map_bytes: 1TiB                       # reserved address space, sparse; not disk\n";
  y += "  tail_bytes: 32MiB                     # newest leaves kept in memory for followers\n";
  y += "history:\n  keep: 90d                             # lookups reach this far back; the ledger keeps everything\n";
  y += "reads: allow                            # when a read cannot be logged (disk full): allow (journal it) or refuse\n";
  y += "alarms:\n";
  y += "  webhook: \"\"                           # POSTs each alarm as JSON\n";
  y += "  exec: \"\"                              # runs a program with each alarm on its standard input\n";
  y += "ingest:\n";
  y += "  heartbeat_interval: 10s               # agents without data say so this often; 3 missed are SILENT_AGENT\n";
  y += "  batch_interval_ms: 20                 # least time between an agent's batches; raised under load\n";
  y += "  verify_threads: " + std::to_string(c.verify_threads) + "\n";
  return y;
}

}  // namespace orgtrail
