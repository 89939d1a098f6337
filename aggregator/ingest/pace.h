// Pace: how often agents may close batches so that verification stays under half a core.
//
// A signature costs the same whatever its batch holds, so the fleet's number of batches, not of records, is what loads a verifier
// (113 µs each: 8,800 batches/s fill a core). Once a second: busy over 50 % of the busiest lane → the interval grows by half
// (at most 1,000 ms); under 25 % → it shrinks by a fifth (at least what is configured). In between it stays. Receipts carry it.
#pragma once

#include <algorithm>
#include <cstdint>

namespace orgtrail {

inline uint32_t NextBatchInterval(uint32_t interval_ms, uint32_t least_ms, double busy_share) {
  constexpr uint32_t kMost = 1000;
  if (busy_share > 0.50) return std::min(kMost, interval_ms + interval_ms / 2);
  if (busy_share < 0.25) return std::max(least_ms, interval_ms - interval_ms / 5);
  return interval_ms;
}

}  // namespace orgtrail
