// Repeats: records that share an event id, as combining runs comes across them. Whether they say the same, only the ledger can tell (reuse.h).
// Threads: one. Bounds: 128 pairs of one time and 128 of different ones, which are no copies; of the rest only how many they are.
#pragma once

#include <cstdint>
#include <vector>

#include "aggregator/index/run.h"

namespace orgtrail {

class Repeats {
 public:
  struct Pair {
    HistoryRecord one, other;
  };
  void Add(const HistoryRecord& one, const HistoryRecord& other) {
    std::vector<Pair>& pairs = one.time_ns == other.time_ns ? same_time_ : other_time_;
    if (pairs.size() < kMost) {
      pairs.push_back({one, other});
    } else {
      ++left_out_;
    }
  }
  bool empty() const { return same_time_.empty() && other_time_.empty(); }
  uint64_t left_out() const { return left_out_; }
  std::vector<Pair> Pairs() const {
    std::vector<Pair> all = other_time_;
    all.insert(all.end(), same_time_.begin(), same_time_.end());
    return all;
  }

 private:
  static constexpr size_t kMost = 128;
  std::vector<Pair> same_time_, other_time_;
  uint64_t left_out_ = 0;
};

}  // namespace orgtrail
