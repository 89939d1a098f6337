#include "aggregator/ledger/expiry.h"

#include <vector>

namespace orgtrail {

void Expiry::Follow(State& s) const {
  constexpr size_t kAtOnce = 1024;
  for (std::vector<uint64_t> leaves;;) {
    leaves = ledger_.ControlLeaves(s.followed, kAtOnce);
    for (const uint64_t index : leaves) {
      const absl::StatusOr<std::string> entry = ledger_.ReadEntry(index);
      if (!entry.ok()) return;
      s.log.Take(index, *entry).IgnoreError();   // what may not stand there counts for nothing: the pruner says it
      s.followed = index + 1;
    }
    if (leaves.size() < kAtOnce) return;
  }
}

std::optional<uint64_t> Expiry::By(uint64_t leaf) const {
  return state_.With([&](State& s) -> std::optional<uint64_t> {
    Follow(s);
    const RetentionHistory::Raise* raise = s.log.Of(leaf);
    return raise == nullptr ? std::nullopt : std::optional(raise->leaf);
  });
}

std::optional<RetentionHistory::Raise> Expiry::Newest() const {
  return state_.With([&](State& s) -> std::optional<RetentionHistory::Raise> {
    Follow(s);
    return s.log.raises().empty() ? std::nullopt : std::optional(s.log.raises().back());
  });
}

}  // namespace orgtrail
