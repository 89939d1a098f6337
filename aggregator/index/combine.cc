#include "aggregator/index/combine.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "aggregator/admit/terms.h"
#include "aggregator/index/ordinals.h"
#include "aggregator/index/run_format.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

using run_format::kInlineBit;
using Sources = std::span<const TermSource* const>;

absl::Status Damaged() { return absl::DataLossError("history: a list of a run is damaged, whose checksums are right"); }

// Where each source's records stand in the whole.
class Order {
 public:
  explicit Order(Sources sources);
  absl::Status Write(Sources sources, RunWriter& writer);   // finds the order, and adds the records in it
  uint32_t Of(size_t source, uint32_t ordinal) const {
    const OfSource& of = of_[source];
    const uint32_t shift = of.shifts[ordinal / kGroup];
    return shift != kMixed ? ordinal + shift : of.places[ordinal];
  }
  void Apply(size_t source, uint32_t* ordinals, size_t n) const {
    for (size_t i = 0; i < n; ++i) ordinals[i] = Of(source, ordinals[i]);
  }
  // Sets the bits of the whole that a source's bitmap says.
  void AddBits(size_t source, std::string_view bitmap, uint64_t* to) const;

 private:
  static constexpr uint32_t kGroup = 64;              // records that are moved together, mostly
  static constexpr uint32_t kMixed = UINT32_MAX;      // no shift: a whole has fewer records
  struct Stretch {                                    // records that are neighbours in the source and in the whole
    uint32_t begin, end, place;
  };
  struct OfSource {
    uint32_t records = 0;
    std::vector<uint32_t> shifts;                     // of each group
    std::unique_ptr<uint32_t[]> places;               // of the records of mixed groups; the rest is not touched
    std::vector<Stretch> stretches;
  };
  void Place(OfSource& of, Stretch stretch);
  std::vector<OfSource> of_;
};

Order::Order(Sources sources) : of_(sources.size()) {
  for (size_t i = 0; i < sources.size(); ++i) {
    of_[i].records = static_cast<uint32_t>(sources[i]->records().size());
    of_[i].shifts.assign((of_[i].records + kGroup - 1) / kGroup, kMixed);
    of_[i].places.reset(new uint32_t[of_[i].records]);
  }
}

void Order::Place(OfSource& of, Stretch s) {
  of.stretches.push_back(s);
  uint32_t at = s.begin;
  const auto one_by_one = [&](uint32_t end) {
    for (; at < end; ++at) of.places[at] = s.place + (at - s.begin);
  };
  one_by_one(std::min(s.end, (s.begin + kGroup - 1) / kGroup * kGroup));
  for (; at < s.end && (s.end - at >= kGroup || s.end == of.records); at = std::min(s.end, at + kGroup)) {
    of.shifts[at / kGroup] = s.place - s.begin;
  }
  one_by_one(s.end);
}

absl::Status Order::Write(Sources sources, RunWriter& writer) {
  std::vector<std::span<const HistoryRecord>> left;
  for (const TermSource* source : sources) left.push_back(source->records());
  uint32_t place = 0;
  for (;;) {
    size_t best = left.size(), second = left.size();   // the two sources whose next records are the newest
    for (size_t i = 0; i < left.size(); ++i) {
      if (left[i].empty()) continue;
      if (best == left.size() || Newer(left[i][0], left[best][0])) {
        second = best;
        best = i;
      } else if (second == left.size() || Newer(left[i][0], left[second][0])) {
        second = i;
      }
    }
    if (best == left.size()) return absl::OkStatus();
    // Everything of the first that is newer than the second's next, at once.
    size_t n = 1;
    if (second == left.size()) {
      n = left[best].size();
    } else {
      while (n < left[best].size() && Newer(left[best][n], left[second][0])) ++n;
    }
    const auto begin = static_cast<uint32_t>(of_[best].records - left[best].size()), end = static_cast<uint32_t>(begin + n);
    RETURN_IF_ERROR(writer.AddRecords(left[best].first(n)));
    Place(of_[best], {begin, end, place});
    place += static_cast<uint32_t>(n);
    left[best] = left[best].subspan(n);
  }
}

void Order::AddBits(size_t source, std::string_view bitmap, uint64_t* to) const {
  for (const Stretch& s : of_[source].stretches) {
    for (uint32_t from = s.begin, place = s.place; from < s.end;) {
      // As much as one load gives, whatever bit of a byte it starts at, and one word of the whole takes.
      const uint32_t n = std::min({s.end - from, 56u, 64 - place % 64});
      uint64_t bits = 0;
      std::memcpy(&bits, bitmap.data() + from / 8, std::min<size_t>(sizeof bits, bitmap.size() - from / 8));
      bits = bits >> (from % 8) & ((uint64_t{1} << n) - 1);
      to[place / 64] |= bits << (place % 64);
      from += n;
      place += n;
    }
  }
}

// The sources' terms in order, a slice at a time: sorting some thousand entries in the cache costs a fraction of asking all
// sources for the least of their next terms at each one.
class Slices {
 public:
  explicit Slices(Sources sources) : sources_(sources), at_(sources.size()), entries_(sources.size() * kSlice) {}
  // The next entries, ascending by term and then descending by source, all of a term in one slice; empty at the end. Valid until the next call.
  absl::StatusOr<std::span<const TermEntry>> Next();

 private:
  static constexpr uint64_t kSlice = 128;             // entries of a source, at most
  const Sources sources_;
  std::vector<uint64_t> at_;
  std::vector<TermEntry> entries_;
  EntrySorter sorter_;
};

