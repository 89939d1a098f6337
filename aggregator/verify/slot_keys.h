// SlotKeys: the one-time public keys of one key tree, from the leaf that brought them: the epoch_open of the epoch's first tree,
// the keytree_roll of a later one. Immutable. 32 KiB whole; of a fleet's trees only the keys that come next are held, the rest is
// read again from the log.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/ledger/reader.h"
#include "common/base/limits.h"
#include "common/crypto/digest.h"
#include "common/crypto/sign.h"
#include "common/format/batch.h"

namespace orgtrail {

struct SlotKeys {
  uint64_t epoch = 0;
  uint64_t tree_base = 0;        // batch_seq of slot 0
  Hash root;                     // KeyTreeRoot of all its keys
  uint32_t slots = 0;            // how many it has
  uint32_t first = 0;            // slot of keys[0]
  std::vector<PublicKey> keys;   // all, or some that follow one another
  std::optional<uint64_t> carrier;   // the leaf that brought it, once it is logged

  static constexpr uint32_t kHeld = limits::kTreeSlots / 8;   // 4 KiB: at a heartbeat in ten seconds read again every 20 minutes
  const PublicKey* Of(uint32_t slot) const {   // null: no such slot, or not held
    return slot >= first && slot - first < keys.size() ? &keys[slot - first] : nullptr;
  }
  bool whole() const { return keys.size() == slots; }
  // The kHeld keys from `slot` on, of a tree that lies in the log in `leaf`.
  std::shared_ptr<const SlotKeys> From(uint32_t slot, uint64_t leaf) const;
  // The whole tree once more, from its carrier; DataLoss: it is not what it was.
  absl::StatusOr<std::shared_ptr<const SlotKeys>> Again(const LedgerReader& ledger) const;

  // Reads the tree that begins at (epoch, tree_base) from the log. NotFound: it is not there (yet).
  static absl::StatusOr<std::shared_ptr<const SlotKeys>> Load(const LedgerReader& ledger, const Uuid& uuid, uint64_t epoch,
                                                              uint64_t tree_base);
  // The tree that signs what follows the batch of `header`, which the log holds, on that batch's own branch (ledger/branch.h).
  static absl::StatusOr<std::shared_ptr<const SlotKeys>> LoadAfter(const LedgerReader& ledger, uint64_t leaf_index,
                                                                   const BatchHeader& header);
  // From a frame's extension: of an epoch_open or a keytree_roll. InvalidArgument says what is wrong with it.
  static absl::StatusOr<std::shared_ptr<const SlotKeys>> FromExtension(const BatchHeader& header, std::string_view extension);
};

}  // namespace orgtrail
