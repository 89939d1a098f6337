#include "aggregator/query/completeness.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr int kNames = 100;
constexpr std::string_view kRestore = "restore";

// What one agent lost: from its records of the time asked for, and what its counters hold beyond all of its records.
struct Lost {
  std::map<std::string, uint64_t> causes;
  uint64_t count = 0, ranges = 0, explained = 0;   // explained: of the epoch under way, whatever the time
  const v1::Loss* newest = nullptr;

  void Add(const v1::Loss& loss) {
    causes[loss.cause()] += loss.count();
    count += loss.count();
    ++ranges;
    if (newest == nullptr) newest = &loss;
  }
  std::string Text(std::string_view agent) const {
    std::string out = absl::StrCat(ToAbsl(agent), ": ", count == 0 ? "" : absl::StrCat(count, " "), "events lost: ", CausesOf(causes));
    if (newest == nullptr) return out;
    out += absl::StrCat(" (", ranges > 1 ? absl::StrCat(ranges, " times, the last at ") : "at ", Rfc3339(absl::FromUnixNanos(newest->time_ns())),
                        ", epoch ", newest->epoch());
    if (newest->first_sequence() != 0) out += absl::StrCat(" sequence ", newest->first_sequence(), "-", newest->last_sequence());
    return out + ")";
  }
};

}  // namespace

// What a restore of the log cost, as far as it is known: an agent's own words, whatever the time asked for, or that it has said none yet.
void Completeness::NameMissing(const std::string& name, const AgentHead& head, const std::optional<AgentIdentityRecord>& agent, const GapList& gaps,
                               v1::Completeness* out) const {
  const std::shared_ptr<const std::vector<LoggedRecovery>> recoveries = registry_.Recoveries();
  if (recoveries->empty()) return;
  const uint64_t restored = recoveries->back().recovery.restored_size;
  if (head.leaf_index < restored && !(agent.has_value() && (agent->retired || agent->revoked)) && out->records_missing_size() < kNames) {
    out->add_records_missing(absl::StrCat(name, ": has sent nothing since the log went on from an older copy (leaf ", restored,
                                          "): what it had logged behind epoch ", head.epoch, " batch ", head.batch_seq, " may be missing"));
  }
  for (const KnownLoss& known : gaps.losses) {
    if (known.agent != head.uuid || known.loss.cause() != kRestore || out->records_missing_size() >= kNames) continue;
    out->add_records_missing(absl::StrCat(name, ": RECORDS_MISSING, ", known.loss.count() == 0 ? "an unknown number of" : std::to_string(known.loss.count()),
                                          " events were logged and acknowledged, and lost with the log; leaf ", known.loss.leaf_index(), " says so"));
  }
}

v1::Completeness Completeness::Of(const Access& access, uint64_t indexed_to, uint64_t tree_size, int64_t start_ns, int64_t end_ns) const {
  v1::Completeness out;
  out.set_indexed_to(indexed_to);
  out.set_tree_size(tree_size);
  const std::shared_ptr<const GapList> gaps = gaps_.Known();
  uint64_t complete_to = UINT64_MAX;
  for (const AgentHead& head : ledger_.Heads()) {
    const std::optional<AgentIdentityRecord> agent = registry_.Agent(head.uuid);
    // A head without an enrolment is the aggregator's own agent, before its first; it concerns everybody who sees all.
    if (agent.has_value() ? !access.Sees(agent->account) && !agent->Carries(access.account) : !access.all) continue;
    const std::string name = agent.has_value() ? absl::StrCat(agent->account, "/", agent->region, "/", agent->name)
                                               : head.uuid.ToString();
    NameMissing(name, head, agent, *gaps, &out);
    Lost lost;
    for (const KnownLoss& known : gaps->losses) {
      if (known.agent != head.uuid) continue;
      // What was captured, acknowledged and lost with the log is in no counter of losses before capture.
      if (known.loss.epoch() == head.epoch && known.loss.cause() != kRestore) lost.explained += known.loss.count();
      if ((start_ns != 0 && known.loss.time_ns() < start_ns) || (end_ns != 0 && known.loss.time_ns() > end_ns)) continue;
      lost.Add(known.loss);
      if (out.loss_ranges_size() < kNames) *out.add_loss_ranges() = known.loss;
    }
    if (head.cum_lost > lost.explained) {
      v1::Loss unexplained;
      unexplained.set_agent(name);
      unexplained.set_count(head.cum_lost - lost.explained);
      unexplained.set_epoch(head.epoch);
      lost.causes[""] += unexplained.count();
      lost.count += unexplained.count();
      if (out.loss_ranges_size() < kNames) *out.add_loss_ranges() = std::move(unexplained);
    }
    if (!lost.causes.empty() && out.losses_size() < kNames) out.add_losses(lost.Text(name));
    if (head.quarantined && out.quarantined_agents_size() < kNames) {
      const auto evidence = gaps->set_apart.find(head.uuid);
      out.add_quarantined_agents(evidence == gaps->set_apart.end()
                                     ? name + ": no evidence for it is in the log; run orgtrail verify ledger"
                                     : absl::StrCat(name, ": leaf ", evidence->second.leaf, " is the evidence: ", evidence->second.code));
    }
    if (head.bodies_missing > 0 && out.losses_size() < kNames) {
      out.add_losses(absl::StrCat(name, ": ", head.bodies_missing, " events, decode (bodies missing)"));
    }
    if (head.closed || head.retired || (agent.has_value() && (agent->retired || agent->revoked))) continue;
    if (!live_(head)) {
      if (out.silent_agents_size() < kNames) out.add_silent_agents(name);
      continue;
    }
    complete_to = std::min(complete_to, head.wall_close_ns);
  }
  if (start_ns != 0) {
    if (const std::optional<RetentionHistory::Raise> gone = expiry_.Newest(); gone && start_ns <= gone->newest_ns) {
      out.add_losses(absl::StrCat("the bodies of what was logged before ", Rfc3339(absl::FromUnixNanos(gone->newest_ns)), " expired (leaf ", gone->leaf,
                                  "): no attribute finds those records"));
    }
  }
  out.set_complete_to_ns(complete_to == UINT64_MAX ? 0 : static_cast<int64_t>(complete_to));
  return out;
}

}  // namespace orgtrail
