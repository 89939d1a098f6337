#include "common/format/quarantine.h"

#include <algorithm>

#include "common/base/status.h"
#include "common/format/epoch.h"
#include "common/format/frame.h"

namespace orgtrail {
namespace {

constexpr size_t kAccusations = 4;   // for one branch; the first is the one that counts

bool SetsApart(std::string_view code) {
  return code == "EQUIVOCATION" || code == "EPOCH_CONFLICT" || code == "EPOCH_STALE" || code == "MONO_ROLLBACK";
}

}  // namespace

bool QuarantineAudit::Accusation::Decode() {
  std::string_view entry = object;
  if (object.starts_with("OTF1")) {
    absl::StatusOr<FrameView> view = FrameView::Decode(object);
    if (!view.ok()) return false;
    entry = view->entry;
  }
  absl::StatusOr<BatchEntry> decoded = BatchEntry::Decode(entry);
  if (!decoded.ok()) return false;
  header = decoded->header;
  entry_bytes = std::string(entry);
  hash = LeafHash(entry);
  return true;
}

void QuarantineAudit::Accuse(uint64_t leaf, const EvidenceLeaf& evidence) {
  if (!SetsApart(evidence.code)) return;
  Accusation a;
  a.leaf = leaf;
  a.code = evidence.code;
  a.object = evidence.object;
  if (!a.Decode()) return;
  std::vector<Accusation>& all = accused_[a.header.agent_uuid];
  if (all.size() < kAccusations) all.push_back(std::move(a));
}

void QuarantineAudit::Continued(const Uuid& uuid) {
  if (accused_.empty() && apart_.empty()) return;   // nearly every log
  accused_.erase(uuid);
  apart_.erase(uuid);
}

void QuarantineAudit::Apart(uint64_t leaf, const BatchHeader& header, std::string_view object, const ChainState& chain,
                            std::string_view identity_key, const Frontier& before) {
  std::vector<Branch>& branches = branches_[header.agent_uuid];
  if (!std::exchange(apart_[header.agent_uuid], true)) {
    Branch branch;
    branch.who = header.account + "/" + header.region + "/" + header.agent;
    branch.identity_key = std::string(identity_key);
    branch.first = leaf;
    branch.chain = chain;
    branch.accusations = std::move(accused_[header.agent_uuid]);
    accused_.erase(header.agent_uuid);
    Accusation itself;
    itself.leaf = leaf;
    itself.itself = true;
    itself.object = std::string(object);
    if (itself.Decode()) branch.accusations.push_back(std::move(itself));
    branches.push_back(std::move(branch));
    reread_to_ = before.size();
    reread_root_ = before.Root();
  }
  branches.back().last = leaf;
  ++branches.back().batches;
}

// Keys and places of the log, for every accusation they concern.
void QuarantineAudit::Look(std::string_view frame, uint64_t leaf) {
  const absl::StatusOr<FrameView> view = FrameView::Decode(frame);
  if (!view.ok()) return;
  const absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(view->entry);
  if (!entry.ok()) return;
  const auto it = branches_.find(entry->header.agent_uuid);
  if (it == branches_.end()) return;
  const BatchHeader& h = entry->header;
  std::vector<PublicKey> keys;
  Hash root;
  if (h.kind == BatchKind::kEpochOpen) {
    EpochOpening opening;
    if (CheckExtension(h, view->extension, &opening, nullptr).ok()) keys = std::move(opening.keys);
    root = h.keytree_root;
  } else if (h.kind == BatchKind::kKeytreeRoll && CheckExtension(h, view->extension, nullptr, &root).ok()) {
    if (absl::StatusOr<std::vector<PublicKey>> list = DecodeKeyList(view->extension); list.ok()) keys = *std::move(list);
  }
  const Hash hash = LeafHash(view->entry);
  for (Branch& branch : it->second) {
    for (Accusation& a : branch.accusations) {
      if (leaf >= a.leaf) continue;
      if (hash == a.hash) a.logged = true;
      if (a.header.keytree_root == root && a.header.key_slot < keys.size()) a.slot_key = std::string(View(keys[a.header.key_slot]));
    }
  }
}

// Ok: the agent signed this, and it cannot be true together with the chain as it stood.
absl::Status QuarantineAudit::Contradicts(const Branch& branch, const Accusation& a) {
  const absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(a.entry_bytes);
  if (!entry.ok()) return entry.status();
  const BatchHeader& h = entry->header;
  std::string slot_key = a.slot_key;
  EpochOpening opening;
  if (h.kind == BatchKind::kEpochOpen) {
    const absl::StatusOr<FrameView> view = FrameView::Decode(a.object);
    if (!view.ok()) return absl::InvalidArgumentError("it shows an epoch_open without its opening object");
    RETURN_IF_ERROR(CheckExtension(h, view->extension, &opening, nullptr));
    if (h.key_slot < opening.keys.size()) slot_key = std::string(View(opening.keys[h.key_slot]));
  }
  if (h.TwoSignatures()) {
    const absl::StatusOr<PublicKey> identity = ParsePublicKey(branch.identity_key);
    if (!identity.ok()) return absl::InvalidArgumentError("no enrolment of this agent's uuid is in the log before it");
    RETURN_IF_ERROR(VerifySignature(*identity, kEpochLabel, entry->header_bytes, entry->identity_signature));
  }
  const absl::StatusOr<PublicKey> slot = ParsePublicKey(slot_key);
  if (!slot.ok()) return absl::InvalidArgumentError("no key tree of the log before it holds its slot");
  RETURN_IF_ERROR(VerifySignature(*slot, kBatchLabel, entry->header_bytes, entry->slot_signature));

  const ChainState& chain = branch.chain;
  if (h.epoch < chain.epoch || (h.epoch == chain.epoch && h.batch_seq <= chain.batch_seq)) {
    if (a.logged) return absl::InvalidArgumentError("it shows a batch that is logged as it is: no contradiction");
    return absl::OkStatus();
  }
  const absl::Status link = CheckLink(chain, h, h.kind == BatchKind::kEpochOpen ? &opening : nullptr);
  const std::string_view message = ToStd(link.message());
  if (!link.ok() && SetsApart(message.substr(0, message.find(' ')))) return absl::OkStatus();
  return absl::InvalidArgumentError("it shows a batch that does not contradict the chain before it");
}

absl::StatusOr<std::vector<QuarantineVerdict>> QuarantineAudit::Judge(const RereadLog& reread) {
  std::vector<QuarantineVerdict> verdicts;
  if (branches_.empty()) return verdicts;
  if (!reread) return absl::FailedPreconditionError("batches are set apart, and the log cannot be read again to see why");
  Frontier tree;
  RETURN_IF_ERROR(reread(reread_to_, [&](std::string_view bytes) {
    std::string_view entry = bytes;
    if (bytes.starts_with("OTF1")) {
      if (const absl::StatusOr<FrameView> view = FrameView::Decode(bytes); view.ok()) entry = view->entry;
      Look(bytes, tree.size());
    }
    tree.Append(LeafHash(entry));
    return tree.size() < reread_to_;
  }));
  if (tree.size() != reread_to_ || tree.Root() != reread_root_) {
    return absl::DataLossError("the log, read again, is not the one read before");
  }
  for (const auto& [uuid, branches] : branches_) {
    for (const Branch& branch : branches) {
      QuarantineVerdict v;
      v.leaf = branch.first;
      v.what = branch.who + ": " + absl::StrCat(branch.batches, branch.batches == 1 ? " batch" : " batches", " from leaf ", branch.first) +
               (branch.last == branch.first ? "" : absl::StrCat(" to ", branch.last)) + " set apart in quarantine";
      std::string why = "no evidence leaf (OTV1) before it names this agent";
      for (const Accusation& a : branch.accusations) {
        const absl::Status contradicts = Contradicts(branch, a);
        if (contradicts.ok()) {
          v.justified = true;
          v.what += a.itself ? absl::StrCat("; leaf ", a.leaf, " itself contradicts what was logged before it")
                             : absl::StrCat("; leaf ", a.leaf, " is the evidence: ", a.code);
          break;
        }
        if (!a.itself) why = absl::StrCat("leaf ", a.leaf, " (", a.code, ") is no evidence for it: ", contradicts.message());
      }
      if (!v.justified) v.what += ", and " + why + ". Somebody marked them so that the chain check passes over them";
      verdicts.push_back(std::move(v));
    }
  }
  std::sort(verdicts.begin(), verdicts.end(), [](const auto& a, const auto& b) { return a.leaf < b.leaf; });
  return verdicts;
}

}  // namespace orgtrail
