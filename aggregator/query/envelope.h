// Envelope: what is known of a record beside its bytes: where it lies, who captured it, when, and what is odd. Threads: any.
#pragma once

#include "aggregator/ledger/expiry.h"
#include "aggregator/ledger/leaf.h"
#include "orgtrail/v1/query.pb.h"

namespace orgtrail {

// Everything but cursor and copies. `whole`: the record is complete (WholeRecord). Why a body is gone is among the notes, and when it
// expired, by which leaf: EXPIRED, EXPIRED_BY_LEAF_1042.
void FillEnvelope(const Leaf& leaf, size_t row, bool whole, const Expiry& expiry, v1::Envelope* out);

}  // namespace orgtrail
