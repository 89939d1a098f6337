// BuildEventProof: everything an outsider needs to check one record offline, from the ledger as it is now.
// Threads: any. Reads four leaves and their paths.
#pragma once

#include "absl/status/statusor.h"
#include "aggregator/ledger/reader.h"
#include "aggregator/ledger/registry.h"
#include "common/base/ids.h"
#include "common/format/proof.h"

namespace orgtrail {

// OutOfRange, NotFound: no such record. FailedPrecondition: its body is gone (redacted, expired, damaged).
absl::StatusOr<EventProof> BuildEventProof(const LedgerReader& ledger, const Registry& registry, EventRef ref);

}  // namespace orgtrail
