// AgentHead as bytes: u8 version, the fields in order, CRC32C over all before it. docs/formats/ledger.md
#include "aggregator/ledger/reader.h"
#include "common/base/bytes.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr uint8_t kVersion = 2, kWithoutMissing = 1;  // version 1 ends before bodies_missing
constexpr uint8_t kClosed = 1, kRetired = 2, kQuarantined = 4;

}  // namespace

std::string AgentHead::Encode() const {
  std::string out;
  out.reserve(256);
  out += static_cast<char>(kVersion);
  out += static_cast<char>((closed ? kClosed : 0) | (retired ? kRetired : 0) | (quarantined ? kQuarantined : 0));
  out += uuid.view();
  PutU64(out, epoch);
  PutU64(out, batch_seq);
  PutU64(out, last_seq);
  out += leaf.view();
  PutU64(out, leaf_index);
  PutU64(out, cum_events);
  PutU64(out, cum_lost);
  out.append(boot_id.data(), boot_id.size());
  PutU64(out, boot_close_ns);
  PutU64(out, wall_close_ns);
  PutU64(out, seen_size);
  PutU64(out, policy_version);
  out += keytree_root.view();
  PutU64(out, tree_base);
  PutU64(out, tree_leaf);
  PutU64(out, epoch_leaf);
  PutU64(out, unclean_epochs);
  PutU64(out, static_cast<uint64_t>(logged_ns));
  PutU64(out, bodies_missing);
  PutU32(out, Crc32c(out));
  return out;
}

absl::StatusOr<AgentHead> AgentHead::Decode(std::string_view bytes) {
  ByteReader in(bytes);
  AgentHead h;
  const uint8_t version = in.U8();
  if (in.ok() && version != kVersion && version != kWithoutMissing) {
    return absl::DataLossError(absl::StrCat("agent head of version ", version, ": a newer orgtrail wrote it, or it is damaged"));
  }
  const uint8_t flags = in.U8();
  h.closed = (flags & kClosed) != 0;
  h.retired = (flags & kRetired) != 0;
  h.quarantined = (flags & kQuarantined) != 0;
  const auto hash = [&](Hash& out) {
    const std::string_view b = in.Bytes(out.bytes.size());
    if (in.ok()) out = Hash::From(b);
  };
  if (const std::string_view b = in.Bytes(16); in.ok()) h.uuid = Uuid::FromBytes(b);
  h.epoch = in.U64();
  h.batch_seq = in.U64();
  h.last_seq = in.U64();
  hash(h.leaf);
  h.leaf_index = in.U64();
  h.cum_events = in.U64();
  h.cum_lost = in.U64();
  if (const std::string_view b = in.Bytes(h.boot_id.size()); in.ok()) std::memcpy(h.boot_id.data(), b.data(), b.size());
  h.boot_close_ns = in.U64();
  h.wall_close_ns = in.U64();
  h.seen_size = in.U64();
  h.policy_version = in.U64();
  hash(h.keytree_root);
  h.tree_base = in.U64();
  h.tree_leaf = in.U64();
  h.epoch_leaf = in.U64();
  h.unclean_epochs = in.U64();
  h.logged_ns = static_cast<int64_t>(in.U64());
  if (version != kWithoutMissing) h.bodies_missing = in.U64();
  const uint32_t crc = in.U32();
  if (!in.Done() || (flags & ~(kClosed | kRetired | kQuarantined)) != 0 || crc != Crc32c(bytes.substr(0, bytes.size() - 4))) {
    return absl::DataLossError("an agent head is damaged: run orgtrail fsck");
  }
  return h;
}

}  // namespace orgtrail
