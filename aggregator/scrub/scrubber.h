// Scrubber: has everything the aggregator keeps read through, round after round, before somebody needs it. A child process reads (child.h);
// this starts it, listens, and remembers how far it came, so that a restart goes on at the shard it was at.
//
//   waiting ──pause over──▶ reading ──the child ended──▶ waiting
//                             ▲  └──the child died at a shard: a finding──┐
//                             └──────────── the next shard ◀──────────────┘
//
// Path     ledger and history on disk → child → [Scrubber] → alarms, metrics
// Threads  Step: one (its Worker). facts(): any.
// Owns     the child; it is killed with this object. state_file: where it is, and what it found in this round.
// Fails    a child that cannot look (memory, a ledger that is not there) is said and tried again an hour later; that is no finding.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "aggregator/scrub/lines.h"
#include "aggregator/scrub/process.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/stage.h"
#include "common/fs/file.h"

namespace orgtrail {

struct ScrubOptions {
  std::string program = "/proc/self/exe";   // with kScrubCommand: this one
  std::string ledger_dir, history_dir, state_file;
  std::string kek_file;                     // ledger.key_encryption_key; empty: none
  uint64_t bytes_per_second = 16 << 20;
  absl::Duration pause = absl::Hours(24);   // between rounds
};

struct ScrubFacts {
  bool is_reading = false;
  uint32_t shard = 0;                // it reads; 0: another file, or none
  uint64_t leaf = 0, leaves = 0;     // how far it is
  uint64_t bytes = 0;                // read since the start
  uint64_t damaged_files = 0;        // found in this round, or in the last one when none has begun
  int64_t last_round_ns = 0;         // when the last full round ended; 0: none has
  uint64_t last_round_bytes = 0, last_round_findings = 0;
};

// What a look through a shard found of its leaves, when it came to the shard's end: who reads it again there will not die of it.
struct ShardLook {
  uint32_t shard = 0;
  std::string file;
  Tick begun{};                      // of what looked
  std::set<uint64_t> damaged;        // what they say cannot be read
  std::set<uint64_t> bodiless;       // batches that are logged without what they say
  uint64_t findings = 0;             // of damage, whatever they are about
};

class Scrubber final : public Stage {
 public:
  // `damaged(file, words)`: what is known of it so far, again as more is found. `rest(files)`: a round has ended, and no other file was damaged.
  // `looked`: a shard with something wrong was read to its end; null: nobody wants to know.
  Scrubber(ScrubOptions options, Fs& fs, const Clock& clock, std::function<void(const std::string& file, const std::string& words)> damaged,
           std::function<void(const std::set<std::string>& files)> rest, std::function<void(const ShardLook&)> looked = nullptr);
  // Another file took the place of this one; `is_whole`: nothing is wrong with it. What a look that began before says of it does not count
  // any more. Threads: any.
  void Replaced(const std::string& file, bool is_whole) {
    replaced_.With([&](std::vector<std::pair<std::string, bool>>& r) { r.emplace_back(file, is_whole); });
  }
  Tick Step(Tick now) override;
  ScrubFacts facts() const {
    return facts_.Peek([](const ScrubFacts& f) { return f; });
  }

 private:
  struct Damage {                    // of one file
    uint64_t findings = 0, told = 0, first_leaf = UINT64_MAX, last_leaf = 0;
    std::string what, remedy;        // of the first
  };
  void Load();
  void Save();
  bool Launch();
  void Listen();
  void Hear(std::string_view line);
  void Found(const Finding& finding);
  void Tell();
  void Looked();
  void TakeReplaced();
  Tick Ended(int status, Tick now);
  void EndRound(bool is_full);
  void Publish();

  const ScrubOptions options_;
  Fs& fs_;
  const Clock& clock_;
  const std::function<void(const std::string&, const std::string&)> damaged_;
  const std::function<void(const std::set<std::string>&)> rest_;
  const std::function<void(const ShardLook&)> looked_;
  Guarded<std::vector<std::pair<std::string, bool>>> replaced_;
  std::set<std::string> old_files_;          // the child may read what was there before

  ChildProcess child_;
  Tick begun_{};                             // it began
  ShardLook look_;                           // what it found in the shard it is at
  std::string last_words_, file_;            // of the child: what was no line of ours; where it is
  uint32_t shard_ = 1;                       // where to begin
  bool has_entered_ = false;                 // the child came to the first of its shards
  uint64_t child_bytes_ = 0;                 // it has read
  Tick not_before_;
  bool is_begun_ = false;                    // first Step
  uint64_t round_bytes_ = 0;                 // of children before
  uint64_t earlier_bytes_ = 0;               // of all children before, since the start
  std::map<std::string, Damage> found_;      // in this round
  ScrubFacts now_;
  Guarded<ScrubFacts> facts_;
};

}  // namespace orgtrail
