// Proof: one record, provable offline, in C2SP tlog-proof@v1 form. docs/formats/proof.md
//
// event → batch (events_root) → one-time key (keytree_root) → epoch_open or keytree_roll (identity signature) → ENROLL leaf,
// each leaf with its inclusion path under the one checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/format/batch.h"
#include "common/format/control.h"
#include "common/format/epoch.h"
#include "common/format/event.h"
#include "common/format/note.h"

namespace orgtrail {

struct ProvenLeaf {              // an entry and where it lies
  uint64_t index = 0;
  std::string entry;
  std::vector<Hash> path;        // to the checkpoint's root
};

struct EventProof {
  EventPrefix prefix;            // salt included
  std::string body;              // the record's bytes
  uint32_t event_index = 0;
  std::vector<Hash> event_path;  // to the batch's events_root
  ProvenLeaf batch;
  PublicKey slot_key{};
  std::vector<Hash> slot_path;   // to keytree_root (10 hashes)
  ProvenLeaf epoch_open;         // entry of kind 2
  std::string epoch_object;      // its whole extension (OTO1), hashed by the header's ext_hash
  ProvenLeaf roll;               // entry of kind 4 that brought the tree in use; empty entry when it is the epoch's first
  std::string roll_object;       // its whole extension (key list), hashed by the roll's ext_hash; empty without a roll
  ProvenLeaf enrolment;          // OTN1 kEnrolled of the agent's uuid
  std::string checkpoint;        // the note

  std::string Encode() const;    // tlog-proof@v1 text
  // InvalidArgument names line or field and its offset.
  static absl::StatusOr<EventProof> Decode(std::string_view text);
};

// What a proof that verified says, for people and scripts.
struct ProofFacts {
  Checkpoint checkpoint;
  NoteKey log_key;
  BatchHeader header;
  IdentityLeaf enrolment;
  EpochOpening epoch;
  std::vector<std::string> steps;   // in words, in order: what was checked against what
};
// DataLoss names the step that failed and what differs; FailedPrecondition when no trusted log key matches the origin.
absl::StatusOr<ProofFacts> VerifyProof(const EventProof& proof, const TrustPolicy& trust);

}  // namespace orgtrail
