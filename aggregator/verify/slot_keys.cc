#include "aggregator/verify/slot_keys.h"

#include "common/base/status.h"
#include "common/format/epoch.h"
#include "common/format/frame.h"

namespace orgtrail {

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
  ASSIGN_OR_RETURN(RawLeaf raw, ledger.ReadRaw(*index));
  ASSIGN_OR_RETURN(FrameView view, FrameView::Decode(raw.bytes));
  ASSIGN_OR_RETURN(BatchEntry entry, BatchEntry::Decode(view.entry));
  if (!entry.header.TwoSignatures() || (entry.header.kind == BatchKind::kEpochOpen) != (tree_base == 0)) {
    return absl::NotFoundError("the leaf before this slot brought no key tree");
  }
  return FromExtension(entry.header, view.extension);
}

}  // namespace orgtrail
