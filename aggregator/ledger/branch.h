// Branch: how to find one's way in a chain that split. An agent in quarantine may have several batches of one (epoch, batch_seq);
// the ledger's identity map names the first, so what belongs to another branch is found backwards, by prev_hash.
// Threads: any.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "aggregator/ledger/reader.h"
#include "common/format/batch.h"

namespace orgtrail {

// The leaf of batch (epoch of `header`, `batch_seq`) on the chain that `header` continues. One read a batch in between; NotFound
// when the log does not hold that chain, or it is longer than 2^20 batches.
absl::StatusOr<uint64_t> AncestorOf(const LedgerReader& ledger, const BatchHeader& header, uint64_t batch_seq);

}  // namespace orgtrail
