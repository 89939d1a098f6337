// Committer: the only code that writes the ledger.
//
// Path     admit → [Committer] → ledger on disk → receipts
// Threads  Submit: any. Step: one (its Worker, or a simulator).
// Owns     its inbox. Ledger and Commits outlive it.
// Holds    Committed is called in ledger order, after the fsync and the signature that cover it.
// Fails    full inbox: Submit returns ResourceExhausted, nothing queued. Full map or disk: the group is held and tried again
//          each second, nothing written. Any other failed commit ends the process: only recovery can tell what reached the disk.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/ledger/leaf.h"
#include "aggregator/ledger/reader.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/inbox.h"
#include "common/base/stage.h"

namespace orgtrail {

// One thing to append, or a repeat to answer.
struct Admitted {
  std::shared_ptr<Leaf> leaf;              // null for a repeat
  std::optional<AgentHead> head;           // batches: where the agent stands after it
  std::optional<uint64_t> duplicate_of;    // a batch already logged here: answered again, not stored. Null with a null leaf: a
                                           // repeat of a batch still in the inbox; found by `repeats`
  Hash repeats;                            // leaf hash of that batch
  BatchId batch;                           // batches and repeats
  uint64_t from = 0;                       // whose answer this is: the stream that brought it; 0: nobody's
  std::function<void(const SignedHead&, uint64_t leaf_index)> then;  // control leaves: called after commit; may be null
};

struct CommittedLeaf {
  BatchId batch;
  uint64_t from = 0;                       // as in Admitted
  uint64_t leaf_index = 0;
  bool duplicate = false;
};
struct Flush {                             // one transaction
  SignedHead head;
  std::vector<CommittedLeaf> batches;      // in ledger order, repeats included
};

class Commits {                            // who wants to know: the ingest sessions
 public:
  virtual ~Commits() = default;
  virtual void Committed(const Flush& flush) = 0;   // on the committer's thread: hand over, do not work
  // The ledger cannot be written, or again: between the two nothing is committed. On the committer's thread, like Committed.
  virtual void Held(bool) {}
};

class Ledger;

class Committer final : public Stage {
 public:
  Committer(Ledger& ledger, Commits& commits, size_t inbox_batches, const Clock& clock);
  [[nodiscard]] absl::Status Submit(Admitted item);
  // Submit, then wait until it is committed: the leaf's index. For control leaves and own records; not for gRPC reactions.
  // ResourceExhausted while the ledger is held: nothing was submitted. DeadlineExceeded: it may still be committed later.
  absl::StatusOr<uint64_t> SubmitAndWait(Admitted item, absl::Duration limit);
  Tick Step(Tick now) override;
  void Poked(std::function<void()> poke) { poke_ = std::move(poke); }  // how Submit wakes its Worker
  size_t queued() const { return inbox_.size(); }
  bool held() const { return is_held_; }   // the disk or the map is full: a group waits
  std::string held_why() const;            // what is full, and the remedy; empty: not held

 private:
  std::span<Admitted> NextGroup();

  Ledger& ledger_;
  Commits& commits_;
  Inbox<Admitted> inbox_;
  std::function<void()> poke_;
  std::vector<Admitted> taken_;            // out of the inbox, not committed yet, from `done_` on
  size_t done_ = 0;
  Tick not_before_;                        // of the next flush
  std::atomic<bool> is_held_{false};
  Guarded<std::string> held_why_;
};

}  // namespace orgtrail
