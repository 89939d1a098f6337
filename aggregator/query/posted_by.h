// PostedBy: who handed a record to its agent, by the RecordsPosted records of the same batch. Threads: any.
#pragma once

#include <string>

#include "aggregator/ledger/leaf.h"

namespace orgtrail {

// "http:uid=1000 (alice)"; empty when nobody is named: file sources, PutAuditEvents (its records name the poster themselves), what
// does not fit the form. `row` is one of the leaf's.
std::string PostedBy(const Leaf& leaf, size_t row);

}  // namespace orgtrail
