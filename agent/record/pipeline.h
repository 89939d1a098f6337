// Pipeline: record → seal → spool, the agent's straight line from a raw text to an fsynced batch.
//
// Path     capture → [Pipeline: Recorder, Sealer] → spool ⇐ uplink
// Threads  Take and the other Intake calls: any source's. Step: one Worker ("seal"): closes batches that are due, commits what
//          is closed, beats the heart. A Take stamps and seals on its caller's thread, under the pipeline's lock.
// Owns     recorder, sealer. Spool, clock and rng outlive it.
// Holds    who posted what stands beside it, in the same batch: one RecordsPosted a poster and batch.
//          nothing is captured before the commit that fsyncs it: file positions travel in that commit, a sync caller waits for
//          it. seq order is the order of Take calls.
// Bounds   8 MiB of closed batches wait for the disk; beyond that a file source waits and a sync caller is refused.
//          An idempotency key is stored once: while its chunk is on its way to the disk a Take with it is refused
//          (Unavailable) and IdempotentReply waits for the commit, even when the first caller has given up waiting.
// Fails    full spool: what is closed is held and tried again each second, Take refuses (ResourceExhausted); the sync caller whose
//          chunk met it is told at once that it may still be stored (Unavailable). Any other failed
//          commit ends the process: only recovery can tell what reached the disk. Take refuses what the spool could never store
//          (InvalidArgument: an idempotency key over 1,024 bytes, a position without a key).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/capture/source.h"
#include "agent/record/recorder.h"
#include "agent/spool/spool.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/stage.h"
#include "common/metrics/metrics.h"
#include "common/seal/sealer.h"

namespace orgtrail {

struct PipelineOptions {
  absl::Duration batch_interval = absl::Milliseconds(20);   // receipts may raise it
  absl::Duration heartbeat_interval = absl::Seconds(10);
  std::string origin;                                       // of the log, from enrolment
  Hash executable, config;                                  // SHA-256 of the running program and its configuration
  std::string cert_serial;
  absl::Duration sync_limit = absl::Seconds(30);            // how long a sync caller waits for its commit
};

inline constexpr std::string_view kRecovered = "Recovered";   // the record in front of what Recover records

class Pipeline final : public Intake, public Stage {
 public:
  Pipeline(AgentIdentity identity, const SigningKey& identity_key, Spool& spool, const PipelineOptions& options,
           const Clock& clock, Rng& rng, Metrics& metrics);
  ~Pipeline() override;

  // Opens the next epoch after what the spool's tail says (kFirst, kClean or kUnclean) and stores its first batch. A full spool is
  // no error: the batch waits like any other, so that an agent that is started on a full spool can send it and go on.
  absl::Status Open();
  // Goes on in a new epoch: another log (handover), or, when `previous` is given, from there: what lies between it and here is in
  // no state to be delivered. Its key.
  absl::StatusOr<BatchKey> NewEpoch(EpochReason reason, const std::optional<SpoolTail>& previous = std::nullopt);

  absl::StatusOr<Taken> Take(const RawChunk& chunk) override;
  absl::StatusOr<std::vector<FilePosition>> Positions() override;
  absl::StatusOr<std::string> IdempotentReply(std::string_view key) override;
  void Lost(std::string_view source, std::string_view cause, uint32_t count, std::string_view detail) override;

  // One of orgtrail's own records (class 5, or 6 for a loss): CLOCK_STEP, CONFIG_CHANGED, …; `details` is a JSON object.
  // `once`, when not empty, is an idempotency key: what was said under it within a day is not said again.
  void Note(std::string_view name, std::string details, EventClass event_class = EventClass::kOwn, const std::string& once = "");

  // Records of a batch that can never be delivered as what was signed, once more in the epoch under way: flag 16, behind a Recovered
  // record that maps the numbers, all in one commit, once for the epoch that `opened` begins however often it is called within a day.
  // Returns after the fsync. ResourceExhausted: no room.
  absl::Status Recover(const BatchHeader& from, const std::vector<Row>& rows, BatchKey opened);

  // Returns once everything taken and noted so far is in the spool. ResourceExhausted: no room.
  absl::Status Flush();

  // From now on nothing is taken (ResourceExhausted, with these words) and no heartbeat is sealed: nobody will ever take what this
  // identity records. What is on its way to the disk still goes there.
  void Refuse(std::string why);

  void SetIntervals(absl::Duration batch, absl::Duration heartbeat);   // zero: unchanged
  Tick Step(Tick now) override;
  void Poked(std::function<void()> poke) { poke_ = std::move(poke); }

  // Refuses further Takes, closes the epoch (kBatchRetired when retiring) and commits. After the sources stopped.
  absl::Status Close(bool retire);

 private:
  struct Closed {                                           // batches with what must be committed with them
    std::vector<SealedBatch> batches;
    std::vector<FilePosition> positions;
    std::vector<std::pair<std::string, std::string>> replies;
    size_t bytes = 0;
    void Merge(Closed other);
  };
  struct Posted {                                           // what one poster handed over in the open batch
    std::string by;
    uint64_t records = 0;
    std::vector<std::pair<uint64_t, uint64_t>> ranges;      // of sequence numbers, both ends included, ascending
  };
  struct State {
    std::unique_ptr<Sealer> sealer;
    std::unique_ptr<Recorder> recorder;
    Closed open;                   // positions and replies of the open batch
    Closed ready;                  // closed, waiting for the disk
    std::vector<Posted> posted;    // into the open batch; each becomes an own record when it closes, for which there is room
    std::set<std::string, std::less<>> keys;  // idempotency keys of open, ready and what is being committed
    uint64_t sealed_turn = 0;      // how many closes there were
    uint64_t committed_turn = 0;   // … and up to which they are on disk
    uint64_t open_first_seq = 1;   // of the open batch
    uint64_t last_batch_seq = 0;   // of the newest sealed batch
    uint32_t open_lost = 0;        // losses counted in the open batch
    bool sync_waits = false;
    bool refusing = false;         // the spool is full
    std::string ended;             // Refuse: why
    bool closing = false;
    Tick last_close{};
    Tick last_clock_note{};
    int64_t wall_minus_boot_ns = 0;
  };

  absl::Status OpenLocked(State& s, EpochReason reason, uint64_t epoch, const SpoolTail& previous);
  absl::Status AwaitCommit(uint64_t turn);                  // pokes, and waits
  void CloseBatch(State& s, uint16_t flags);
  static bool Full(const State& s, bool posted);            // no room for one more event (of a poster who may be new)
  static void NotePosted(State& s, std::string_view by, uint64_t seq);
  void AddOwn(State& s, EventClass event_class, std::string_view name, std::string details);
  void SealOwn(State& s, EventClass event_class, std::string_view name, std::string details);   // where there is room
  void WatchClock(State& s, Tick now);
  static absl::Status CheckChunk(const RawChunk& chunk);
  absl::Status CommitReady();      // any thread; one at a time, so that batches reach the spool in order
  Seen SeenNow() const;
  uint16_t BatchFlags() const;

  const AgentIdentity identity_;
  const SigningKey& identity_key_;
  Spool& spool_;
  PipelineOptions options_;
  const Clock& clock_;
  Rng& rng_;
  std::function<void()> poke_;
  std::mutex committing_;
  Guarded<State> state_;
  std::atomic<int64_t> batch_interval_ns_, heartbeat_interval_ns_;

  Counter& records_;
  Counter& wrapped_;
  Counter& lost_;
  Counter& batches_;
  Histogram& commit_seconds_;
  Histogram& batch_events_;
};

}  // namespace orgtrail
