// Rewrite: a sealed shard made anew in a directory within it, compared with what it was, and put in its place. What repacking and
// pruning share; they differ in what becomes of a leaf.
//
//   shard → making/ (tables, leaves, comparison with the source) → renamed to made/ → what was in its place is removed
//
// Threads  one.
// Holds    until the rename made/ does not exist, from then on it is complete.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "aggregator/ledger/shards.h"
#include "common/compress/zstd.h"
#include "common/fs/file.h"

namespace orgtrail {

// A leaf as both forms have it: what is stored plainly, and its rows and bodies, which go into blocks.
struct LeafParts {
  std::string_view head;             // a frame up to and with n_rows, or the whole leaf when it has no rows
  std::string_view sealed_key;       // empty: none
  std::string plain;
  std::unique_ptr<std::string> changed;   // what `head` views when it is not the source's
};

class ShardRewrite {
 public:
  // What a leaf of the source becomes; called twice for each, when it is written and when it is compared.
  using Change = std::function<absl::Status(uint64_t index, LeafParts* parts)>;
  struct Dirs {
    std::string_view making, made;   // within the shard's
  };

  // What an earlier try left in making/ is removed. DataLoss: the source cannot be opened. Unavailable: another rewrite of it is under way.
  static absl::StatusOr<std::unique_ptr<ShardRewrite>> Begin(Shards& shards, uint32_t number, Dirs dirs, Change change, Fs& fs);
  ~ShardRewrite();
  // A slice: some 16 MiB of records. Whether it is complete and compared; then Finish.
  absl::StatusOr<bool> Advance();
  // Puts it in place; who reads the source keeps it until then.
  absl::Status Finish();
  void Abandon();                    // removes what was begun; said when that fails

  uint32_t number() const { return number_; }
  const std::string& dir() const { return dir_; }
  uint64_t leaves() const { return known_.end - known_.first; }
  uint64_t done() const;             // of twice as many: written, then compared
  uint64_t bytes_before() const { return bytes_before_; }
  uint64_t bytes_after() const { return bytes_after_; }

 private:
  ShardRewrite(Shards& shards, uint32_t number, Dirs dirs, Change change, Fs& fs);
  std::vector<std::pair<lmdb::Table, lmdb::Table>> Tables() const;
  absl::StatusOr<LeafParts> PartsOf(const lmdb::ReadTxn& txn, uint64_t index, const StoredLeaf& leaf);
  absl::Status CopyTable();
  absl::Status CopyLeaves();
  absl::Status CloseBlock(lmdb::WriteTxn& txn);
  absl::Status CompareLeaves();
  absl::Status CompareTable(lmdb::Table a, lmdb::Table b) const;

  Shards& shards_;
  const uint32_t number_;
  const Dirs dirs_;
  const Change change_;
  Fs& fs_;
  const std::string dir_;            // of the shard
  enum class At { kTables, kLeaves, kCompare, kDone } at_ = At::kTables;
  std::shared_ptr<const Shard> from_;
  Shard to_;
  SealedShard known_;
  size_t table_ = 0;
  std::string key_;                  // where in the table; empty: at its beginning
  uint64_t leaf_ = 0;                // the next; copies first
  uint64_t block_ = 0;
  std::string plain_;                // of the open block
  ZstdCompressor zip_;
  ZstdDecompressor unzip_;
  struct OpenBlock {                 // the last one that was inflated
    ZstdDecompressor unzip;
    uint64_t number = UINT64_MAX;
    std::string plain;
  };
  OpenBlock source_block_, made_block_;
  uint64_t bytes_before_ = 0, bytes_after_ = 0;
};

// Removes, at a start, what an earlier process left in the shard's directory: what was being made, and what complete directories replaced.
absl::Status CleanUpRewrites(const std::string& ledger_dir, Fs& fs);

}  // namespace orgtrail
