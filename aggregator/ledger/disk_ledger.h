// DiskLedger: the Ledger there is. Opening and appending are in ledger.cc, reading is in disk_ledger_reading.cc.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "aggregator/ledger/anchor.h"
#include "aggregator/ledger/blocks.h"
#include "aggregator/ledger/inflater.h"
#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/repack.h"
#include "aggregator/ledger/rewrite.h"
#include "aggregator/ledger/roll.h"
#include "aggregator/ledger/shards.h"
#include "aggregator/ledger/tail.h"
#include "common/base/guarded.h"

namespace orgtrail {

class DiskLedger final : public Ledger {
 public:
  DiskLedger(const LedgerOptions& options, const SigningKey* log_key, Fs& fs, const Clock& clock)
      : options_(options), log_key_(log_key), clock_(clock), fs_(fs), shards_(options.dir), anchor_(options.anchor_dir, fs), tail_(options.tail_bytes) {}
  ~DiskLedger() override;

  absl::Status Start(std::string origin);

  absl::StatusOr<Flush> Append(std::span<Admitted> group) override;
  Tick MaybeAnchor(Tick now) override;
  void SetCarries(std::function<std::string(const Uuid&)> carries) override { inflater_.SetCarries(std::move(carries)); }
  Stats stats() const override;
  std::vector<ShardFacts> Sealed() const override;
  absl::StatusOr<bool> DropBodies(const RetentionHistory& log) override;
  absl::StatusOr<BatchId> IdentityOf(uint64_t index) const override;
  void AskRoll() override { is_roll_asked_ = true; }
  bool Replaced(uint32_t shard, const std::vector<uint64_t>& leaves) override;
  std::vector<ShardFacts> shard_facts() const override;
  Stage* Background() override { return repacker_.get(); }

  const std::string& origin() const override { return origin_; }
  SignedHead head() const override {
    return published_.Peek([](const Published& p) { return p.head; });
  }
  bool WaitBeyond(uint64_t size, absl::Duration limit) const override;
  void Wake() override {
    published_.With([](Published& p) { p.woken = true; });
  }
  absl::StatusOr<std::shared_ptr<const Leaf>> Read(uint64_t index) const override;
  absl::StatusOr<std::shared_ptr<const LeafTerms>> ReadTerms(uint64_t index) const override;
  absl::StatusOr<RawLeaf> ReadRaw(uint64_t index) const override;
  absl::StatusOr<std::string> ReadEntry(uint64_t index) const override;
  absl::StatusOr<Hash> LeafHashAt(uint64_t index) const override;
  absl::StatusOr<Hash> Root(uint64_t size) const override;
  absl::StatusOr<std::vector<Hash>> Inclusion(uint64_t index, uint64_t size) const override;
  absl::StatusOr<std::vector<Hash>> Consistency(uint64_t old_size, uint64_t new_size) const override;
  absl::StatusOr<std::vector<Hash>> Tile(int level, uint64_t tile, uint32_t width) const override;
  std::optional<uint64_t> Find(const BatchId& id) const override;
  std::optional<uint64_t> FindLeaf(const Hash& leaf, uint64_t from) const override;
  std::vector<AgentHead> Heads() const override;
  std::optional<AgentHead> HeadOf(const Uuid& uuid) const override;
  std::vector<uint64_t> ControlLeaves(uint64_t from, size_t max) const override;
  uint64_t FirstLoggedAt(int64_t logged_ns) const override;

 private:
  struct Published {
    SignedHead head;
    int64_t logged_ns = 0;               // of its last leaf
    bool woken = false;
  };
  // One item of a group while its transaction is open: what becomes true when it commits.
  struct Placed {
    uint64_t index = 0;
    bool stored = false, quarantined = false, moves_head = false;
    Hash hash;
    AgentHead head;
  };

  absl::Status CheckNewest() const;
  absl::Status CheckKek() const;
  absl::Status CheckAnchor() const;
  std::string Note(const TreeState& state) const;
  void Publish(const TreeState& state, std::string note);
  bool IsRollDue() const;
  absl::Status Roll();
  absl::StatusOr<std::optional<uint64_t>> FindSame(const lmdb::ReadTxn& txn, const Shard& active, const BatchId& id, const Hash& hash) const;
  absl::StatusOr<std::optional<uint64_t>> FindIdentity(const lmdb::ReadTxn& txn, const Shard& active, const BatchId& id) const;
  absl::StatusOr<std::optional<AgentHead>> HeadOfTxn(const lmdb::ReadTxn& txn, const Shard& active, const Uuid& uuid) const;
  absl::Status Store(lmdb::WriteTxn& txn, const Shard& active, TreeState& next, Admitted& item, Placed& placed);
  absl::Status StoreBytes(lmdb::WriteTxn& txn, const Shard& active, uint64_t index, const StoredLeaf& leaf);
  absl::Status StoreHead(lmdb::WriteTxn& txn, const Shard& active, const Leaf& leaf, const AgentHead& head, Placed& placed, int64_t logged_ns);
  std::string NewestNote() const;         // as it is stored
  absl::Status StoreNewestNote(lmdb::WriteTxn& txn, const Shard& active);
  std::shared_ptr<const Leaf> InTail(uint64_t index) const;
  absl::StatusOr<RawLeaf> ReadRawIn(const ShardView& view, uint64_t index) const;
  std::optional<AgentHead> HeadIn(const ShardView& view, const Uuid& uuid) const;
  std::optional<uint64_t> OfPublished(const absl::StatusOr<std::optional<uint64_t>>& found, std::string_view what) const;
  absl::Status CheckIndex(uint64_t index) const;
  absl::Status CheckSize(uint64_t size) const;
  uint64_t size() const { return size_.load(std::memory_order_acquire); }

  const LedgerOptions options_;
  const SigningKey* const log_key_;
  const Clock& clock_;
  Fs& fs_;
  std::string origin_;
  std::unique_ptr<DirLock> lock_;
  Shards shards_;
  std::unique_ptr<Repacker> repacker_;
  std::unique_ptr<ShardRewrite> pruning_;  // the pruner's
  Blocks blocks_;
  std::optional<BegunShard> begun_;       // the committer's: a successor whose predecessor is not sealed yet
  TreeState state_;                       // the committer's
  int64_t began_ns_ = 0;                  // the committer's: when the active shard's first leaf was logged
  std::atomic<bool> is_roll_asked_{false};
  uint64_t carried_bytes_ = 0;            // the committer's: what the active shard began with
  uint64_t stored_note_size_ = UINT64_MAX;  // the committer's: size of the note in the store
  Anchor anchor_;
  uint64_t anchored_size_ = UINT64_MAX;   // the committer's
  Tick anchor_not_before_;
  Tail tail_;
  mutable Inflater inflater_;
  mutable Guarded<Published> published_;
  std::atomic<uint64_t> size_{0};         // published_.head.size, for those who need nothing else
  std::atomic<uint64_t> sealed_bytes_{0}, freed_bytes_{0};  // freed: by bodies that expired since the start
  std::atomic<uint64_t> gone_below_{0};   // bodies below went since the start: what memory still has of them is not shown
};

}  // namespace orgtrail
