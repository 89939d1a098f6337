#include "agent/uplink/branches.h"

#include <algorithm>

#include "common/base/status.h"

namespace orgtrail {

BatchKey Before(BatchKey key) {
  if (key.batch_seq > 0) return {key.epoch, key.batch_seq - 1};
  return key.epoch > 0 ? BatchKey{key.epoch - 1, UINT64_MAX} : BatchKey{};
}

absl::Status Branches::Abandon(BatchKey after, BatchKey opened) {
  if (!all_.empty() && all_.back() == Branch{after, opened}) return absl::OkStatus();
  std::vector<Branch> all = all_;
  std::erase_if(all, [&](const Branch& b) { return b.opened > after; });   // what went on from there is left behind itself
  all.push_back({after, opened});
  RETURN_IF_ERROR(spool_->SetBranches(all));
  all_ = std::move(all);
  return absl::OkStatus();
}

bool Branches::AbandonedFor(BatchKey opened) const {
  return std::any_of(all_.begin(), all_.end(), [&](const Branch& b) { return b.opened == opened; });
}

bool Branches::Abandoned(BatchKey key) const {
  return std::any_of(all_.begin(), all_.end(), [&](const Branch& b) { return b.Holds(key); });
}

BatchKey Branches::Past(BatchKey key) const {
  for (const Branch& b : all_) {
    if (b.after <= key && key < Before(b.opened)) key = Before(b.opened);
  }
  return key;
}

}  // namespace orgtrail
