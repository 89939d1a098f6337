#include "agent/rejoin.h"

#include <optional>

#include "common/base/status.h"
#include "common/base/text.h"
#include "common/compress/zstd.h"
#include "common/format/epoch.h"
#include "common/format/frame.h"
#include "common/merkle/tree.h"

namespace orgtrail {

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

// The epoch that goes on from there. A run before this one may have opened it and ended before the log heard of it.
absl::StatusOr<BatchKey> Rejoin::OpenAfter(const SpoolTail& previous) {
  for (std::optional<BatchKey> first = spool_.KeyAfter({previous.epoch, UINT64_MAX}); first; first = spool_.KeyAfter({first->epoch, UINT64_MAX})) {
    const absl::StatusOr<SignedEntry> opens = EntryOf(*first);
    const absl::StatusOr<EpochOpening> opening = opens.ok() ? EpochOpening::Decode(opens->extension) : opens.status();
    if (first->batch_seq != 0 || !opening.ok() || opening->previous_epoch != previous.epoch || opening->previous_batch_seq != previous.batch_seq) continue;
    return *first;
  }
  return pipeline_.NewEpoch(EpochReason::kUnclean, previous);
}

absl::StatusOr<Rejoin::Salvage> Rejoin::Recover(BatchKey after, BatchKey before) {
  Salvage salvage;
  ZstdDecompressor zstd;
  bool room = true;
  for (std::optional<BatchKey> key = spool_.KeyAfter(after); key && *key < before; key = spool_.KeyAfter(*key)) {
    if (stopping_()) return absl::UnavailableError("the agent is shutting down");
    const absl::StatusOr<std::string> frame = spool_.Read(*key);
    const absl::StatusOr<FrameView> view = frame.ok() ? FrameView::Decode(*frame) : frame.status();
    const absl::StatusOr<BatchEntry> entry = view.ok() ? BatchEntry::Decode(view->entry) : view.status();
    if (entry.ok() && entry->header.n_events == 0) continue;
    absl::StatusOr<Events> events = entry.ok() ? InflateFrame(*view, zstd) : entry.status();
    const absl::Status done = !events.ok() ? events.status() : room ? pipeline_.Recover(entry->header, events->rows) : absl::ResourceExhaustedError("");
    if (absl::IsUnavailable(done)) return done;
    room = room && !absl::IsResourceExhausted(done);
    ++(done.ok() ? salvage.recovered : salvage.lost);
  }
  return salvage;
}

// The batches between the last one the log has and here are damaged or follow a damaged one: they cannot be delivered as what was signed.
absl::Status Rejoin::BehindDamage(const std::string& detail) {
  const UplinkFacts facts = session_.Facts();
  const BatchKey acked = std::max(facts.acked, facts.log_head);
  ASSIGN_OR_RETURN(const SpoolTail previous, TailAt(acked));
  ASSIGN_OR_RETURN(const BatchKey opened, OpenAfter(previous));
  ASSIGN_OR_RETURN(const Salvage salvage, Recover(acked, opened));
  pipeline_.Note("Loss", "{\"cause\":\"decode\",\"afterEpoch\":" + std::to_string(acked.epoch) + ",\"afterBatch\":" +
                             std::to_string(acked.batch_seq) + ",\"beforeEpoch\":" + std::to_string(opened.epoch) +
                             ",\"batchesLost\":" + std::to_string(salvage.lost) + ",\"batchesRecovered\":" + std::to_string(salvage.recovered) +
                             ",\"detail\":" + JsonString(detail) + "}",
                 EventClass::kLoss, "damage:" + std::to_string(acked.epoch) + ":" + std::to_string(acked.batch_seq));
  return session_.Abandon(facts.acked, opened);
}

// The log has the chain up to `head`, and what it had acknowledged behind it is gone from the spool as well. What the spool still has of that
// branch does not continue the log's chain.
absl::Status Rejoin::BehindGap() {
  const BatchKey head = session_.Facts().gone_after;
  const std::optional<BatchKey> kept = spool_.KeyAfter(head);
  ASSIGN_OR_RETURN(const SpoolTail previous, TailAt(head));
  uint64_t first_kept_seq = 0;
  if (kept && kept->epoch == head.epoch) {   // the numbers say how many; from one epoch to another nobody knows
    ASSIGN_OR_RETURN(const SignedEntry first, EntryOf(*kept));
    ASSIGN_OR_RETURN(const BatchEntry entry, BatchEntry::Decode(first.entry));
    first_kept_seq = entry.header.first_seq;
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
  return session_.Abandon({}, opened);
}

}  // namespace orgtrail
