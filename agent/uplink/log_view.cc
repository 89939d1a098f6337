#include "agent/uplink/log_view.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/format/recovery.h"
#include "common/merkle/tree.h"
#include "orgtrail/v1/ingest.pb.h"

namespace orgtrail {
namespace {

constexpr int kRecoveries = 64;

}  // namespace

Pin LogView::PinOf(const Checkpoint& head, std::string note) const {
  Pin pin = pin_;
  pin.origin = head.origin;
  pin.size = head.size;
  pin.root = head.root;
  pin.note = std::move(note);
  return pin;
}

// Why `head` does not continue what was shown before on this stream, at first the pin. Empty: it does.
std::string LogView::Contradiction(const Checkpoint& head, std::span<const Hash> proof) const {
  const uint64_t size = shown_size();
  const Hash& root = stream_size_ == 0 ? pin_.root : stream_root_;
  if (head.size < size) return absl::StrCat("the log had ", size, " leaves and now shows ", head.size, ": it was rolled back");
  if (size == 0) return "";
  const absl::Status continues = VerifyConsistency(size, root, head.size, head.root, proof);
  if (continues.ok()) return "";
  return absl::StrCat("the head at ", head.size, " leaves does not continue the one at ", size, ": ", Describe(continues));
}

absl::StatusOr<LogView::Shown> LogView::Look(const std::string& note, uint64_t from, std::span<const Hash> proof, const v1::Welcome* welcome) {
  absl::StatusOr<Checkpoint> head = OpenCheckpoint(note, log_key_);
  if (!head.ok()) return absl::DataLossError("a head that the pinned key " + log_key_.name + " did not sign: " + Describe(head.status()));
  if (from != shown_size()) return absl::DataLossError(absl::StrCat("a consistency proof from ", from, " leaves; the head shown was at ", shown_size()));
  Shown shown;
  if (std::string contradiction = Contradiction(*head, proof); !contradiction.empty()) {
    if (stream_size_ != 0) return absl::DataLossError(contradiction);
    std::string words = "restored, as the operator said";
    if (!std::exchange(may_restore_, false)) {   // once: by then the log may have grown past the pin again, with what others sent first
      const absl::Status declared = welcome != nullptr ? Declared(*welcome, *head, &words) : absl::NotFoundError("");
      if (absl::IsNotFound(declared)) return absl::DataLossError(contradiction);
      if (!declared.ok()) return absl::DataLossError(contradiction + "; a recovery is declared, but " + std::string(ToStd(declared.message())));
    }
    pin_.size = 0;
    shown.given_up = contradiction + "; " + words;
  }
  stream_size_ = head->size;
  stream_root_ = head->root;
  shown.head = *std::move(head);
  return shown;
}

// Whether governance declared, after everything this agent was shown so far, that the log goes on from a head older than the pinned one:
// signed by the admins of the pinned policy, the leaf right behind that head, and this head continues it. NotFound: nobody did.
absl::Status LogView::Declared(const v1::Welcome& welcome, const Checkpoint& head, std::string* words) const {
  if (welcome.recoveries_size() == 0) return absl::NotFoundError("none is declared");
  if (welcome.recoveries_size() > kRecoveries) return absl::InvalidArgumentError("it came with too many others");
  ASSIGN_OR_RETURN(const GovernanceKeys keys, GovernanceKeys::OfPolicy(pin_.policy));
  absl::Status why = absl::NotFoundError("none is newer than what this agent knows");
  for (const v1::Recovery& shown : welcome.recoveries()) {
    const absl::StatusOr<RecoveryLeaf> leaf = RecoveryLeaf::Decode(shown.leaf());
    const absl::StatusOr<Recovery> r = leaf.ok() ? OpenRecovery(leaf->note, keys, log_key_.name) : leaf.status();
    if (!r.ok()) {
      why = r.status();
      continue;
    }
    if (r->time_ns <= pin_.recovered_ns || r->restored_size >= pin_.size) continue;
    ASSIGN_OR_RETURN(const std::vector<Hash> path, ProofOf(shown.path()));
    ASSIGN_OR_RETURN(const std::vector<Hash> proof, ProofOf(shown.consistency()));
    why = VerifyInclusion(LeafHash(shown.leaf()), r->restored_size, head.size, path, head.root);
    if (why.ok()) why = VerifyConsistency(r->restored_size, r->restored_root, head.size, head.root, proof);
    if (!why.ok()) continue;
    *words = absl::StrCat("governance declared at ", Rfc3339(absl::FromUnixNanos(r->time_ns)), " that the log goes on from its first ",
                          r->restored_size, " leaves");
    return absl::OkStatus();
  }
  return why;
}

bool LogView::Learn(const v1::Welcome& welcome) {
  bool changed = false;
  if (pin_.policy.empty() && GovernanceKeys::OfPolicy(welcome.policy()).ok()) {
    pin_.policy = welcome.policy();
    changed = true;
  }
  const absl::StatusOr<GovernanceKeys> keys = GovernanceKeys::OfPolicy(pin_.policy);
  if (!keys.ok() || welcome.recoveries_size() > kRecoveries) return changed;
  for (const v1::Recovery& shown : welcome.recoveries()) {
    const absl::StatusOr<RecoveryLeaf> leaf = RecoveryLeaf::Decode(shown.leaf());
    const absl::StatusOr<Recovery> r = leaf.ok() ? OpenRecovery(leaf->note, *keys, log_key_.name) : leaf.status();
    if (!r.ok() || r->time_ns <= pin_.recovered_ns) continue;
    pin_.recovered_ns = r->time_ns;
    changed = true;
  }
  return changed;
}

}  // namespace orgtrail
