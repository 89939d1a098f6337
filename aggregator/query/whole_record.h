// WholeRecord: a record's bytes as they came. Records beyond 1 MiB lie in the log as a stub and chunks that follow it;
// readers get them in one piece. Threads: any.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "aggregator/ledger/reader.h"

namespace orgtrail {

// What a stub says of the record it stands for; false when `body` is no stub.
struct BlobStub {
  Hash sha256;
  uint64_t size = 0;
  bool truncated = false;     // beyond 16 MiB: only hash and size were kept
  static bool Decode(std::string_view body, BlobStub* out);
};

// The stub itself when its chunks are not all there (yet), were never kept, or do not match its hash: *whole then is false.
absl::StatusOr<std::string> WholeRecord(const LedgerReader& ledger, const Leaf& leaf, size_t row, bool* whole);

}  // namespace orgtrail
