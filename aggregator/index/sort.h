// What is sorted while a block of records in memory becomes searchable, and while blocks and runs are combined. Threads: one an object.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "aggregator/index/run.h"

namespace orgtrail {

struct TermEntry {
  uint64_t term = 0;
  uint32_t reference = 0;
  uint32_t source = 0;
};

// Sorts by term; equals keep their order. Fast on terms that are spread evenly, as hashes are.
class EntrySorter {
 public:
  void Sort(std::vector<TermEntry>* entries, size_t n);   // its first n

 private:
  std::vector<TermEntry> dealt_;
  std::vector<uint32_t> begins_;   // of each bucket
};

// The positions of `records`, at most 65,536 and ascending by (leaf, event), newest first. `scratch` is resized as needed.
void SortNewestFirst(const std::vector<HistoryRecord>& records, std::vector<uint16_t>* positions, std::vector<uint16_t>* scratch);

// Which of a block's records have which term.
struct TermLists {
  std::vector<uint64_t> dictionary;   // ascending
  std::vector<uint32_t> begins;       // of each term's postings; one more at the end
  std::vector<uint16_t> postings;     // ascending for each term
};

class TermLister {
 public:
  // `terms` are those of one record after another, ends[r] is past the last of record r; a term that a record has twice counts once.
  // `order` names every record once: a record's place in it is what the lists hold.
  TermLists List(std::span<const uint64_t> terms, std::span<const uint32_t> ends, std::span<const uint16_t> order);

 private:
  bool Number(std::span<const uint64_t> terms, std::span<const uint32_t> ends);

  std::vector<uint32_t> slots_;       // a hash table: indexes of distinct_
  std::vector<TermEntry> distinct_;   // in order of appearance; source: how many records have it
  std::vector<uint32_t> ids_;         // of each of `terms`, its index in distinct_
  std::vector<uint32_t> next_;        // by that index: where its next posting goes
  EntrySorter sorter_;
};

}  // namespace orgtrail
