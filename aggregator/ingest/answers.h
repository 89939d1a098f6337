// The other answers on a stream, as the bytes of a PushResponse: pure functions of what they say.
// Bytes    docs/formats/wire.md
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/ledger/committer.h"
#include "aggregator/ledger/missing_bodies.h"
#include "aggregator/ledger/reader.h"
#include "aggregator/verify/verdict.h"

namespace orgtrail {

// Proves `leaves` under `log`, and that it continues the head of `shown` leaves, which this stream saw last. `interval_ms` 0: unchanged.
absl::StatusOr<std::string> ReceiptMessage(const LedgerReader& ledger, const SignedHead& log, uint64_t shown, std::span<const CommittedLeaf> leaves,
                                           uint32_t interval_ms);
std::string RefusalMessage(const Refused& refused);
// What a stream ends with after a refusal that closes it: the gRPC code of docs/formats/wire.md, the message "CODE detail".
absl::Status ClosingStatus(const Refused& refused);
std::string WantedMessage(const std::vector<MissingBodies::Leaf>& wanted);

}  // namespace orgtrail
