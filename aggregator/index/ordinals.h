// OrdinalList: the ordinals of one term, put together from several ascending lists. Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace orgtrail {

class OrdinalList {
 public:
  explicit OrdinalList(uint64_t records) : records_(records) {}   // ordinals are below it

  // Empties it; at most `count` ordinals come.
  void Begin(size_t count);
  // Where the next list goes: at most n ordinals, ascending, none of which came before; then Add.
  uint32_t* Room(size_t n);
  void Add(size_t n);
  // What was added, ascending; valid until the next Begin.
  std::span<const uint32_t> Sorted();

 private:
  void SortByBits();

  const uint64_t records_;
  bool ordered_ = true;             // list_[0, size_) ascends
  size_t size_ = 0;
  std::vector<uint32_t> list_;      // its size is room, not content
  std::vector<uint32_t> overlap_;
  std::vector<uint64_t> bits_;
};

}  // namespace orgtrail
