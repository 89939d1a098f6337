// The machines of the world: agents, the aggregator, readers, and the streams between them. Threads: one.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/record/pipeline.h"
#include "agent/rejoin.h"
#include "agent/spool/spool.h"
#include "agent/uplink/backoff.h"
#include "agent/uplink/session.h"
#include "aggregator/feed/subscription.h"
#include "aggregator/index/history.h"
#include "aggregator/ingest/session.h"
#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/registry.h"
#include "aggregator/verify/verifier.h"
#include "tests/sim/disk.h"
#include "tests/sim/world.h"
#include "tests/support/forger.h"

namespace orgtrail::sim {

class World;

// A machine's clock: the world's time, wrong by `skew_ns`, counting from its own boot.
class SimClock final : public Clock {
 public:
  explicit SimClock(const int64_t& world_ns) : world_ns_(world_ns) {}
  absl::Time Wall() const override { return absl::FromUnixNanos(world_ns_ + skew_ns); }
  Tick Now() const override { return Tick{world_ns_ - boot_ns + 1'000'000'000}; }
  ClockQuality Quality() const override { return {"ntp", true, 100, 1000}; }
  std::string BootId() const override { return boot_id; }
  void Boot(std::string id) {
    boot_ns = world_ns_;
    boot_id = std::move(id);
  }
  int64_t skew_ns = 0, boot_ns = 0;
  std::string boot_id = std::string(16, 'b');

 private:
  const int64_t& world_ns_;
};

struct Message {
  std::string bytes;
  int64_t due_ns = 0;
  bool lie = false;                    // must be seen through
  BatchKey swallowed = {};             // a lie about this batch; else about the head
};

// One stream of an agent, as both ends and the wire between them see it.
struct Pipe {
  StreamId id = 0;                     // the aggregator's name for it
  size_t from = 0;                     // which agent
  std::deque<Message> up, down;
  bool agent_gone = false, server_gone = false;
  std::string server_says;             // why the server ended it
  bool unwritten = false;              // a Send of which Sessions was not told Written
  bool held = false;                   // Take refused up.front()
  uint64_t shown = 0;                  // size of the newest head sent down
  bool rewound = false;                // the agent was told to send again: an answer to what it sent before means nothing to it
};

class Machine {
 public:
  Machine(World& world, std::string name, std::string dir, uint64_t seed);
  virtual ~Machine() = default;
  const std::string name;
  SimDisk disk;
  SimClock clock;
  bool running = false;
  int64_t restart_ns = 0;
  bool power = false;                  // how it dies next
  // Every UNCLEAN_EPOCH, CLOCK_SKEW … needs a cause.
  uint64_t crashes = 0;

 protected:
  World& world_;
};

class AgentNode final : public Machine {
 public:
  AgentNode(World& world, size_t number, std::string dir, uint64_t seed);
  void Start();
  void Act();                          // one thing, by the seed
  void Work();                         // everything that is due, in order: for healing
  void Stop();                         // in good order
  void Drop();                         // the process is gone
  bool Drained() const;
  void CheckAcked();
  AgentIdentity Identity() const { return identity; }
  Caller Who() const;
  void StreamEnded(const std::string& why);

  const size_t number;
  AgentIdentity identity;
  SeededRng rng;
  SigningKey key;
  // The file it tails: what applications wrote, which no crash of ours touches.
  std::vector<std::string> lines;
  uint64_t read = 0;                   // lines handed to the pipeline
  uint64_t lost = 0;                   // events a source said it lost
  std::unique_ptr<Metrics> metrics;
  std::unique_ptr<Spool> spool;
  std::unique_ptr<Pipeline> pipeline;
  std::unique_ptr<UplinkSession> session;
  std::unique_ptr<Rejoin> rejoin;
  Backoff backoff;
  std::shared_ptr<Pipe> pipe;
  int64_t connect_ns = 0, connected_ns = 0;
  std::vector<std::string> todo;       // reports to handle
  std::set<std::string> reported;      // codes, ever
  BatchKey acked;                      // newest seen in the spool
  std::map<BatchKey, Hash> proven;     // everything this agent ever counted as acknowledged
  bool replayed = false;
  bool cloned = false;                 // another host runs with its identity
  bool Doubled() const { return replayed || cloned; }
  bool must_alarm = false;             // the log had gone on when the copy came back
  std::string copy;                    // of its disk, older
  BatchKey copy_tail;
  uint64_t evidence_needed = 0;
  std::set<std::string> rotten;        // lines of batches its disk damaged before they were acknowledged
  // Lines that were acknowledged behind the head of a restored log when the spool no longer had all of them: any of them may be lost.
  std::map<BatchKey, std::vector<std::string>> told;
  std::set<std::string> may_be_gone;
  std::set<Branch> gaps;               // what it abandoned: what lies between is recorded anew, or signed as lost
  bool InGap(BatchKey key) const {
    return std::any_of(gaps.begin(), gaps.end(), [&](const Branch& b) { return b.Holds(key); });
  }
  BatchKey noted;                      // the newest batch in `told`
  void NoteSealed();
  void GoOn();                         // behind damage or a gap
  // Changes one byte of a frame that waits in the spool; `beyond_mending`: of its signed entry, and of the copy of that.
  void Rot(Rng& chance, bool beyond_mending);
  bool AlarmOwed() const;              // the copy was put back and nobody said so yet

  void Write();
  void Tail();
  void Seal();
  void Uplink();
  void Receive(const std::string& bytes);
  void Handle();
};

class AggregatorNode final : public Machine, public Streams {
 public:
  AggregatorNode(World& world, std::string dir, uint64_t seed);
  void Start();
  void Act();
  void Work();
  void Drop();
  void Send(StreamId stream, std::string response) override;
  void Resume(StreamId stream) override;
  void Close(StreamId stream, const absl::Status& status) override;
  NoteKey log_vkey() const { return {origin, 1, log_key.public_key()}; }

  const std::string origin = "orgtrail.test/o-sim";
  SeededRng rng;
  SigningKey log_key;
  std::string enrolments;              // of the first start
  std::unique_ptr<Metrics> metrics;
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<Registry> registry;
  std::unique_ptr<Sessions> sessions;
  std::unique_ptr<Committer> committer;
  std::unique_ptr<Verifier> verifier;
  std::unique_ptr<History> history;
  std::map<uint64_t, Hash> shown;      // heads that left the machine
  std::string backup;                  // of its data, older
  bool restored = false;               // the backup was put in place
  bool told = false;                   // … and everybody knows
  std::map<std::string, std::set<std::string>> findings;  // subject → codes
};

// Follows the feed; what it has and where it stands are stored together.
struct Reader {
  std::string name;
  v1::SubscribeRequest request;
  std::unique_ptr<Subscription> subscription;
  std::string cursor;
  std::vector<std::string> got;
};

// An agent somebody wrote: properly enrolled, signs what it likes.
struct Villain {
  std::unique_ptr<Forger> forger;
  std::shared_ptr<Pipe> pipe;
  std::vector<std::string> frames;     // its honest chain, to send again from the start on each stream
  std::set<Hash> evil;                 // leaves that must not be in the log
  size_t sent = 0;
  bool hello = false;
};

class World {
 public:
  explicit World(const Plan& plan);
  ~World();
  Outcome Go();

  // --- for the machines
  void Note(std::string_view who, const std::string& what);
  void Fail(const std::string& why);
  bool Strikes(Fault fault, double share);      // whether it does now; counts
  bool ForgetsAcked() const { return forgets_acked_; }   // spools keep what was acknowledged for a moment only
  void Connect(AgentNode& agent);
  void Forget(const std::shared_ptr<Pipe>& pipe) { std::erase(pipes, pipe); }
  std::shared_ptr<Pipe> PipeOf(StreamId id);
  void Restart(Machine& machine, int64_t least_ns, int64_t most_ns);

  const Plan plan;
  SeededRng rng, chance;
  int64_t now_ns = 1'790'000'000'000'000'000;
  bool healing = false;
  std::string dir;
  Outcome outcome;
  std::unique_ptr<AggregatorNode> aggregator;
  std::vector<std::unique_ptr<AgentNode>> agents;
  Villain villain;
  std::vector<Reader> readers;
  std::vector<std::shared_ptr<Pipe>> pipes;
  std::set<Fault> struck;
  uint32_t enabled = 0;

 private:
  template <class F>
  void In(Machine& machine, F f);               // runs f as that machine; it may die of it
  void Dies(Machine& machine, const std::string& why);
  void Restore();
  void Clone(AgentNode& agent);
  void Step();
  void Faults();
  void Network(bool all);
  void Deliver(const std::shared_ptr<Pipe>& pipe);
  void Lie(Pipe& pipe, const std::string& frame);
  void Forge();
  void Read(Reader& reader);
  void Heal();
  bool Quiet();
  void Judge();                                 // judge.cc
  void JudgeFindings();
  std::string Digest();
  std::string scratch_;
  bool forgets_acked_ = false;
};

// "R123" of a record: which line of which agent.
std::string LineOf(std::string_view record);

}  // namespace orgtrail::sim
