// Verifier: nothing enters the ledger that its agent did not sign, in order, for this log.
//
// Path     ingest → [Verifier] → admit → committer
// Threads  TryEnter, Committed: any. Checks run on `threads` lanes; an agent always meets the same one (hash of its uuid), so
//          order per agent needs no lock. Start() gives each lane a thread; a simulator calls Step() instead.
// Owns     the lanes, and where each agent's chain stands ahead of the commit. Everything passed in outlives it.
// Holds    an authentic batch is never refused for its content or its time: what is odd becomes a Finding or a flag.
//          Order of checks, cheap first: frame, header bounds, identity, position, Ed25519, recount and root, chain, admission.
// Fails    a full lane: TryEnter is false, Verdicts::Room says when to try again. A full committer or too many inflated bytes: the
//          lane waits with what it holds, so the sessions stop reading, so the agents' spools fill.
// Bytes    docs/formats/wire.md lists every code with what the agent does next.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "aggregator/ledger/committer.h"
#include "aggregator/ledger/missing_bodies.h"
#include "aggregator/ledger/reader.h"
#include "aggregator/ledger/registry.h"
#include "aggregator/verify/finding.h"
#include "aggregator/verify/heads.h"
#include "aggregator/verify/verdict.h"
#include "common/base/clock.h"
#include "common/base/stage.h"
#include "common/metrics/metrics.h"

namespace orgtrail {

struct VerifierOptions {
  int threads = 1;
  size_t agent_bytes = 16 << 20;        // frames of one agent waiting for a check: one window of its uplink
  size_t queued_bytes = 256 << 20;      // … of all agents
  size_t inflated_bytes = 512 << 20;    // checked and inflated, waiting for the commit
  double checks_per_second = 2000;      // signatures of one agent; a burst of one second. Beyond: RATE_LIMIT
  int evidence_per_hour = 20;           // evidence leaves one identity can cause
  absl::Duration stale_after = absl::Minutes(2);   // a heartbeat that quotes an older head is late
  MissingBodies* missing = nullptr;     // repeats that bring what the ledger lost of them go there; null: nowhere
  int64_t (*cpu_ns)() = nullptr;        // processor time of the calling thread; null: the clock, where checks take no time
};

class Verifier final : public Stage {
 public:
  Verifier(const VerifierOptions& options, const LedgerReader& ledger, const Registry& registry, Committer& committer,
           Verdicts& verdicts, Findings findings, const Clock& clock, Metrics& metrics);
  ~Verifier() override;

  // Takes `submission` (moved from) or leaves it alone and returns false; Room(submission.from) follows then.
  [[nodiscard]] bool TryEnter(Submission& submission);
  // After a commit: frees what was in flight, remembers the head. Cheap; from Commits::Committed.
  void Committed(const Flush& flush);

  void Start();                          // a thread per lane
  void Stop();
  Tick Step(Tick now) override;          // every lane once, for tests and simulators; not together with Start

  struct Strain {
    double busy = 0;                     // share of a processor that the busiest lane used, 0 to 1
    absl::Duration waited;               // the longest that a frame waited for its check
  };
  Strain TakeStrain(Tick now);           // since the last call. One caller.
  const RecentHeads& heads() const { return heads_; }

 private:
  class Lane;
  struct Load;

  const VerifierOptions options_;
  const Findings findings_;
  const Clock& clock_;
  RecentHeads heads_;
  std::shared_ptr<Load> load_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  Tick share_since_{};
};

}  // namespace orgtrail
