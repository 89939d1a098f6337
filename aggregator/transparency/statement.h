// Statement: for an account and region over a time, who reported, without a hole or with which: from batch headers, so that it
// can be recomputed offline; the causes of losses from the loss records of the same batches, and whose batches are set apart. Threads: any. Bounds: a million leaves.
#pragma once

#include "absl/status/statusor.h"
#include "aggregator/ledger/reader.h"
#include "aggregator/query/gaps.h"
#include "orgtrail/v1/transparency.pb.h"

namespace orgtrail {

// The request's account may be empty: every account. Times are of logging, inclusive; 0: open.
absl::StatusOr<v1::CompletenessStatement> StatementOf(const LedgerReader& ledger, const v1::GetCompletenessRequest& request,
                                                      const GapList& gaps);

}  // namespace orgtrail
