// Leaves: the leaves that index records lie in, the last few kept inflated. Threads: one.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "aggregator/index/run.h"
#include "aggregator/ledger/reader.h"

namespace orgtrail {

class Leaves {
 public:
  explicit Leaves(const LedgerReader& ledger) : ledger_(ledger) {}
  // DataLoss when the leaf has no such record: the index is of another ledger, or damaged.
  absl::StatusOr<std::shared_ptr<const Leaf>> Read(const HistoryRecord& at);

 private:
  static constexpr size_t kKept = 8;   // an inflated leaf holds up to 3.5 MiB
  const LedgerReader& ledger_;
  std::deque<std::shared_ptr<const Leaf>> kept_;
};

// The record's event id; empty when it has none that can be read.
std::string EventIdOf(const Row& row);

}  // namespace orgtrail
