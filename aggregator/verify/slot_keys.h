// SlotKeys: the one-time public keys of one key tree, from the leaf that brought them: the epoch_open of the epoch's first tree,
// the keytree_roll of a later one. Immutable; 32 KiB each.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/ledger/reader.h"
#include "common/crypto/digest.h"
#include "common/crypto/sign.h"
#include "common/format/batch.h"

namespace orgtrail {

struct SlotKeys {
  uint64_t epoch = 0;
  uint64_t tree_base = 0;        // batch_seq of slot 0
  Hash root;                     // KeyTreeRoot(keys)
  std::vector<PublicKey> keys;

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
