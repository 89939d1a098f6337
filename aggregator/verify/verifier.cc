#include "aggregator/verify/verifier.h"

#include <algorithm>

#include "aggregator/verify/lane.h"
#include "aggregator/verify/load.h"
#include "common/base/status.h"

namespace orgtrail {
Verifier::Verifier(const VerifierOptions& options, const LedgerReader& ledger, const Registry& registry, Committer& committer,
                   Verdicts& verdicts, Findings findings, const Clock& clock, Metrics& metrics)
    : options_(options), findings_(std::move(findings)), clock_(clock), load_(std::make_shared<Load>(options)) {
  CHECK(options.threads >= 1);
  for (int i = 0; i < options.threads; ++i) {
    lanes_.push_back(std::make_unique<Lane>(
        "verify-" + std::to_string(i),
        Lane::Shared{options_, ledger, registry, committer, verdicts, findings_, clock, metrics, heads_, *load_}));
  }
  // The head from before this start is as old as its newest leaf, not as this process: agents quoted it meanwhile.
  if (const SignedHead head = ledger.head(); head.size > 0) {
    if (const absl::StatusOr<RawLeaf> newest = ledger.ReadRaw(head.size - 1); newest.ok()) {
      heads_.Add(head.size, head.root, newest->logged_ns);
    }
  }
  Gauge& queued = metrics.GetGauge("orgtrail_verify_queued_bytes", "Frames that wait for a check; near its limit agents are held back.");
  Gauge& inflated = metrics.GetGauge("orgtrail_verify_inflight_bytes", "Checked batches that wait for the ledger's commit.");
  metrics.OnCollect([load = load_, &queued, &inflated] {
    queued.Set(static_cast<double>(load->queued()));
    inflated.Set(static_cast<double>(load->inflated()));
  });
}

Verifier::~Verifier() { Stop(); }

bool Verifier::TryEnter(Submission& submission) {
  const size_t bytes = submission.frame.size();
  const StreamId from = submission.from;
  const Uuid uuid = submission.uuid;
  if (!load_->Enter(uuid, from, bytes)) return false;
  Lane& lane = *lanes_[std::hash<Uuid>()(uuid) % lanes_.size()];
  if (lane.TryPush(submission)) return true;
  load_->Return(uuid, from, bytes);   // the lane's inbox is full: as if it had not fitted
  return false;
}

void Verifier::Committed(const Flush& flush) {
  heads_.Add(flush.head.size, flush.head.root, clock_.WallNanos());
  for (const CommittedLeaf& leaf : flush.batches) load_->Committed(leaf.batch.uuid);
}

void Verifier::Start() {
  for (auto& lane : lanes_) lane->Start();
}

void Verifier::Stop() {
  for (auto& lane : lanes_) lane->Stop();
}

Tick Verifier::Step(Tick now) {
  Tick next = Tick::Never();
  for (auto& lane : lanes_) next = std::min(next, lane->Step(now));
  return next;
}

Verifier::Strain Verifier::TakeStrain(Tick now) {
  int64_t busiest = 0, waited = 0;
  for (auto& lane : lanes_) {
    busiest = std::max(busiest, lane->TakeBusyNanos());
    waited = std::max(waited, lane->TakeWaitedNanos());
  }
  const int64_t elapsed = now.ns - share_since_.ns;
  const bool first = share_since_ == Tick{};
  share_since_ = now;
  return {first || elapsed <= 0 ? 0.0 : static_cast<double>(busiest) / static_cast<double>(elapsed), absl::Nanoseconds(waited)};
}

}  // namespace orgtrail
