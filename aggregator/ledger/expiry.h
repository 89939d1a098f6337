// Expiry: by which leaf of the log a body is gone. Follows the log's control leaves when it is asked, so it costs nothing where nothing
// has expired. Threads: any.
#pragma once

#include <cstdint>
#include <optional>

#include "aggregator/ledger/reader.h"
#include "common/base/guarded.h"
#include "common/format/retention.h"

namespace orgtrail {

class Expiry {
 public:
  explicit Expiry(const LedgerReader& ledger) : ledger_(ledger), state_(State{RetentionHistory(ledger.origin()), 0}) {}
  // The OTR2 that let the bodies of `leaf` expire. Nothing: no leaf did, or the log cannot be read.
  std::optional<uint64_t> By(uint64_t leaf) const;
  std::optional<RetentionHistory::Raise> Newest() const;   // what has expired last; nothing: nothing has

 private:
  struct State {
    RetentionHistory log;
    uint64_t followed = 0;
  };
  void Follow(State& s) const;
  const LedgerReader& ledger_;
  mutable Guarded<State> state_;
};

}  // namespace orgtrail
