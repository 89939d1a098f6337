#include "aggregator/enrol/limiter.h"

#include <algorithm>

namespace orgtrail {

bool AddressLimiter::Allow(std::string_view address, Tick now) {
  const auto refilled = [&](const Bucket& b) {
    return std::min(burst_, b.left + absl::ToDoubleSeconds(now - b.at) * per_second_);
  };
  return buckets_.With([&](std::unordered_map<std::string, Bucket>& buckets) {
    std::string key(address);
    if (buckets.size() >= most_ && !buckets.contains(key)) {
      std::erase_if(buckets, [&](const auto& entry) { return refilled(entry.second) >= burst_; });
      if (buckets.size() >= most_) key.clear();
    }
    const auto [it, is_new] = buckets.try_emplace(std::move(key), Bucket{burst_, now});
    Bucket& bucket = it->second;
    bucket.left = refilled(bucket);
    bucket.at = now;
    if (bucket.left < 1) return false;
    bucket.left -= 1;
    return true;
  });
}

}  // namespace orgtrail
