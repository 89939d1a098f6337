// Chain: what a batch must continue, as one pure function for everybody who checks: sealer's tests, ingest, verify.
//
// Errors start with a code: CHAIN_EXPECT (FailedPrecondition: rewind to what follows the head), EPOCH_STALE and EPOCH_CONFLICT
// (FailedPrecondition), BOUNDS and COUNT_MISMATCH and ROOT_MISMATCH (InvalidArgument: not authentic), MONO_ROLLBACK (Aborted).
// Signatures are checked elsewhere (format/proof.h, the verifier); equal (uuid, epoch, batch_seq) is looked up before this.
// Threads: any.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/base/ids.h"
#include "common/crypto/digest.h"
#include "common/format/batch.h"
#include "common/format/epoch.h"
#include "common/format/frame.h"

namespace orgtrail {

// Where an agent's chain stands: its last batch, and the tree whose keys sign the next one.
struct ChainState {
  Uuid uuid;
  uint64_t epoch = 0;              // 0: nothing of this agent yet
  uint64_t batch_seq = 0, last_seq = 0;
  uint64_t cum_events = 0, cum_lost = 0;
  Hash leaf;                       // LeafHash of the last entry
  std::array<char, 16> boot_id{};
  uint64_t boot_close_ns = 0;
  uint64_t seen_size = 0, policy_version = 0;
  Hash keytree_root;               // of the tree that signs the next batch
  uint64_t tree_base = 0;          // key_slot = batch_seq - tree_base
  bool closed = false;             // the last batch was an epoch_close
};

// Whether `next` continues `prev`. An epoch_open needs its decoded extension: FRAME_MALFORMED (InvalidArgument) without it.
// `next` came from BatchHeader::Decode, which checked all that a header can say about itself.
absl::Status CheckLink(const ChainState& prev, const BatchHeader& next, const EpochOpening* opening = nullptr);

// The state after `next`, which CheckLink accepted and whose entry hashes to `leaf`. For a keytree_roll `new_root` is
// KeyTreeRoot of its extension; otherwise it is not read.
ChainState Advance(const ChainState& prev, const BatchHeader& next, const Hash& leaf, const Hash& new_root = Hash{});

// Whether a frame holds what its header signed: extension by ext_hash and, decoded, by keytree_root; number of rows, their
// sequence range and root. Times are not judged: an authentic batch is never refused for its clock.
// Fills `opening` for an epoch_open and `new_root` for a keytree_roll, when not null.
absl::Status CheckExtension(const BatchHeader& header, std::string_view extension, EpochOpening* opening, Hash* new_root);
absl::Status CheckRows(const BatchHeader& header, const std::vector<Row>& rows, const RowHashes& hashes);

}  // namespace orgtrail
