// What every decoder must hold for any input: it returns, within its bounds, and what it accepts it writes again as it was.
#pragma once

#include <string_view>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/format/chain.h"
#include "common/format/control.h"
#include "common/format/proof.h"
#include "common/format/retention.h"
#include "common/format/token.h"

namespace orgtrail::fuzz {

inline void Entry(std::string_view in) {
  if (absl::StatusOr<BatchHeader> header = BatchHeader::Decode(in); header.ok()) CHECK(header->Encode() == in);
  if (absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(in); entry.ok()) {
    CHECK(entry->header.Encode() == entry->header_bytes);
    ChainState state;
    CheckLink(state, entry->header).IgnoreError();  // only that it returns
    state = Advance(state, entry->header, Hash{});
    CheckLink(state, entry->header).IgnoreError();
  }
}

// Rows that decoded: packed again they are the same rows.
inline void SameAgain(const FrameView& view, Events& events) {
  CHECK(events.rows.size() == view.n_rows);
  FramePacker packer;
  for (const Row& row : events.rows) {
    if (row.tombstone) {
      packer.AddTombstone(row.event_class, row.seq, row.wall_ns, row.boot_ns, row.body_len, row.leaf, row.reason);
    } else {
      packer.Add(row.flags, row.event_class, row.seq, row.wall_ns, row.boot_ns, row.body);
    }
  }
  const RowHashes hashes = HashRows(view.batch_key, events.rows);
  ZstdCompressor deflate(1);
  const std::string again = packer.Finish(view.entry, view.extension, view.batch_key, deflate);
  absl::StatusOr<FrameView> second = FrameView::Decode(again);
  CHECK(second.ok());
  ZstdDecompressor inflate;
  absl::StatusOr<Events> same = InflateFrame(*second, inflate);
  CHECK(same.ok());
  CHECK(HashRows(second->batch_key, same->rows).root == hashes.root);
}

inline void Frame(std::string_view in) {
  absl::StatusOr<FrameView> view = FrameView::Decode(in);
  if (!view.ok()) return;
  ZstdDecompressor inflate;
  if (absl::StatusOr<Events> events = InflateFrame(*view, inflate); events.ok()) SameAgain(*view, *events);
}

// What lies inside the compressed part, which a fuzzer would not get through: how many rows, then their bytes.
inline void Rows(std::string_view in) {
  if (in.empty()) return;
  FrameView view;
  view.entry = "entry";
  const std::string batch_key(32, 'k');
  view.batch_key = batch_key;
  view.n_rows = static_cast<unsigned char>(in[0]);
  std::string packed;
  ZstdCompressor(1).Compress(in.substr(1), &packed);
  view.packed = packed;
  ZstdDecompressor inflate;
  if (absl::StatusOr<Events> events = InflateFrame(view, inflate); events.ok() && view.n_rows > 0) SameAgain(view, *events);
}

inline void Epoch(std::string_view in) {
  if (absl::StatusOr<EpochOpening> opening = EpochOpening::Decode(in); opening.ok()) CHECK(opening->Encode() == in);
  if (absl::StatusOr<std::vector<PublicKey>> keys = DecodeKeyList(in); keys.ok()) CHECK(EncodeKeyList(*keys) == in);
}

inline void Control(std::string_view in) {
  if (absl::StatusOr<IdentityLeaf> leaf = IdentityLeaf::Decode(in); leaf.ok()) CHECK(leaf->Encode() == in);
  if (absl::StatusOr<EvidenceLeaf> leaf = EvidenceLeaf::Decode(in); leaf.ok()) CHECK(leaf->Encode() == in);
  if (absl::StatusOr<PolicyLeaf> leaf = PolicyLeaf::Decode(in); leaf.ok()) CHECK(leaf->Encode() == in);
  if (absl::StatusOr<RecoveryLeaf> leaf = RecoveryLeaf::Decode(in); leaf.ok()) CHECK(leaf->Encode() == in);
  if (absl::StatusOr<RetentionLeaf> leaf = RetentionLeaf::Decode(in); leaf.ok()) CHECK(leaf->Encode() == in);
  if (absl::StatusOr<RetentionOrder> order = RetentionOrder::Decode(in); order.ok()) CHECK(order->Text() == in);
}

inline void Note(std::string_view in) {
  NoteKey key;
  key.name = "orgtrail.example/o-example";
  key.key.fill(1);
  CHECK(!OpenNote(in, key).ok());  // a key nobody holds
  if (absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Decode(in); checkpoint.ok()) CHECK(checkpoint->Text() == in);
  if (absl::StatusOr<NoteKey> vkey = NoteKey::Decode(in); vkey.ok()) CHECK(vkey->Encode() == in);
  if (absl::StatusOr<TrustPolicy> policy = TrustPolicy::Decode(in); policy.ok()) {
    CHECK(TrustPolicy::Decode(policy->Encode())->Encode() == policy->Encode());
  }
}

inline void Proof(std::string_view in) {
  absl::StatusOr<EventProof> proof = EventProof::Decode(in);
  if (!proof.ok()) return;
  CHECK(proof->Encode() == in);
  CHECK(!VerifyProof(*proof, {}).ok());  // no trust, no proof
}

inline void Token(std::string_view in) {
  if (absl::StatusOr<JoinToken> token = JoinToken::Decode(in); token.ok()) CHECK(in.starts_with(token->Encode()));
}

}  // namespace orgtrail::fuzz
