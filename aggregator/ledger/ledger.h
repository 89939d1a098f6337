// Ledger: one log, append only. LMDB, one transaction per append: leaves, tree nodes, frontier, agent heads, batch identities,
// control index and (size, root); then the checkpoint is signed and published to readers. docs/formats/ledger.md
//
// Threads  Append, MaybeAnchor: the committer's. LedgerReader: any.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "aggregator/ledger/committer.h"
#include "aggregator/ledger/reader.h"
#include "common/base/clock.h"
#include "common/base/stage.h"
#include "common/crypto/sign.h"
#include "common/format/recovery.h"
#include "common/format/retention.h"
#include "common/fs/file.h"
#include "common/lmdb/env.h"

namespace orgtrail {

struct LedgerOptions {
  std::string dir;                    // …/ledger: one directory per shard below it
  std::string anchor_dir;             // …/anchor: head file, outside the ledger's directory, compared at start; empty: none
  uint64_t map_bytes = 1ull << 40;    // of the shard that grows
  uint64_t shard_bytes = 16ull << 30; // a shard that has as much, or whose first leaf is so old, is sealed, and another one begins
  absl::Duration shard_period = absl::Hours(24 * 30);
  size_t tail_bytes = 32 << 20;       // inflated leaves kept in memory for followers
  bool read_only = false;             // fsck, verify
  // 32 bytes, or empty: off. When set, the batch key inside each newly stored frame is replaced by its AES-256-GCM sealing under
  // this key, bound to origin and leaf; reads restore it. Leaves stored without stay readable; sealed ones need the key.
  std::string kek;
  // How long a transaction of records took, and of that its end, when pages are written and flushed to the disk. On the writer's thread.
  std::function<void(absl::Duration commit, absl::Duration fsync)> on_commit;
  // Governance's declaration that the log goes on from what is here, verified by the caller: then an anchor ahead of the ledger, or none,
  // is no LOG_ROLLBACK. Its restored head must be what is here, or in front of it.
  std::optional<Recovery> recovery;
};

// What a shard is, for people and for who works on whole ones.
struct ShardFacts {
  uint32_t number = 0;
  uint64_t first = 0, end = 0;        // its leaves: [first, end)
  int64_t last_logged_ns = 0;         // of its last leaf; 0: it has none
  uint64_t bytes = 0;
  bool sealed = false, repacked = false;
  bool pruned = false;                // its bodies are gone
};

class Ledger : public LedgerReader {
 public:
  // LOG_ROLLBACK (FailedPrecondition) when the anchor is ahead of what is here or disagrees with it, ANCHOR_MISSING when there is none. DataLoss names file and remedy.
  // FailedPrecondition too when another process writes here or the ledger belongs to another origin. Read-only: `origin` may be
  // empty (whatever is stored) and `log_key` null; the head's note is then the newest one stored, which may be of a smaller size.
  static absl::StatusOr<std::unique_ptr<Ledger>> Open(const LedgerOptions& options, std::string origin,
                                                      const SigningKey* log_key, Fs& fs, const Clock& clock);
  // One transaction for the whole group, in order; fills each leaf's index and logged_ns, and of each head what only the ledger
  // knows: leaf, leaf_index, logged_ns, tree_leaf and epoch_leaf. ResourceExhausted: nothing written, nothing filled.
  // A repeat without `duplicate_of` is looked up, earlier items of the group included. A batch whose leaf is logged already is
  // answered as a repeat. One whose identity is logged with another leaf is stored as quarantined, and the identity stays the
  // first's; a batch in quarantine never moves its agent's head.
  virtual absl::StatusOr<Flush> Append(std::span<Admitted> group) = 0;
  // Writes the anchor when the head moved and a second has passed since the last time. When to call again; Never: nothing to do.
  virtual Tick MaybeAnchor(Tick now) = 0;
  // How a reader learns an agent's enrolment (Registry): what InflateLeaf needs. Until it is set, "" for all. Threads: any.
  virtual void SetCarries(std::function<std::string(const Uuid&)> carries) = 0;
  struct Stats {
    uint64_t used_bytes = 0;          // of all shards
    uint64_t active_bytes = 0, map_bytes = 0, oldest_reader_txns = 0;  // of the shard that grows
    uint32_t shards = 0, open_shards = 0;
    uint32_t to_repack = 0;           // sealed shards that are not repacked yet
    double repack_share = 0;          // of the shard that is being repacked
  };
  virtual Stats stats() const = 0;
  // Drops the bodies of sealed shards below the minimum that `log`, folded from this ledger's leaves, allows; a slice each time. Whether
  // there is nothing left to drop. DataLoss: a shard that is damaged stays as it is. Threads: one.
  virtual absl::StatusOr<bool> DropBodies(const RetentionHistory&) { return true; }
  // Whose batch a leaf is: by its entry, or, when that is damaged, by the identity map of its shard. NotFound: it is no batch.
  virtual absl::StatusOr<BatchId> IdentityOf(uint64_t) const { return absl::UnimplementedError(""); }
  // The shard that grows is sealed before anything else is appended, if it has any leaf. Threads: any.
  virtual void AskRoll() {}
  // What is stored of these leaves of a sealed shard was replaced in its file (repair.h: Install): from when it is true on, all who read see
  // it. False: somebody reads the old file; ask again in a moment. Threads: any.
  virtual bool Replaced(uint32_t, const std::vector<uint64_t>&) { return true; }
  // The shards, ascending, as their files are now; the sealed ones alone. Threads: any.
  virtual std::vector<ShardFacts> shard_facts() const = 0;
  virtual std::vector<ShardFacts> Sealed() const { return {}; }
  // What repacks sealed shards when it is stepped, on one thread (repack.h); null when read-only.
  virtual Stage* Background() { return nullptr; }
};

}  // namespace orgtrail
