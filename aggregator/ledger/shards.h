// Shards: the ledger's environments as the one log they are. One is active and grows; the others are sealed, and opened when asked for.
//
// Threads  Begin, Rolled: the writer's. Everything else: any.
// Bounds   32 sealed shards are open at once, and those that are being read at that moment.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/ledger/shard.h"
#include "common/base/guarded.h"

namespace orgtrail {

class Shards {
 public:
  explicit Shards(std::string ledger_dir) : dir_(std::move(ledger_dir)) {}

  // The shards at one moment. Immutable: a roll makes another.
  struct Set {
    std::vector<SealedShard> sealed;         // number i + 1
    std::shared_ptr<Shard> active;           // the one after them
    uint64_t first() const { return sealed.empty() ? 0 : sealed.back().end; }  // leaf of the active one
    uint32_t active_number() const { return static_cast<uint32_t>(sealed.size() + 1); }
    uint32_t NumberOf(uint64_t leaf) const;  // of the shard that has it, or will
  };
  void Begin(std::vector<SealedShard> sealed, Shard active);
  // Shard `number` as it was opened already, writable or not sealed.
  void Adopt(uint32_t number, std::shared_ptr<const Shard> shard);
  // A sealed shard's files were replaced: who asks next gets the new ones.
  void Reopen(uint32_t number);
  // A sealed shard's file was replaced in its place: true when nothing has the old one open any more, so that who asks next gets the new
  // one. False: somebody reads it; ask again in a moment.
  [[nodiscard]] bool Release(uint32_t number);
  // The active shard is sealed and `active` follows it.
  void Rolled(const SealedShard& sealed, Shard active);

  std::shared_ptr<const Set> set() const {
    return set_.Peek([](const std::shared_ptr<const Set>& s) { return s; });
  }
  // The environment of one of the set's shards. DataLoss: it cannot be opened, or is not the shard that its successors know.
  absl::StatusOr<std::shared_ptr<const Shard>> Get(const Set& set, uint32_t number) const;
  size_t open() const;                       // sealed shards that are open
  const std::string& dir() const { return dir_; }

 private:
  struct Open {
    uint32_t number = 0;
    std::shared_ptr<const Shard> shard;
    bool was_active = false;                 // still mapped for growth
  };
  const std::string dir_;
  Guarded<std::shared_ptr<const Set>> set_;
  mutable Guarded<std::list<Open>> open_;    // the last used in front
};

// What one reader sees: a snapshot of each shard it looks into. As short as a ReadTxn. Threads: one.
class ShardView final : public NodeReader {
 public:
  explicit ShardView(const Shards& shards) : shards_(shards), set_(shards.set()) {}
  struct Part {
    uint32_t number = 0;
    const Shard* shard = nullptr;
    const lmdb::ReadTxn* txn = nullptr;
    std::optional<std::string_view> Get(lmdb::Table table, std::string_view key) const { return txn->Get(table, key); }
  };
  const Shards::Set& set() const { return *set_; }
  Part Active() const;
  absl::StatusOr<Part> Number(uint32_t number) const;
  // Where a leaf's bytes are: its own shard, or the active one when that has a copy.
  absl::StatusOr<Part> OfLeaf(uint64_t index) const;
  // A complete node, from the active shard when it has it, else from the shard whose leaf completed it.
  absl::StatusOr<Hash> Node(int level, uint64_t index) const override;

  // The leaf of a batch's identity. `newest` is the agent's head in the active shard: chains grow, so it says whether the batch can be
  // in an earlier shard at all, and the heads of those say in which. For an agent in quarantine, whose head stands still, each is looked into.
  absl::StatusOr<std::optional<uint64_t>> Find(const BatchId& id, const std::optional<AgentHead>& newest) const;
  absl::StatusOr<std::optional<uint64_t>> FindLeaf(const Hash& leaf, uint64_t from) const;  // newest shard first, none below leaf `from`

 private:
  struct Held {
    uint32_t number = 0;
    std::shared_ptr<const Shard> shard;
    std::unique_ptr<lmdb::ReadTxn> txn;
  };
  Part Hold(uint32_t number, std::shared_ptr<const Shard> shard) const;

  const Shards& shards_;
  const std::shared_ptr<const Shards::Set> set_;
  mutable std::vector<Held> held_;           // few: looked through one by one
};

// DataLoss unless the shard is what its successors know.
absl::Status CheckContinued(const SealedShard& known, const Shard& shard);
std::optional<uint64_t> IndexIn(const std::optional<std::string_view>& value);  // of a table whose values are leaf indexes

}  // namespace orgtrail
