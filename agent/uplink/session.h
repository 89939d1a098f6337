// UplinkSession: what to send next and what an answer means, without a network. One per agent; streams come and go beneath it.
//
// Path     spool ⇒ [UplinkSession] ⇒ stream;  stream ⇒ receipts ⇒ spool
// Threads  Begin, Next, Wait, CheckStalls: the writing one. OnMessage: the reading one. The rest: any. One lock inside.
// Holds    sending is strictly in (epoch, batch_seq) order; stored bytes are sent as they are, never signed again. A batch counts
//          as acked when a signed head of the pinned log, consistent with the pinned one, includes its leaf, and so are all before
//          it; only then does the spool hear of it. Whatever does not verify is kept as evidence, and nothing is pruned on it.
// Bytes    docs/formats/wire.md
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/spool/spool.h"
#include "agent/uplink/branches.h"
#include "agent/uplink/log_view.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/ids.h"
#include "common/format/note.h"

namespace orgtrail {

namespace v1 {
class Welcome;
class Receipt;
class Refusal;
class Wanted;
}  // namespace v1

struct UplinkSessionOptions {
  Uuid uuid;
  std::string version;
  std::string run;                                         // 16 random bytes of this process; empty: streams do not replace each other
  size_t window_bytes = 16 << 20;                          // sent and not acked
  absl::Duration ack_stall = absl::Seconds(60);            // unacked batches and no receipt for so long: the stream is dead
  absl::Duration skip_limit = absl::Seconds(30);           // later batches acked, this one not: the log skipped it
  // Somebody restored the log from a copy older than what this agent pinned, and said so to the agent (--resend-from): the pin
  // is given up once, evidence kept, and everything the spool still has is sent again from the log's head. What governance declared
  // in the log does the same without this.
  bool accept_restored_log = false;
};

// What the agent learns. All may be null; called on the uplink's threads, under no lock; must not block.
struct UplinkReports {
  std::function<void(const Pin&)> pinned;                                        // batches quote this head from now on
  std::function<void(uint32_t batch_interval_ms, uint32_t heartbeat_s)> pace;    // 0: unchanged
  std::function<void(std::string_view note, std::string_view body)> policy;      // as received, not verified
  // Codes and what the agent does: EQUIVOCATION, EPOCH_CONFLICT, EPOCH_STALE, MONO_ROLLBACK, QUARANTINED: say that it must be
  // enrolled anew; its batches are logged all the same, apart. ORIGIN_MISMATCH: open a handover epoch. SPOOL_TAMPER: open a new
  // epoch, then Abandon what lies between. AUTH_…, IDENTITY_MISMATCH: enrol again. SPOOL_PRESSURE: the aggregator cannot write, or can again.
  // LOG_FORKED, LEAF_MISSING: evidence was kept. CHAIN_STUCK: the log expects a batch and does not take what the spool has.
  // RECORDS_MISSING: the log was restored, and neither it nor the spool has what it expects (Facts().gone_after): open a new epoch from
  // there, then Abandon what lies between. SPOOL_LOST: the log has a chain of this agent that this spool knows nothing of; go on from the log's head.
  std::function<void(std::string_view code, std::string_view detail)> report;
  // The spool's disk damaged this batch: its entry is sent, its bodies are gone. The agent records the loss.
  std::function<void(const BatchHeader&)> bodies_lost;
};

struct UplinkFacts {
  BatchKey sent, acked;                  // newest
  size_t unacked_bytes = 0;              // in the window
  uint64_t receipts = 0, evidence = 0;
  uint64_t returned = 0;                 // batches sent once more because the log had lost their bodies
  uint64_t repaired = 0, bodiless = 0;   // damaged batches of the spool: made whole; sent without their bodies
  int64_t last_receipt_ns = 0;           // wall clock; 0: none since start
  BatchKey log_head;                     // as the last Welcome said
  Hash log_head_leaf;                    // … and of it the leaf, and the sequence number behind its last; 0: not told
  uint64_t log_head_next_seq = 0;
  bool log_head_held = false;            // this spool has that batch too: the same leaf, or its disk damaged it
  BatchKey log_has;                      // the newest batch of this spool's chain that the log has, as far as this stream showed
  BatchKey gone_after;                   // the last batch the log has before a gap that this spool cannot fill; 0,0: it has none, or no gap
  std::string last_refusal;              // code
  bool quarantined = false;              // the log keeps this agent's batches apart
};

class UplinkSession {
 public:
  // `log_key` is pinned at enrolment. Spool, clock outlive it.
  UplinkSession(const UplinkSessionOptions& options, NoteKey log_key, Spool& spool, const Clock& clock, UplinkReports reports);

