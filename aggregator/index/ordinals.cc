#include "aggregator/index/ordinals.h"

#include <algorithm>
#include <bit>

#include "common/base/status.h"

namespace orgtrail {

void OrdinalList::Begin(size_t count) {
  ordered_ = true;
  size_ = 0;
  if (list_.size() < count) list_.resize(std::max(count, 2 * list_.size()));
}

uint32_t* OrdinalList::Room(size_t n) {
  CHECK(n <= list_.size() - size_);
  return list_.data() + size_;
}

void OrdinalList::Add(size_t n) {
  uint32_t* const all = list_.data();
  uint32_t* const next = all + size_;
  uint32_t* const end = next + n;
  size_ += n;
  if (n == 0 || next == all || !ordered_ || next[-1] < next[0]) return;
  // What came before and belongs behind the first of the new ones. Lists of neighbours overlap a little; where they do not, merging them
  // one after another would go over everything again and again.
  uint32_t* at = std::upper_bound(all, next, next[0]);
  const auto before = static_cast<size_t>(next - at);
  if (before > 4 * n + 64) {
    ordered_ = false;
    return;
  }
  overlap_.assign(at, next);
  const uint32_t *a = overlap_.data(), *a_end = a + before, *b = next;
  while (a != a_end && b != end) {
    const bool second = *b < *a;
    *at++ = second ? *b : *a;
    a += !second;
    b += second;
  }
  std::copy(a, a_end, at);   // what is left of the second stands where it belongs
}

void OrdinalList::SortByBits() {
  bits_.assign((records_ + 63) / 64, 0);
  for (size_t i = 0; i < size_; ++i) bits_[list_[i] / 64] |= uint64_t{1} << (list_[i] % 64);
  uint32_t* to = list_.data();
  for (size_t w = 0; w < bits_.size(); ++w) {
    for (uint64_t bits = bits_[w]; bits != 0; bits &= bits - 1) {
      *to++ = static_cast<uint32_t>(w * 64 + static_cast<size_t>(std::countr_zero(bits)));
    }
  }
  size_ = static_cast<size_t>(to - list_.data());   // fewer when something was added twice
}

std::span<const uint32_t> OrdinalList::Sorted() {
  if (!ordered_) {
    if (size_ >= records_ / 256 + 64) {   // sorting would cost more than filling and reading a bitmap
      SortByBits();
    } else {
      std::sort(list_.begin(), list_.begin() + static_cast<ptrdiff_t>(size_));
    }
    ordered_ = true;
  }
  return {list_.data(), size_};
}

}  // namespace orgtrail
