// Finding: something a person should know about an agent's chain. Never a reason to refuse a record: the alarms decide whom to
// tell, the ledger keeps what was found.
#pragma once

#include <functional>
#include <string_view>

namespace orgtrail {

enum class Severity { kInfo, kWarn, kPage };
inline std::string_view SeverityName(Severity s) {
  return s == Severity::kInfo ? "info" : s == Severity::kWarn ? "warn" : "page";
}

// code: UNEXPLAINED_GAP, UNCLEAN_EPOCH, CLOCK_SKEW, MONO_ROLLBACK, EQUIVOCATION, EPOCH_CONFLICT, EPOCH_STALE, SPLIT_VIEW_SUSPECT,
// STALE_HEARTBEAT, VERSION_SKEW, AGENT_CHANGED, CONFIG_CHANGED, IDENTITY_MISMATCH, SIG_INVALID, … docs/formats/wire.md lists all.
// subject: account/region/agent. detail: one sentence with the numbers. Called on any thread of ingest; must not block.
using Findings =
    std::function<void(std::string_view code, Severity severity, std::string_view subject, std::string_view detail)>;

}  // namespace orgtrail
