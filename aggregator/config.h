// AggregatorConfig: one YAML file, strict; `orgtrail org init` writes it with every key present and commented.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace orgtrail {

struct AggregatorConfig {
  std::string org, domain = "orgtrail.internal", region, management_account;
  bool home = true;                       // its origin has no region suffix; accepts agents of any listed region
  std::vector<std::string> accounts, regions;
  std::string state_dir;                  // ledger, anchor, derived, own
  std::string listen = "127.0.0.1:7443";
  std::string enrol_listen = "127.0.0.1:7444", enrol_method = "token";
  absl::Duration certificate_life = absl::Hours(24);
  std::string metrics_listen = "127.0.0.1:7481";
  std::string tls_certificate, tls_key, ca_certificate, ca_key;
  std::string log_key;                    // Ed25519, PKCS#8 PEM
  std::string secrets;                    // 32 random bytes: MAC keys of cursors and page tokens
  std::string policy_note, policy_body;
  absl::Duration ledger_retention;        // bodies older than this may expire, when governance orders it too; zero: kept for ever
  std::string ledger_kek;                 // file of 32 random bytes: batch keys are encrypted under it at rest; empty: they are not
  uint64_t ledger_map_bytes = 1ull << 40;
  uint64_t ledger_shard_bytes = 16ull << 30;   // of a shard that is sealed; at most three quarters of the map
  absl::Duration ledger_shard_period = absl::Hours(24 * 30);
  bool ledger_repack = true;              // sealed shards are rewritten densely in the background
  uint64_t scrub_rate = 16ull << 20;      // bytes a second; 0: what is kept is never read through by itself
  absl::Duration scrub_pause = absl::Hours(24);
  uint64_t tail_bytes = 32ull << 20;
  absl::Duration history_keep = absl::Hours(24 * 90);
  bool reads_allow = true;                // when reads cannot be logged (disk full): journal locally, else refuse
  std::string alarm_webhook, alarm_exec;
  absl::Duration coverage_grace = absl::Hours(1);  // until a listed account that never had an agent is an alarm
  absl::Duration heartbeat_interval = absl::Seconds(10);
  int64_t batch_interval_ms = 20;
  int64_t verify_threads = 1;
  uint64_t connection_bytes = 1ull << 30;

  std::string Origin() const;             // orgtrail.<domain>/<org>[/<region>]
};

absl::StatusOr<AggregatorConfig> ParseAggregatorConfig(std::string_view path, std::string_view text);
// The file `org init` writes: every key with its meaning.
std::string RenderAggregatorConfig(const AggregatorConfig& config);

}  // namespace orgtrail
