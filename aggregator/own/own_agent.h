// OwnAgent: the aggregator's built-in agent. Alarms and records of reads are signed, chained, verified and logged exactly as any
// other agent's; class 5 and 6 only.
//
// Path     alarms, query, feed, admin → [OwnAgent: Sealer] → verify → admit → ledger
// Threads  Record: any (waits for the commit, so never a gRPC reaction). Committed: the committer's. Step: one Worker ("own").
// Owns     its sealer and identity key (state_dir/own/). No spool: what is not committed was answered to nobody.
// Bounds   64 frames wait for the verifier; beyond that Record is refused (Unavailable) and a Post is given up with a line in the
//          process's log. A record is at most 1 MiB.
// Fails    disk full: with `reads: allow` records are journalled (journal.h) at once, those included whose batch already waits for
//          the disk, and logged when the ledger writes again; else Record returns ResourceExhausted and the read is refused.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "aggregator/ledger/committer.h"
#include "aggregator/ledger/reader.h"
#include "aggregator/own/journal.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/stage.h"
#include "common/format/own_record.h"
#include "common/fs/file.h"
#include "common/seal/sealer.h"

namespace orgtrail {

struct OwnAgentOptions {
  std::string org, account, region;       // management account and the aggregator's region; name is "aggregator"
  std::string origin, dir;                // state_dir/own
  bool journal_when_full = true;
  absl::Duration heartbeat_interval = absl::Seconds(10);
  Hash executable, config;
};

class OwnAgent final : public Stage {
 public:
  // Reads or makes the identity key, and uuid, under options.dir.
  static absl::StatusOr<std::unique_ptr<OwnAgent>> Open(const OwnAgentOptions& options, const LedgerReader& ledger,
                                                        const Committer& committer, Fs& fs, const Clock& clock, Rng& rng);
  ~OwnAgent() override;

  const AgentIdentity& identity() const { return identity_; }
  const PublicKey& identity_key() const { return key_.public_key(); }
  // `submit` hands a frame to the verifier. Opens an epoch that continues this log's head.
  absl::Status Start(std::function<absl::Status(std::string frame)> submit);

  // Returns when the record is under a signed checkpoint (or journalled). Its event id.
  absl::StatusOr<std::string> Record(OwnRecord record);
  // Does not wait: for alarms raised on a thread of the path itself.
  void Post(OwnRecord record);

  void Committed(const Flush& flush);     // these two: part of the Commits fan-out
  void Held(bool held);
  Tick Step(Tick now) override;
  void Poked(std::function<void()> poke) { poke_ = std::move(poke); }
  absl::Status Close();                   // last words; before the path stops, while Step still runs

 private:
  OwnAgent(const OwnAgentOptions& options, const LedgerReader& ledger, const Committer& committer, Fs& fs, const Clock& clock,
           Rng& rng);
  struct State {
    std::unique_ptr<Sealer> sealer;
    uint64_t sealed_seq = 0;              // events up to here are in submitted batches
    uint64_t committed_seq = 0;           // … and up to here under a checkpoint
    std::vector<std::string> waiting;     // frames not yet taken by the verifier, in order
    Tick last_close{};
    bool started = false, closed = false, has_committed_close = false;
    bool hold_frames = false;             // frames that hold journalled records wait for the journal's mark
    bool gave_up = false;                 // Posts are being dropped: said once
    bool held = false;                    // the ledger cannot be written
    struct Closed {
      uint64_t last_seq = 0, batch_seq = 0;
    };
    std::deque<Closed> uncommitted;       // batches of this epoch, in order
    uint64_t journalled_seq = 0;          // newest record that was journalled while its batch waited
  };
  void ReplayJournal();
  absl::StatusOr<std::string> Journal(const Uuid& id, std::string_view json, std::optional<uint64_t> seq);
  Seen SeenNow() const;
  void CloseBatch(State& s);
  void SubmitWaiting(State& s);

  const OwnAgentOptions options_;
  const LedgerReader& ledger_;
  const Committer& committer_;
  Fs& fs_;
  const Clock& clock_;
  Rng& rng_;
  SigningKey key_;
  AgentIdentity identity_;
  std::unique_ptr<OwnJournal> journal_;   // from Start on
  uint64_t replayed_seq_ = 0;             // Step's: last of the piece under way; 0: none
  std::function<absl::Status(std::string)> submit_;
  std::function<void()> poke_;
  Guarded<State> state_;
};

}  // namespace orgtrail
