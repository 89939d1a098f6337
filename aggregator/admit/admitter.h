// Admitter: which account and region a record belongs to, what is odd about it, what it can be found by. A pure function of the
// leaf and the capturing agent's enrolment, so that followers rebuild the same answer from the ledger.
// Threads: one object, one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/ledger/leaf.h"
#include "common/compress/zstd.h"
#include "common/json/scanner.h"

namespace orgtrail {

class Admitter {
 public:
  Admitter();
  ~Admitter();
  // Fills leaf.facts and leaf.terms from leaf.header and leaf.events. `carries` is the agent's enrolment ("", "any", ids).
  void Admit(std::string_view carries, Leaf& leaf);

 private:
  void AdmitRecord(std::string_view carries, const Row& row, RowFacts& facts, std::vector<uint64_t>& terms);

  json::Scanner scanner_;
  json::Fields fields_;
  std::string scratch_;
};

// YYYY-MM-DDThh:mm:ss[.fraction](Z|±hh:mm) as nanoseconds since 1970; nullopt: not that, no such day, or outside 1970–2200.
// A leap second counts as the second after it.
std::optional<int64_t> ParseEventTime(std::string_view text);

// Inflates and admits stored bytes: how readers rebuild a Leaf; `carries` is that of the batch's agent. Index, time and flags
// are the caller's to fill, row hashes are not computed. What does not start with "OTF1" is a control leaf: bytes and hash.
// FRAME_MALFORMED, DECOMP_LIMIT and the like as FrameView, BatchEntry and InflateFrame say.
absl::StatusOr<std::shared_ptr<Leaf>> InflateLeaf(std::string bytes, std::string_view carries, ZstdDecompressor& zstd,
                                                  Admitter& admitter);

}  // namespace orgtrail
