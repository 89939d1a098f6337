// AgentConfig: one YAML file, strict; docs/OPERATING.md shows it whole.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace orgtrail {

struct FileSourceConfig {
  std::string path;              // a glob
  bool from_end = false;         // at first start only: skip what is already there
};
struct HttpSourceConfig {
  std::string listen;            // 127.0.0.1:8787, or unix:/run/orgtrail/agent.sock
  std::string token_file;        // required for anything but loopback and Unix sockets
  std::vector<std::string> allow_users;  // Unix socket: user names or uids; empty: root and the agent's own user
};

struct AgentConfig {
  std::string account, region, name;
  std::string state_dir = "/var/lib/orgtrail-agent";
  std::vector<std::string> aggregators;
  std::string enrol_endpoint, token_file;
  uint64_t spool_max_bytes = 0;  // 0: min(8 GiB, 10 % of the disk)
  double spool_min_free = 0.10;
  int64_t batch_interval_ms = 20;
  std::string metrics_listen;    // empty: off
  std::string prune = "L1";
  bool ephemeral = false;        // SIGTERM retires the identity
  bool accept_restored_log = false;  // the command line's --resend-from: never a file's, it is for once
  bool retiring = false;             // the command line's `retire`
  std::vector<FileSourceConfig> files;
  std::vector<HttpSourceConfig> https;
};

// InvalidArgument lists every mistake: file, line, key, what was expected.
absl::StatusOr<AgentConfig> ParseAgentConfig(std::string_view path, std::string_view text);

}  // namespace orgtrail
