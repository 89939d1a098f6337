#include "agent/uplink/branches.h"

#include <algorithm>
#include <optional>

#include "common/format/epoch.h"

namespace orgtrail {

BatchKey Before(BatchKey key) {
  if (key.batch_seq > 0) return {key.epoch, key.batch_seq - 1};
  return key.epoch > 0 ? BatchKey{key.epoch - 1, UINT64_MAX} : BatchKey{};
}

void Branches::Abandon(BatchKey after, BatchKey opened) {
  std::erase_if(all_, [&](const Branch& b) { return b.after >= after; });   // in it
  all_.push_back({after, opened});
}

bool Branches::AbandonedFor(BatchKey opened) const {
  return std::any_of(all_.begin(), all_.end(), [&](const Branch& b) { return b.opened == opened; });
}

BatchKey Branches::Past(BatchKey key) const {
  for (const Branch& b : all_) {
    if (b.after <= key && key < Before(b.opened)) key = Before(b.opened);
  }
  return key;
}

void Branches::Load(const Spool& spool, BatchKey head) {
  std::erase_if(all_, [&](const Branch& b) { return b.opened <= head; });
  for (BatchKey opens{head.epoch, 0}; opens.epoch != 0;) {
    const absl::StatusOr<SignedEntry> entry = spool.ReadEntry(opens);
    const absl::StatusOr<EpochOpening> opening = entry.ok() ? EpochOpening::Decode(entry->extension) : entry.status();
    if (!opening.ok() || opening->reason == EpochReason::kHandover) return;   // pruned, or another log's before it
    const BatchKey previous{opening->previous_epoch, opening->previous_batch_seq};
    if (previous >= opens) return;
    if (const std::optional<BatchKey> next = spool.KeyAfter(previous); next && *next < opens) all_.insert(all_.begin(), {previous, opens});
    opens = {previous.epoch, 0};
  }
}

}  // namespace orgtrail
