// Every step of a proof, from the record's bytes to a trusted log key. What is shown first is used only after it was checked.
#include <algorithm>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/format/chain.h"
#include "common/format/proof.h"
#include "common/merkle/tree.h"

namespace orgtrail {
namespace {

absl::Status Fail(std::string_view step, std::string_view what) {
  return absl::DataLossError(absl::StrCat(ToAbsl(step), ": ", ToAbsl(what)));
}
// Whatever went wrong below, the proof does not hold: DataLoss, with the step in front.
absl::Status Fail(std::string_view step, const absl::Status& why) { return Fail(step, ToStd(why.message())); }

#define RETURN_IF_NOT(step, expr)                                                 \
  do {                                                                            \
    if (::absl::Status status_ = (expr); !status_.ok()) return Fail(step, status_); \
  } while (false)

std::string Short(const Hash& hash) { return Hex(hash.view().substr(0, 8)) + "…"; }

// The walk, with what it has established so far.
class Walk {
 public:
  Walk(const EventProof& proof, const TrustPolicy& trust) : proof_(proof), trust_(trust) {}

  absl::StatusOr<ProofFacts> Run() {
    RETURN_IF_ERROR(OpenCheckpointNote());
    RETURN_IF_ERROR(CheckEvent());
    RETURN_IF_ERROR(CheckSlot());
    RETURN_IF_ERROR(CheckEnrolment());
    RETURN_IF_ERROR(CheckEpoch());
    RETURN_IF_ERROR(CheckTree());
    RETURN_IF_ERROR(CheckLeaf("batch inclusion", proof_.batch));
    RETURN_IF_ERROR(CheckLeaf("epoch_open inclusion", proof_.epoch_open));
    if (!proof_.roll.entry.empty()) RETURN_IF_ERROR(CheckLeaf("keytree_roll inclusion", proof_.roll));
    RETURN_IF_ERROR(CheckLeaf("enrolment inclusion", proof_.enrolment));
    return std::move(facts_);
  }

 private:
  template <class... Args>
  void Passed(const Args&... what) {
    facts_.steps.push_back(absl::StrCat(what...));
  }

  // note signature ← a trusted log key of the note's own origin
  absl::Status OpenCheckpointNote() {
    const std::string_view note = proof_.checkpoint;
    const std::string_view origin = note.substr(0, note.find('\n'));
    absl::Status last = absl::OkStatus();
    for (const NoteKey& key : trust_.logs) {
      if (key.name != origin) continue;
      absl::StatusOr<Checkpoint> opened = OpenCheckpoint(note, key);
      if (!opened.ok()) {
        last = opened.status();
        continue;
      }
      facts_.checkpoint = *std::move(opened);
      facts_.log_key = key;
      Passed("checkpoint: log ", facts_.checkpoint.origin, " of ", facts_.checkpoint.size, " leaves, signed by the trusted key ",
             Hex(View(key.key)).substr(0, 16), "…");
      return absl::OkStatus();
    }
    if (!last.ok()) return Fail("checkpoint", last);
    return absl::FailedPreconditionError(
        absl::StrCat("checkpoint: no trusted key for log '", Printable(origin.substr(0, 256)),
                     "'; add its 'log VKEY' line to the trust policy if you trust it"));
  }

  // event leaf → events_root
  absl::Status CheckEvent() {
    absl::StatusOr<BatchEntry> batch = BatchEntry::Decode(proof_.batch.entry);
    if (!batch.ok()) return Fail("batch", batch.status());
    batch_ = *batch;
    const BatchHeader& h = batch_.header;
    facts_.header = h;
    const EventPrefix& prefix = proof_.prefix;
    if (h.kind != BatchKind::kData) return Fail("batch", "holds no events");
    if (prefix.body_len != proof_.body.size()) return Fail("event", "body_len is not the record's length");
    if (prefix.seq < h.first_seq || prefix.seq > h.last_seq) {
      return Fail("event", absl::StrCat("sequence ", prefix.seq, " is outside the batch's ", h.first_seq, " to ", h.last_seq));
    }
    const Hash leaf = EventLeaf(prefix, proof_.body);
    RETURN_IF_NOT("event in batch", VerifyInclusion(leaf, proof_.event_index, h.n_events, proof_.event_path, h.events_root));
    Passed("event: record of ", proof_.body.size(), " bytes, sequence ", prefix.seq, ", is number ", proof_.event_index, " of ",
           h.n_events, " under events_root ", Short(h.events_root));
    return absl::OkStatus();
  }

