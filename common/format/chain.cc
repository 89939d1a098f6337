#include "common/format/chain.h"

#include "common/base/limits.h"
#include "common/base/mutant.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

template <class... Args>
absl::Status Bounds(const Args&... what) {
  return absl::InvalidArgumentError(absl::StrCat("BOUNDS ", what...));
}
template <class... Args>
absl::Status Count(const Args&... what) {
  return absl::InvalidArgumentError(absl::StrCat("COUNT_MISMATCH ", what...));
}
template <class... Args>
absl::Status Expect(const Args&... what) {
  return absl::FailedPreconditionError(absl::StrCat("CHAIN_EXPECT ", what...));
}

std::string At(uint64_t epoch, uint64_t batch_seq) { return absl::StrCat("epoch ", epoch, " batch ", batch_seq); }
std::string At(const BatchHeader& h) { return At(h.epoch, h.batch_seq); }

// An epoch_open says what it continues; that must be the newest we have of this agent.
absl::Status CheckOpening(const ChainState& prev, const BatchHeader& next, const EpochOpening& opening) {
  if (prev.epoch != 0 && next.epoch < prev.epoch) {
    return absl::FailedPreconditionError(absl::StrCat("EPOCH_STALE ", At(next), " opens before epoch ", prev.epoch, ", which is here"));
  }
  if (prev.epoch != 0 && next.epoch == prev.epoch) {
    return absl::FailedPreconditionError(absl::StrCat("EPOCH_CONFLICT epoch ", next.epoch, " is open already, at batch ", prev.batch_seq));
  }
  if (opening.previous_epoch >= next.epoch) {
    return Bounds("epoch ", next.epoch, " cannot follow epoch ", opening.previous_epoch);
  }
  if (next.prev_hash != opening.previous_leaf) return Bounds(At(next), ": prev_hash is not the opening's previous leaf");
  if (std::string_view(next.boot_id.data(), next.boot_id.size()) != opening.boot_id) {
    return Bounds(At(next), ": boot_id differs from the opening's");
  }
  if (next.first_seq != 1) return Count(At(next), ": sequence starts at ", next.first_seq, ", not at 1");
  // The epochs between lie in another log; all that must hold here is that none of ours is passed over.
  if (opening.reason == EpochReason::kHandover && opening.previous_epoch > prev.epoch) return absl::OkStatus();
  if (opening.previous_epoch == prev.epoch && opening.previous_batch_seq == prev.batch_seq &&
      opening.previous_leaf == prev.leaf && opening.previous_last_seq == prev.last_seq) {
    return absl::OkStatus();
  }
  if (Planted(Mutant::kWrongPrevious)) return absl::OkStatus();
  const std::string quoted = At(opening.previous_epoch, opening.previous_batch_seq);
  const bool ours_is_newer = opening.previous_epoch < prev.epoch ||
                             (opening.previous_epoch == prev.epoch && opening.previous_batch_seq <= prev.batch_seq);
  if (prev.epoch != 0 && ours_is_newer) {
    return absl::FailedPreconditionError(absl::StrCat("EPOCH_CONFLICT epoch ", next.epoch, " continues ", quoted, ", but ",
                                                      At(prev.epoch, prev.batch_seq), " is here: two agents of one identity"));
  }
  return Expect("epoch ", next.epoch, " continues ", quoted, ", which is not here; the last one here is ",
                At(prev.epoch, prev.batch_seq));
}

}  // namespace

