#include "aggregator/ledger/tail.h"

#include <utility>
#include <vector>

#include "aggregator/ledger/reader.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {


size_t MemoryOf(const LeafTerms& leaf) {
  return sizeof(LeafTerms) + leaf.rows.capacity() * sizeof(LeafTerms::Row) + leaf.terms.capacity() * sizeof(uint64_t);
}

}  // namespace

size_t MemoryOf(const Leaf& leaf) {
  return sizeof(Leaf) + leaf.bytes.capacity() + leaf.events.storage.capacity() +
         leaf.events.rows.capacity() * sizeof(Row) + leaf.facts.capacity() * sizeof(RowFacts) +
         leaf.terms.capacity() * sizeof(uint64_t);
}

std::shared_ptr<const LeafTerms> LeafTerms::Of(const Leaf& leaf) {
  auto of = std::make_shared<LeafTerms>();
  of->index = leaf.index;
  of->logged_ns = leaf.logged_ns;
  of->flags = leaf.flags;
  if (!leaf.is_batch) return of;
  of->rows.reserve(leaf.events.rows.size());
  of->terms.reserve(leaf.terms.size());
  for (size_t i = 0; i < leaf.events.rows.size(); ++i) {
    const orgtrail::Row& row = leaf.events.rows[i];
    if (row.event_class == static_cast<uint16_t>(EventClass::kChunk)) continue;
    const RowFacts& facts = leaf.facts[i];
    of->terms.insert(of->terms.end(), leaf.terms.begin() + facts.terms_begin, leaf.terms.begin() + facts.terms_end);
    of->rows.push_back({facts.event_time_ns, static_cast<uint32_t>(i), static_cast<uint32_t>(of->terms.size()), row.event_class,
                        row.tombstone});
  }
  return of;
}

void Tail::Push(std::shared_ptr<const Leaf> leaf) {
  std::vector<std::shared_ptr<const Leaf>> evicted;  // freed after the lock: a leaf is megabytes
  std::vector<std::shared_ptr<const LeafTerms>> evicted_terms;
  // One thread pushes, so what is about to go is known before it goes.
  std::vector<std::shared_ptr<const Leaf>> going;
  const bool continues = state_.Peek([&](const State& s) {
    if (s.ring.empty()) return true;
    if (s.ring.back()->index + 1 != leaf->index) return false;
    size_t bytes = s.bytes + MemoryOf(*leaf);
    for (size_t i = 0; i < s.ring.size() && bytes > leaf_cap_; ++i) {
      bytes -= MemoryOf(*s.ring[i]);
      going.push_back(s.ring[i]);
    }
    return true;
  });
  std::vector<std::shared_ptr<const LeafTerms>> stay;
  stay.reserve(going.size());
  for (const auto& gone : going) stay.push_back(LeafTerms::Of(*gone));
  state_.With([&](State& s) {
    if (!continues) {
      evicted.assign(s.ring.begin(), s.ring.end());
      evicted_terms.assign(s.terms.begin(), s.terms.end());
      s = State{};
    }
    s.bytes += MemoryOf(*leaf);
    s.ring.push_back(std::move(leaf));
    for (std::shared_ptr<const LeafTerms>& terms : stay) {
      s.bytes -= MemoryOf(*s.ring.front());
      evicted.push_back(std::move(s.ring.front()));
      s.ring.pop_front();
      s.terms_bytes += MemoryOf(*terms);
      s.terms.push_back(std::move(terms));
    }
    while (s.terms_bytes > terms_cap_) {
      s.terms_bytes -= MemoryOf(*s.terms.front());
      evicted_terms.push_back(std::move(s.terms.front()));
      s.terms.pop_front();
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

std::shared_ptr<const LeafTerms> Tail::Terms(uint64_t index) const {
  if (const std::shared_ptr<const Leaf> leaf = Get(index)) return LeafTerms::Of(*leaf);
  return state_.Peek([&](const State& s) -> std::shared_ptr<const LeafTerms> {
    if (s.terms.empty() || index < s.terms.front()->index) return nullptr;
    const uint64_t at = index - s.terms.front()->index;
    return at < s.terms.size() ? s.terms[at] : nullptr;
  });
}

void Tail::Forget(uint64_t index) {
  State old;   // freed after the lock
  state_.With([&](State& s) {
    const bool here = !s.ring.empty() && index >= s.ring.front()->index;
    if (here || (!s.terms.empty() && index >= s.terms.front()->index)) std::swap(s, old);
  });
}

size_t Tail::bytes() const {
  return state_.Peek([](const State& s) { return s.bytes; });
}

size_t Tail::leaves() const {
  return state_.Peek([](const State& s) { return s.ring.size(); });
}

absl::StatusOr<std::shared_ptr<const LeafTerms>> LedgerReader::ReadTerms(uint64_t index) const {
  ASSIGN_OR_RETURN(const std::shared_ptr<const Leaf> leaf, Read(index));
  return LeafTerms::Of(*leaf);
}

}  // namespace orgtrail
