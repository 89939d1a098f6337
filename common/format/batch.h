// Batch: the signed header (OTB1) whose entry, header || signature, is a leaf of the log. docs/formats/batch.md
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/base/ids.h"
#include "common/crypto/digest.h"
#include "common/crypto/sign.h"

namespace orgtrail {

enum class BatchKind : uint8_t { kData = 0, kHeartbeat = 1, kEpochOpen = 2, kEpochClose = 3, kKeytreeRoll = 4 };
std::string_view BatchKindName(BatchKind kind);
enum BatchFlag : uint16_t {
  kBatchDrained = 1, kBatchClockUnsynced = 2, kBatchPolicyStale = 4, kBatchUnclean = 8, kBatchBackpressure = 16,
  kBatchRetired = 32,  // on epoch_close: the agent was retired (orgtrail-agent retire)
};

struct BatchHeader {
  BatchKind kind = BatchKind::kData;
  uint16_t flags = 0;
  Uuid agent_uuid;
  uint64_t epoch = 0, batch_seq = 0, first_seq = 0, last_seq = 0;
  uint32_t n_events = 0, n_lost = 0;
  uint64_t cum_events = 0, cum_lost = 0, body_bytes = 0;   // cum_* count from the epoch's start; body_bytes: full EV1 lengths
  uint64_t wall_close_ns = 0, boot_close_ns = 0;
  std::array<char, 16> boot_id{};
  Hash events_root, prev_hash;
  uint64_t policy_version = 0;
  Hash policy_hash;
  uint64_t seen_size = 0;
  Hash seen_root, seal;
  uint32_t key_slot = 0;
  Hash keytree_root, ext_hash;
  std::string org, account, region, agent;

  std::string Encode() const;
  // InvalidArgument: "FRAME_MALFORMED …", "VERSION_UNKNOWN …" or "BOUNDS …" (kind, name grammar, counters that cannot be:
  // last_seq + 1 - first_seq == n_events + n_lost, n_events <= 1000, cum >= n, no overflow).
  static absl::StatusOr<BatchHeader> Decode(std::string_view bytes);
  bool TwoSignatures() const { return kind == BatchKind::kEpochOpen || kind == BatchKind::kKeytreeRoll; }
};

// header || slot signature [|| identity signature]. Its leaf hash is LeafHash(entry).
struct BatchEntry {
  BatchHeader header;
  std::string_view header_bytes, slot_signature, identity_signature;  // views into the text decoded; the last may be empty
  static absl::StatusOr<BatchEntry> Decode(std::string_view entry);
};

// The 1,024 one-time public keys of a tree: keytree_root = MTH(leaf("OTK1" || u32 i || pub_i)).
Hash KeyLeaf(uint32_t slot, const PublicKey& key);

}  // namespace orgtrail
