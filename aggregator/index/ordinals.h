// OrdinalSet: the ordinals of one term while a run is made from several sources: a list while they are few, a bitmap when sorting would
// cost more than filling and reading that. Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace orgtrail {

class OrdinalSet {
 public:
  explicit OrdinalSet(uint64_t records) : records_(records) {}   // ordinals are below it

  // Empties it. `count` is how many will be added.
  void Begin(uint64_t count);
  // next(0) … next(n - 1), in any order.
  template <class Next>
  void AddAll(size_t n, Next next) {
    if (bitmap_used_) {
      added_ += n;
      uint64_t* const words = bitmap_.data();
      for (size_t i = 0; i < n; ++i) {
        const uint32_t o = next(i);
        words[o / 64] |= uint64_t{1} << (o % 64);
      }
      return;
    }
    const size_t before = list_.size();
    list_.resize(before + n);
    uint32_t* const to = list_.data() + before;
    for (size_t i = 0; i < n; ++i) to[i] = next(i);
  }
  // What was added, ascending; valid until the next Begin.
  std::span<const uint32_t> Sorted();

 private:
  const uint64_t records_;
  bool bitmap_used_ = false;
  size_t added_ = 0;               // to the bitmap
  std::vector<uint32_t> list_;
  std::vector<uint64_t> bitmap_;
};

}  // namespace orgtrail
