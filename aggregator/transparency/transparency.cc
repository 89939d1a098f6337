#include <algorithm>

#include "aggregator/transparency/event_proof.h"
#include "aggregator/transparency/service.h"
#include "aggregator/transparency/statement.h"
#include "common/base/status.h"
#include "common/format/control.h"
#include "common/format/frame.h"

namespace orgtrail {
namespace {

constexpr uint32_t kTileWidth = 256;

absl::Status Beyond(std::string_view what, uint64_t value, uint64_t size) {
  return absl::OutOfRangeError(absl::StrCat(ToAbsl(what), " ", value, " is beyond the newest checkpoint, which has ", size, " leaves"));
}

}  // namespace

Transparency::Transparency(const LedgerReader& ledger, const Registry& registry, const Lookup& lookup,
                           const orgtrail::Completeness& completeness, std::string log_vkey)
    : ledger_(ledger), registry_(registry), lookup_(lookup), completeness_(completeness), log_vkey_(std::move(log_vkey)) {}

v1::CheckpointResponse Transparency::Checkpoint() const {
  v1::CheckpointResponse out;
  out.set_note(ledger_.head().note);
  out.set_vkey(log_vkey_);
  return out;
}

absl::StatusOr<v1::InclusionResponse> Transparency::Inclusion(const v1::GetInclusionRequest& request) const {
  const SignedHead head = ledger_.head();
  const uint64_t size = request.tree_size() == 0 ? head.size : request.tree_size();
  if (size > head.size) return Beyond("tree_size", size, head.size);
  std::optional<uint64_t> index;
  switch (request.which_case()) {
    case v1::GetInclusionRequest::kLeafHash:
      if (request.leaf_hash().size() != 32) return absl::InvalidArgumentError("leaf_hash is 32 bytes");
      index = ledger_.FindLeaf(Hash::From(request.leaf_hash()));
      break;
    case v1::GetInclusionRequest::kLeafIndex:
      index = request.leaf_index();
      break;
    case v1::GetInclusionRequest::kBatch:
      if (request.batch().agent_uuid().size() != 16) return absl::InvalidArgumentError("agent_uuid is 16 bytes");
      index = ledger_.Find({Uuid::FromBytes(request.batch().agent_uuid()), request.batch().epoch(), request.batch().batch_seq()});
      break;
    case v1::GetInclusionRequest::WHICH_NOT_SET:
      return absl::InvalidArgumentError("say which leaf: leaf_hash, leaf_index or batch");
  }
  if (!index.has_value()) return absl::NotFoundError("no such leaf in this log");
  if (*index >= size) return Beyond("leaf", *index, size);
  v1::InclusionResponse out;
  ASSIGN_OR_RETURN(const Hash leaf, ledger_.LeafHashAt(*index));
  ASSIGN_OR_RETURN(const std::vector<Hash> path, ledger_.Inclusion(*index, size));
  out.set_leaf_index(*index);
  out.set_leaf_hash(std::string(leaf.view()));
  out.set_tree_size(size);
  for (const Hash& h : path) out.add_path(std::string(h.view()));
  out.set_checkpoint(head.note);
  return out;
}

absl::StatusOr<v1::ConsistencyResponse> Transparency::Consistency(const v1::GetConsistencyRequest& request) const {
  const SignedHead head = ledger_.head();
  const uint64_t new_size = request.new_size() == 0 ? head.size : request.new_size();
  if (request.old_size() == 0) return absl::InvalidArgumentError("old_size 0 proves nothing: every log begins empty");
  if (new_size > head.size) return Beyond("new_size", new_size, head.size);
  if (request.old_size() > new_size) {
    // Without new_size the caller asked about a tree this log does not have (yet).
    if (request.new_size() == 0) return Beyond("old_size", request.old_size(), head.size);
    return absl::InvalidArgumentError(absl::StrCat("old_size ", request.old_size(), " is above new_size ", new_size));
  }
  v1::ConsistencyResponse out;
  out.set_old_size(request.old_size());
  out.set_new_size(new_size);
  out.set_checkpoint(head.note);
  if (request.old_size() == new_size) return out;
  ASSIGN_OR_RETURN(const std::vector<Hash> path, ledger_.Consistency(request.old_size(), new_size));
  for (const Hash& h : path) out.add_path(std::string(h.view()));
  return out;
}

absl::StatusOr<v1::TileResponse> Transparency::Tile(const v1::GetTileRequest& request) const {
  const uint32_t width = request.width() == 0 ? kTileWidth : request.width();
  if (request.level() > 7) return absl::InvalidArgumentError("level is 0 to 7");   // 256^8 leaves are 2^64
  if (width > kTileWidth) return absl::InvalidArgumentError("width is 1 to 256; 0 means 256");
  const uint64_t size = ledger_.head().size;
  const uint64_t nodes = size >> (8 * request.level());     // complete nodes of that level
  if (request.index() > UINT64_MAX / kTileWidth - 1 || request.index() * kTileWidth + width > nodes) {
    return absl::OutOfRangeError(absl::StrCat("tile ", request.level(), "/", request.index(), " has no ", width, " hashes at size ", size));
  }
  ASSIGN_OR_RETURN(const std::vector<Hash> hashes, ledger_.Tile(static_cast<int>(request.level()), request.index(), width));
  v1::TileResponse out;
  for (const Hash& h : hashes) *out.mutable_hashes() += h.view();
  return out;
}

absl::StatusOr<v1::EventProofResponse> Transparency::Proof(const Identity& who, const v1::GetEventProofRequest& request) const {
  constexpr size_t kCandidates = 100;
  ASSIGN_OR_RETURN(const Access access, AccessOf(who));
  EventRef ref{request.leaf_index(), request.event_index()};
  v1::EventProofResponse out;
  if (request.at_set()) {
    if (ref.leaf >= ledger_.head().size) return Beyond("leaf", ref.leaf, ledger_.head().size);
    ASSIGN_OR_RETURN(const std::shared_ptr<const Leaf> leaf, ledger_.Read(ref.leaf));
    if (ref.event >= leaf->facts.size() || !access.Sees(leaf->facts[ref.event].account)) {
      return absl::NotFoundError(absl::StrCat("no record at ", ref.leaf, ":", ref.event));
    }
  } else {
    ASSIGN_OR_RETURN(const std::vector<EventRef> found, lookup_.Locate(access, request.event_id(), kCandidates));
    if (found.empty()) {
      return absl::NotFoundError(absl::StrCat("no record with event id ", request.event_id(),
                                              " in the history; an older one needs its position (LEAF:EVENT)"));
    }
    if (found.size() > 1) {
      for (const EventRef& at : found) out.add_candidates(absl::StrCat(at.leaf, ":", at.event));
      return out;
    }
    ref = found[0];
  }
  ASSIGN_OR_RETURN(const EventProof proof, BuildEventProof(ledger_, registry_, ref));
  out.set_proof(proof.Encode());
  return out;
}

absl::StatusOr<v1::CompletenessStatement> Transparency::Completeness(const Identity& who, v1::GetCompletenessRequest request) const {
  ASSIGN_OR_RETURN(const Access access, HeaderAccessOf(who));
  if (!access.all) {
    if (request.account().empty()) request.set_account(access.account);
    if (!access.Sees(request.account())) {
      return absl::PermissionDeniedError(absl::StrCat(who.ToUri(), " may not see account ", request.account()));
    }
  }
  return StatementOf(ledger_, request, *completeness_.gaps());
}

absl::StatusOr<bool> Transparency::ReadLeaf(const Access& access, uint64_t index, bool frame, v1::Leaf* out) const {
  out->Clear();
  out->set_index(index);
  if (!access.all) {
    // Control entries concern the organization, not one account.
    ASSIGN_OR_RETURN(const std::string bytes, ledger_.ReadEntry(index));
    if (LeafMagic(bytes) != "OTB1") return false;
    ASSIGN_OR_RETURN(const BatchEntry entry, BatchEntry::Decode(bytes));
    if (!access.Sees(entry.header.account)) return false;
  }
  ASSIGN_OR_RETURN(RawLeaf raw, ledger_.ReadRaw(index));
  out->set_flags(raw.flags);
  out->set_logged_ns(raw.logged_ns);
  const absl::StatusOr<FrameView> view = FrameView::Decode(raw.bytes);
  out->set_entry(view.ok() ? std::string(view->entry) : raw.bytes);
  if (frame && view.ok()) out->set_frame(std::move(raw.bytes));
  return true;
}

}  // namespace orgtrail
