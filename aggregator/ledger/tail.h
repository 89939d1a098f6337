// Tail: the newest leaves, inflated, as the path built them. Followers that keep up read them here and never inflate again.
// Threads: any. Bounds: bytes; the newest leaf always stays, so that memory is at most `bytes` and one leaf.
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
  explicit Tail(size_t bytes) : cap_(bytes) {}
  // Indexes follow one another; a leaf that does not continue the ring starts a new one.
  void Push(std::shared_ptr<const Leaf> leaf);
  std::shared_ptr<const Leaf> Get(uint64_t index) const;  // null when it is not here
  size_t bytes() const;
  size_t leaves() const;

 private:
  struct State {
    std::deque<std::shared_ptr<const Leaf>> ring;
    size_t bytes = 0;
  };
  const size_t cap_;
  Guarded<State> state_;
};

}  // namespace orgtrail
