#include "agent/rejoin.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/compress/zstd.h"
#include "common/format/epoch.h"
#include "common/format/event.h"
#include "common/format/frame.h"
#include "common/merkle/tree.h"

namespace orgtrail {
namespace {

// Which batch the records behind a Recovered record were in. Epoch 0: `row` is none.
BatchKey OriginIn(const Row& row) {
  if (row.event_class != static_cast<uint16_t>(EventClass::kOwn) || row.body.find("\"eventName\":\"" + std::string(kRecovered) + "\"") == std::string_view::npos) {
    return {};
  }
  const auto number = [&](std::string_view name) {
    uint64_t value = 0;
    for (size_t at = row.body.find(name) + name.size(); at < row.body.size() && row.body[at] >= '0' && row.body[at] <= '9'; ++at) {
      value = value * 10 + static_cast<uint64_t>(row.body[at] - '0');
    }
    return value;
  };
  return {number("{\"epoch\":"), number("\"batch\":")};
}

}  // namespace

void Rejoin::Report(std::string_view code, std::string_view detail) {
  if (code == "SPOOL_TAMPER") damage_ = std::string(detail);
  if (code == "RECORDS_MISSING") gap_ = true;
  if (code == "SPOOL_LOST") spool_lost_ = true;
}

void Rejoin::Step() {
  const auto log = [](std::string_view behind, const absl::Status& done) {
    if (!done.ok()) LogError("a new epoch could not be opened; it is tried again", {{"behind", std::string(behind)}, {"why", Describe(done)}});
  };
  if (damage_) log("damaged batches", BehindDamage(*std::exchange(damage_, std::nullopt)));
  if (std::exchange(gap_, false)) log("the restored log's head", BehindGap());
  if (std::exchange(spool_lost_, false)) log("a deleted spool", BehindLostSpool());
}

// The copy, else the frame's own: a spool of the release before has no copies.
absl::StatusOr<SignedEntry> Rejoin::EntryOf(BatchKey key) const {
  if (absl::StatusOr<SignedEntry> copy = spool_.ReadEntry(key); copy.ok()) return copy;
  ASSIGN_OR_RETURN(const std::string frame, spool_.Read(key));
  ASSIGN_OR_RETURN(const FrameView view, FrameView::Decode(frame));
  return SignedEntry{std::string(view.entry), std::string(view.extension)};
}

// The chain as the log has it up to `key`: from the spool, else as the log's welcome told.
absl::StatusOr<SpoolTail> Rejoin::TailAt(BatchKey key) const {
  SpoolTail tail;
  if (key == BatchKey{}) return tail;
  tail.epoch = key.epoch;
  tail.batch_seq = key.batch_seq;
  const absl::StatusOr<SignedEntry> last = EntryOf(key);
  const absl::StatusOr<BatchEntry> entry = last.ok() ? BatchEntry::Decode(last->entry) : last.status();
  if (entry.ok()) {
    tail.last_seq = entry->header.last_seq;
    tail.leaf = LeafHash(last->entry);
    return tail;
  }
  const UplinkFacts facts = session_.Facts();
  if (facts.log_head != key || facts.log_head_next_seq == 0) return entry.status();
  tail.last_seq = facts.log_head_next_seq - 1;
  tail.leaf = facts.log_head_leaf;
  return tail;
}

// The epoch that goes on from there. A run before this one may have opened it and ended before the log heard of it; one that was left behind
// itself does not count.
absl::StatusOr<BatchKey> Rejoin::OpenAfter(const SpoolTail& previous) {
  const std::vector<Branch> branches = spool_.branches();
  const auto left_behind = [&](BatchKey key) {
    return std::any_of(branches.begin(), branches.end(), [&](const Branch& b) { return b.Holds(key); });
  };
  for (std::optional<BatchKey> first = spool_.KeyAfter({previous.epoch, UINT64_MAX}); first; first = spool_.KeyAfter({first->epoch, UINT64_MAX})) {
    const absl::StatusOr<SignedEntry> opens = EntryOf(*first);
    const absl::StatusOr<EpochOpening> opening = opens.ok() ? EpochOpening::Decode(opens->extension) : opens.status();
    if (first->batch_seq != 0 || left_behind(*first) || !opening.ok() || opening->previous_epoch != previous.epoch || opening->previous_batch_seq != previous.batch_seq) continue;
    return *first;
  }
  return pipeline_.NewEpoch(EpochReason::kUnclean, previous);
}

// An epoch that was opened for this may itself be left behind, when the log turns out to have more than was known, or damage follows damage. What it
// had recorded anew is in the log by now, or is recorded anew from where it first was; only what is in no other place, because an earlier
// branch had it, is taken from here.
absl::StatusOr<Rejoin::Salvage> Rejoin::Recover(BatchKey after, BatchKey opened) {
  const std::vector<Branch> branches = spool_.branches();
  const auto only_here = [&](BatchKey origin) {
    return std::any_of(branches.begin(), branches.end(), [&](const Branch& b) { return b.Holds(origin) && b.opened <= after; });
  };
  Salvage salvage;
  ZstdDecompressor zstd;
  bool room = true;
  BatchKey origin;   // of records that were recorded anew; epoch 0: damage hides it
  for (std::optional<BatchKey> key = spool_.KeyAfter(after); key && *key < opened; key = spool_.KeyAfter(*key)) {
    if (stopping_()) return absl::UnavailableError("the agent is shutting down");
    const absl::StatusOr<std::string> frame = spool_.Read(*key);
    const absl::StatusOr<FrameView> view = frame.ok() ? FrameView::Decode(*frame) : frame.status();
    const absl::StatusOr<BatchEntry> entry = view.ok() ? BatchEntry::Decode(view->entry) : view.status();
    if (entry.ok() && entry->header.n_events == 0) continue;
    absl::StatusOr<Events> events = entry.ok() ? InflateFrame(*view, zstd) : entry.status();
    if (!events.ok()) {
      origin = {};
      ++salvage.lost;
      continue;
    }
    std::vector<Row> rows;
    for (const Row& row : events->rows) {
      const bool anew = (row.flags & kFlagRecovered) != 0;
      const BatchKey from = anew ? BatchKey{} : OriginIn(row);
      if (from.epoch != 0) origin = from;
      if ((!anew && from.epoch == 0) || origin.epoch == 0 || only_here(origin)) rows.push_back(row);
    }
    if (rows.empty()) continue;
    const absl::Status done = room ? pipeline_.Recover(entry->header, rows, opened) : absl::ResourceExhaustedError("");
    if (absl::IsUnavailable(done)) return done;
    room = room && !absl::IsResourceExhausted(done);
    ++(done.ok() ? salvage.recovered : salvage.lost);
  }
  return salvage;
}

// The batches between the last one the log has and here are damaged or follow a damaged one: they cannot be delivered as what was signed.
absl::Status Rejoin::BehindDamage(const std::string& detail) {
  const BatchKey last = session_.Facts().log_has;
  ASSIGN_OR_RETURN(const SpoolTail previous, TailAt(last));
  ASSIGN_OR_RETURN(const BatchKey opened, OpenAfter(previous));
  ASSIGN_OR_RETURN(const Salvage salvage, Recover(last, opened));
  pipeline_.Note("Loss", "{\"cause\":\"decode\",\"afterEpoch\":" + std::to_string(last.epoch) + ",\"afterBatch\":" +
                             std::to_string(last.batch_seq) + ",\"beforeEpoch\":" + std::to_string(opened.epoch) +
                             ",\"batchesLost\":" + std::to_string(salvage.lost) + ",\"batchesRecovered\":" + std::to_string(salvage.recovered) +
                             ",\"detail\":" + JsonString(detail) + "}",
                 EventClass::kLoss, "damage:" + std::to_string(last.epoch) + ":" + std::to_string(last.batch_seq));
  RETURN_IF_ERROR(pipeline_.Flush());
  return session_.Abandon(last, opened);
}

// The log has the chain up to `head`, and what it had acknowledged behind it is gone from the spool as well. What the spool still has of that
// branch does not continue the log's chain.
absl::Status Rejoin::BehindGap() {
  const BatchKey head = session_.Facts().gone_after;
  const std::optional<BatchKey> kept = spool_.KeyAfter(head);
  ASSIGN_OR_RETURN(const SpoolTail previous, TailAt(head));
  uint64_t first_kept_seq = 0;
  if (kept && kept->epoch == head.epoch) {   // the numbers say how many; from one epoch to another nobody knows, nor behind damage
    const absl::StatusOr<SignedEntry> first = EntryOf(*kept);
    const absl::StatusOr<BatchEntry> entry = first.ok() ? BatchEntry::Decode(first->entry) : first.status();
    if (entry.ok()) first_kept_seq = entry->header.first_seq;
  }
  ASSIGN_OR_RETURN(const BatchKey opened, OpenAfter(previous));
  ASSIGN_OR_RETURN(const Salvage salvage, Recover(head, opened));
  std::string details = "{\"cause\":\"restore\",\"afterEpoch\":" + std::to_string(head.epoch) + ",\"afterBatch\":" + std::to_string(head.batch_seq);
  if (kept) details += ",\"beforeEpoch\":" + std::to_string(kept->epoch) + ",\"beforeBatch\":" + std::to_string(kept->batch_seq);
  if (first_kept_seq > previous.last_seq + 1) {
    details += ",\"count\":" + std::to_string(first_kept_seq - previous.last_seq - 1) + ",\"firstSequence\":" + std::to_string(previous.last_seq + 1) +
               ",\"lastSequence\":" + std::to_string(first_kept_seq - 1);
  }
  pipeline_.Note("Loss", details + ",\"batchesLost\":" + std::to_string(salvage.lost) + ",\"batchesRecovered\":" + std::to_string(salvage.recovered) +
                             ",\"source\":\"log\",\"detail\":\"the log was restored from an older copy, and the spool no longer had what followed\"}",
                 EventClass::kLoss, "restore:" + std::to_string(head.epoch) + ":" + std::to_string(head.batch_seq));
  RETURN_IF_ERROR(pipeline_.Flush());
  return session_.Abandon(head, opened);
}

// The log has a chain of this agent up to its head, and the spool another: its predecessor is gone, with whatever was not sent. What this one
// holds is recorded once more behind the log's head.
absl::Status Rejoin::BehindLostSpool() {
  const UplinkFacts facts = session_.Facts();
  if (facts.log_head == BatchKey{} || facts.log_head_next_seq == 0) return absl::FailedPreconditionError("the log did not say where this agent's chain stands");
  const SpoolTail previous{.epoch = facts.log_head.epoch, .batch_seq = facts.log_head.batch_seq, .last_seq = facts.log_head_next_seq - 1, .leaf = facts.log_head_leaf};
  ASSIGN_OR_RETURN(const BatchKey opened, OpenAfter(previous));
  ASSIGN_OR_RETURN(const Salvage salvage, Recover({}, opened));
  pipeline_.Note("Loss", "{\"cause\":\"spool_lost\",\"afterEpoch\":" + std::to_string(previous.epoch) + ",\"afterBatch\":" +
                             std::to_string(previous.batch_seq) + ",\"batchesLost\":" + std::to_string(salvage.lost) + ",\"batchesRecovered\":" +
                             std::to_string(salvage.recovered) +
                             ",\"source\":\"spool\",\"detail\":\"the spool was deleted or replaced; what it held and had not sent is gone, and nobody knows how much\"}",
                 EventClass::kLoss, "spool_lost:" + std::to_string(previous.epoch) + ":" + std::to_string(previous.batch_seq));
  RETURN_IF_ERROR(pipeline_.Flush());
  return session_.Abandon({}, opened);
}

}  // namespace orgtrail
