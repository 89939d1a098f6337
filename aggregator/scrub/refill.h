// Refill: what the disk damaged in the ledger, and what was logged without its bodies, comes back from the agents that sealed it. Beneath a running
// aggregator, with the code that `orgtrail repair` uses: a copy of the shard, the leaves in their places, all of it checked, a rename.
//
//   a look through the store ──▶ MissingBodies ──asked by the sessions, checked by the verifier──▶ came ──▶ child (put_back.h) ──▶ renamed, told
//
// A shard that still grows is sealed first; its leaves come back like any other's.
//
// Path     scrubber, verifier → MissingBodies → [Refill] → ledger, history, alarms
// Threads  Step: one (its Worker). Looked: any.
// Owns     the child. What is passed in outlives it.
// Holds    readers see the old file or the new one, each whole. Ended at any moment, the ledger is as it was, or has the new file; a start removes
//          what was begun. What followers read without bodies they read again, and what was put back is told, also when the process ends between the
//          rename and that (told twice, when it ends right behind it).
// Fails    a child that dies or cannot do it: nothing changes, it is said, and agents are asked again, three times in all. A shard in which more is
//          wrong than was known: what came waits until the next look has come through it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/missing_bodies.h"
#include "aggregator/scrub/process.h"
#include "aggregator/scrub/scrubber.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/stage.h"
#include "common/fs/file.h"

namespace orgtrail {

struct RefillOptions {
  std::string program = "/proc/self/exe";   // with kPutBackCommand: this one
  std::string ledger_dir, kek_file;
  std::string marks_dir;                    // state_dir/derived: which late bodies followers have not read yet, which leaves are being replaced
  Uuid own;                                 // the aggregator's own agent: it keeps nothing it could send again
  absl::Duration settle = absl::Seconds(2), longest = absl::Seconds(20);   // more may be on its way: one copy of the shard for all
  std::function<std::string(const Uuid&)> name;                            // of an agent, for people
  std::function<bool(const Uuid&)> gone;                                   // revoked, retired, never enrolled: it will not answer; null: none is
};

struct Refilled {
  uint32_t shard = 0;
  std::string file;                         // its file, as a look through the store names it
  bool is_whole = false;                    // nothing is wrong with the shard any more
  std::vector<uint64_t> leaves;
  std::vector<Uuid> agents_with_bodies;     // whose bodiless batches are among them
  std::string words;                        // for the log
};

class Refill final : public Stage {
 public:
  // `refilled`: leaves are back. `late(leaf, done)`: what lies from this leaf on may have bodies that followers did not see; `done` when they have
  // read it again and will not forget that they did.
  Refill(RefillOptions options, Ledger& ledger, MissingBodies& missing, Fs& fs, const Clock& clock, std::function<void(const Refilled&)> refilled,
         std::function<void(uint64_t leaf, std::function<void()> done)> late);
  void Looked(const ShardLook& look);
  Tick Step(Tick now) override;

 private:
  struct Job {                              // one shard
    uint32_t shard = 0;
    std::map<uint64_t, MissingBodies::Returned> returned;
    std::vector<uint64_t> put;
    std::vector<Finding> left;
    bool is_packed = false, is_installed = false;
    std::string last_words;
  };
  void MarkedBefore();
  void TakeLooks();
  Tick Begin(Tick now);
  bool IsBusy(uint32_t shard) const;
  absl::Status Launch();
  void Hear(const std::string& line);
  absl::Status Install(int status);
  bool IsBetter(const Job& job) const;
  Refilled Told(const Job& job) const;
  std::string Intent() const;
  void TellInterrupted(const std::string& path);
  void Tell();
  void GiveBack(const absl::Status& why);
  void Drop();
  std::string MarkOf(uint64_t leaf) const;
  std::string IntentOf(uint32_t shard) const;

  const RefillOptions options_;
  Ledger& ledger_;
  MissingBodies& missing_;
  Fs& fs_;
  const Clock& clock_;
  const std::function<void(const Refilled&)> refilled_;
  const std::function<void(uint64_t, std::function<void()>)> late_;
  Guarded<std::vector<ShardLook>> new_looks_;

  std::map<uint32_t, ShardLook> looks_;     // the newest of each shard that has something wrong
  std::map<uint32_t, Tick> replaced_at_;    // shards that have another file since: older looks say nothing of it
  std::set<uint32_t> awaiting_;             // shards of which the newest look does not know enough
  std::optional<Job> job_;
  ChildProcess child_;
  std::optional<std::pair<uint32_t, std::vector<uint64_t>>> settled_;   // leaves that were replaced a moment ago
  bool is_begun_ = false;                   // first Step
  uint64_t given_up_ = 0;                   // … as last said
};

}  // namespace orgtrail
