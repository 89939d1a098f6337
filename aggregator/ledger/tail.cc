#include "aggregator/ledger/tail.h"

#include <utility>
#include <vector>

namespace orgtrail {

size_t MemoryOf(const Leaf& leaf) {
  return sizeof(Leaf) + leaf.bytes.capacity() + leaf.events.storage.capacity() +
         leaf.events.rows.capacity() * sizeof(Row) + leaf.facts.capacity() * sizeof(RowFacts) +
         leaf.terms.capacity() * sizeof(uint64_t);
}

void Tail::Push(std::shared_ptr<const Leaf> leaf) {
  std::vector<std::shared_ptr<const Leaf>> evicted;  // freed after the lock: a leaf is megabytes
  state_.With([&](State& s) {
    if (!s.ring.empty() && s.ring.back()->index + 1 != leaf->index) {
      evicted.assign(s.ring.begin(), s.ring.end());
      s.ring.clear();
      s.bytes = 0;
    }
    s.bytes += MemoryOf(*leaf);
    s.ring.push_back(std::move(leaf));
    while (s.bytes > cap_ && s.ring.size() > 1) {
      s.bytes -= MemoryOf(*s.ring.front());
      evicted.push_back(std::move(s.ring.front()));
      s.ring.pop_front();
    }
  });
}

std::shared_ptr<const Leaf> Tail::Get(uint64_t index) const {
  return state_.Peek([&](const State& s) -> std::shared_ptr<const Leaf> {
    if (s.ring.empty() || index < s.ring.front()->index) return nullptr;
    const uint64_t at = index - s.ring.front()->index;
    return at < s.ring.size() ? s.ring[at] : nullptr;
  });
}

size_t Tail::bytes() const {
  return state_.Peek([](const State& s) { return s.bytes; });
}

size_t Tail::leaves() const {
  return state_.Peek([](const State& s) { return s.ring.size(); });
}

}  // namespace orgtrail
