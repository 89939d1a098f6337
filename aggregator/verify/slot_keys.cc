#include "aggregator/verify/slot_keys.h"

#include <algorithm>

#include "aggregator/ledger/branch.h"
#include "common/base/status.h"
#include "common/format/epoch.h"
#include "common/format/frame.h"

namespace orgtrail {

namespace {

absl::StatusOr<std::shared_ptr<SlotKeys>> Read(const BatchHeader& header, std::string_view extension) {
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
  tree->slots = static_cast<uint32_t>(tree->keys.size());
  return tree;
}

absl::StatusOr<std::shared_ptr<const SlotKeys>> BroughtBy(const LedgerReader& ledger, uint64_t leaf_index, uint64_t tree_base) {
  ASSIGN_OR_RETURN(RawLeaf raw, ledger.ReadRaw(leaf_index));
  ASSIGN_OR_RETURN(FrameView view, FrameView::Decode(raw.bytes));
  ASSIGN_OR_RETURN(BatchEntry entry, BatchEntry::Decode(view.entry));
  if (!entry.header.TwoSignatures() || (entry.header.kind == BatchKind::kEpochOpen) != (tree_base == 0)) {
    return absl::NotFoundError("the leaf before this slot brought no key tree");
  }
  ASSIGN_OR_RETURN(std::shared_ptr<SlotKeys> tree, Read(entry.header, view.extension));
  tree->carrier = leaf_index;
  return std::shared_ptr<const SlotKeys>(std::move(tree));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const SlotKeys>> SlotKeys::FromExtension(const BatchHeader& header, std::string_view extension) {
  ASSIGN_OR_RETURN(std::shared_ptr<SlotKeys> tree, Read(header, extension));
  return std::shared_ptr<const SlotKeys>(std::move(tree));
}

std::shared_ptr<const SlotKeys> SlotKeys::From(uint32_t slot, uint64_t leaf) const {
  auto some = std::make_shared<SlotKeys>();
  some->epoch = epoch;
  some->tree_base = tree_base;
  some->root = root;
  some->slots = slots;
  some->carrier = leaf;
  some->first = std::clamp(slot, first, first + static_cast<uint32_t>(keys.size()));
  const auto begin = keys.begin() + (some->first - first);
  some->keys.assign(begin, begin + std::min<ptrdiff_t>(kHeld, keys.end() - begin));
  return some;
}

absl::StatusOr<std::shared_ptr<const SlotKeys>> SlotKeys::Again(const LedgerReader& ledger) const {
  if (!carrier) return absl::FailedPreconditionError("a key tree that is not logged yet is held whole");
  ASSIGN_OR_RETURN(std::shared_ptr<const SlotKeys> whole, BroughtBy(ledger, *carrier, tree_base));
  if (whole->root != root) return absl::DataLossError(absl::StrCat("leaf ", *carrier, " holds other keys than were signed: run orgtrail fsck"));
  return whole;
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
