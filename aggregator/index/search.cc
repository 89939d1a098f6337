#include "aggregator/index/search.h"

#include <algorithm>

namespace orgtrail {
namespace {

// From one match in so many records on, looking at each record finds a page of matches sooner than collecting all of them.
constexpr size_t kDense = 32;
constexpr size_t kFew = 128;   // collected whatever else there is

bool Older(const HistoryRecord& a, const HistoryRecord& b) { return Newer(b, a); }

bool Wanted(const HistoryRecord& r, const HistoryQuery& q) {
  if (q.addresses.has_value()) {
    const uint64_t key = AddressKey(r);
    if (key < AddressKey(q.addresses->first) || key > AddressKey(q.addresses->last)) return false;
  }
  return r.leaf < q.tree_size && r.time_ns >= q.start_ns && r.time_ns <= q.end_ns &&
         (q.own || (r.flags & kHistoryOwn) == 0) && (!q.after.has_value() || Newer(*q.after, r));
}

}  // namespace

HistorySearch::HistorySearch(HistorySnapshot snapshot, HistoryQuery query)
    : snapshot_(std::move(snapshot)), query_(std::move(query)) {
  std::sort(query_.terms.begin(), query_.terms.end());
  query_.terms.erase(std::unique(query_.terms.begin(), query_.terms.end()), query_.terms.end());
  Source memory;
  for (const auto& block : snapshot_.recent) {
    const auto before = static_cast<ptrdiff_t>(memory.found.size());
    block->Find(query_.terms, &memory.found);
    memory.found.erase(std::remove_if(memory.found.begin() + before, memory.found.end(), [&](const HistoryRecord& r) { return !Wanted(r, query_); }),
                       memory.found.end());
  }
  std::make_heap(memory.found.begin(), memory.found.end(), Older);   // a page needs few of them: not sorted
  memory.opened = true;
  if (Advance(memory)) heap_.push_back(std::move(memory));
  const int64_t latest = query_.after.has_value() ? std::min(query_.end_ns, query_.after->time_ns) : query_.end_ns;
  for (const auto& run : snapshot_.runs) {
    const RunFacts& f = run->facts();
    if (f.first_leaf >= query_.tree_size || f.max_time_ns < query_.start_ns || f.min_time_ns > latest) continue;
    Source source;
    source.run = run;
    source.head = {std::min(f.max_time_ns, latest), UINT64_MAX, UINT16_MAX, 0, 0};
    heap_.push_back(std::move(source));
  }
  const auto later = [](const Source& a, const Source& b) { return Newer(b.head, a.head); };
  std::make_heap(heap_.begin(), heap_.end(), later);
}

void HistorySearch::Open(Source& source) const {
  source.opened = true;
  const std::span<const HistoryRecord> records = source.run->records();
  // Newest first: ordinals [next, end) are those of the wanted time.
  const int64_t latest = query_.after.has_value() ? std::min(query_.end_ns, query_.after->time_ns) : query_.end_ns;
  source.next = static_cast<uint32_t>(
      std::partition_point(records.begin(), records.end(), [&](const HistoryRecord& r) { return r.time_ns > latest; }) -
      records.begin());
  source.end = static_cast<uint32_t>(std::partition_point(records.begin() + source.next, records.end(),
                                                          [&](const HistoryRecord& r) { return r.time_ns >= query_.start_ns; }) -
                                     records.begin());
  for (const uint64_t term : query_.terms) source.lists.push_back(source.run->Find(term));
  if (query_.addresses.has_value()) {
    // The addresses' own lists when they are few, beside everything else that narrows the search; else each candidate's record says
    // whether it has one of them.
    size_t most = (source.end - source.next) / kDense;
    for (const Postings& list : source.lists) most = std::min<size_t>(most, list.count());
    if (std::optional<std::vector<uint32_t>> few = source.run->Gather(*query_.addresses, most + kFew)) {
      source.gathered = *std::move(few);
      source.lists.push_back(Postings::Of(source.gathered));
    }
  }
  if (source.lists.empty()) source.lists.push_back(Postings::All(static_cast<uint32_t>(records.size())));
  std::sort(source.lists.begin(), source.lists.end(), [](const Postings& a, const Postings& b) { return a.count() < b.count(); });
}

bool HistorySearch::Advance(Source& source) {
  if (source.run == nullptr) {
    if (source.found.empty()) return false;
    std::pop_heap(source.found.begin(), source.found.end(), Older);
    source.head = source.found.back();
    source.found.pop_back();
    return true;
  }
  if (!source.opened) Open(source);
  const std::span<const HistoryRecord> records = source.run->records();
  while (source.next < source.end) {
    const uint32_t candidate = source.lists[0].Seek(source.next);
    if (candidate >= source.end) break;
    source.next = candidate;
    bool all = true;
    for (size_t i = 1; i < source.lists.size() && all; ++i) {
      const uint32_t at = source.lists[i].Seek(candidate);
      all = at == candidate;
      if (!all) source.next = at;  // kNoOrdinal ends the loop
    }
    if (!all) continue;
    ++source.next;
    if (!Wanted(records[candidate], query_)) continue;
    source.head = records[candidate];
    return true;
  }
  source.next = source.end;
  return false;
}

std::optional<HistoryRecord> HistorySearch::Next() {
  const auto later = [](const Source& a, const Source& b) { return Newer(b.head, a.head); };
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    Source& source = heap_.back();
    std::optional<HistoryRecord> found;
    if (source.opened) found = source.head;
    if (Advance(source)) {
      std::push_heap(heap_.begin(), heap_.end(), later);
    } else {
      heap_.pop_back();
    }
    if (found.has_value()) return found;
  }
  return std::nullopt;
}

}  // namespace orgtrail
