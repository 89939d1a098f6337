#include "aggregator/index/ordinals.h"

#include <algorithm>
#include <bit>

namespace orgtrail {

void OrdinalSet::Begin(uint64_t count) {
  bitmap_used_ = count >= records_ / 256 + 64;
  if (!bitmap_used_) list_.clear();   // else it keeps its size: filling it with zeros again would cost as much as filling it
  added_ = 0;
  if (bitmap_used_) bitmap_.assign((records_ + 63) / 64, 0);
}

std::span<const uint32_t> OrdinalSet::Sorted() {
  if (!bitmap_used_) {
    if (!std::is_sorted(list_.begin(), list_.end())) std::sort(list_.begin(), list_.end());
    return list_;
  }
  if (list_.size() < added_) list_.resize(added_);
  uint32_t* to = list_.data();
  for (size_t w = 0; w < bitmap_.size(); ++w) {
    for (uint64_t bits = bitmap_[w]; bits != 0; bits &= bits - 1) {
      *to++ = static_cast<uint32_t>(w * 64 + static_cast<size_t>(std::countr_zero(bits)));
    }
  }
  return {list_.data(), to};   // shorter when something was added twice
}

}  // namespace orgtrail
