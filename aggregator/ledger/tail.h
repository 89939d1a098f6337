// Tail: the newest leaves, inflated, as the path built them. Followers that keep up read them here and never inflate again.
// Behind them, for longer, what the history needs of each: a tenth of the memory, so that a burst which outruns the history
// costs it no second inflating and scanning.
// Threads: any. Bounds: half of `bytes` for the leaves, half for what stays of them. The newest leaf always stays.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "aggregator/ledger/leaf.h"
#include "common/base/guarded.h"

namespace orgtrail {

size_t MemoryOf(const Leaf& leaf);  // what a leaf holds in memory, to a few per cent

class Tail {
 public:
  explicit Tail(size_t bytes) : leaf_cap_(bytes / 2), terms_cap_(bytes - bytes / 2) {}
  // Indexes follow one another; a leaf that does not continue the ring starts a new one.
  void Push(std::shared_ptr<const Leaf> leaf);
  std::shared_ptr<const Leaf> Get(uint64_t index) const;  // null when it is not here
  // What is stored of a leaf has changed: nothing is answered from memory until newer leaves come.
  void Forget(uint64_t index);
  // Of a leaf that is here or went lately.
  std::shared_ptr<const LeafTerms> Terms(uint64_t index) const;
  size_t bytes() const;     // of the leaves
  size_t leaves() const;

 private:
  struct State {
    std::deque<std::shared_ptr<const Leaf>> ring;
    size_t bytes = 0;
    std::deque<std::shared_ptr<const LeafTerms>> terms;   // of the leaves before the ring's first
    size_t terms_bytes = 0;
  };
  const size_t leaf_cap_, terms_cap_;
  Guarded<State> state_;
};

}  // namespace orgtrail
