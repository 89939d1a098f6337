// MissingBodies: which leaves lack a good body, whose they are, who has been asked for them, and what came back. Agents keep what was
// acknowledged for a day; whatever the aggregator's disk makes of a batch in that time can come back from the agent that sealed it.
//
//   found damaged, or without bodies ──▶ wanted ──asked, at most three times──▶ came ──put back──▶ forgotten
//                                          │  └──its agent has it no more, does not answer, or is gone for good──▶ given up: never asked for again
//                                          └──a repeat that happens to bring the bodies──▶ came
//
// Threads  any.
// Bounds   4,096 leaves; 16 in one question, one question an agent each 10 s, each leaf three times, 10 minutes apart; frames of 32 MiB.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "aggregator/ledger/reader.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"

namespace orgtrail {

struct MissingBodiesOptions {
  size_t leaves = 4096, question = 16, frame_bytes = 32 << 20;
  int times = 3;
  absl::Duration between = absl::Seconds(10), again = absl::Minutes(10);
};

class MissingBodies {
 public:
  enum class Why { kDamaged, kBodiless };   // bodiless: it was logged, or left, without them, and followers read it so
  struct Leaf {
    uint64_t index = 0;
    BatchId batch;
    Hash hash;                       // what the tree holds
  };
  struct Returned {                  // checked: it is the leaf, and its rows lead to its signed root
    Leaf leaf;
    Why why = Why::kDamaged;
    std::shared_ptr<const std::string> frame;
    Tick at{};
  };
  explicit MissingBodies(MissingBodiesOptions options = {}) : options_(options) {}

  // What is known already stays as it is. False: there are too many.
  bool Add(const Leaf& leaf, Why why);
  // Whether a repeat of this leaf is worth a look: it is missing and nobody brought it yet. Cheap when nothing is missing.
  bool Wants(uint64_t index) const;
  // What to ask this agent for now.
  std::vector<Leaf> AskOf(const Uuid& agent, Tick now);
  void HasNot(const BatchId& batch);
  void HasNot(uint64_t index);       // what came was not it
  // Gives up what is wanted of agents that will never connect again.
  void GiveUpOn(const std::function<bool(const Uuid&)>& gone);
  // False: there is no room for its frame now; it is asked for again.
  bool Came(uint64_t index, std::string frame, Tick now);

  // What came, lowest leaf first; it stays until it is Done or Failed.
  std::vector<Returned> Came() const;
  void Done(uint64_t index);         // it is in its place
  void Failed(uint64_t index);       // it could not be put there: its agent is asked once more, if it was not asked too often

  struct Facts {
    uint64_t wanted = 0, came = 0, given_up = 0;      // leaves now
    uint64_t asked = 0, lacking = 0, done = 0;        // since the start: batches asked for, answered with "has not", put back
  };
  Facts facts() const;
  // Leaves of this agent that are not back yet.
  uint64_t LeftOf(const Uuid& agent) const;

 private:
  struct Entry {
    Leaf leaf;
    Why why = Why::kDamaged;
    enum class At { kWanted, kCame, kGivenUp } at = At::kWanted;
    int times = 0;
    Tick not_before{}, came_at{};
    std::shared_ptr<const std::string> frame;   // of what came
  };
  struct State {
    std::map<uint64_t, Entry> entries;
    std::map<Uuid, Tick> asked_at;   // of agents that something is wanted from
    size_t frame_bytes = 0;
    uint64_t asked = 0, lacking = 0, done = 0;
  };
  static void GiveUp(State& s, Entry& e);

  const MissingBodiesOptions options_;
  Guarded<State> state_;
  std::atomic<size_t> count_{0};     // of entries
};

}  // namespace orgtrail
