// LedgerReader: the ledger as followers and services see it. Reads are snapshots; nothing returned is tied to a transaction.
// Threads: any.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "aggregator/ledger/leaf.h"
#include "common/base/ids.h"
#include "common/crypto/digest.h"
#include "common/format/note.h"
#include "common/merkle/tree.h"

namespace orgtrail {

struct BatchId {
  Uuid uuid;
  uint64_t epoch = 0, batch_seq = 0;
  auto operator<=>(const BatchId&) const = default;
};

struct SignedHead {          // the newest signed checkpoint: everything below `size` is fsynced
  uint64_t size = 0;
  Hash root;
  std::string note;
  uint64_t events = 0;       // records in the ledger up to size
};

struct RawLeaf {
  uint64_t index = 0;
  int64_t logged_ns = 0;
  uint16_t flags = 0;
  std::string bytes;         // OTF1 or control entry
};

// Where one agent's chain stands in this log; what the next batch must continue.
struct AgentHead {
  Uuid uuid;
  uint64_t epoch = 0, batch_seq = 0, last_seq = 0;
  Hash leaf;                 // of the last batch
  uint64_t leaf_index = 0;
  uint64_t cum_events = 0, cum_lost = 0;
  std::array<char, 16> boot_id{};
  uint64_t boot_close_ns = 0, wall_close_ns = 0;
  uint64_t seen_size = 0, policy_version = 0;
  Hash keytree_root;
  uint64_t tree_base = 0;    // key_slot = batch_seq - tree_base
  uint64_t tree_leaf = 0;    // leaf that carries the tree's key list: epoch_open or keytree_roll
  uint64_t epoch_leaf = 0;   // epoch_open
  bool closed = false, retired = false, quarantined = false;
  uint64_t unclean_epochs = 0;
  uint64_t bodies_missing = 0;  // events of this agent, in all its epochs, whose bodies were gone when their batch came
  int64_t logged_ns = 0;     // admission of the last batch
  std::string Encode() const;
  static absl::StatusOr<AgentHead> Decode(std::string_view bytes);
};

class LedgerReader {
 public:
  virtual ~LedgerReader() = default;
  virtual const std::string& origin() const = 0;
  virtual SignedHead head() const = 0;                                    // O(1)
  // Waits until head().size > size, or the time is over, or Wake(): whether it is so.
  virtual bool WaitBeyond(uint64_t size, absl::Duration limit) const = 0;
  virtual void Wake() = 0;                                                // ends all waits, now and later (shutdown)

  virtual absl::StatusOr<std::shared_ptr<const Leaf>> Read(uint64_t index) const = 0;  // from the tail in memory, or disk
  virtual absl::StatusOr<std::shared_ptr<const LeafTerms>> ReadTerms(uint64_t index) const;  // in memory for longer than the leaf
  virtual absl::StatusOr<RawLeaf> ReadRaw(uint64_t index) const = 0;
  // Entry only (header || signatures, or control), without touching the bodies.
  virtual absl::StatusOr<std::string> ReadEntry(uint64_t index) const = 0;
  virtual absl::StatusOr<Hash> LeafHashAt(uint64_t index) const = 0;
  virtual absl::StatusOr<Hash> Root(uint64_t size) const = 0;
  virtual absl::StatusOr<std::vector<Hash>> Inclusion(uint64_t index, uint64_t size) const = 0;
  virtual absl::StatusOr<std::vector<Hash>> Consistency(uint64_t old_size, uint64_t new_size) const = 0;
  virtual absl::StatusOr<std::vector<Hash>> Tile(int level, uint64_t tile, uint32_t width) const = 0;  // tlog-tiles

  virtual std::optional<uint64_t> Find(const BatchId& id) const = 0;      // leaf index
  // The leaf with this hash. Whoever knows that it can only be at `from` or later says so: a search that finds nothing looks into every
  // shard since.
  virtual std::optional<uint64_t> FindLeaf(const Hash& leaf, uint64_t from = 0) const = 0;
  virtual std::vector<AgentHead> Heads() const = 0;
  virtual std::optional<AgentHead> HeadOf(const Uuid& uuid) const = 0;
  virtual std::vector<uint64_t> ControlLeaves(uint64_t from, size_t max) const = 0;  // indexes of leaves that are no batches
  // First leaf logged at or after the time: binary search; head().size when none.
  virtual uint64_t FirstLoggedAt(int64_t logged_ns) const = 0;
};

}  // namespace orgtrail
