// Sessions: every agent's stream, without gRPC. Hello → Welcome, frames → verifier, commits → receipts, refusals as they come.
//
// Path     gRPC stream → [Sessions] → verifier;  committer → [Sessions] → gRPC stream
// Threads  Open, Take, Written, Closed: any (gRPC reactions; they only move messages). Committed, Refuse, Room, Accepted: the
//          committer's and the verifiers'. Step: one, its Worker: everything that reads the ledger or answers happens there, so a
//          stream's answers are in order: Welcome first, then receipts over ever larger heads.
// Owns     its thread. Everything passed in outlives it.
// Holds    a receipt leaves only for what a commit covered, on the stream that brought it: two processes that run as one agent
//          never see each other's. Grouped per stream and flush, never skipped. With one write of a stream in flight later
//          commits gather and leave together.
// Bounds   2 streams per identity; hello within 10 s; a receipt that cannot be written for 30 s ends the stream, and so do 45 s
//          without a whole message: heartbeats come more often, what comes byte by byte does not.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/ingest/welcome.h"
#include "aggregator/ledger/committer.h"
#include "aggregator/ledger/missing_bodies.h"
#include "aggregator/ledger/reader.h"
#include "aggregator/ledger/registry.h"
#include "aggregator/verify/finding.h"
#include "aggregator/verify/verdict.h"
#include "aggregator/verify/verifier.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/stage.h"
#include "common/metrics/metrics.h"

namespace orgtrail {

// The streams as the sessions reach them: by id, because the stream may be gone. All calls return at once. Threads: any.
class Streams {
 public:
  virtual ~Streams() = default;
  virtual void Send(StreamId stream, std::string response) = 0;         // at most one unwritten: Sessions waits for Written()
  virtual void Resume(StreamId stream) = 0;                             // deliver the message that Take held, or read on
  virtual void Close(StreamId stream, const absl::Status& status) = 0;  // after what was sent
};

struct SessionOptions {
  std::string log_vkey;
  int streams_per_identity = 2;
  absl::Duration first_message = absl::Seconds(10), ack_stall = absl::Seconds(30);
  // A stream on which neither side finishes a message for so long is ended; at least three heartbeats.
  absl::Duration whole_message = absl::Seconds(30);
  uint32_t least_interval_ms = 20;      // between an agent's batches; grows while verification is busy: pace.h
  uint32_t heartbeat_s = 10;
  std::function<std::pair<std::string, std::string>()> policy;  // note and body in force; null: none yet
};

// What is known of an agent beyond its chain: for the fleet's view.
struct AgentPresence {
  int64_t connected_ns = 0;        // when the newest stream said hello; 0: no stream now
  std::string address, version;
};

class Sessions final : public Stage, public Commits, public Verdicts {
 public:
  Sessions(const SessionOptions& options, const LedgerReader& ledger, const Registry& registry, Streams& streams,
           Findings findings, const Clock& clock, Metrics& metrics);
  ~Sessions() override;
  void Attach(Verifier& verifier) { verifier_ = &verifier; }   // once, before the first stream
  // Agents are asked for what this says the ledger lost of theirs. Once, before the first stream.
  void Attach(MissingBodies& missing) { missing_ = &missing; }
  void Poked(std::function<void()> poke) { poke_ = std::move(poke); }  // how answers wake the Worker

  // --- the door's side -------------------------------------------------------------------------------------------------------
  // A stream that TLS let in. Unauthenticated AUTH_REVOKED, PermissionDenied, ResourceExhausted RATE_LIMIT.
  absl::StatusOr<StreamId> Open(Caller caller);
  // One PushRequest as it came. true: read on. false: taken back (`message` untouched): deliver it again after Streams::Resume.
  [[nodiscard]] bool Take(StreamId stream, std::string& message);
  void Written(StreamId stream);   // what Send gave is on its way
  void Closed(StreamId stream);

  // --- the inner side --------------------------------------------------------------------------------------------------------
  void Committed(const Flush& flush) override;
  void Held(bool held) override;   // agents are told to pause, and when to go on: SPOOL_PRESSURE
  void Refuse(Refused refused) override;
  void Room(StreamId stream) override;

  Tick Step(Tick now) override;

  // Ends every stream of an identity with `code` (AUTH_REVOKED): the registry is asked again each second besides.
  void Disconnect(const Identity& identity, std::string_view code);
  void Shutdown();                 // ends all streams, refuses new ones
  std::optional<AgentPresence> Of(const Uuid& uuid) const;
  size_t open() const;

 private:
  struct Session {                 // guarded by state_
    std::shared_ptr<const Caller> caller;
    Tick opened{}, heard{};
    Tick moved{};                  // last whole message of either side
    bool held = false;             // Take gave a message back
    bool greeted = false;          // hello came
    bool doomed = false;           // Close was called
    Uuid uuid;
    std::string run;               // as its hello said
    bool writing = false;          // one Send unwritten
    bool owed = false;             // … and there is more to say
    Tick writing_since{};
  };
  struct Answering {               // Step's own
    bool welcomed = false;
    Uuid uuid;
    std::shared_ptr<const Caller> caller;
    uint64_t sent_size = 0;        // the head last sent on this stream
    uint32_t sent_interval_ms = 0;
    std::vector<CommittedLeaf> leaves;      // no receipt sent yet
    std::vector<Refused> refusals;
    std::vector<MissingBodies::Leaf> wanted;   // not asked for yet
  };
  struct State {
    std::unordered_map<StreamId, Session> sessions;
    std::map<std::string, int> per_identity;
    StreamId next = 1;
    bool shut = false;
    // For Step:
    std::vector<std::pair<StreamId, Hello>> hellos;
    std::vector<Refused> refusals;
    std::vector<CommittedLeaf> leaves;
    std::optional<SignedHead> head;
    std::vector<StreamId> closed;
    bool held = false;             // the ledger cannot be written
  };

  void Poke() const {
    if (poke_) poke_();
  }
  void Greet(StreamId stream, const Caller& caller, Hello hello);
  void Welcome(StreamId stream, const Hello& hello);
  bool SendReceipt(StreamId stream, Answering& a);
  void SendRefusal(StreamId stream, const Refused& r);
  void Ask(Tick now);
  void Answer(Tick now);
  void Watch(Tick now);
  bool StartWrite(StreamId stream, Tick now);
  void End(StreamId stream, const absl::Status& status);
  void Pace(Tick now);
  void Press(Tick now);

  const SessionOptions options_;
  const LedgerReader& ledger_;
  const Registry& registry_;
  Streams& streams_;
  const Findings findings_;
  const Clock& clock_;
  Metrics& metrics_;
  const WelcomeDesk desk_;
  Verifier* verifier_ = nullptr;
  MissingBodies* missing_ = nullptr;
  std::function<void()> poke_;
  Guarded<State> state_;
  Guarded<std::unordered_map<Uuid, AgentPresence>> fleet_;

  // Step's own.
  std::unordered_map<StreamId, Answering> answering_;
  std::set<StreamId> owing_;       // of them, those with something unsent
  SignedHead head_;
  Tick watched_{}, pressed_{};
  bool pressing_ = false;          // agents were last told to pause
  uint32_t interval_ms_;
  Counter& receipts_;
  Counter& receipt_leaves_;
  Histogram& receipt_seconds_;
  Gauge& open_gauge_;
  Gauge& interval_gauge_;
};

}  // namespace orgtrail
