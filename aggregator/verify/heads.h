// RecentHeads: the log's newest signed heads and when each was signed, so that what a batch quotes is checked without reading
// the ledger, and so that a quoted head dates the batch from below.
//
// Threads  any.
// Bounds   4,096 heads; older ones are answered by the ledger.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>

#include "aggregator/ledger/reader.h"
#include "common/base/guarded.h"

namespace orgtrail {

class RecentHeads {
 public:
  struct Head {
    uint64_t size = 0;
    Hash root;
    int64_t signed_ns = 0;   // our wall clock
  };

  void Add(uint64_t size, const Hash& root, int64_t wall_ns) {
    heads_.With([&](std::deque<Head>& heads) {
      if (!heads.empty() && heads.back().size >= size) return;
      heads.push_back({size, root, wall_ns});
      if (heads.size() > kHeads) heads.pop_front();
    });
  }
  std::optional<Head> Of(uint64_t size) const {
    return heads_.Peek([&](const std::deque<Head>& heads) -> std::optional<Head> {
      auto it = std::lower_bound(heads.begin(), heads.end(), size, [](const Head& h, uint64_t s) { return h.size < s; });
      if (it == heads.end() || it->size != size) return std::nullopt;
      return *it;
    });
  }
  // The least size a head signed at or after `wall_ns` has; nullopt when memory does not reach back that far.
  std::optional<uint64_t> SizeAt(int64_t wall_ns) const {
    return heads_.Peek([&](const std::deque<Head>& heads) -> std::optional<uint64_t> {
      if (heads.empty() || heads.front().signed_ns > wall_ns) return std::nullopt;
      uint64_t size = 0;
      for (auto it = heads.rbegin(); it != heads.rend(); ++it) {
        if (it->signed_ns <= wall_ns) {
          size = it->size;
          break;
        }
      }
      return size;
    });
  }

 private:
  static constexpr size_t kHeads = 4096;
  Guarded<std::deque<Head>> heads_;
};

}  // namespace orgtrail
