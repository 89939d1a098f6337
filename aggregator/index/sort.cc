#include "aggregator/index/sort.h"

#include <algorithm>
#include <array>
#include <bit>
#include <span>
#include <utility>

#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kShort = 24;      // entries; from here on insertion is not the fastest
constexpr uint32_t kNone = UINT32_MAX;
constexpr size_t kSteps = 256;     // in the hash table; nobody's records need as many unless they were made to

// The same lists in more time and without a table.
TermLists ListBySorting(std::span<const uint64_t> terms, std::span<const uint32_t> ends, std::span<const uint16_t> order) {
  std::vector<std::pair<uint64_t, uint16_t>> all;
  for (size_t place = 0; place < order.size(); ++place) {
    const uint16_t record = order[place];
    for (uint32_t t = record == 0 ? 0 : ends[record - 1]; t < ends[record]; ++t) all.emplace_back(terms[t], static_cast<uint16_t>(place));
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  TermLists out;
  for (const auto& [term, place] : all) {
    if (out.dictionary.empty() || out.dictionary.back() != term) {
      out.dictionary.push_back(term);
      out.begins.push_back(static_cast<uint32_t>(out.postings.size()));
    }
    out.postings.push_back(place);
  }
  out.begins.push_back(static_cast<uint32_t>(out.postings.size()));
  return out;
}

}  // namespace

void SortNewestFirst(const std::vector<HistoryRecord>& records, std::vector<uint16_t>* positions, std::vector<uint16_t>* scratch) {
  const size_t n = records.size();
  positions->resize(n);
  scratch->resize(n);
  // Backwards, so that among records of one time the later leaf and event come first; then by time alone, a byte a pass from the lowest
  // that differs, which keeps the order of equals.
  for (size_t i = 0; i < n; ++i) (*positions)[i] = static_cast<uint16_t>(n - 1 - i);
  int64_t newest = INT64_MIN;
  uint64_t range = 0;
  for (const HistoryRecord& r : records) newest = std::max(newest, r.time_ns);
  const auto age = [&](uint16_t i) { return static_cast<uint64_t>(newest) - static_cast<uint64_t>(records[i].time_ns); };
  for (size_t i = 0; i < n; ++i) range |= age(static_cast<uint16_t>(i));
  for (int shift = 0; shift < 64 && range >> shift != 0; shift += 8) {
    if ((range >> shift & 0xff) == 0) continue;
    std::array<uint32_t, 257> begin{};
    for (size_t i = 0; i < n; ++i) ++begin[(age(static_cast<uint16_t>(i)) >> shift & 0xff) + 1];
    for (size_t b = 1; b < 257; ++b) begin[b] += begin[b - 1];
    for (const uint16_t i : *positions) (*scratch)[begin[age(i) >> shift & 0xff]++] = i;
    positions->swap(*scratch);
  }
}

void EntrySorter::Sort(std::vector<TermEntry>* entries, size_t n) {
  const std::span<const TermEntry> all(entries->data(), n);
  uint64_t least = UINT64_MAX, most = 0;
  for (const TermEntry& e : all) {
    least = std::min(least, e.term);
    most = std::max(most, e.term);
  }
  if (least >= most) return;
  if (dealt_.size() < entries->size()) dealt_.resize(entries->size());
  // Dealt into about as many buckets as there are entries, by where they stand between the two, nearly all are where they belong.
  const auto bits = static_cast<int>(std::bit_width(n));
  const int shift = std::max(0, static_cast<int>(std::bit_width(most - least)) - bits);
  begins_.assign((size_t{1} << bits) + 1, 0);
  for (const TermEntry& e : all) ++begins_[(e.term - least) >> shift];
  uint32_t begin = 0;
  for (uint32_t& of : begins_) begin += std::exchange(of, begin);
  for (const TermEntry& e : all) dealt_[begins_[(e.term - least) >> shift]++] = e;
  const auto below = [](const TermEntry& a, const TermEntry& b) { return a.term < b.term; };
  for (size_t i = 1; i < n; ++i) {
    if (!below(dealt_[i], dealt_[i - 1])) continue;
    const uint64_t bucket = (dealt_[i].term - least) >> shift;
    const size_t from = bucket == 0 ? 0 : begins_[bucket - 1], to = begins_[bucket];   // each has moved to its end
    if (to - from > kShort) {   // networks of addresses, or terms that somebody chose
      std::stable_sort(dealt_.begin() + static_cast<ptrdiff_t>(from), dealt_.begin() + static_cast<ptrdiff_t>(to), below);
      i = to - 1;
      continue;
    }
    const TermEntry e = dealt_[i];
    size_t at = i;
    for (; at > from && below(e, dealt_[at - 1]); --at) dealt_[at] = dealt_[at - 1];
    dealt_[at] = e;
  }
  entries->swap(dealt_);
}

bool TermLister::Number(std::span<const uint64_t> terms, std::span<const uint32_t> ends) {
  const size_t slots = std::bit_ceil(std::max<size_t>(terms.size() / 2, 64));   // a fifth of the terms are distinct
  const int shift = 65 - static_cast<int>(std::bit_width(slots));
  slots_.assign(slots, kNone);
  distinct_.clear();
  ids_.resize(terms.size());
  uint32_t* id = ids_.data();
  uint32_t at = 0;
  for (uint32_t record = 0; record < ends.size(); ++record) {
    for (; at < ends[record]; ++at) {
      const uint64_t term = terms[at];
      size_t slot = (term * 0x9E3779B97F4A7C15ull) >> shift;   // addresses are not hashes
      bool again = false;                                      // the record has it already
      for (size_t steps = 0;; slot = (slot + 1) & (slots - 1)) {
        if (slots_[slot] == kNone) {
          slots_[slot] = static_cast<uint32_t>(distinct_.size());
          distinct_.push_back({term, record, 1});
          break;
        }
        TermEntry& seen = distinct_[slots_[slot]];
        if (seen.term == term) [[likely]] {
          again = seen.reference == record;
          seen.reference = record;
          seen.source += !again;
          break;
        }
        if (++steps == kSteps) return false;
      }
      *id++ = again ? kNone : slots_[slot];
    }
  }
  return true;
}

TermLists TermLister::List(std::span<const uint64_t> terms, std::span<const uint32_t> ends, std::span<const uint16_t> order) {
  CHECK(ends.size() == order.size() && (ends.empty() ? terms.empty() : ends.back() == terms.size()));
  if (!Number(terms, ends)) return ListBySorting(terms, ends, order);
  TermLists out;
  for (size_t i = 0; i < distinct_.size(); ++i) distinct_[i].reference = static_cast<uint32_t>(i);
  next_.resize(distinct_.size());
  const size_t distinct = distinct_.size();
  sorter_.Sort(&distinct_, distinct);
  out.dictionary.reserve(distinct);
  out.begins.reserve(distinct + 1);
  uint32_t postings = 0;
  for (size_t i = 0; i < distinct; ++i) {
    const TermEntry& e = distinct_[i];
    out.dictionary.push_back(e.term);
    out.begins.push_back(postings);
    next_[e.reference] = postings;
    postings += e.source;
  }
  out.begins.push_back(postings);
  out.postings.resize(postings);
  for (size_t place = 0; place < order.size(); ++place) {
    const uint16_t record = order[place];
    for (uint32_t t = record == 0 ? 0 : ends[record - 1]; t < ends[record]; ++t) {
      if (ids_[t] != kNone) out.postings[next_[ids_[t]]++] = static_cast<uint16_t>(place);
    }
  }
  return out;
}

}  // namespace orgtrail
