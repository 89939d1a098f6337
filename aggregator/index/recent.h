// Recent: the newest records, in memory until a run holds them. A short open block takes new records; full blocks are turned
// into posting lists and never change again, so readers share them. Some 90 bytes a record.
// Threads: RecentBlock: any once sealed. Recent: the follower's, under History's lock.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aggregator/index/repeats.h"
#include "aggregator/index/run.h"
#include "aggregator/index/sort.h"
#include "aggregator/ledger/leaf.h"
#include "common/fs/file.h"

namespace orgtrail {

struct RecentBlock {
  std::vector<HistoryRecord> records;          // in order of arrival while it is open, then newest first
  int64_t min_logged_ns = INT64_MAX, max_logged_ns = INT64_MIN;

  // While it is open: each record's terms, one after another.
  std::vector<uint64_t> terms;
  std::vector<uint32_t> ends;                  // of each record's terms

  // Once it is sealed: which records have which term.
  TermLists lists;                             // of positions in `records`

  // Records that have every term; all records when there is none.
  void Find(std::span<const uint64_t> wanted, std::vector<HistoryRecord>* found) const;
  std::span<const uint16_t> PostingsOf(uint64_t term) const;   // sealed blocks

 private:
  void FindInOpen(std::span<const uint64_t> wanted, std::vector<HistoryRecord>* found) const;
};

class Recent {
 public:
  void Add(const LeafTerms& leaf);
  size_t records() const { return records_; }
  // Sealed blocks and a copy of the open one.
  std::vector<std::shared_ptr<const RecentBlock>> Blocks() const;
  void Seal();                                 // the open block, whatever it holds
  void Clear();

 private:
  std::vector<std::shared_ptr<const RecentBlock>> sealed_;
  RecentBlock open_;
  std::vector<uint16_t> newest_, newest_scratch_;   // positions in the open block, newest first
  TermLister lister_;
  size_t records_ = 0;
};

// Writes what the blocks, all of them sealed, hold as one run of level 0. The files of `path` must not exist. `repeats`: as Combine.
absl::Status WriteRun(Fs& fs, std::string path, std::span<const std::shared_ptr<const RecentBlock>> blocks,
                      uint64_t first_leaf, uint64_t next_leaf, Repeats* repeats);

}  // namespace orgtrail
