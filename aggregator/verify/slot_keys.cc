#include "aggregator/verify/slot_keys.h"

#include "aggregator/ledger/branch.h"
#include "common/base/status.h"
#include "common/format/epoch.h"
#include "common/format/frame.h"

namespace orgtrail {

namespace {

absl::StatusOr<std::shared_ptr<const SlotKeys>> BroughtBy(const LedgerReader& ledger, uint64_t leaf_index, uint64_t tree_base) {
  ASSIGN_OR_RETURN(RawLeaf raw, ledger.ReadRaw(leaf_index));
  ASSIGN_OR_RETURN(FrameView view, FrameView::Decode(raw.bytes));
  ASSIGN_OR_RETURN(BatchEntry entry, BatchEntry::Decode(view.entry));
  if (!entry.header.TwoSignatures() || (entry.header.kind == BatchKind::kEpochOpen) != (tree_base == 0)) {
    return absl::NotFoundError("the leaf before this slot brought no key tree");
  }
  return SlotKeys::FromExtension(entry.header, view.extension);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const SlotKeys>> SlotKeys::FromExtension(const BatchHeader& header, std::string_view extension) {
  auto tree = std::make_shared<SlotKeys>();
  tree->epoch = header.epoch;
  if (header.kind == BatchKind::kEpochOpen) {
    ASSIGN_OR_RETURN(EpochOpening opening, EpochOpening::Decode(extension));
    tree->keys = std::move(opening.keys);
    tree->tree_base = 0;
  } else {
    ASSIGN_OR_RETURN(tree->keys, DecodeKeyList(extension));
    tree->tree_base = header.batch_seq + 1;
  }
  tree->root = KeyTreeRoot(tree->keys);
  return std::shared_ptr<const SlotKeys>(std::move(tree));
}

absl::StatusOr<std::shared_ptr<const SlotKeys>> SlotKeys::Load(const LedgerReader& ledger, const Uuid& uuid, uint64_t epoch,
                                                               uint64_t tree_base) {
  const BatchId carrier{uuid, epoch, tree_base == 0 ? 0 : tree_base - 1};
  const std::optional<uint64_t> index = ledger.Find(carrier);
  if (!index) return absl::NotFoundError("no leaf of the log brought this key tree");
  return BroughtBy(ledger, *index, tree_base);
}

absl::StatusOr<std::shared_ptr<const SlotKeys>> SlotKeys::LoadAfter(const LedgerReader& ledger, uint64_t leaf_index,
                                                                    const BatchHeader& header) {
  if (header.kind == BatchKind::kEpochOpen) return BroughtBy(ledger, leaf_index, 0);
  if (header.kind == BatchKind::kKeytreeRoll) return BroughtBy(ledger, leaf_index, header.batch_seq + 1);
  if (header.key_slot > header.batch_seq) return absl::NotFoundError("its slot lies before the epoch");
  const uint64_t tree_base = header.batch_seq - header.key_slot;
  ASSIGN_OR_RETURN(const uint64_t carrier, AncestorOf(ledger, header, tree_base == 0 ? 0 : tree_base - 1));
  return BroughtBy(ledger, carrier, tree_base);
}

}  // namespace orgtrail
