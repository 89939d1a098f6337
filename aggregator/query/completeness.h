// Completeness: how complete an answer is: up to when every live agent has promised that nothing older is unsent, and what is
// known to be missing, with its cause. From the ledger's heads and what Gaps knows. Threads: any; not for gRPC reactions.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "aggregator/ledger/expiry.h"
#include "aggregator/ledger/reader.h"
#include "aggregator/ledger/registry.h"
#include "aggregator/query/access.h"
#include "aggregator/query/gaps.h"
#include "orgtrail/v1/query.pb.h"

namespace orgtrail {

// Whether an agent whose chain stands at this head is live: heard within its allowance. Threads: any.
using Liveness = std::function<bool(const AgentHead&)>;

class Completeness {
 public:
  // References outlive it.
  Completeness(const LedgerReader& ledger, const Registry& registry, const History& history, Liveness live, const Clock& clock)
      : ledger_(ledger), registry_(registry), live_(std::move(live)), gaps_(history, ledger, clock), expiry_(ledger) {}

  // complete_to_ns is the least close time of a live agent's last batch, 0 when there is no live agent. Losses of the time asked for
  // (0: open), by the agents' clocks; what no record explains has no time and is always named, and so is what a restore of the log cost.
  // Asked for a time whose bodies expired, it says so among the losses. At most 100 names each.
  v1::Completeness Of(const Access& access, uint64_t indexed_to, uint64_t tree_size, int64_t start_ns = 0, int64_t end_ns = 0) const;
  std::shared_ptr<const GapList> gaps() const { return gaps_.Known(); }

 private:
  void NameMissing(const std::string& name, const AgentHead& head, const std::optional<AgentIdentityRecord>& agent, const GapList& gaps,
                   v1::Completeness* out) const;
  const LedgerReader& ledger_;
  const Registry& registry_;
  const Liveness live_;
  const Gaps gaps_;
  const Expiry expiry_;
};

}  // namespace orgtrail
