// Combine: what several sources hold, as one run. A source is a run, or a block in memory.
//
// Sources' records are sorted newest first, so each one's ordinals keep their order in the whole; and most of them stand in the whole
// beside their old neighbours, because what was logged later mostly happened later.
// Threads: any. Memory: an eighth of a bit a record, 4 bytes for those whose neighbours change, one list, and 32 KiB a source.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "aggregator/index/postings.h"
#include "aggregator/index/repeats.h"
#include "aggregator/index/run.h"
#include "aggregator/index/run_writer.h"
#include "aggregator/index/sort.h"

namespace orgtrail {

class TermSource {
 public:
  virtual ~TermSource() = default;
  virtual std::span<const HistoryRecord> records() const = 0;         // newest first
  virtual uint64_t terms() const = 0;
  virtual uint64_t TermAt(uint64_t i) const = 0;                      // ascending
  // Entries i, i + 1 … while they are below `end` and their term is at most `last`;
  // how many. A reference is the term's only ordinal with run_format::kInlineBit, or what ListOf takes; `source` is the caller's to set.
  virtual size_t CopyTerms(uint64_t i, uint64_t end, uint64_t last, TermEntry* out) const = 0;
  virtual Postings ListOf(uint32_t reference) const = 0;
  // Whether nobody has combined its records with each other before: a block, not a run.
  virtual bool fresh() const = 0;
};

// Adds all records and terms of the sources, which are ascending by leaf, to an empty writer of so many records. Those that share an event
// id with a record of another source, or of the same block, go to `repeats` when it is there. DataLoss: a source's lists or terms are damaged.
absl::Status Combine(std::span<const TermSource* const> sources, RunWriter& writer, Repeats* repeats);

}  // namespace orgtrail
