// Epochs: what an agent captured in the epochs that have ended. Its head counts from the start of the epoch it is in; the batch before an
// epoch says where the one before stood. What was found once is remembered: an ended epoch never changes.
// Threads: any.
#pragma once

#include <cstdint>
#include <map>

#include "absl/status/statusor.h"
#include "aggregator/ledger/reader.h"
#include "common/base/guarded.h"

namespace orgtrail {

struct EpochTotals {
  uint64_t events = 0, lost = 0;
};

class Epochs {
 public:
  explicit Epochs(const LedgerReader& ledger) : ledger_(ledger) {}
  // Of the epochs before the head's. Each one that is not known yet costs two reads; at most the last 1,000 count. What cannot be read
  // (a handover from another log, a damaged leaf) ends the count there.
  EpochTotals Before(const AgentHead& head);

 private:
  struct Last {                          // of the epoch before
    BatchId batch;
    EpochTotals totals;
  };
  // Of the epoch whose opening is this leaf; NotFound when there is none in this log.
  absl::StatusOr<Last> Ended(const Uuid& uuid, uint64_t opening_leaf) const;

  struct Known {
    uint64_t epoch = 0;                  // everything before it is in `totals`
    EpochTotals totals;
  };
  const LedgerReader& ledger_;
  Guarded<std::map<Uuid, Known>> known_;
};

}  // namespace orgtrail
