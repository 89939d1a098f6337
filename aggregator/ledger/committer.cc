#include "aggregator/ledger/committer.h"

#include <utility>

#include "aggregator/ledger/ledger.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kGroupItems = 512;                           // one transaction: 512 batches of 1,000 records …
constexpr size_t kGroupBytes = 64 << 20;                      // … or 64 MiB of frames, some 100 ms of disk
constexpr absl::Duration kBetweenFlushes = absl::Milliseconds(5);
constexpr absl::Duration kBetweenTries = absl::Seconds(1);    // while the map or the disk is full

// Fits a frame and an entry; what does not would make every group with it fail.
absl::Status CheckSize(const Admitted& item) {
  if (item.leaf == nullptr) return absl::OkStatus();
  const size_t size = item.leaf->bytes.size();
  const size_t cap = item.leaf->is_batch ? limits::kFrameBytes : limits::kEntryBytes;
  if (size > 0 && size <= cap) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("SIZE_LIMIT a leaf of ", size, " bytes; the ledger takes 1 to ", cap, ": put larger content elsewhere, by its hash"));
}

}  // namespace

Committer::Committer(Ledger& ledger, Commits& commits, size_t inbox_batches, const Clock&)
    : ledger_(ledger), commits_(commits), inbox_(inbox_batches) {}

absl::Status Committer::Submit(Admitted item) {
  RETURN_IF_ERROR(CheckSize(item));
  if (!inbox_.TryPush(std::move(item))) {
    return absl::ResourceExhaustedError(held() ? "the ledger's disk is full: what arrives is refused until there is space again"
                                               : "the ledger is behind: try again shortly");
  }
  if (poke_) poke_();
  return absl::OkStatus();
}

std::string Committer::held_why() const {
  return held_why_.Peek([](const std::string& why) { return why; });
}

absl::StatusOr<uint64_t> Committer::SubmitAndWait(Admitted item, absl::Duration limit) {
  if (held()) return absl::ResourceExhaustedError("LEDGER_FULL nothing can be logged now: " + held_why());
  auto index = std::make_shared<Guarded<std::optional<uint64_t>>>();
  item.then = [index, then = std::move(item.then)](const SignedHead& head, uint64_t leaf_index) {
    if (then) then(head, leaf_index);
    index->With([&](std::optional<uint64_t>& i) { i = leaf_index; });
  };
  RETURN_IF_ERROR(Submit(std::move(item)));
  return index->WhenFor(
      std::min(limit, absl::Hours(1)), [](const std::optional<uint64_t>& i) { return i.has_value(); },
      [&](const std::optional<uint64_t>& i, bool committed) -> absl::StatusOr<uint64_t> {
        if (committed) return *i;
        return absl::DeadlineExceededError(held() ? "the ledger's disk is full: free space; the entry waits and is logged then"
                                                  : "the ledger did not commit in time; the entry may still be logged");
      });
}

// The next items to commit together: at least one, within the bounds of a transaction.
std::span<Admitted> Committer::NextGroup() {
  size_t bytes = 0, n = 0;
  while (done_ + n < taken_.size() && n < kGroupItems) {
    const Admitted& item = taken_[done_ + n];
    bytes += item.leaf ? item.leaf->bytes.size() : 0;
    if (n > 0 && bytes > kGroupBytes) break;
    ++n;
  }
  return std::span<Admitted>(taken_).subspan(done_, n);
}

Tick Committer::Step(Tick now) {
  if (taken_.empty() && inbox_.size() == 0) return ledger_.MaybeAnchor(now);
  if (now < not_before_) return not_before_;
  if (taken_.empty()) taken_ = inbox_.TakeAll(absl::ZeroDuration());

  const std::span<Admitted> group = NextGroup();
  absl::StatusOr<Flush> flush = ledger_.Append(group);
  if (absl::IsResourceExhausted(flush.status())) {
    not_before_ = now + kBetweenTries;
    if (!held()) {
      held_why_.With([&](std::string& why) { why = std::string(ToStd(flush.status().message())); });
      is_held_ = true;
      LogError("The ledger cannot be written. Nothing is lost: agents keep what is not acknowledged. Free space or grow the map.",
               {{"error", Describe(flush.status())}});
      commits_.Held(true);
    }
    return not_before_;
  }
  CHECK_OK(flush.status());  // the state on disk is unknown: end here, and let recovery look
  if (is_held_.exchange(false)) {
    held_why_.With([](std::string& why) { why.clear(); });
    LogInfo("The ledger is written again.");
    commits_.Held(false);
  }

  commits_.Committed(*flush);
  for (Admitted& item : group) {
    if (item.then) item.then(flush->head, item.leaf ? item.leaf->index : item.duplicate_of.value_or(0));
  }
  done_ += group.size();
  if (done_ == taken_.size()) {
    taken_.clear();
    done_ = 0;
  }
  not_before_ = now + kBetweenFlushes;
  const Tick anchor = ledger_.MaybeAnchor(now);
  return taken_.empty() && inbox_.size() == 0 ? anchor : not_before_;
}

}  // namespace orgtrail
