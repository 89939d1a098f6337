// What is odd about an authentic batch: findings and flags, never refusals. The second half of Verifier::Lane.
#include <algorithm>

#include "aggregator/verify/lane.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr uint64_t kLostUnseen = 10'000;   // leaves that may have been signed after the newest head known of a lost branch

}  // namespace

void Verifier::Lane::Observe(Job& job, const std::vector<Row>& rows) {
  Agent& agent = *job.agent;
  const BatchHeader& h = job.header();
  if (agent.quarantined) return ObserveClock(job);   // what its branches lack of each other is no news any more
  if (job.opening) ObserveOpening(job);

  // A loss record may come one batch after the loss it explains: the open batch can be full when the loss happens.
  const bool explains = std::any_of(rows.begin(), rows.end(), [](const Row& r) {
    return r.event_class == static_cast<uint16_t>(EventClass::kLoss);
  });
  if (job.bodies_gone) {
    Find(job, "BODIES_MISSING", Severity::kPage,
         absl::StrCat("the bodies of ", h.n_events, " events of ", Where(h.epoch, h.batch_seq), " (seq ", h.first_seq, " to ", h.last_seq,
                      ") are gone (", ToAbsl(TombstoneReasonName(*job.view.bodies_gone)),
                      "): the agent's disk damaged them before they were sent. That they were captured is signed; what they said is lost"));
  }
  if (explains || job.bodies_gone) {   // what explained a loss may be among what is gone
    agent.unexplained = 0;
  } else if (agent.unexplained > 0 && (h.kind == BatchKind::kData || h.kind == BatchKind::kEpochClose || h.kind == BatchKind::kHeartbeat)) {
    Find(job, "UNEXPLAINED_GAP", Severity::kPage,
         absl::StrCat(agent.unexplained, " records are missing before ", Where(h.epoch, h.batch_seq), " and no loss record says why"));
    agent.unexplained = 0;
  }
  if (!explains && !job.bodies_gone) agent.unexplained += h.n_lost;
  if (agent.head && h.epoch == agent.head->epoch && h.first_seq > agent.head->last_seq + 1) {
    Find(job, "UNEXPLAINED_GAP", Severity::kPage,
         absl::StrCat("sequence jumps from ", agent.head->last_seq, " to ", h.first_seq, " at ", Where(h.epoch, h.batch_seq)));
  }
  ObserveSeen(job);
  ObserveClock(job);
}

void Verifier::Lane::ObserveOpening(Job& job) {
  Agent& agent = *job.agent;
  const EpochOpening& o = *job.opening;
  agent.unexplained = 0;
  if (o.reason == EpochReason::kUnclean || (agent.head && !agent.head->closed && o.reason == EpochReason::kClean)) {
    while (!agent.unclean.empty() && job.now - agent.unclean.front() > absl::Hours(1)) agent.unclean.pop_front();
    agent.unclean.push_back(job.now);
    if (agent.unclean.size() > 16) agent.unclean.pop_front();
    FindEach(job, "UNCLEAN_EPOCH", agent.unclean.size() >= 3 ? Severity::kPage : Severity::kWarn,
             absl::StrCat("epoch ", job.header().epoch, " opened after an end without last words; ", agent.unclean.size(),
                          " in the last hour"));
  }
  // The programme and its configuration, against the epoch before.
  if (agent.executable.IsZero() && agent.head) {
    if (const std::optional<uint64_t> index = shared_.ledger.Find({job.in.uuid, agent.head->epoch, 0})) {
      const absl::StatusOr<RawLeaf> raw = shared_.ledger.ReadRaw(*index);
      const absl::StatusOr<FrameView> view = raw.ok() ? FrameView::Decode(raw->bytes) : raw.status();
      const absl::StatusOr<EpochOpening> before = view.ok() ? EpochOpening::Decode(view->extension) : view.status();
      if (before.ok()) {
        agent.executable = before->executable;
        agent.config = before->config;
      }
    }
  }
  if (!agent.executable.IsZero() && agent.executable != o.executable) {
    Find(job, "AGENT_CHANGED", Severity::kWarn,
         "the agent's executable changed from sha256 " + Hex(agent.executable.view()).substr(0, 16) + "… to " +
             Hex(o.executable.view()).substr(0, 16) + "…");
  }
  if (!agent.config.IsZero() && agent.config != o.config) {
    Find(job, "CONFIG_CHANGED", Severity::kInfo, "the agent's configuration changed since the epoch before");
  }
  agent.executable = o.executable;
  agent.config = o.config;
}

