// Envelope: what is known of a record beside its bytes: where it lies, who captured it, when, and what is odd. Threads: any.
#pragma once

#include "aggregator/ledger/leaf.h"
#include "orgtrail/v1/query.pb.h"

namespace orgtrail {

// Everything but cursor and copies. `whole`: the record is complete (WholeRecord).
void FillEnvelope(const Leaf& leaf, size_t row, bool whole, v1::Envelope* out);

}  // namespace orgtrail