absl::StatusOr<std::span<const TermEntry>> Slices::Next() {
  uint64_t last = UINT64_MAX;   // every source goes as far as the one that would get least far
  for (size_t i = 0; i < sources_.size(); ++i) {
    if (at_[i] + kSlice < sources_[i]->terms()) last = std::min(last, sources_[i]->TermAt(at_[i] + kSlice) - 1);
  }
  TermEntry* to = entries_.data();
  bool more = false;
  for (size_t i = sources_.size(); i-- > 0;) {
    const uint64_t terms = sources_[i]->terms();
    more |= at_[i] < terms;
    const size_t n = sources_[i]->CopyTerms(at_[i], std::min(terms, at_[i] + kSlice), last, to);
    for (size_t e = 0; e < n; ++e) to[e].source = static_cast<uint32_t>(i);
    at_[i] += n;
    to += n;
  }
  const auto n = static_cast<size_t>(to - entries_.data());
  if (more && n == 0) return Damaged();   // a term below the one before it
  sorter_.Sort(&entries_, n);
  return std::span<const TermEntry>(entries_.data(), n);
}

// Puts the lists of one term together.
class Lists {
 public:
  Lists(Sources sources, const Order& order, RunWriter& writer, Repeats* repeats)
      : sources_(sources), order_(order), writer_(writer), repeats_(repeats), list_(writer.records()) {}
  absl::Status Add(std::span<const TermEntry> same);

 private:
  void NoteRepeats(std::span<const TermEntry> same);
  absl::Status AddDense(std::span<const TermEntry> same, uint32_t count);

  const Sources sources_;
  const Order& order_;
  RunWriter& writer_;
  Repeats* const repeats_;
  std::vector<Postings> lists_;
  OrdinalList list_;
  std::vector<uint32_t> ordinals_;
  std::vector<uint64_t> bits_;
};

absl::Status Lists::Add(std::span<const TermEntry> same) {
  const TermEntry& first = same[0];
  if (same.size() == 1 && (first.reference & kInlineBit) != 0) {   // most terms: event ids
    const uint32_t ordinal = first.reference & ~kInlineBit;
    if (ordinal >= sources_[first.source]->records().size()) return Damaged();
    return writer_.AddTerm(first.term, order_.Of(first.source, ordinal));
  }
  lists_.clear();
  uint64_t count = 0;
  for (const TermEntry& e : same) {
    lists_.push_back(sources_[e.source]->ListOf(e.reference));
    if (lists_.back().count() == 0) return Damaged();
    count += lists_.back().count();
  }
  if (count > writer_.records()) return Damaged();
  if (repeats_ != nullptr && IsIdTerm(first.term)) NoteRepeats(same);
  if (count >= writer_.records() / run_format::kDense) return AddDense(same, static_cast<uint32_t>(count));
  list_.Begin(count);
  for (size_t i = 0; i < same.size(); ++i) {
    const uint32_t n = lists_[i].count();
    uint32_t* const to = list_.Room(n);
    if (!lists_[i].DecodeTo(to)) return Damaged();
    order_.Apply(same[i].source, to, n);
    list_.Add(n);
  }
  return writer_.AddTerm(first.term, list_.Sorted());
}

// One record of each source stands for all that it has of the id: those were compared when the run was made. A block's were not.
void Lists::NoteRepeats(std::span<const TermEntry> same) {
  const HistoryRecord* one = nullptr;
  for (size_t i = 0; i < same.size(); ++i) {
    const TermSource& source = *sources_[same[i].source];
    const auto note = [&](uint32_t ordinal) {
      if (ordinal >= source.records().size()) return;
      if (one != nullptr) repeats_->Add(*one, source.records()[ordinal]);
      if (one == nullptr) one = &source.records()[ordinal];
    };
    if (!source.fresh()) {
      note(Postings(lists_[i]).Seek(0));
      continue;
    }
    ordinals_.resize(lists_[i].count());
    if (lists_[i].DecodeTo(ordinals_.data())) std::for_each(ordinals_.begin(), ordinals_.end(), note);
  }
}

absl::Status Lists::AddDense(std::span<const TermEntry> same, uint32_t count) {
  bits_.assign((writer_.records() + 63) / 64, 0);
  for (size_t i = 0; i < same.size(); ++i) {
    if (const std::string_view bitmap = lists_[i].bitmap(); !bitmap.empty()) {
      order_.AddBits(same[i].source, bitmap, bits_.data());
      continue;
    }
    ordinals_.resize(lists_[i].count());
    if (!lists_[i].DecodeTo(ordinals_.data())) return Damaged();
    for (const uint32_t o : ordinals_) {
      const uint32_t place = order_.Of(same[i].source, o);
      bits_[place / 64] |= uint64_t{1} << (place % 64);
    }
  }
  size_t set = 0;
  for (const uint64_t word : bits_) set += static_cast<size_t>(std::popcount(word));
  return set == count ? writer_.AddTerm(same[0].term, count, bits_) : Damaged();
}

}  // namespace

absl::Status Combine(Sources sources, RunWriter& writer, Repeats* repeats) {
  Order order(sources);
  RETURN_IF_ERROR(order.Write(sources, writer));
  Lists lists(sources, order, writer, repeats);
  Slices slices(sources);
  for (;;) {
    ASSIGN_OR_RETURN(const std::span<const TermEntry> slice, slices.Next());
    if (slice.empty()) return absl::OkStatus();
    for (size_t begin = 0, end = 0; begin < slice.size(); begin = end) {
      while (end < slice.size() && slice[end].term == slice[begin].term) ++end;
      RETURN_IF_ERROR(lists.Add(slice.subspan(begin, end - begin)));
    }
  }
}

}  // namespace orgtrail
