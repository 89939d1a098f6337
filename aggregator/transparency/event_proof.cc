#include "aggregator/transparency/event_proof.h"

#include "aggregator/ledger/branch.h"
#include "aggregator/ledger/expiry.h"
#include "common/base/status.h"
#include "common/compress/zstd.h"
#include "common/format/epoch.h"
#include "common/format/frame.h"
#include "common/merkle/tree.h"

namespace orgtrail {
namespace {

absl::StatusOr<ProvenLeaf> Prove(const LedgerReader& ledger, uint64_t index, uint64_t size) {
  ProvenLeaf leaf;
  leaf.index = index;
  ASSIGN_OR_RETURN(leaf.entry, ledger.ReadEntry(index));
  ASSIGN_OR_RETURN(leaf.path, ledger.Inclusion(index, size));
  return leaf;
}

absl::StatusOr<std::string> ExtensionOf(const LedgerReader& ledger, uint64_t index) {
  ASSIGN_OR_RETURN(const RawLeaf raw, ledger.ReadRaw(index));
  ASSIGN_OR_RETURN(const FrameView frame, FrameView::Decode(raw.bytes));
  return std::string(frame.extension);
}

absl::StatusOr<uint64_t> Expect(const LedgerReader& ledger, const BatchId& id, std::string_view what) {
  const std::optional<uint64_t> index = ledger.Find(id);
  if (index.has_value()) return *index;
  return absl::DataLossError(absl::StrCat("the log has no ", ToAbsl(what), " (agent ", id.uuid.ToString(), ", epoch ", id.epoch,
                                          ", batch ", id.batch_seq, "): run orgtrail fsck"));
}

}  // namespace

absl::StatusOr<EventProof> BuildEventProof(const LedgerReader& ledger, const Registry& registry, EventRef ref) {
  const SignedHead head = ledger.head();
  if (ref.leaf >= head.size) {
    return absl::OutOfRangeError(absl::StrCat("leaf ", ref.leaf, " is beyond the log's ", head.size, " leaves"));
  }
  ASSIGN_OR_RETURN(const RawLeaf raw, ledger.ReadRaw(ref.leaf));
  const absl::StatusOr<FrameView> frame = FrameView::Decode(raw.bytes);
  if (!frame.ok()) return absl::NotFoundError(absl::StrCat("leaf ", ref.leaf, " is no batch and holds no records"));
  ZstdDecompressor zstd;
  ASSIGN_OR_RETURN(Events events, InflateFrame(*frame, zstd));
  if (ref.event >= events.rows.size()) {
    return absl::NotFoundError(absl::StrCat("leaf ", ref.leaf, " has ", events.rows.size(), " events, none at ", ref.event));
  }
  const Row& row = events.rows[ref.event];
  if (row.tombstone && row.reason == TombstoneReason::kExpired) {
    const std::optional<uint64_t> by = Expiry(ledger).By(ref.leaf);
    return absl::FailedPreconditionError(absl::StrCat("EXPIRED the body of the record at ", ref.leaf, ":", ref.event, " expired by leaf ",
                                                      by ? std::to_string(*by) : "?", ", governance's order: a proof needs it. Its hash ", Hex(row.leaf.view()),
                                                      " is still under the log's root, and a proof that was made before verifies as ever"));
  }
  if (row.tombstone) {
    return absl::FailedPreconditionError(absl::StrCat("the record at ", ref.leaf, ":", ref.event, " has no body any more"));
  }
  EventProof proof;
  proof.checkpoint = head.note;
  proof.prefix = PrefixOf(frame->batch_key, row);
  proof.body = std::string(row.body);
  proof.event_index = ref.event;
  HashRows(frame->batch_key, events.rows);
  std::vector<Hash> leaves;
  for (const Row& r : events.rows) leaves.push_back(r.leaf);
  proof.event_path = InclusionPath(leaves, ref.event);
  ASSIGN_OR_RETURN(proof.batch, Prove(ledger, ref.leaf, head.size));

  ASSIGN_OR_RETURN(const BatchEntry entry, BatchEntry::Decode(frame->entry));
  const BatchHeader& header = entry.header;
  // In quarantine one identity may have several leaves: the right one is on the batch's own branch.
  const auto leaf_of = [&](uint64_t batch_seq, std::string_view what) -> absl::StatusOr<uint64_t> {
    if ((raw.flags & kLeafQuarantined) == 0) return Expect(ledger, {header.agent_uuid, header.epoch, batch_seq}, what);
    return AncestorOf(ledger, header, batch_seq);
  };
  ASSIGN_OR_RETURN(const uint64_t epoch_leaf, leaf_of(0, "opening of the epoch"));
  ASSIGN_OR_RETURN(proof.epoch_open, Prove(ledger, epoch_leaf, head.size));
  ASSIGN_OR_RETURN(proof.epoch_object, ExtensionOf(ledger, epoch_leaf));
  // key_slot counts from the first batch of the tree, which is the epoch's first or follows the roll that brought it.
  if (header.key_slot > header.batch_seq) return absl::DataLossError(absl::StrCat("leaf ", ref.leaf, " names a key slot of no tree"));
  const uint64_t tree_base = header.batch_seq - header.key_slot;
  std::vector<PublicKey> keys;
  if (tree_base == 0) {
    ASSIGN_OR_RETURN(EpochOpening opening, EpochOpening::Decode(proof.epoch_object));
    keys = std::move(opening.keys);
  } else {
    ASSIGN_OR_RETURN(const uint64_t roll, leaf_of(tree_base - 1, "roll of the key tree"));
    ASSIGN_OR_RETURN(proof.roll, Prove(ledger, roll, head.size));
    ASSIGN_OR_RETURN(proof.roll_object, ExtensionOf(ledger, roll));
    ASSIGN_OR_RETURN(keys, DecodeKeyList(proof.roll_object));
  }
  if (header.key_slot >= keys.size()) return absl::DataLossError(absl::StrCat("leaf ", ref.leaf, " uses a key its tree does not have"));
  proof.slot_key = keys[header.key_slot];
  std::vector<Hash> key_leaves;
  for (uint32_t i = 0; i < keys.size(); ++i) key_leaves.push_back(KeyLeaf(i, keys[i]));
  proof.slot_path = InclusionPath(key_leaves, header.key_slot);

  if (const std::optional<AgentIdentityRecord> agent = registry.Agent(header.agent_uuid);
      agent.has_value() && agent->enrolled_leaf < head.size) {
    ASSIGN_OR_RETURN(proof.enrolment, Prove(ledger, agent->enrolled_leaf, head.size));
  }
  return proof;
}

}  // namespace orgtrail
