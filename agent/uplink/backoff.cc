#include "agent/uplink/backoff.h"

#include <algorithm>

namespace orgtrail {

absl::Duration Backoff::Next(absl::Duration healthy_for) {
  if (healthy_for >= kHealthy) ceiling_ = kFirst;
  const absl::Duration wait = absl::Microseconds(static_cast<int64_t>(
      rng_.Below(static_cast<uint64_t>(absl::ToInt64Microseconds(ceiling_)) + 1)));
  ceiling_ = std::min(ceiling_ * 2, kMost);
  return wait;
}

}  // namespace orgtrail
