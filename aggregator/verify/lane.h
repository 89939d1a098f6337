// Lane: the agents of one verify thread. Runs the checks of docs/formats/wire.md in their order on one frame after another.
//
// Threads  one; TryPush from any.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "aggregator/admit/admitter.h"
#include "aggregator/ledger/committer.h"
#include "aggregator/verify/branches.h"
#include "aggregator/verify/finding.h"
#include "aggregator/verify/load.h"
#include "aggregator/verify/slot_keys.h"
#include "aggregator/verify/verifier.h"
#include "common/base/guarded.h"
#include "common/base/worker.h"
#include "common/compress/zstd.h"
#include "common/format/chain.h"
#include "common/format/epoch.h"

namespace orgtrail {

std::string Where(uint64_t epoch, uint64_t batch_seq);   // "epoch 3 batch 7", as findings say it
// "CODE text" → CODE; `fallback` when the message does not start with a code.
std::string CodeOf(const absl::Status& status, std::string_view fallback);

class Verifier::Lane final : public Stage {
 public:
  struct Shared {                   // what all lanes use; outlives them
    const VerifierOptions& options;
    const LedgerReader& ledger;
    const Registry& registry;
    Committer& committer;
    Verdicts& verdicts;
    const Findings& findings;
    const Clock& clock;
    Metrics& metrics;
    RecentHeads& heads;
    Load& load;
  };
  Lane(std::string name, Shared shared);

  bool TryPush(Submission& s);        // moves out of s only when true
  Tick Step(Tick now) override;
  void Start() { worker_.Start(); }
  void Stop() { worker_.Stop(); }
  void Poke() { worker_.Poke(); }
  int64_t TakeBusyNanos() { return busy_ns_.exchange(0); }
  int64_t TakeWaitedNanos() { return waited_ns_.exchange(0); }

 private:
  struct InFlight {                 // submitted, not seen in the ledger yet
    uint64_t epoch = 0, batch_seq = 0;
    Hash leaf;
    uint64_t size = 0;              // of the log when it was submitted: it can only be logged from there on
  };
  struct Agent {
    std::optional<AgentHead> head;  // ahead of the commit
    bool quarantined = false;       // from here on; may be ahead of head
    Branches branches;              // of an agent in quarantine
    std::shared_ptr<const SlotKeys> tree;  // in use
    std::deque<InFlight> in_flight;
    Hash executable, config;        // of the open epoch, once known
    double tokens = 0;
    Tick tokens_at{};
    Tick evidence_since{};
    int evidence = 0;
    std::deque<Tick> unclean;       // epochs that opened so in the last hour
    uint64_t unexplained = 0;       // events lost without a class-6 record so far
    // After CHAIN_EXPECT what follows on that stream is not refused one by one: it is dropped until the expected one comes.
    StreamId rewinding = 0;
    Tick rewinding_since{};
    struct Told {
      Tick at;
      Severity severity;
    };
    std::unordered_map<std::string, Told> found;  // code → last finding: one a minute and code, and one that is worse at once
    Tick used{};
  };
  struct Waiting {
    Submission in;
    Tick since;
  };
  struct Job {                      // one frame on its way through the checks
    Submission in;
    Tick now{};
    Agent* agent = nullptr;
    AgentIdentityRecord identity;
    FrameView view;
    BatchEntry entry;
    Hash leaf;
    std::optional<EpochOpening> opening;          // kind 2
    std::shared_ptr<const SlotKeys> next_tree;    // kinds 2 and 4: the tree this batch brings
    uint16_t flags = 0;                           // LeafFlag
    bool bodies_gone = false;
    const BatchHeader& header() const { return entry.header; }
  };

  Tick Work(Tick now);
  int64_t CpuNanos() const;
  void Check(Job& job);
  // Each returns true to go on; false when it answered and the job is done.
  bool Parse(Job& job);
  bool Identify(Job& job);
  bool Position(Job& job);
  bool PositionApart(Job& job);     // of an agent in quarantine
  bool Authenticate(Job& job);
  bool Recount(Job& job, Leaf& leaf);
  bool Continues(Job& job);
  // Findings about an authentic batch, and what they mean for its flags.
  void Observe(Job& job, const std::vector<Row>& rows);
  void ObserveOpening(Job& job);
  void ObserveSeen(Job& job);
  void ObserveClock(Job& job);
  AgentHead HeadAfter(const Job& job) const;
  void Accept(Job& job, std::shared_ptr<Leaf> leaf);

  Agent& AgentOf(const Uuid& uuid, Tick now);
  std::shared_ptr<const SlotKeys> TreeOf(Agent& agent, const Uuid& uuid, uint64_t epoch, uint64_t tree_base);
  void HoldLess(Job& job);
  bool OfUnseenBranch(Job& job);
  absl::Status CheckSignatures(Job& job);
  // What is answered, kept and told about a frame that does not pass: answer.cc. All return false.
  bool Refuse(Job& job, Refused why);
  bool Refuse(Job& job, std::string_view code, std::string detail, bool closes = false);
  bool RefuseStatus(Job& job, const absl::Status& status, std::string_view fallback);
  enum class Of { kHead, kBranch };
  bool Expect(Job& job, Of what = Of::kHead);
  bool AlreadyTold(Job& job);        // told already where to go on, not long ago
  void Rewound(Job& job);
  bool Conflict(Job& job, std::string_view code, std::string detail, uint64_t related);
  void KeepEvidence(Job& job, std::string_view code, std::string_view detail, uint64_t related, std::string_view object);
  void Find(Job& job, std::string_view code, Severity severity, std::string detail);
  void FindEach(Job& job, std::string_view code, Severity severity, const std::string& detail);   // what is counted one by one
  bool Spend(Job& job);
  bool Clash(Job& job, uint64_t related);
  void Repeat(Job& job, std::optional<uint64_t> index);
  bool IsMissing(Job& job, uint64_t index);
  void TakeBodies(Job& job, uint64_t index);
  void Send(Admitted item, size_t bytes);
  bool Flush();                     // false: the committer is full
  void Forget(Tick now);

  const Shared shared_;
  static constexpr size_t kInbox = 4096;
  Guarded<std::deque<Waiting>> inbox_;
  std::deque<Waiting> work_;        // taken, in order
  std::deque<Admitted> out_;        // checked; the committer was full. Nothing is checked while something waits here
  std::unordered_map<Uuid, Agent> agents_;
  ZstdDecompressor zstd_;
  Admitter admitter_;
  std::atomic<int64_t> busy_ns_{0}, waited_ns_{0};   // since they were last taken: processor time, and the longest wait for a check
  Counter& batches_;
  Counter& records_;
  Counter& repeats_;
  Histogram& seconds_;
  Worker worker_;                   // last: stops first
};

}  // namespace orgtrail
