#include "aggregator/ingest/answers.h"

#include "common/base/status.h"
#include "orgtrail/v1/ingest.pb.h"

namespace orgtrail {
namespace {

std::string Bytes(const Hash& hash) { return std::string(hash.view()); }

}  // namespace

absl::StatusOr<std::string> ReceiptMessage(const LedgerReader& ledger, const SignedHead& log, uint64_t shown, std::span<const CommittedLeaf> leaves,
                                           uint32_t interval_ms) {
  v1::PushResponse response;
  v1::Receipt& receipt = *response.mutable_receipt();
  receipt.set_checkpoint(log.note);
  receipt.set_consistency_from(shown);
  if (shown > 0 && shown < log.size) {
    ASSIGN_OR_RETURN(const std::vector<Hash> proof, ledger.Consistency(shown, log.size));
    for (const Hash& h : proof) receipt.add_consistency(Bytes(h));
  }
  for (const CommittedLeaf& leaf : leaves) {
    const absl::StatusOr<std::vector<Hash>> path = ledger.Inclusion(leaf.leaf_index, log.size);
    if (!path.ok()) return Annotate(path.status(), absl::StrCat("leaf ", leaf.leaf_index));
    v1::LeafReceipt& l = *receipt.add_leaves();
    l.set_epoch(leaf.batch.epoch);
    l.set_batch_seq(leaf.batch.batch_seq);
    l.set_leaf_index(leaf.leaf_index);
    l.set_duplicate(leaf.duplicate);
    for (const Hash& h : *path) l.add_path(Bytes(h));
  }
  receipt.set_batch_interval_ms(interval_ms);
  return response.SerializeAsString();
}

std::string RefusalMessage(const Refused& refused) {
  v1::PushResponse response;
  v1::Refusal& refusal = *response.mutable_refusal();
  refusal.set_code(refused.code);
  refusal.set_detail(refused.detail);
  refusal.set_retry_ms(refused.retry_ms);
  refusal.set_epoch(refused.epoch);
  refusal.set_batch_seq(refused.batch_seq);
  refusal.set_closes(refused.closes);
  return response.SerializeAsString();
}

absl::Status ClosingStatus(const Refused& refused) {
  const std::string& code = refused.code;
  const std::string message = code + " " + refused.detail;
  if (code.starts_with("AUTH_")) return absl::UnauthenticatedError(message);
  if (code == "IDENTITY_MISMATCH") return absl::PermissionDeniedError(message);
  if (code == "SIZE_LIMIT" || code == "DECOMP_LIMIT" || code == "RATE_LIMIT") return absl::ResourceExhaustedError(message);
  if (code == "EPOCH_STALE" || code == "EPOCH_CONFLICT" || code == "ORIGIN_MISMATCH") return absl::FailedPreconditionError(message);
  if (code == "EQUIVOCATION" || code == "MONO_ROLLBACK") return absl::AbortedError(message);
  return absl::InvalidArgumentError(message);
}

std::string WantedMessage(const std::vector<MissingBodies::Leaf>& wanted) {
  v1::PushResponse response;
  for (const MissingBodies::Leaf& leaf : wanted) {
    v1::BatchName& b = *response.mutable_wanted()->add_batches();
    b.set_epoch(leaf.batch.epoch);
    b.set_batch_seq(leaf.batch.batch_seq);
    b.set_leaf(Bytes(leaf.hash));
  }
  return response.SerializeAsString();
}

}  // namespace orgtrail
