// Gaps: what is known to be missing from the log or set apart in it: what agents say they lost, from their own signed records, and
// whose batches are in quarantine, from the evidence.
//
// Path     history, ledger ⇒ [Gaps] → completeness of lookups, feeds, statements
// Threads  any; looks again at most once in five seconds, on the thread that asks. Blocks on disk: not for gRPC reactions.
// Bounds   the newest 1,000 losses within the history's window.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "aggregator/index/history.h"
#include "aggregator/ledger/reader.h"
#include "common/base/clock.h"
#include "orgtrail/v1/query.pb.h"

namespace orgtrail {

struct KnownLoss {
  Uuid agent;
  std::string account, region;   // of the agent
  v1::Loss loss;
};
struct SetApart {
  uint64_t leaf = 0;             // of the evidence
  std::string code;
};
struct GapList {
  std::vector<KnownLoss> losses; // newest first
  std::map<Uuid, SetApart> set_apart;
};

// What row i of a leaf says was lost; nullopt when it is no loss record (class 6).
std::optional<KnownLoss> LossOf(const Leaf& leaf, size_t i);
// "5 spool_full, 2 source_overflow", the largest first; what no record explains is "unexplained".
std::string CausesOf(const std::map<std::string, uint64_t>& counts);

class Gaps {
 public:
  Gaps(const History& history, const LedgerReader& ledger, const Clock& clock) : history_(history), ledger_(ledger), clock_(clock) {}
  std::shared_ptr<const GapList> Known() const;

 private:
  using Place = std::pair<uint64_t, uint32_t>;   // leaf, event
  void FindLosses() const;
  void FindEvidence() const;

  const History& history_;
  const LedgerReader& ledger_;
  const Clock& clock_;
  mutable std::mutex mu_;                        // held while one caller looks, the others wait for what it finds
  mutable Tick again_{};
  mutable std::map<Place, KnownLoss> seen_;      // read once
  mutable uint64_t control_ = 0;                 // control leaves before this one were read
  mutable std::shared_ptr<const GapList> known_;
  mutable GapList next_;
};

}  // namespace orgtrail
