// Admitter: which account and region a record belongs to, what is odd about it, what it can be found by. A pure function of the
// leaf and the capturing agent's enrolment, so that followers rebuild the same answer from the ledger.
// Threads: one object, one thread.
#pragma once

#include <memory>
#include <string_view>

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
  json::Scanner scanner_;
  json::Fields fields_;
};

// Inflates and admits stored bytes: how readers rebuild a Leaf. `carries_of` answers for the batch's agent.
absl::StatusOr<std::shared_ptr<Leaf>> InflateLeaf(std::string bytes, std::string_view carries, ZstdDecompressor& zstd,
                                                  Admitter& admitter);

}  // namespace orgtrail