  // entry signature ← slot key → keytree_root
  absl::Status CheckSlot() {
    const BatchHeader& h = batch_.header;
    RETURN_IF_NOT("slot key", ParsePublicKey(View(proof_.slot_key)).status());
    RETURN_IF_NOT("slot key", VerifyInclusion(KeyLeaf(h.key_slot, proof_.slot_key), h.key_slot, limits::kTreeSlots, proof_.slot_path,
                                              h.keytree_root));
    RETURN_IF_NOT("batch signature", VerifySignature(proof_.slot_key, kBatchLabel, batch_.header_bytes, batch_.slot_signature));
    Passed("batch: epoch ", h.epoch, " batch ", h.batch_seq, " is signed by one-time key ", h.key_slot, " of keytree_root ",
           Short(h.keytree_root));
    return absl::OkStatus();
  }

  // OTN1: who the uuid is, and the identity key
  absl::Status CheckEnrolment() {
    constexpr std::string_view kStep = "enrolment";
    absl::StatusOr<IdentityLeaf> leaf = IdentityLeaf::Decode(proof_.enrolment.entry);
    if (!leaf.ok()) return Fail(kStep, leaf.status());
    const BatchHeader& h = batch_.header;
    if (leaf->act != IdentityLeaf::Act::kEnrolled) return Fail(kStep, "the leaf enrols nobody");
    if (leaf->uuid != h.agent_uuid) return Fail(kStep, "is of agent " + leaf->uuid.ToString() + ", the batch of " + h.agent_uuid.ToString());
    Identity agent;
    agent.kind = Identity::Kind::kAgent;
    agent.org = h.org;
    agent.account = h.account;
    agent.region = h.region;
    agent.name = h.agent;
    if (leaf->uri != agent.ToUri()) return Fail(kStep, "is of " + Printable(leaf->uri) + ", the batch of " + agent.ToUri());
    absl::StatusOr<PublicKey> key = ParsePublicKey(leaf->identity_key);
    if (!key.ok()) return Fail(kStep, key.status());
    identity_key_ = *key;
    facts_.enrolment = *std::move(leaf);
    Passed("enrolment: agent ", agent.ToUri(), ", uuid ", h.agent_uuid.ToString(), ", identity key ",
           Hex(View(identity_key_)).substr(0, 16), "…");
    return absl::OkStatus();
  }

  // Same agent and epoch as the batch, and before it.
  absl::Status CheckSameEpoch(std::string_view step, const BatchHeader& h) const {
    const BatchHeader& b = batch_.header;
    if (h.agent_uuid != b.agent_uuid || h.org != b.org || h.account != b.account || h.region != b.region || h.agent != b.agent) {
      return Fail(step, "is of another agent than the batch");
    }
    if (h.epoch != b.epoch) return Fail(step, absl::StrCat("is of epoch ", h.epoch, ", the batch of epoch ", b.epoch));
    if (h.batch_seq >= b.batch_seq) return Fail(step, "does not come before the batch");
    return absl::OkStatus();
  }

  // epoch_open ← slot 0 and identity key; OTO1 → keytree_root
  absl::Status CheckEpoch() {
    constexpr std::string_view kStep = "epoch_open";
    absl::StatusOr<BatchEntry> open = BatchEntry::Decode(proof_.epoch_open.entry);
    if (!open.ok()) return Fail(kStep, open.status());
    if (open->header.kind != BatchKind::kEpochOpen) return Fail(kStep, "is not an epoch_open");
    RETURN_IF_ERROR(CheckSameEpoch(kStep, open->header));
    if (proof_.epoch_open.index >= proof_.batch.index) return Fail(kStep, "lies behind the batch in the log");
    if (proof_.enrolment.index >= proof_.epoch_open.index) return Fail(kStep, "lies before the enrolment in the log");
    RETURN_IF_NOT("epoch_open extension", CheckExtension(open->header, proof_.epoch_object, &facts_.epoch, nullptr));
    RETURN_IF_NOT("epoch_open slot signature",
                  VerifySignature(facts_.epoch.keys[0], kBatchLabel, open->header_bytes, open->slot_signature));
    RETURN_IF_NOT("epoch_open identity signature",
                  VerifySignature(identity_key_, kEpochLabel, open->header_bytes, open->identity_signature));
    if (facts_.epoch.origin != facts_.checkpoint.origin) {
      return Fail(kStep, "belongs to log " + facts_.epoch.origin + ", the checkpoint to " + facts_.checkpoint.origin);
    }
    epoch_root_ = open->header.keytree_root;
    Passed("epoch: opened (", ToAbsl(EpochReasonName(facts_.epoch.reason)), ") for log ", facts_.epoch.origin,
           ", signed by the identity key and by slot 0 of keytree_root ", Short(epoch_root_));
    return absl::OkStatus();
  }

