#include "common/format/batch.h"

#include <limits>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/format/event.h"
#include "common/format/fields.h"
#include "common/merkle/tree.h"

namespace orgtrail {
namespace {

constexpr std::string_view kMagic = "OTB1";
constexpr uint8_t kVersion = 1;
constexpr uint16_t kKnownFlags = kBatchDrained | kBatchClockUnsynced | kBatchPolicyStale | kBatchUnclean |
                                 kBatchBackpressure | kBatchRetired;
constexpr size_t kSignatureBytes = 64;
constexpr uint64_t kMaxNanos = std::numeric_limits<int64_t>::max();  // 2262: what absl::Time and int64 both hold

template <class... Args>
absl::Status Malformed(const Args&... what) {
  return absl::InvalidArgumentError(absl::StrCat("FRAME_MALFORMED batch header: ", what...));
}
template <class... Args>
absl::Status Bounds(const Args&... what) {
  return absl::InvalidArgumentError(absl::StrCat("BOUNDS batch header: ", what...));
}

absl::Status CheckCounters(const BatchHeader& h) {
  if (h.epoch == 0) return Bounds("epochs start at 1");
  if (h.n_events > limits::kBatchEvents) return Bounds(h.n_events, " events, at most ", limits::kBatchEvents);
  if (h.first_seq == 0 || h.last_seq == UINT64_MAX || h.first_seq > h.last_seq + 1) {
    return Bounds("sequence ", h.first_seq, " to ", h.last_seq, " is not a range");
  }
  const uint64_t counted = uint64_t{h.n_events} + h.n_lost;
  if (h.last_seq + 1 - h.first_seq != counted) {
    return Bounds("sequence ", h.first_seq, " to ", h.last_seq, " does not hold ", h.n_events, " events and ", h.n_lost,
                  " lost");
  }
  if (h.cum_events < h.n_events || h.cum_lost < h.n_lost) return Bounds("totals are below this batch's own counts");
  if (h.cum_events > UINT64_MAX - h.cum_lost) return Bounds("totals overflow");
  if (h.body_bytes < uint64_t{h.n_events} * kEventPrefixBytes || (h.n_events == 0 && h.body_bytes != 0)) {
    return Bounds(h.body_bytes, " bytes cannot be ", h.n_events, " events");
  }
  if (h.wall_close_ns > kMaxNanos || h.boot_close_ns > kMaxNanos) return Bounds("a time is beyond 63 bits of nanoseconds");
  return absl::OkStatus();
}

// What each kind may say of itself, whatever came before it.
absl::Status CheckKind(const BatchHeader& h) {
  if ((h.flags & ~kKnownFlags) != 0) return Bounds("unknown flags ", h.flags);
  if ((h.flags & kBatchRetired) != 0 && h.kind != BatchKind::kEpochClose) return Bounds("only an epoch_close retires");
  if (h.kind != BatchKind::kData && h.n_events != 0) return Bounds("only data batches hold events");
  if (h.kind == BatchKind::kData && h.n_events == 0) return Bounds("a data batch holds events");
  if (h.key_slot >= limits::kTreeSlots) return Bounds("key slot ", h.key_slot, " of ", limits::kTreeSlots);
  if ((h.kind == BatchKind::kKeytreeRoll) != (h.key_slot == limits::kTreeSlots - 1)) {
    return Bounds("the last key slot signs the keytree_roll and nothing else");
  }
  if ((h.kind == BatchKind::kEpochOpen) != (h.batch_seq == 0)) return Bounds("batch 0 is the epoch_open");
  if (h.kind == BatchKind::kEpochOpen && (h.key_slot != 0 || h.last_seq != 0 || h.n_lost != 0 || h.cum_events != 0 || h.cum_lost != 0)) {
    return Bounds("an epoch_open uses slot 0 and counts nothing");
  }
  if (h.TwoSignatures() == h.ext_hash.IsZero()) return Bounds("epoch_open and keytree_roll have an extension, others none");
  return absl::OkStatus();
}

absl::Status CheckNames(const BatchHeader& h) {
  if (!IsName(h.org)) return Bounds("organization is not a name");
  if (!IsAccountId(h.account)) return Bounds("account is not 12 digits");
  if (!IsName(h.region)) return Bounds("region is not a name");
  if (!IsName(h.agent)) return Bounds("agent is not a name");
  return absl::OkStatus();
}

absl::StatusOr<BatchHeader> Read(ByteReader& in) {
  if (in.Bytes(4) != kMagic) return Malformed("does not start with OTB1");
  const uint8_t version = in.U8();
  const uint8_t kind = in.U8();
  if (!in.ok()) return Malformed("cut short");
  if (version != kVersion) {
    return absl::InvalidArgumentError(absl::StrCat("VERSION_UNKNOWN batch header version ", version));
  }
  if (kind > static_cast<uint8_t>(BatchKind::kKeytreeRoll)) {
    return absl::InvalidArgumentError(absl::StrCat("VERSION_UNKNOWN batch kind ", kind));
  }
  BatchHeader h;
  h.kind = static_cast<BatchKind>(kind);
  h.flags = in.U16();
  if (const std::string_view uuid = in.Bytes(16); uuid.size() == 16) h.agent_uuid = Uuid::FromBytes(uuid);
  h.epoch = in.U64();
  h.batch_seq = in.U64();
  h.first_seq = in.U64();
  h.last_seq = in.U64();
  h.n_events = in.U32();
  h.n_lost = in.U32();
  h.cum_events = in.U64();
  h.cum_lost = in.U64();
  h.body_bytes = in.U64();
  h.wall_close_ns = in.U64();
  h.boot_close_ns = in.U64();
  if (const std::string_view boot = in.Bytes(16); boot.size() == 16) std::memcpy(h.boot_id.data(), boot.data(), 16);
  h.events_root = TakeHash(in);
  h.prev_hash = TakeHash(in);
  h.policy_version = in.U64();
  h.policy_hash = TakeHash(in);
  h.seen_size = in.U64();
  h.seen_root = TakeHash(in);
  h.seal = TakeHash(in);
  h.key_slot = in.U32();
  h.keytree_root = TakeHash(in);
  h.ext_hash = TakeHash(in);
  h.org = std::string(in.Short());
  h.account = std::string(in.Short());
  h.region = std::string(in.Short());
  h.agent = std::string(in.Short());
  if (!in.ok()) return Malformed("cut short");
  RETURN_IF_ERROR(CheckNames(h));
  RETURN_IF_ERROR(CheckCounters(h));
  RETURN_IF_ERROR(CheckKind(h));
  return h;
}

}  // namespace

std::string_view BatchKindName(BatchKind kind) {
  switch (kind) {
    case BatchKind::kData: return "data";
    case BatchKind::kHeartbeat: return "heartbeat";
    case BatchKind::kEpochOpen: return "epoch_open";
    case BatchKind::kEpochClose: return "epoch_close";
    case BatchKind::kKeytreeRoll: return "keytree_roll";
  }
  return "?";
}

std::string BatchHeader::Encode() const {
  std::string out;
  out.reserve(640);
  out.append(kMagic);
  out.push_back(static_cast<char>(kVersion));
  out.push_back(static_cast<char>(kind));
  PutU16(out, flags);
  out.append(agent_uuid.view());
  PutU64(out, epoch);
  PutU64(out, batch_seq);
  PutU64(out, first_seq);
  PutU64(out, last_seq);
  PutU32(out, n_events);
  PutU32(out, n_lost);
  PutU64(out, cum_events);
  PutU64(out, cum_lost);
  PutU64(out, body_bytes);
  PutU64(out, wall_close_ns);
  PutU64(out, boot_close_ns);
  out.append(boot_id.data(), boot_id.size());
  out.append(events_root.view());
  out.append(prev_hash.view());
  PutU64(out, policy_version);
  out.append(policy_hash.view());
  PutU64(out, seen_size);
  out.append(seen_root.view());
  out.append(seal.view());
  PutU32(out, key_slot);
  out.append(keytree_root.view());
  out.append(ext_hash.view());
  PutShort(out, org);
  PutShort(out, account);
  PutShort(out, region);
  PutShort(out, agent);
  return out;
}

absl::StatusOr<BatchHeader> BatchHeader::Decode(std::string_view bytes) {
  ByteReader in(bytes);
  ASSIGN_OR_RETURN(BatchHeader header, Read(in));
  if (in.left() != 0) return Malformed(in.left(), " bytes too many");
  return header;
}

absl::StatusOr<BatchEntry> BatchEntry::Decode(std::string_view entry) {
  ByteReader in(entry);
  BatchEntry out;
  ASSIGN_OR_RETURN(out.header, Read(in));
  out.header_bytes = entry.substr(0, entry.size() - in.left());
  const size_t signatures = out.header.TwoSignatures() ? 2 : 1;
  if (in.left() != signatures * kSignatureBytes) {
    return Malformed(in.left(), " bytes of signatures, expected ", signatures * kSignatureBytes);
  }
  out.slot_signature = in.Bytes(kSignatureBytes);
  if (signatures == 2) out.identity_signature = in.Bytes(kSignatureBytes);
  return out;
}

Hash KeyLeaf(uint32_t slot, const PublicKey& key) {
  std::string leaf = "OTK1";
  PutU32(leaf, slot);
  leaf.append(View(key));
  return LeafHash(leaf);
}

}  // namespace orgtrail
