// Recent: the newest records, in memory until a run holds them. A short open block takes new records; full blocks are sorted
// by term and never change again, so readers share them.
// Threads: RecentBlock: any once sealed. Recent: the follower's, under History's lock.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "aggregator/index/run.h"
#include "aggregator/ledger/leaf.h"

namespace orgtrail {

struct RecentBlock {
  std::vector<HistoryRecord> records;          // in order of arrival
  std::vector<uint32_t> ends;                  // of each record's terms
  std::vector<uint64_t> terms;
  std::vector<TermAtOrdinal> sorted;           // sealed blocks: every (term, record)
  std::vector<int64_t> logged_ns;              // of each record

  std::span<const uint64_t> TermsOf(uint32_t record) const {
    const uint32_t begin = record == 0 ? 0 : ends[record - 1];
    return {terms.data() + begin, ends[record] - begin};
  }
  // Records that have every term; all records when there is none.
  void Find(std::span<const uint64_t> wanted, std::vector<HistoryRecord>* found) const;
};

class Recent {
 public:
  void Add(const Leaf& leaf);                  // chunk rows are not listed
  size_t records() const { return records_; }
  // Sealed blocks and a copy of the open one.
  std::vector<std::shared_ptr<const RecentBlock>> Blocks() const;
  void Clear();

 private:
  void Seal();
  std::vector<std::shared_ptr<const RecentBlock>> sealed_;
  RecentBlock open_;
  std::vector<TermAtOrdinal> scratch_;
  size_t records_ = 0;
};

// Writes what the blocks hold as one run of level 0. The files of `path` must not exist.
absl::Status WriteRun(Fs& fs, std::string path, std::span<const std::shared_ptr<const RecentBlock>> blocks,
                      uint64_t first_leaf, uint64_t next_leaf);

}  // namespace orgtrail