  // The batch's tree: the epoch's first, or what a keytree_roll brought.
  absl::Status CheckTree() {
    constexpr std::string_view kStep = "keytree_roll";
    const BatchHeader& b = batch_.header;
    if (proof_.roll.entry.empty()) {
      if (!proof_.roll_object.empty()) return Fail(kStep, "a key list without a roll");
      if (b.keytree_root != epoch_root_) return Fail(kStep, "missing: the batch's keytree_root is not the epoch's first");
      if (b.key_slot != b.batch_seq) return Fail(kStep, "missing: the key slot is not that of the epoch's first tree");
      Passed("keys: the tree is the epoch's first");
      return absl::OkStatus();
    }
    absl::StatusOr<BatchEntry> roll = BatchEntry::Decode(proof_.roll.entry);
    if (!roll.ok()) return Fail(kStep, roll.status());
    const BatchHeader& r = roll->header;
    if (r.kind != BatchKind::kKeytreeRoll) return Fail(kStep, "is not a keytree_roll");
    RETURN_IF_ERROR(CheckSameEpoch(kStep, r));
    if (proof_.roll.index >= proof_.batch.index || proof_.roll.index <= proof_.epoch_open.index) {
      return Fail(kStep, "does not lie between epoch_open and batch in the log");
    }
    Hash root;
    RETURN_IF_NOT("keytree_roll extension", CheckExtension(r, proof_.roll_object, nullptr, &root));
    if (root != b.keytree_root) return Fail(kStep, "brings another tree than the batch's keytree_root");
    if (b.key_slot != b.batch_seq - (r.batch_seq + 1)) return Fail(kStep, "the key slot is not that of the tree it brings");
    RETURN_IF_NOT("keytree_roll identity signature", VerifySignature(identity_key_, kEpochLabel, roll->header_bytes, roll->identity_signature));
    // The tree before the epoch's first roll is in the epoch's object, so its last slot is checked too. Later rolls stand on
    // the identity key; their slot signatures are checked by ingest and by `verify ledger`, which walk the whole chain.
    const bool first = r.keytree_root == epoch_root_;
    if (first) {
      RETURN_IF_NOT("keytree_roll slot signature",
                    VerifySignature(facts_.epoch.keys[limits::kTreeSlots - 1], kBatchLabel, roll->header_bytes, roll->slot_signature));
    }
    Passed("keys: the tree came with the keytree_roll in batch ", r.batch_seq, ", signed by the identity key",
           first ? " and the last slot of the epoch's first tree" : "");
    return absl::OkStatus();
  }

  // leaf → root of the one checkpoint
  absl::Status CheckLeaf(std::string_view step, const ProvenLeaf& leaf) {
    const Checkpoint& c = facts_.checkpoint;
    RETURN_IF_NOT(step, VerifyInclusion(LeafHash(leaf.entry), leaf.index, c.size, leaf.path, c.root));
    Passed(ToAbsl(step), ": leaf ", leaf.index, " of ", c.size, " under the checkpoint's root");
    return absl::OkStatus();
  }

  const EventProof& proof_;
  const TrustPolicy& trust_;
  ProofFacts facts_;
  BatchEntry batch_;
  PublicKey identity_key_{};
  Hash epoch_root_;
};

}  // namespace

absl::StatusOr<ProofFacts> VerifyProof(const EventProof& proof, const TrustPolicy& trust) { return Walk(proof, trust).Run(); }

}  // namespace orgtrail
