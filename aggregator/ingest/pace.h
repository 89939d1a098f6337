// Pace: how often agents may close batches so that verification stays under half a core.
//
// A signature costs the same whatever its batch holds, so the fleet's number of batches, not of records, is what loads a verifier
// (113 µs each: 8,800 batches/s fill a core). Once a second: the busiest lane used over half a processor, or a frame waited for its
// check longer than batches are apart (and than a fifth of a second: a burst is no load) → the interval grows by half, at most to
// 1,000 ms; under a quarter and without such waits → it shrinks by a fifth, at least to what is configured. In between it stays.
// Receipts carry it. Processor time, not time: beside other programs a check takes longer without costing more.
#pragma once

#include <algorithm>
#include <cstdint>

#include "aggregator/verify/verifier.h"

namespace orgtrail {

inline uint32_t NextBatchInterval(uint32_t interval_ms, uint32_t least_ms, const Verifier::Strain& strain) {
  constexpr uint32_t kMost = 1000;
  const absl::Duration wait = std::max(absl::Milliseconds(interval_ms), absl::Milliseconds(200));
  if (strain.busy > 0.50 || strain.waited > wait) return std::min(kMost, interval_ms + interval_ms / 2);
  if (strain.busy < 0.25 && strain.waited < wait / 2) return std::max(least_ms, interval_ms - interval_ms / 5);
  return interval_ms;
}

}  // namespace orgtrail
