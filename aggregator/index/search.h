// HistorySearch: the records of a snapshot that have every term, newest first, one at a time.
// Threads: one. Holds the snapshot; a run whose records are all older than what was returned so far is not touched.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "aggregator/index/history.h"

namespace orgtrail {

struct HistoryQuery {
  std::vector<uint64_t> terms;                 // all of them (admit/terms.h); empty: every record
  std::optional<TermRange> addresses;          // a source address in this range too
  int64_t start_ns = INT64_MIN;                // by eventTime, inclusive
  int64_t end_ns = INT64_MAX;
  uint64_t tree_size = UINT64_MAX;             // leaves below it only
  std::optional<HistoryRecord> after;          // only what comes after it in the order of answers
  bool own = false;                            // orgtrail's own records too
};

class HistorySearch {
 public:
  HistorySearch(HistorySnapshot snapshot, HistoryQuery query);
  // The next candidate; nullopt at the end. Terms are hashes, and of an address 32 bits or 62 may be known: whoever asks checks the
  // record itself.
  std::optional<HistoryRecord> Next();

 private:
  struct Source {                              // a run, or all that was found in memory
    std::shared_ptr<const Run> run;
    std::vector<Postings> lists;               // shortest first
    std::vector<uint32_t> gathered;            // of the address range, when that is a list
    std::vector<HistoryRecord> found;          // memory: a heap, the newest in front
    uint32_t next = 0;                         // ordinal
    uint32_t end = 0;
    bool opened = false;
    HistoryRecord head;                        // opened: its next record; else the newest it could have
  };
  bool Advance(Source& source);                // false at its end
  void Open(Source& source) const;

  HistorySnapshot snapshot_;
  HistoryQuery query_;
  std::vector<Source> heap_;
};

}  // namespace orgtrail