  // A new stream: forgets what was sent on the last one. The first message to write.
  std::string Begin();
  bool welcomed() const;

  // A message to write before the next frame: what this spool has not of what the log asked for. nullopt: nothing to say.
  std::optional<std::string> Answer();
  // The next frame to write; what the log asked for first. nullopt: the window is full, a pause was asked for, or there is nothing new: Wait.
  absl::StatusOr<std::optional<std::string>> Next();
  // Waits until Next may have something, at most `limit`.
  void Wait(absl::Duration limit);

  // One PushResponse. An error ends the stream; DataLoss: the log lied, and evidence was kept.
  absl::Status OnMessage(std::string_view response);
  // Looks at what should have happened by now. An error ends the stream.
  absl::Status CheckStalls();

  bool Drained() const;                  // everything in the spool is acked
  // The chain goes on from `after` with `opened`, an epoch_open: what the spool has between them is never sent, in this run or a later one.
  // Until then nothing of the new epoch is sent. An error: the spool could not be written; nothing changed.
  absl::Status Abandon(BatchKey after, BatchKey opened);
  void Wake();                           // ends Wait
  UplinkFacts Facts() const;

 private:
  struct Sent {
    BatchKey key;
    Hash leaf;
    size_t bytes = 0;
    bool proven = false;                 // its receipt came; waits for those before it
    Tick at{};
  };
  struct State {
    State(Spool& spool, LogView view) : log(std::move(view)), branches(spool) {}
    LogView log;
    bool welcomed = false, woken = false;
    BatchKey cursor;                     // the last one sent
    Branches branches;                   // what is never sent
    std::deque<Sent> window;
    size_t window_bytes = 0;
    Tick paused_until{}, progress{}, gap_since{};
    BatchKey expected;                   // by the last CHAIN_EXPECT
    int expected_times = 0;
    bool settling = false;               // nothing more is sent until what was sent is acked: Stop
    bool pressed = false;                // the aggregator's ledger is full, as it says
    std::deque<std::pair<BatchKey, std::string>> wanted;   // the log lost their bodies; with the leaf it has
    std::vector<BatchKey> lacking;       // of them, what this spool has not
    std::string last_lie, last_evidence; // told again on every reconnection: one file
    UplinkFacts facts;
    std::vector<std::function<void()>> calls;   // reports to make once the lock is free
  };

  absl::Status OnWelcome(State& s, const v1::Welcome& w);
  absl::Status OnReceipt(State& s, const v1::Receipt& r);
  absl::Status OnRefusal(State& s, const v1::Refusal& r);
  void OnWanted(State& s, const v1::Wanted& w);
  std::optional<std::string> NextWanted();
  // `welcome`: where declarations of a recovery are, when this is a stream's first head; else null.
  absl::StatusOr<Checkpoint> Look(State& s, const std::string& note, uint64_t from, std::span<const Hash> proof, const v1::Welcome* welcome);
  absl::Status Persist(State& s, const Checkpoint& head, const std::string& note);
  absl::Status Lie(State& s, std::string_view code, std::string detail, std::string_view note);
  std::string KeepEvidence(State& s, std::string_view code, const std::string& detail, std::string_view note);
  absl::StatusOr<std::optional<std::string>> Stop(const absl::Status& why);
  bool LostItsPast(const State& s, std::string_view logged_leaf) const;
  bool HasWhatFollows(const State& s, BatchKey head) const;
  absl::Status CheckBranch(State& s, BatchKey opens, std::string_view frame);
  void Rewind(State& s, BatchKey first);
  void Pinned(State& s, const Pin& pin);
  void Report(State& s, std::string_view code, std::string detail);

  const UplinkSessionOptions options_;
  const NoteKey log_key_;
  Spool& spool_;
  const Clock& clock_;
  const UplinkReports reports_;
  Guarded<State> state_;
};

}  // namespace orgtrail
