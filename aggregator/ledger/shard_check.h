// ShardCheck: one shard of the ledger, every leaf and every table, against what the shards before it lead to.
//
// Threads  one. Takes short read transactions, so that a live writer is not held up; with `fix` write transactions of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aggregator/ledger/blocks.h"
#include "aggregator/ledger/fsck.h"
#include "aggregator/ledger/shards.h"
#include "common/compress/zstd.h"
#include "common/merkle/tree.h"

namespace orgtrail {

// What the shards gone through lead to.
struct CheckedLog {
  std::string origin;
  uint64_t size = 0;                    // of the whole log, when it was opened
  std::vector<SealedShard> sealed;      // the shards gone through
  Frontier frontier;
  std::map<Uuid, AgentHead> newest;     // leaf, leaf_index, epoch, batch_seq, logged_ns of each agent's newest batch
  int64_t last_logged_ns = INT64_MIN;
  uint64_t events = 0;
  bool is_whole = true;                 // false: a shard could not be read, so heads and records are not known
  struct Expired {                      // of one shard
    uint64_t first = 0, last = 0;       // leaves with bodies that expired
    std::string file;
  };
  std::vector<Expired> expired;
};

class ShardCheck {
 public:
  ShardCheck(const FsckOptions& options, const Shards& shards, uint32_t number, const Shard& shard, CheckedLog& log, std::vector<Finding>* findings, FsckTotals* totals)
      : options_(options), shards_(shards), number_(number), shard_(shard), log_(log), findings_(*findings), totals_(*totals),
        file_(shard_.env->dir() + "/data.mdb") {}

  // Whether the shards after it can be checked.
  bool Run(const std::function<void(uint64_t, uint64_t)>& progress);

 private:
  bool Full() const { return findings_.size() >= options_.max_findings; }
  void Find(uint64_t leaf, std::string what, std::string_view remedy = kHowToRepair) {
    if (!Full()) findings_.push_back(Finding{leaf, file_, std::move(what), std::string(remedy)});
  }
  void FindLacking(uint64_t leaf, std::string what) {
    if (options_.lacking && !Full()) options_.lacking(leaf, /*is_bodiless=*/false);
    Find(leaf, std::move(what));
  }
  void Expect(const lmdb::ReadTxn& txn, lmdb::Table table, std::string_view key, std::string_view want, uint64_t leaf,
              std::string_view what);
  void CheckLeaf(const lmdb::ReadTxn& txn, uint64_t index);
  void CheckBatch(const lmdb::ReadTxn& txn, uint64_t index, const StoredLeaf& stored, const Hash& hash);
  void CheckRecords(const lmdb::ReadTxn& txn, uint64_t index, const StoredLeaf& stored, const BatchHeader& header);
  bool IsLoggedBefore(const BatchId& id) const;
  void CheckBeginning();
  void CheckCopies();
  void CheckState();
  void CheckHeads();
  void CheckTable(lmdb::Table table, std::string_view name, uint64_t want, bool keyed_by_leaf);
  void CheckNodeCount();
  void Breathe(uint64_t index) const {
    if (progress_ != nullptr && *progress_) (*progress_)(index, std::max(log_.size, state_.size));
  }

  const FsckOptions& options_;
  const Shards& shards_;
  const uint32_t number_;
  const Shard& shard_;
  CheckedLog& log_;
  std::vector<Finding>& findings_;
  FsckTotals& totals_;
  const std::string file_;
  lmdb::WriteTxn* fixing_ = nullptr;   // what is open for it
  const std::function<void(uint64_t, uint64_t)>* progress_ = nullptr;
  TreeState state_;
  std::vector<std::pair<std::string, std::string>> heads_;  // as they were when `state_` was read
  uint64_t leaves_ = 0, batch_ids_ = 0, controls_ = 0, hashes_ = 0, times_ = 0, nodes_ = 0;
  uint64_t copied_leaves_ = 0, copied_ids_ = 0, copied_nodes_ = 0;  // of shards before
  ZstdDecompressor zstd_;
  Blocks blocks_;
};

}  // namespace orgtrail
