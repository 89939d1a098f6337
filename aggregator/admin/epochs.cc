#include "aggregator/admin/epochs.h"

#include "common/base/status.h"
#include "common/format/batch.h"
#include "common/format/epoch.h"
#include "common/format/frame.h"

namespace orgtrail {
namespace {

constexpr int kMostEpochs = 1000;

}  // namespace

absl::StatusOr<Epochs::Last> Epochs::Ended(const Uuid& uuid, uint64_t opening_leaf) const {
  ASSIGN_OR_RETURN(const RawLeaf opened, ledger_.ReadRaw(opening_leaf));
  ASSIGN_OR_RETURN(const FrameView frame, FrameView::Decode(opened.bytes));
  ASSIGN_OR_RETURN(const EpochOpening opening, EpochOpening::Decode(frame.extension));
  if (opening.previous_epoch == 0) return absl::NotFoundError("the agent's first epoch");
  Last last;
  last.batch = {uuid, opening.previous_epoch, opening.previous_batch_seq};
  const std::optional<uint64_t> leaf = ledger_.Find(last.batch);
  if (!leaf.has_value()) return absl::NotFoundError("the epoch before is of another log");
  ASSIGN_OR_RETURN(const std::string bytes, ledger_.ReadEntry(*leaf));
  ASSIGN_OR_RETURN(const BatchEntry entry, BatchEntry::Decode(bytes));
  last.totals = {entry.header.cum_events, entry.header.cum_lost};
  return last;
}

EpochTotals Epochs::Before(const AgentHead& head) {
  const Known known = known_.Peek([&](const std::map<Uuid, Known>& all) {
    const auto found = all.find(head.uuid);
    return found == all.end() ? Known() : found->second;
  });
  if (known.epoch == head.epoch) return known.totals;
  EpochTotals totals;
  uint64_t opening = head.epoch_leaf;
  for (int i = 0; i < kMostEpochs; ++i) {
    const absl::StatusOr<Last> last = Ended(head.uuid, opening);
    if (!last.ok()) break;
    totals.events += last->totals.events;
    totals.lost += last->totals.lost;
    if (last->batch.epoch == known.epoch) {   // and what came before it is known
      totals.events += known.totals.events;
      totals.lost += known.totals.lost;
      break;
    }
    const std::optional<uint64_t> before = ledger_.Find({head.uuid, last->batch.epoch, 0});
    if (!before.has_value()) break;
    opening = *before;
  }
  known_.With([&](std::map<Uuid, Known>& all) { all[head.uuid] = {head.epoch, totals}; });
  return totals;
}

}  // namespace orgtrail
