// AggregatorKeys: what the configuration names under keys, tls, policy and ledger.key_encryption_key, read before anything starts. docs/KEYS.md
#pragma once

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "aggregator/config.h"
#include "aggregator/enrol/authority.h"
#include "common/crypto/sign.h"
#include "common/fs/file.h"

namespace orgtrail {

struct AggregatorKeys {
  SigningKey log;
  std::string log_vkey;                           // what it is to those who check its signatures
  std::string mac;                                // 32 bytes: of cursors and page tokens
  std::string kek;                                // 32 bytes, or empty: batch keys lie in clear
  CertificateAuthority authority;
  std::pair<std::string, std::string> policy;     // note and body; empty: none

  // Errors name the file.
  static absl::StatusOr<AggregatorKeys> Read(const AggregatorConfig& config, Fs& fs);
};

}  // namespace orgtrail
