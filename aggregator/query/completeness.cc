#include "aggregator/query/completeness.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace orgtrail {

v1::Completeness CompletenessOf(const LedgerReader& ledger, const Registry& registry, const Liveness& live,
                                const Access& access, uint64_t indexed_to, uint64_t tree_size) {
  constexpr int kNames = 100;
  v1::Completeness out;
  out.set_indexed_to(indexed_to);
  out.set_tree_size(tree_size);
  uint64_t complete_to = UINT64_MAX;
  for (const AgentHead& head : ledger.Heads()) {
    const std::optional<AgentIdentityRecord> agent = registry.Agent(head.uuid);
    // A head without an enrolment is the aggregator's own agent, before its first; it concerns everybody who sees all.
    if (agent.has_value() ? !access.Sees(agent->account) && !agent->Carries(access.account) : !access.all) continue;
    const std::string name = agent.has_value() ? absl::StrCat(agent->account, "/", agent->region, "/", agent->name)
                                               : head.uuid.ToString();
    if (head.cum_lost > 0 && out.losses_size() < kNames) {
      out.add_losses(absl::StrCat(name, ": ", head.cum_lost, " events in epoch ", head.epoch));
    }
    if (head.bodies_missing > 0 && out.losses_size() < kNames) {
      out.add_losses(absl::StrCat(name, ": ", head.bodies_missing, " events, decode (bodies missing)"));
    }
    if (head.closed || head.retired || (agent.has_value() && (agent->retired || agent->revoked))) continue;
    if (!live(head)) {
      if (out.silent_agents_size() < kNames) out.add_silent_agents(name);
      continue;
    }
    complete_to = std::min(complete_to, head.wall_close_ns);
  }
  out.set_complete_to_ns(complete_to == UINT64_MAX ? 0 : static_cast<int64_t>(complete_to));
  return out;
}

}  // namespace orgtrail
