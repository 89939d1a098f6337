#include "aggregator/transparency/statement.h"

#include <algorithm>
#include <map>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/format/batch.h"
#include "common/format/control.h"

namespace orgtrail {
namespace {

constexpr uint64_t kMostLeaves = 1'000'000;
constexpr int kMostNotes = 1000;               // holes or silences of one epoch
constexpr uint64_t kSilence = 30'000'000'000;  // three heartbeats missed

struct Progress {
  v1::CompletenessStatement::AgentRange range;
  uint64_t last_seq = 0, last_close_ns = 0;
};

// "5 spool_full": what the batch's own loss records say of the losses its header counts.
std::string CausesIn(const LedgerReader& ledger, uint64_t index, uint32_t lost) {
  std::map<std::string, uint64_t> causes;
  uint64_t explained = 0;
  if (const absl::StatusOr<std::shared_ptr<const Leaf>> leaf = ledger.Read(index); leaf.ok()) {
    for (size_t i = 0; i < (*leaf)->events.rows.size(); ++i) {
      const std::optional<KnownLoss> loss = LossOf(**leaf, i);
      if (!loss || loss->loss.count() == 0) continue;
      causes[loss->loss.cause()] += loss->loss.count();
      explained += loss->loss.count();
    }
  }
  if (lost > explained) causes[""] += lost - explained;
  return CausesOf(causes);
}

void Extend(const LedgerReader& ledger, const BatchHeader& h, uint64_t leaf, Progress& p) {
  v1::CompletenessStatement::AgentRange& range = p.range;
  if (range.uuid().empty()) {
    range.set_uuid(std::string(h.agent_uuid.view()));
    range.set_name(h.account + "/" + h.region + "/" + h.agent);
    range.set_epoch(h.epoch);
    range.set_first_batch_seq(h.batch_seq);
    range.set_first_leaf(leaf);
    range.set_how_ended("open");
  } else {
    if (h.batch_seq != range.last_batch_seq() + 1 && range.holes_size() < kMostNotes) {
      range.add_holes(absl::StrCat("batch ", range.last_batch_seq() + 1, "-", h.batch_seq - 1));
    }
    if (h.first_seq > p.last_seq + 1 && range.holes_size() < kMostNotes) {
      range.add_holes(absl::StrCat("seq ", p.last_seq + 1, "-", h.first_seq - 1));
    }
    if (h.wall_close_ns > p.last_close_ns + kSilence && range.silences_size() < kMostNotes) {
      range.add_silences(absl::StrCat(Rfc3339(absl::FromUnixNanos(static_cast<int64_t>(p.last_close_ns))), " for ",
                                      (h.wall_close_ns - p.last_close_ns) / 1'000'000'000, " s"));
    }
  }
  if (h.n_lost > 0 && range.holes_size() < kMostNotes) {
    range.add_holes(absl::StrCat(h.n_lost, " lost in seq ", h.first_seq, "-", h.last_seq, ": ", CausesIn(ledger, leaf, h.n_lost)));
  }
  range.set_last_batch_seq(h.batch_seq);
  range.set_last_leaf(leaf);
  range.set_cum_events(h.cum_events);
  range.set_cum_lost(h.cum_lost);
  if (range.policy_versions_size() == 0 || range.policy_versions(range.policy_versions_size() - 1) != h.policy_version) {
    if (range.policy_versions_size() < kMostNotes) range.add_policy_versions(h.policy_version);
  }
  if (h.kind == BatchKind::kEpochClose) range.set_how_ended((h.flags & kBatchRetired) != 0 ? "retired" : "closed");
  p.last_seq = h.last_seq;
  p.last_close_ns = h.wall_close_ns;
}

}  // namespace

absl::StatusOr<v1::CompletenessStatement> StatementOf(const LedgerReader& ledger, const v1::GetCompletenessRequest& request,
                                                      const GapList& gaps) {
  if (request.end_ns() != 0 && request.start_ns() > request.end_ns()) return absl::InvalidArgumentError("start_ns is after end_ns");
  const SignedHead head = ledger.head();
  const uint64_t first = request.start_ns() == 0 ? 0 : std::min(head.size, ledger.FirstLoggedAt(request.start_ns()));
  const uint64_t end = request.end_ns() == 0 || request.end_ns() == INT64_MAX
                           ? head.size
                           : std::min(head.size, ledger.FirstLoggedAt(request.end_ns() + 1));
  if (end > first && end - first > kMostLeaves) {
    return absl::ResourceExhaustedError(absl::StrCat(end - first, " leaves were logged in that time, a statement covers at most ",
                                                     kMostLeaves, ": ask for a shorter time"));
  }
  v1::CompletenessStatement out;
  out.set_account(request.account());
  out.set_region(request.region());
  out.set_start_ns(request.start_ns());
  out.set_end_ns(request.end_ns());
  out.set_checkpoint(head.note);
  std::map<std::pair<Uuid, uint64_t>, Progress> epochs;
  for (uint64_t leaf = first; leaf < end; ++leaf) {
    ASSIGN_OR_RETURN(const std::string bytes, ledger.ReadEntry(leaf));
    if (LeafMagic(bytes) != "OTB1") continue;
    ASSIGN_OR_RETURN(const BatchEntry entry, BatchEntry::Decode(bytes));
    const BatchHeader& h = entry.header;
    if ((!request.account().empty() && h.account != request.account()) ||
        (!request.region().empty() && h.region != request.region())) {
      continue;
    }
    Extend(ledger, h, leaf, epochs[{h.agent_uuid, h.epoch}]);
  }
  for (auto it = epochs.begin(); it != epochs.end(); ++it) {
    const auto next = std::next(it);
    if (next != epochs.end() && next->first.first == it->first.first && it->second.range.how_ended() == "open") {
      it->second.range.set_how_ended("unclean");
      out.add_findings(absl::StrCat("UNCLEAN_EPOCH ", it->second.range.name(), " epoch ", it->first.second));
    }
    if (next == epochs.end() || next->first.first != it->first.first) {
      // Headers do not say it; the agent's head counts it over all its epochs.
      if (const std::optional<AgentHead> agent = ledger.HeadOf(it->first.first); agent && agent->bodies_missing > 0) {
        out.add_findings(absl::StrCat("BODIES_MISSING ", it->second.range.name(), ": ", agent->bodies_missing,
                                      " events since it was enrolled; `orgtrail verify ledger` names their batches"));
      }
    }
    if (it->second.range.holes_size() > 0) {
      out.add_findings(absl::StrCat("HOLES ", it->second.range.name(), " epoch ", it->first.second, ": ",
                                    it->second.range.holes_size()));
    }
    if (it->second.range.silences_size() > 0) {
      out.add_findings(absl::StrCat("SILENT_AGENT ", it->second.range.name(), " epoch ", it->first.second, ": ",
                                    it->second.range.silences_size(), " times"));
    }
    *out.add_ranges() = std::move(it->second.range);
  }
  // Without a count in any header: what was damaged before it could be sent, and whom the verifier set apart.
  const auto asked = [&](std::string_view account, std::string_view region) {
    return (request.account().empty() || account == request.account()) && (request.region().empty() || region == request.region());
  };
  for (const KnownLoss& known : gaps.losses) {
    const v1::Loss& loss = known.loss;
    if (loss.count() != 0 || loss.leaf_index() < first || loss.leaf_index() >= end || !asked(known.account, known.region)) continue;
    out.add_findings(absl::StrCat("LOSS ", loss.agent(), " epoch ", loss.epoch(), ": an unknown number of events, ", loss.cause(), ": ", loss.detail()));
  }
  for (const auto& [key, progress] : epochs) {
    const auto apart = gaps.set_apart.find(key.first);
    if (apart == gaps.set_apart.end()) continue;
    const std::optional<AgentHead> agent = ledger.HeadOf(key.first);
    if (!agent || !agent->quarantined || agent->epoch != key.second) continue;
    out.add_findings(absl::StrCat("QUARANTINED epoch ", key.second, " of ", agent->uuid.ToString(), ": leaf ", apart->second.leaf,
                                  " is the evidence: ", apart->second.code));
  }
  if (epochs.empty()) out.add_findings("COVERAGE_MISSING: no agent reported in this time");
  return out;
}

}  // namespace orgtrail