absl::Status CheckLink(const ChainState& prev, const BatchHeader& next, const EpochOpening* opening) {
  if (next.kind == BatchKind::kEpochOpen) {
    if (opening == nullptr) {
      return absl::InvalidArgumentError("FRAME_MALFORMED epoch_open without its opening object");
    }
    return CheckOpening(prev, next, *opening);
  }
  if (next.epoch < prev.epoch) {
    return absl::FailedPreconditionError(absl::StrCat("EPOCH_STALE ", At(next), " comes after epoch ", prev.epoch, " was opened"));
  }
  if (next.epoch > prev.epoch) return Expect(At(next.epoch, 0), " first, got ", At(next));
  if (prev.closed) return Expect("a new epoch, got ", At(next), ": that epoch is closed");
  if (next.batch_seq != prev.batch_seq + 1) return Expect(At(prev.epoch, prev.batch_seq + 1), ", got ", At(next));
  if (next.prev_hash != prev.leaf && !Planted(Mutant::kSkippedPrevHash)) return Expect(At(next), " after another batch than the one here: prev_hash differs");
  if (next.agent_uuid != prev.uuid) return Bounds(At(next), ": agent uuid differs from the epoch's");

  if (next.first_seq != prev.last_seq + 1) {
    return Count(At(next), ": sequence starts at ", next.first_seq, ", expected ", prev.last_seq + 1);
  }
  if (next.cum_events - next.n_events != prev.cum_events || next.cum_lost - next.n_lost != prev.cum_lost) {
    return Count(At(next), ": totals ", next.cum_events, " and ", next.cum_lost, " lost do not add up from ", prev.cum_events,
                 " and ", prev.cum_lost);
  }
  if (next.keytree_root != prev.keytree_root) return Bounds(At(next), ": keytree_root is not that of the tree in use");
  if (next.batch_seq < prev.tree_base || next.key_slot != next.batch_seq - prev.tree_base) {
    return Bounds(At(next), ": key slot ", next.key_slot, ", expected ", next.batch_seq - prev.tree_base);
  }
  if (next.boot_id != prev.boot_id) return Bounds(At(next), ": boot_id changed within an epoch");
  if (next.boot_close_ns <= prev.boot_close_ns) {
    return absl::AbortedError(absl::StrCat("MONO_ROLLBACK ", At(next), ": boot time ", next.boot_close_ns, " ns after ",
                                           prev.boot_close_ns, " ns"));
  }
  if (next.seen_size < prev.seen_size) {
    return absl::AbortedError(absl::StrCat("MONO_ROLLBACK ", At(next), ": quotes a log of ", next.seen_size, " after one of ", prev.seen_size));
  }
  if (next.policy_version < prev.policy_version) {
    return absl::AbortedError(absl::StrCat("MONO_ROLLBACK ", At(next), ": policy ", next.policy_version, " after ", prev.policy_version));
  }
  return absl::OkStatus();
}

ChainState Advance(const ChainState& prev, const BatchHeader& next, const Hash& leaf, const Hash& new_root) {
  ChainState s;
  s.uuid = next.agent_uuid;
  s.epoch = next.epoch;
  s.batch_seq = next.batch_seq;
  s.last_seq = next.last_seq;
  s.cum_events = next.cum_events;
  s.cum_lost = next.cum_lost;
  s.leaf = leaf;
  s.boot_id = next.boot_id;
  s.boot_close_ns = next.boot_close_ns;
  s.seen_size = next.seen_size;
  s.policy_version = next.policy_version;
  s.closed = next.kind == BatchKind::kEpochClose;
  switch (next.kind) {
    case BatchKind::kEpochOpen:
      s.keytree_root = next.keytree_root;
      s.tree_base = 0;
      break;
    case BatchKind::kKeytreeRoll:
      s.keytree_root = new_root;
      s.tree_base = next.batch_seq + 1;
      break;
    default:
      s.keytree_root = prev.keytree_root;
      s.tree_base = prev.tree_base;
  }
  return s;
}

absl::Status CheckExtension(const BatchHeader& header, std::string_view extension, EpochOpening* opening, Hash* new_root) {
  if (!header.TwoSignatures()) {
    if (!extension.empty()) return absl::InvalidArgumentError("FRAME_MALFORMED an extension where the header has none");
    return absl::OkStatus();
  }
  if (Sha256(extension) != header.ext_hash) {
    return absl::InvalidArgumentError(absl::StrCat("ROOT_MISMATCH ", At(header), ": extension differs from ext_hash"));
  }
  if (header.kind == BatchKind::kKeytreeRoll) {
    ASSIGN_OR_RETURN(std::vector<PublicKey> keys, DecodeKeyList(extension));
    if (new_root != nullptr) *new_root = KeyTreeRoot(keys);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(EpochOpening decoded, EpochOpening::Decode(extension));
  if (KeyTreeRoot(decoded.keys) != header.keytree_root) {
    return absl::InvalidArgumentError(absl::StrCat("ROOT_MISMATCH ", At(header), ": key list differs from keytree_root"));
  }
  if (opening != nullptr) *opening = std::move(decoded);
  return absl::OkStatus();
}

absl::Status CheckRows(const BatchHeader& header, const std::vector<Row>& rows, const RowHashes& hashes) {
  if (rows.size() != header.n_events) {
    return Count(At(header), ": ", rows.size(), " rows for ", header.n_events, " events");
  }
  if (hashes.root != header.events_root) {
    return absl::InvalidArgumentError(absl::StrCat("ROOT_MISMATCH ", At(header), ": events differ from events_root"));
  }
  if (hashes.body_bytes != header.body_bytes) {
    return Count(At(header), ": ", hashes.body_bytes, " bytes for ", header.body_bytes);
  }
  uint64_t after = header.first_seq - 1;
  for (const Row& row : rows) {
    if (row.seq <= after || row.seq > header.last_seq) {
      return Count(At(header), ": event ", row.seq, " out of order or outside ", header.first_seq, " to ", header.last_seq);
    }
    after = row.seq;
  }
  return absl::OkStatus();
}

}  // namespace orgtrail
