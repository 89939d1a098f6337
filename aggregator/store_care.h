// StoreCare: has all that is kept read through, and has put back what the disk changed of it. The wiring of scrub/: what is found becomes an alarm, what
// comes back clears it and is logged, and whoever read a batch without its bodies reads it again.
//
// Threads  Start, Stop: the aggregator's.
// Owns     the threads `scrub` and `refill`. What is passed in outlives it, but for the history, which is stopped first.
#pragma once

#include <memory>
#include <string>

#include "aggregator/alarms/alarms.h"
#include "aggregator/config.h"
#include "aggregator/index/history.h"
#include "aggregator/ledger/committer.h"
#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/missing_bodies.h"
#include "aggregator/ledger/registry.h"
#include "aggregator/scrub/refill.h"
#include "aggregator/scrub/scrubber.h"
#include "common/base/worker.h"
#include "common/metrics/metrics.h"

namespace orgtrail {

class StoreCare {
 public:
  struct Parts {
    const AggregatorConfig& config;
    Uuid own;                                          // the aggregator's own agent …
    std::string own_uri;                               // … which says what was put back
    Ledger& ledger;
    MissingBodies& missing;
    History& history;
    const Registry& registry;
    Alarms& alarms;
    Committer& committer;
    Fs& fs;
    const Clock& clock;
    Metrics& metrics;
  };
  explicit StoreCare(Parts parts);
  ~StoreCare() { Stop(); }
  void Start();
  void Stop();

 private:
  void MakeScrub();
  void MakeRefill();
  void Tell(const Refilled& done);
  std::string SubjectOf(const Uuid& uuid) const;

  const Parts p_;
  std::unique_ptr<Refill> refill_;
  std::unique_ptr<Scrubber> scrubber_;                 // null: never, by configuration
  std::unique_ptr<Worker> refill_worker_, scrub_worker_;
};

}  // namespace orgtrail