void Verifier::Lane::ObserveSeen(Job& job) {
  const BatchHeader& h = job.header();
  const Agent& agent = *job.agent;
  const uint64_t before = agent.head ? agent.head->seen_size : 0;
  if (h.seen_size != 0 && h.seen_size != before) {
    // Batches that were closed before a declared recovery, or in an epoch opened before it, quote the branch that was given up.
    for (const auto recoveries = shared_.registry.Recoveries(); const LoggedRecovery& r : *recoveries) {
      if (r.recovery.restored_size < h.seen_size && h.seen_size <= r.recovery.lost_size + kLostUnseen) return;
    }
    std::optional<RecentHeads::Head> recent = shared_.heads.Of(h.seen_size);
    const SignedHead now = shared_.ledger.head();
    absl::StatusOr<Hash> ours = recent ? absl::StatusOr<Hash>(recent->root)
                                : h.seen_size <= now.size ? shared_.ledger.Root(h.seen_size)
                                                          : absl::StatusOr<Hash>(absl::OutOfRangeError("beyond our head"));
    if (h.seen_size > now.size) {
      Find(job, "SPLIT_VIEW_SUSPECT", Severity::kPage,
           absl::StrCat("the agent saw this log at ", h.seen_size, " leaves; it has ", now.size,
                        ": it was rolled back, or somebody shows another log in its name"));
    } else if (ours.ok() && *ours != h.seen_root) {
      Find(job, "SPLIT_VIEW_SUSPECT", Severity::kPage,
           absl::StrCat("the agent saw root ", Hex(h.seen_root.view()), " at ", h.seen_size, " leaves; ours is ", Hex(ours->view())));
    }
  }
}

void Verifier::Lane::ObserveClock(Job& job) {
  const BatchHeader& h = job.header();
  const int64_t now = shared_.clock.WallNanos();
  const int64_t close = static_cast<int64_t>(std::min<uint64_t>(h.wall_close_ns, INT64_MAX));
  const int64_t stale = absl::ToInt64Nanoseconds(shared_.options.stale_after);

  // Old by its own clock, or by the head it quotes: it does not say that the agent is alive now.
  const std::optional<uint64_t> then = shared_.heads.SizeAt(now - stale);
  const bool quotes_old = then && *then > 0 && h.seen_size < *then;
  const bool closed_long_ago = close < now - stale;
  if (closed_long_ago || (h.kind == BatchKind::kHeartbeat && quotes_old)) job.flags |= kLeafLate;
  if (h.kind == BatchKind::kHeartbeat && (quotes_old || closed_long_ago)) {
    Find(job, "STALE_HEARTBEAT", closed_long_ago ? Severity::kInfo : Severity::kWarn,
         absl::StrCat("a heartbeat closed at ", Rfc3339(absl::FromUnixNanos(close)), " quotes the log at ", h.seen_size,
                      " leaves; it does not count as a sign of life"));
  }
  // Two bounds hold whatever is delayed: a batch cannot close after it arrived, nor before the head it quotes was signed.
  int64_t skew = 0;
  if (close > now) {
    skew = close - now;
  } else if (const std::optional<RecentHeads::Head> quoted = shared_.heads.Of(h.seen_size); quoted && quoted->root == h.seen_root && close < quoted->signed_ns) {
    skew = close - quoted->signed_ns;
  }
  const int64_t size = skew < 0 ? -skew : skew;
  if (size > absl::ToInt64Nanoseconds(absl::Seconds(5))) {
    Find(job, "CLOCK_SKEW", size > absl::ToInt64Nanoseconds(absl::Seconds(300)) ? Severity::kPage : Severity::kWarn,
         absl::StrCat("the agent's clock is at least ", absl::FormatDuration(absl::Trunc(absl::Nanoseconds(size), absl::Seconds(1))), skew > 0 ? " ahead" : " behind"));
  }
}

}  // namespace orgtrail
