#include <algorithm>
#include <utility>

#include "aggregator/ledger/disk_ledger.h"
#include "common/base/bytes.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/crypto/cipher.h"
#include "common/format/batch.h"
#include "common/format/expire.h"

namespace orgtrail {
namespace {

constexpr ShardRewrite::Dirs kDirs{kPruningDir, kPrunedDir};

// What stays of a batch: its entry and extension, and of each record its place, times and hash. The key goes with the bodies: it is what
// keeps a hash from being guessed at.
absl::Status DropBodiesOf(std::string_view kek, std::string_view origin, uint64_t index, LeafParts* parts) {
  if (parts->plain.empty()) return absl::OkStatus();   // no batch, or none that has bodies
  const size_t at = BatchKeyOffset(parts->head);
  if (at == std::string_view::npos || parts->head.size() < at + 36) return absl::DataLossError("its frame is cut short");
  std::string key(parts->head.substr(at, 32));
  if (!parts->sealed_key.empty()) {
    if (kek.empty()) return absl::FailedPreconditionError("its batch key is encrypted, and there is no key-encryption key");
    ASSIGN_OR_RETURN(key, GcmOpen(kek, LeafKeyContext(origin, index), parts->sealed_key));
  }
  ASSIGN_OR_RETURN(const BatchEntry entry, BatchEntry::Decode(EntryOf(parts->head)));
  std::vector<Row> rows;
  RETURN_IF_ERROR(SplitRows(parts->plain, GetU32(parts->head.data() + at + 32), &rows));
  if (HashRows(key, rows).root != entry.header.events_root) return absl::DataLossError("its records do not lead to its signed events_root");
  std::string plain = TombstonedRows(rows, TombstoneReason::kExpired);
  parts->changed = std::make_unique<std::string>(parts->head);
  std::fill_n(parts->changed->begin() + static_cast<ptrdiff_t>(at), 32, '\0');
  parts->head = *parts->changed;
  parts->sealed_key = {};
  parts->plain = std::move(plain);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<bool> DiskLedger::DropBodies(const RetentionHistory& log) {
  CHECK(!options_.read_only);
  if (pruning_ == nullptr) {
    for (const ShardFacts& s : Sealed()) {
      if (s.pruned || s.end > log.minimum()) continue;
      ASSIGN_OR_RETURN(pruning_, ShardRewrite::Begin(shards_, s.number, kDirs,
                                                     [this](uint64_t index, LeafParts* parts) { return DropBodiesOf(options_.kek, origin_, index, parts); }, fs_));
      return false;
    }
    return true;
  }
  const absl::StatusOr<bool> complete = pruning_->Advance();
  absl::Status done = complete.status();
  if (complete.ok() && *complete) done = pruning_->Finish();
  if (!done.ok()) {
    const std::string dir = pruning_->dir();
    pruning_->Abandon();
    pruning_.reset();
    return Annotate(done, dir);
  }
  if (*complete) {
    gone_below_.store(shards_.set()->sealed[pruning_->number() - 1].end, std::memory_order_release);
    freed_bytes_ += pruning_->bytes_before() - std::min(pruning_->bytes_before(), pruning_->bytes_after());
    LogInfo("The bodies of a shard expired; its entries and hashes stay.",
            {{"dir", pruning_->dir()}, {"bytes", std::to_string(pruning_->bytes_before())}, {"now", std::to_string(pruning_->bytes_after())}});
    pruning_.reset();
  }
  return false;
}

}  // namespace orgtrail
