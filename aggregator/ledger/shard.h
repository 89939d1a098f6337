// Shard: one LMDB environment of the ledger, and the bytes in its tables (docs/formats/ledger.md). What the ledger writes and what
// fsck checks is described once, here.
//
//   leaves   u64 index → leaf header (16), [sealed key (60)], bytes     nodes    u8 level, u64 index → hash (complete subtrees)
//   heads    uuid → AgentHead                                           batches  uuid, u64 epoch, u64 batch_seq → u64 index
//   hashes   leaf hash → u64 index of the first such leaf               control  u64 index → nothing (leaves that are no batches)
//   blocks   u64 number → u32 CRC32C, zstd of the rows and bodies of leaves one after another; repacked shards only
//   times    u64 logged_ns → u64 index of the first leaf logged then    meta     "state", "origin", "note", "shards", "seal"
//
// A table holds what the shard's own leaves brought: a node belongs to the shard of the leaf that completed it. Besides, a shard begins
// with copies of what appending needs of the shards before it (roll.h): all heads; the peaks of the tree, under `nodes`; and the leaves
// that hold the key trees of open epochs, under `leaves`, `nodes` and `batches`. A copy's index is below the shard's first leaf.
// Threads: reading any, writing one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/ledger/reader.h"
#include "common/fs/file.h"
#include "common/lmdb/env.h"
#include "common/merkle/tree.h"

namespace orgtrail {

struct Shard {
  std::unique_ptr<lmdb::Env> env;
  lmdb::Table leaves, nodes, meta, heads, batches, hashes, control, times;
  std::optional<lmdb::Table> blocks;    // of a repacked shard

  static absl::StatusOr<Shard> Open(const std::string& dir, uint64_t map_bytes, bool read_only);
  // A shard that is never written again, repacked or pruned when it has been: mapped at its file's size. DataLoss when it is not sealed.
  static absl::StatusOr<Shard> OpenSealed(const std::string& dir);
  // To be filled by whoever repacks (repack.h).
  static absl::StatusOr<Shard> OpenPacking(const std::string& dir, uint64_t map_bytes);
};
// Within a shard's directory: its leaves in large blocks, complete and checked; and while that is being made. The same without bodies.
inline constexpr std::string_view kPackedDir = "packed", kPackingDir = "packing";
inline constexpr std::string_view kPrunedDir = "pruned", kPruningDir = "pruning";
inline constexpr std::string_view kRepairingDir = "repairing";   // repair.h
std::string ShardDir(const std::string& ledger_dir, uint32_t number);  // …/shard-000001
// Numbers of the shards there are, ascending. DataLoss when one is missing in between; empty when there is no such directory.
absl::StatusOr<std::vector<uint32_t>> ListShards(Fs& fs, const std::string& ledger_dir);

inline constexpr std::string_view kStateKey = "state", kOriginKey = "origin", kNoteKey = "note", kShardsKey = "shards", kSealKey = "seal";

std::string IndexKey(uint64_t index);
std::string NodeKey(int level, uint64_t index);
std::string BatchKey(const BatchId& id);

std::vector<Hash> PeaksOf(const Frontier& frontier);  // one per set bit of its size, largest subtree first

// The head of the log as one transaction left it.
struct TreeState {
  uint64_t first = 0;               // leaf of this shard
  uint64_t size = 0, events = 0;
  int64_t last_logged_ns = 0;
  Hash root = EmptyRoot();
  Frontier frontier;
  std::string Encode() const;
  static absl::StatusOr<TreeState> Decode(std::string_view bytes);
};

// What later shards know of a sealed one.
struct SealedShard {
  uint64_t first = 0, end = 0;      // its leaves
  int64_t last_logged_ns = 0;       // of its last leaf
  Hash root;                        // of the tree of `end` leaves
  bool operator==(const SealedShard&) const = default;
};

// "shards" in meta: the shards before this one, shard 1 first. Shard 1 has none.
struct ShardList {
  uint64_t carried_bytes = 0;       // what this shard's copies take
  std::vector<SealedShard> sealed;
  std::string Encode() const;
  static absl::StatusOr<ShardList> Decode(std::string_view bytes);
};

// "seal" in meta: nothing is appended here any more.
struct Seal {
  uint64_t end = 0;
  int64_t sealed_ns = 0;
  std::string Encode() const;
  static absl::StatusOr<Seal> Decode(std::string_view bytes);
};

// Leaf header: u8 version, u8 form, u16 flags, u64 logged_ns, u32 CRC32C over key, the header before it and all that follows.
inline constexpr size_t kLeafHeaderBytes = 16;
inline constexpr size_t kSealedKeyBytes = 60;  // nonce 12, key 32, tag 16
inline constexpr size_t kPackedAtBytes = 16;   // u64 block, u32 offset, u32 size
enum class LeafForm : uint8_t { kPlain = 0, kSealedKey = 1, kPacked = 2, kPackedSealedKey = 3 };

struct PackedAt {                   // where in the shard's blocks the rows and bodies of a leaf are
  uint64_t block = 0;
  uint32_t offset = 0, size = 0;
};

struct StoredLeaf {
  LeafForm form = LeafForm::kPlain;
  uint16_t flags = 0;
  int64_t logged_ns = 0;
  std::string_view sealed_key;      // with a sealed key; else empty
  PackedAt at;                      // packed
  std::string_view bytes;           // sealed key: the batch key within is zero. Packed: the frame up to and with n_rows
  bool HasSealedKey() const { return (static_cast<uint8_t>(form) & 1) != 0; }
  bool IsPacked() const { return (static_cast<uint8_t>(form) & 2) != 0; }
};
size_t StoredSize(const StoredLeaf& leaf);
void WriteLeaf(uint64_t index, const StoredLeaf& leaf, char* out);  // StoredSize(leaf) bytes
enum class Crc { kCheck, kSkip };
absl::StatusOr<StoredLeaf> ReadLeaf(uint64_t index, std::string_view value, Crc crc);

// The part of a leaf's bytes that is hashed: a batch's entry, or a control leaf whole. Empty when a frame is too short to have one.
std::string_view EntryOf(std::string_view leaf_bytes);
bool IsBatch(std::string_view leaf_bytes);                          // starts as a frame does
// Where the 32 key bytes of a frame stand; npos when it is too short.
size_t BatchKeyOffset(std::string_view frame);

// What the sealing of a batch key is bound to: moved to another leaf or log, it does not open.
std::string LeafKeyContext(std::string_view origin, uint64_t index);

// What a person does about a damaged leaf.
inline constexpr std::string_view kHowToRepair =
    "what the agents still have of it comes back by itself, soon after the look through the store that finds it; when it does not, stop the aggregator and run orgtrail repair with a backup or another copy of this ledger; when neither has it, restore a backup, and agents "
    "send again what it lacks";
// "leaf 12 in FILE: WHAT", and that.
absl::Status DamagedLeaf(uint64_t index, const std::string& shard_dir, std::string_view what);

}  // namespace orgtrail
