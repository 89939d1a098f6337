// Watch: looks once a second at what should be there: live agents, coverage, disk, clock, followers; raises and clears alarms.
// An agent whose last words said retired is retired in the log here, which frees its name.
// A Stage: plain code over snapshots. Threads: Step: one Worker ("watch"), may wait for a commit; facts(): any.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "aggregator/alarms/alarms.h"
#include "aggregator/ledger/reader.h"
#include "aggregator/ledger/registry.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/stage.h"
#include "common/format/control.h"
#include "common/fs/file.h"

namespace orgtrail {

struct FollowerFacts {
  std::string name;
  uint64_t cursor = 0;             // leaves it has seen
};

struct WatchOptions {
  absl::Duration heartbeat_interval = absl::Seconds(10);   // 3 missed: SILENT_AGENT
  std::string state_dir;
  Uuid own;                        // the built-in agent: its silence would be ours
  std::vector<std::string> accounts;                       // the organization's: each should have an agent
  absl::Duration coverage_grace = absl::Hours(1);          // from our start, until an account that never had one is an alarm
  std::function<std::string()> ledger_full;   // why nothing can be committed, empty when it can; null: never
};

struct WatchFacts {
  uint32_t live = 0, silent = 0, total = 0;
  double events_per_second = 0;    // over the last minute
  uint64_t disk_free = 0;
  double days_left = -1;           // at the growth since start (at most a day back); negative: unknown
  int64_t started_ns = 0;
  int64_t full_since_ns = 0;       // nothing can be committed since then; 0: it can
  std::string full_why;
};

enum class AgentLife { kLive, kSilent, kNever, kRetired, kRevoked };   // never: enrolled, and has sent nothing yet

class Watch final : public Stage {
 public:
  Watch(const WatchOptions& options, const LedgerReader& ledger, const Registry& registry, Alarms& alarms,
        std::function<absl::Status(const IdentityLeaf&)> log, std::function<uint64_t()> ledger_bytes, std::function<std::vector<FollowerFacts>()> followers, Fs& fs, const Clock& clock,
        Metrics& metrics);
  Tick Step(Tick now) override;
  WatchFacts facts() const;
  AgentLife LifeOf(const AgentIdentityRecord& agent, const std::optional<AgentHead>& head) const;

 private:
  struct Sample {
    int64_t wall_ns = 0;
    uint64_t events = 0, bytes = 0;
  };
  // When an agent was last heard. A heartbeat that was held back is logged and is no sign of life: what came before it counts.
  struct Heard {
    uint64_t leaf_index = 0;          // the newest leaf of that agent when it was looked at
    int64_t logged_ns = 0;
  };
  int64_t LastHeard(const AgentHead& head) const;
  void Listen(const std::map<Uuid, AgentHead>& heads);
  bool HeldBack(const AgentHead& head, uint64_t size_then) const;
  absl::Duration Patience() const;   // three heartbeats
  bool MayStillCome(const AgentIdentityRecord& agent);
  void WatchAgents(WatchFacts& facts);
  void WatchCoverage(const std::map<std::string, bool>& covered, const std::set<std::string>& carried);
  void Retire(const AgentIdentityRecord& agent);
  void WatchLedger(WatchFacts& facts);
  void WatchDisk(WatchFacts& facts);
  void WatchFollowers();

  const WatchOptions options_;
  const LedgerReader& ledger_;
  const Registry& registry_;
  Alarms& alarms_;
  const std::function<absl::Status(const IdentityLeaf&)> log_;
  const std::function<uint64_t()> ledger_bytes_;
  const std::function<std::vector<FollowerFacts>()> followers_;
  Fs& fs_;
  const Clock& clock_;
  const int64_t started_ns_;
  std::atomic<int64_t> listening_ns_;     // since when agents can be heard: while the ledger is full nobody is
  int64_t full_since_ns_ = 0;
  bool saved_ = true;                     // the list of alarms, at the last attempt
  std::deque<Sample> minute_, day_;
  std::map<Uuid, int64_t> never_since_;   // agents that sent nothing yet: since when that is known
  Guarded<std::map<Uuid, Heard>> heard_;
  bool clock_told_ = false;
  Guarded<WatchFacts> facts_;
  Gauge& live_;
  Gauge& silent_;
  Gauge& rate_;
  Gauge& free_;
  Gauge& open_alarms_;
};

}  // namespace orgtrail
