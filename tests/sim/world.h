// World: several agents, one aggregator and its readers on one thread, from one seed, and everything that goes wrong between them.
//
// The seed picks which machine does what next, how long a message takes, and which fault strikes. All code that decides anything
// is the shipped one: Pipeline, Sealer, Spool and UplinkSession in the agents; Sessions, Verifier, Committer, Ledger, History and
// Subscription in the aggregator. The world is the clock, the disk (disk.h), the network and the people.
#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "common/base/mutant.h"

namespace orgtrail::sim {

enum class Fault {
  kKillAgent, kCutAgentPower, kStopAgent, kKillAggregator, kCutAggregatorPower, kCutStream, kDuplicate, kReorder, kDiskFull, kDiskError,
  kClockJump, kReplay, kForgedReceipt, kForkedHead, kForgedBatch, kReaderCrash, kLoss,
  kRestore, kDelay, kClone, kSpoolDamage,
};
inline constexpr int kFaults = 21;
const char* FaultName(Fault fault);

struct Plan {
  uint64_t seed = 1;
  int steps = 2500;                    // before everything heals
  uint32_t without = 0;                // bits of faults that do not strike, to find out which matter
  Mutant mutant = Mutant::kNone;
  bool forgets_acked = false;          // with restores: spools keep what was acknowledged for a moment only. --forget
};

struct Outcome {
  std::string why;                     // empty: nothing wrong
  std::vector<std::string> history;    // what happened, in order
  std::map<std::string, uint64_t> faults;  // how often each struck
  uint64_t steps = 0, batches = 0, records = 0, shards = 0;
  uint64_t gone = 0;                   // lines a disk damaged before they were sent
  std::string digest;                  // of the whole run: two runs of one plan have the same
  bool ok() const { return why.empty(); }
};

Outcome Run(const Plan& plan);
void Plant(Mutant mutant);             // for the worlds from here on

// How a simulated process dies when a CHECK fails.
struct Died : std::exception {
  explicit Died(std::string text) : what_(std::move(text)) {}
  const char* what() const noexcept override { return what_.c_str(); }
  std::string what_;
};

}  // namespace orgtrail::sim
