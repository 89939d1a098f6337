// Completeness: how complete an answer is: up to when every live agent has promised that nothing older is unsent, and what is
// known to be missing. From the ledger's heads alone. Threads: any.
#pragma once

#include <functional>

#include "aggregator/ledger/reader.h"
#include "aggregator/ledger/registry.h"
#include "aggregator/query/access.h"
#include "orgtrail/v1/query.pb.h"

namespace orgtrail {

// Whether an agent whose chain stands at this head is live: heard within its allowance. Threads: any.
using Liveness = std::function<bool(const AgentHead&)>;

// complete_to_ns is the least close time of a live agent's last batch, 0 when there is no live agent. At most 100 names each.
v1::Completeness CompletenessOf(const LedgerReader& ledger, const Registry& registry, const Liveness& live,
                                const Access& access, uint64_t indexed_to, uint64_t tree_size);

}  // namespace orgtrail
