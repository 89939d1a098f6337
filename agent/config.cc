#include "agent/config.h"

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/config/yaml.h"

namespace orgtrail {
namespace {

constexpr uint64_t kLeastSpool = 16 << 20;

void ReadSource(const YamlNode& node, AgentConfig* config) {
  const bool file = node.Has("file"), http = node.Has("http");
  if (file == http) {
    node.Complain("file", "exactly one of file, http");
    return;
  }
  if (file) {
    FileSourceConfig source;
    YamlNode f = node.Map("file");
    f.String("path", &source.path);
    std::string from = "start";
    f.String("from", &from);
    if (from != "start" && from != "end") f.Complain("from", "start or end");
    source.from_end = from == "end";
    if (source.path.empty() || source.path[0] != '/') f.Complain("path", "an absolute path or glob, such as /var/log/audit-events/*.jsonl");
    config->files.push_back(std::move(source));
    return;
  }
  HttpSourceConfig source;
  YamlNode h = node.Map("http");
  h.String("listen", &source.listen);
  h.String("token_file", &source.token_file);
  h.Strings("allow_users", &source.allow_users);
  if (!source.listen.starts_with("unix:/") && !IsHostPort(source.listen)) {
    h.Complain("listen", "ADDRESS:PORT such as 127.0.0.1:8787, or unix:/run/orgtrail/agent.sock");
  }
  const bool loopback = source.listen.starts_with("127.") || source.listen.starts_with("localhost:") ||
                        source.listen.starts_with("[::1]:") || source.listen.starts_with("unix:");
  if (!loopback && source.token_file.empty()) {
    h.Complain("listen", "a loopback address or a Unix socket, or a token_file beside it: anybody could post records otherwise");
  }
  config->https.push_back(std::move(source));
}

}  // namespace

absl::StatusOr<AgentConfig> ParseAgentConfig(std::string_view path, std::string_view text) {
  ASSIGN_OR_RETURN(YamlFile file, YamlFile::Parse(path, text));
  AgentConfig c;
  const YamlNode root = file.root();
  root.String("account", &c.account);
  root.String("region", &c.region);
  root.String("name", &c.name);
  root.String("state_dir", &c.state_dir);
  root.Strings("aggregators", &c.aggregators);
  if (!IsAccountId(c.account)) root.Complain("account", "a 12-digit account id in quotes, such as \"222222222222\"");
  if (!IsName(c.region)) root.Complain("region", "a region such as eu-west-1");
  if (!IsName(c.name)) root.Complain("name", "a name of a-z, 0-9, '.', '_' and '-', at most 64 characters, such as web-1");
  if (c.state_dir.empty() || c.state_dir[0] != '/') root.Complain("state_dir", "an absolute path");
  if (c.aggregators.empty()) root.Complain("aggregators", "at least one HOST:PORT, such as [aggregator.example.org:7443]");
  for (const std::string& a : c.aggregators) {
    if (!IsHostPort(a)) root.Complain("aggregators", "HOST:PORT in each element");
  }
  YamlNode enrol = root.Map("enrol");
  enrol.String("endpoint", &c.enrol_endpoint);
  enrol.String("token_file", &c.token_file);
  if (!c.enrol_endpoint.empty() && !IsHostPort(c.enrol_endpoint)) enrol.Complain("endpoint", "HOST:PORT, such as aggregator.example.org:7444");
  YamlNode spool = root.Map("spool");
  spool.Bytes("max_bytes", &c.spool_max_bytes);
  spool.Percent("min_free", &c.spool_min_free);
  root.Int("batch_interval_ms", &c.batch_interval_ms, 5, 1000);
  if (c.spool_max_bytes != 0 && c.spool_max_bytes < kLeastSpool) spool.Complain("max_bytes", "at least 16MiB");
  if (c.spool_min_free > 0.9) spool.Complain("min_free", "at most 90%");
  YamlNode metrics = root.Map("metrics");
  metrics.String("listen", &c.metrics_listen);
  if (!c.metrics_listen.empty() && !IsHostPort(c.metrics_listen)) metrics.Complain("listen", "ADDRESS:PORT such as 127.0.0.1:7480; leave it out for none");
  root.String("prune", &c.prune);
  if (c.prune != "L1") root.Complain("prune", "L1: what has a receipt of this log may go when space is needed");
  root.Bool("ephemeral", &c.ephemeral);
  const std::vector<YamlNode> sources = root.List("sources");
  for (const YamlNode& source : sources) ReadSource(source, &c);
  if (sources.empty()) {
    root.Complain("sources", "at least one source, such as: - http: {listen: 127.0.0.1:8787}");
  }
  RETURN_IF_ERROR(file.Finish());
  return c;
}

}  // namespace orgtrail
