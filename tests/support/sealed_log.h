// A small log as an aggregator would hold it: one agent enrolled, an epoch opened, batches sealed, a signed checkpoint over all.
// Deterministic: the same calls make the same bytes.
#pragma once

#include <string>
#include <vector>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/format/chain.h"
#include "common/format/proof.h"
#include "common/merkle/tree.h"
#include "common/seal/sealer.h"
#include "tests/support/fixed_world.h"

namespace orgtrail {

class SealedLog {
 public:
  static constexpr const char* kOrigin = "orgtrail.example/o-example";

  explicit SealedLog(std::string_view name = "sealed log")
      : rng(name),
        identity(SigningKey::Generate(rng)),
        log_key(SigningKey::Generate(rng)),
        uuid(Uuid::Random(rng)),
        sealer({uuid, "o-example", "111122223333", "eu-west-1", "web-01"}, identity, clock, rng) {
    IdentityLeaf enrolled;
    enrolled.act = IdentityLeaf::Act::kEnrolled;
    enrolled.wall_ns = static_cast<uint64_t>(clock.wall_ns);
    enrolled.uuid = uuid;
    enrolled.uri = "spiffe://o-example/account/111122223333/region/eu-west-1/agent/web-01";
    enrolled.certificate = Sha256("certificate");
    enrolled.identity_key = std::string(View(identity.public_key()));
    enrolled.token_id = "0011223344556677";
    enrolled.approver = "spiffe://o-example/account/111122223333/user/ada";
    enrolled.not_after_ns = enrolled.wall_ns + 86'400'000'000'000;
    enrolled.serial = "0a1b2c";
    entries.push_back(enrolled.Encode());
    EpochOpening opening;
    opening.origin = kOrigin;
    opening.executable = Sha256("executable");
    opening.config = Sha256("config");
    opening.cert_serial = "0a1b2c";
    opening.clock_source = "ntp";
    opening.clock_synchronised = true;
    opening.clock_error_us = 120;
    absl::StatusOr<SealedBatch> first = sealer.OpenEpoch(1, opening, {});
    CHECK(first.ok());
    Append(std::move(*first));
  }

  void Append(SealedBatch batch) {
    sealer.Committed();
    entries.emplace_back(FrameView::Decode(batch.frame)->entry);
    batches.push_back(std::move(batch));
    leaf_of_batch.push_back(entries.size() - 1);
  }
  void Close(uint16_t flags = 0) {
    clock.Pass(absl::Milliseconds(20));
    absl::StatusOr<std::vector<SealedBatch>> closed = sealer.Close(flags, {});
    CHECK(closed.ok());
    for (SealedBatch& batch : *closed) Append(std::move(batch));
  }
  void Add(std::string_view body) {
    clock.Pass(absl::Microseconds(3));
    sealer.Add(EventClass::kManagement, 0, body);
  }

  std::vector<Hash> Leaves() const {
    std::vector<Hash> leaves;
    for (const std::string& entry : entries) leaves.push_back(LeafHash(entry));
    return leaves;
  }
  NoteKey log_vkey() const {
    NoteKey key;
    key.name = kOrigin;
    key.key = log_key.public_key();
    return key;
  }
  TrustPolicy trust() const { return TrustPolicy{{log_vkey()}}; }
  std::string Note() const {
    return SignNote(Checkpoint{kOrigin, entries.size(), RootOf(Leaves())}.Text(), kOrigin, log_key);
  }
  ProvenLeaf Proven(uint64_t index) const { return {index, entries[index], InclusionPath(Leaves(), index)}; }

  // Of event `event` in the batch at `position` of `batches`.
  EventProof Prove(size_t position, uint32_t event) const {
    const BatchHeader& header = batches[position].header;
    const FrameView view = *FrameView::Decode(batches[position].frame);
    ZstdDecompressor zstd;
    Events events = *InflateFrame(view, zstd);
    HashRows(view.batch_key, events.rows);
    std::vector<Hash> event_leaves;
    for (const Row& row : events.rows) event_leaves.push_back(row.leaf);
    EventProof proof;
    proof.prefix = PrefixOf(view.batch_key, events.rows[event]);
    proof.body = std::string(events.rows[event].body);
    proof.event_index = event;
    proof.event_path = InclusionPath(event_leaves, event);
    proof.batch = Proven(leaf_of_batch[position]);
    proof.epoch_open = Proven(leaf_of_batch[0]);
    proof.epoch_object = std::string(FrameView::Decode(batches[0].frame)->extension);
    proof.enrolment = Proven(0);
    std::vector<PublicKey> keys = EpochOpening::Decode(proof.epoch_object)->keys;
    for (size_t i = position; i-- > 0;) {
      if (batches[i].header.kind != BatchKind::kKeytreeRoll) continue;
      proof.roll = Proven(leaf_of_batch[i]);
      proof.roll_object = std::string(FrameView::Decode(batches[i].frame)->extension);
      keys = *DecodeKeyList(proof.roll_object);
      break;
    }
    std::vector<Hash> key_leaves;
    for (uint32_t i = 0; i < keys.size(); ++i) key_leaves.push_back(KeyLeaf(i, keys[i]));
    proof.slot_key = keys[header.key_slot];
    proof.slot_path = InclusionPath(key_leaves, header.key_slot);
    proof.checkpoint = Note();
    return proof;
  }

  FixedClock clock;
  RepeatingRng rng;
  SigningKey identity, log_key;
  Uuid uuid;
  Sealer sealer;
  std::vector<std::string> entries;     // of every leaf
  std::vector<SealedBatch> batches;
  std::vector<uint64_t> leaf_of_batch;
};

}  // namespace orgtrail
