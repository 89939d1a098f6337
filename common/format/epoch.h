// Epoch: the opening object (OTO1), extension of an epoch_open batch, and the key list that follows it or stands alone in a
// keytree_roll. docs/formats/epoch.md
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/crypto/digest.h"
#include "common/crypto/sign.h"

namespace orgtrail {

enum class EpochReason : uint8_t { kFirst = 0, kClean = 1, kUnclean = 2, kUpgrade = 3, kReenroll = 4, kHandover = 5 };
std::string_view EpochReasonName(EpochReason reason);

struct EpochOpening {
  EpochReason reason = EpochReason::kFirst;
  std::string origin;                 // of the one log this epoch belongs to
  uint64_t previous_epoch = 0;        // 0: none
  uint64_t previous_batch_seq = 0;
  Hash previous_leaf;
  uint64_t previous_last_seq = 0;
  std::string boot_id;                // 16 bytes
  Hash executable, config;            // SHA-256
  std::string cert_serial;            // hex, at most 64 characters
  std::string clock_source;           // "ntp", "free-running"
  bool clock_synchronised = false;
  uint64_t clock_error_us = UINT64_MAX;  // estimated; all ones: unknown
  std::string last_receipt;           // handover: the last receipt's checkpoint note; else empty
  std::vector<PublicKey> keys;        // of the epoch's first tree

  std::string Encode() const;
  static absl::StatusOr<EpochOpening> Decode(std::string_view bytes);
};

// Extension of kind 4: "OTK1" || u32 n || n keys.
std::string EncodeKeyList(const std::vector<PublicKey>& keys);
absl::StatusOr<std::vector<PublicKey>> DecodeKeyList(std::string_view bytes);
Hash KeyTreeRoot(const std::vector<PublicKey>& keys);

}  // namespace orgtrail
