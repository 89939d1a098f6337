#include "aggregator/ledger/branch.h"

#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr uint64_t kFarthest = 1 << 20;

}  // namespace

absl::StatusOr<uint64_t> AncestorOf(const LedgerReader& ledger, const BatchHeader& header, uint64_t batch_seq) {
  if (batch_seq >= header.batch_seq || header.batch_seq - batch_seq > kFarthest) return absl::NotFoundError("no such batch before this one");
  BatchHeader at = header;
  for (;;) {
    const std::optional<uint64_t> index = ledger.FindLeaf(at.prev_hash);
    if (!index) return absl::NotFoundError(absl::StrCat("batch ", at.batch_seq - 1, " of epoch ", at.epoch, " of this branch is not here"));
    ASSIGN_OR_RETURN(const std::string bytes, ledger.ReadEntry(*index));
    ASSIGN_OR_RETURN(BatchEntry before, BatchEntry::Decode(bytes));
    if (before.header.agent_uuid != at.agent_uuid || before.header.epoch != at.epoch || before.header.batch_seq + 1 != at.batch_seq) {
      return absl::NotFoundError("prev_hash names a batch that does not come before");
    }
    at = std::move(before.header);
    if (at.batch_seq == batch_seq) return *index;
  }
}

}  // namespace orgtrail
