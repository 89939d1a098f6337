#include "aggregator/index/leaves.h"

#include "common/base/status.h"
#include "common/json/scanner.h"

namespace orgtrail {

absl::StatusOr<std::shared_ptr<const Leaf>> Leaves::Read(const HistoryRecord& at) {
  for (const auto& leaf : kept_) {
    if (leaf->index == at.leaf) return leaf;
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<const Leaf> leaf, ledger_.Read(at.leaf));
  if (at.event >= leaf->events.rows.size() || at.event >= leaf->facts.size()) {
    return absl::DataLossError(absl::StrCat("the history names event ", at.event, " of leaf ", at.leaf, ", which has ",
                                            leaf->events.rows.size(), ": remove the history directory, it is rebuilt"));
  }
  kept_.push_front(leaf);
  if (kept_.size() > kKept) kept_.pop_back();
  return leaf;
}

std::string EventIdOf(const Row& row) {
  json::Scanner scanner;
  json::Fields fields;
  if (row.tombstone || scanner.Scan(row.body, &fields) != json::Flaw::kNone || !fields.event_id) return "";
  return json::Text(fields.event_id);
}

}  // namespace orgtrail
