#include "aggregator/ledger/roll.h"

#include <utility>

#include "common/base/bytes.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/format/batch.h"

namespace orgtrail {
namespace {

constexpr size_t kCopiesPerTxn = 256;   // of 33 KiB

absl::Status RemoveShard(Fs& fs, const std::string& dir) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(dir));
  for (const std::string& name : names) RETURN_IF_ERROR(fs.Remove(JoinPath(dir, name)));
  RETURN_IF_ERROR(fs.Remove(dir));
  return fs.SyncDir(DirName(dir));
}

absl::StatusOr<std::optional<TreeState>> StateOf(const Shard& shard) {
  const lmdb::ReadTxn txn(*shard.env);
  const std::optional<std::string_view> state = txn.Get(shard.meta, kStateKey);
  if (!state.has_value()) return std::optional<TreeState>();
  absl::StatusOr<TreeState> decoded = TreeState::Decode(*state);
  if (!decoded.ok()) return Annotate(decoded.status(), shard.env->dir() + "/data.mdb: restore the ledger from a backup");
  return std::optional<TreeState>(*std::move(decoded));
}

// Leaves with the key trees of epochs that are open, and where their batches' identities point.
absl::StatusOr<std::vector<std::pair<BatchId, uint64_t>>> OpenTrees(const ShardView& view) {
  std::vector<AgentHead> heads;
  const ShardView::Part active = view.Active();
  lmdb::Cursor cursor(*active.txn, active.shard->heads);
  for (bool more = cursor.First(); more; more = cursor.Next()) {
    ASSIGN_OR_RETURN(AgentHead head, AgentHead::Decode(cursor.value()));
    if (!head.closed && !head.retired) heads.push_back(std::move(head));
  }
  std::vector<std::pair<BatchId, uint64_t>> trees;
  for (const AgentHead& head : heads) {
    const BatchId carrier{head.uuid, head.epoch, head.tree_base == 0 ? 0 : head.tree_base - 1};
    ASSIGN_OR_RETURN(const std::optional<uint64_t> leaf, view.Find(carrier, head));
    if (leaf.has_value()) trees.emplace_back(carrier, *leaf);
  }
  return trees;
}

absl::Status CopyTrees(const ShardView& view, Shard& to) {
  ASSIGN_OR_RETURN(auto trees, OpenTrees(view));
  for (size_t i = 0; i < trees.size();) {
    ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, lmdb::WriteTxn::Begin(*to.env));
    for (size_t n = 0; n < kCopiesPerTxn && i < trees.size(); ++n, ++i) {
      const auto& [id, index] = trees[i];
      ASSIGN_OR_RETURN(const ShardView::Part from, view.OfLeaf(index));
      const std::optional<std::string_view> leaf = from.Get(from.shard->leaves, IndexKey(index));
      if (!leaf.has_value()) return DamagedLeaf(index, from.shard->env->dir(), "it is missing");
      // What is damaged is not multiplied: whoever wants it looks where it was logged, and finds it there once it is put back.
      if (const absl::StatusOr<StoredLeaf> stored = ReadLeaf(index, *leaf, Crc::kCheck); !stored.ok() || stored->IsPacked()) continue;
      ASSIGN_OR_RETURN(const Hash hash, view.Node(0, index));
      RETURN_IF_ERROR(txn->Put(to.leaves, IndexKey(index), *leaf));
      RETURN_IF_ERROR(txn->Put(to.nodes, NodeKey(0, index), hash.view()));
      RETURN_IF_ERROR(txn->Put(to.batches, BatchKey(id), IndexKey(index)));
    }
    RETURN_IF_ERROR(txn->Commit());
  }
  return absl::OkStatus();
}

// With the peaks every proof about the shard's own leaves is found in the shard.
absl::Status PutPeaks(lmdb::WriteTxn& txn, const Shard& to, const Frontier& frontier) {
  const std::vector<Hash> peaks = PeaksOf(frontier);
  uint64_t begin = 0;
  size_t at = 0;
  for (int level = 63; level >= 0; --level) {
    if ((frontier.size() >> level & 1) == 0) continue;
    RETURN_IF_ERROR(txn.Put(to.nodes, NodeKey(level, begin >> level), peaks[at++].view()));
    begin += uint64_t{1} << level;
  }
  return absl::OkStatus();
}

absl::StatusOr<BegunShard> Begin(const ShardView& view, const std::string& dir, const TreeState& state, std::string_view origin,
                                 std::string_view note, uint64_t map_bytes, Fs& fs) {
  RETURN_IF_ERROR(fs.MakeDirs(dir, 0700));
  BegunShard begun;
  ASSIGN_OR_RETURN(begun.shard, Shard::Open(dir, map_bytes, /*read_only=*/false));
  Shard& to = begun.shard;
  RETURN_IF_ERROR(CopyTrees(view, to));

  TreeState next = state;
  next.first = state.size;
  ShardList list;
  list.sealed = view.set().sealed;
  list.sealed.push_back({state.first, state.size, state.last_logged_ns, state.root});
  ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, lmdb::WriteTxn::Begin(*to.env));
  const ShardView::Part from = view.Active();
  lmdb::Cursor cursor(*from.txn, from.shard->heads);
  for (bool more = cursor.First(); more; more = cursor.Next()) RETURN_IF_ERROR(txn->Append(to.heads, cursor.key(), cursor.value()));
  RETURN_IF_ERROR(PutPeaks(*txn, to, next.frontier));
  begun.carried_bytes = list.carried_bytes = to.env->UsedBytes();
  RETURN_IF_ERROR(txn->Put(to.meta, kOriginKey, origin));
  if (!note.empty()) RETURN_IF_ERROR(txn->Put(to.meta, kNoteKey, note));
  RETURN_IF_ERROR(txn->Put(to.meta, kShardsKey, list.Encode()));
  RETURN_IF_ERROR(txn->Put(to.meta, kStateKey, next.Encode()));
  RETURN_IF_ERROR(txn->Commit());
  RETURN_IF_ERROR(fs.SyncDir(dir));
  return begun;
}

}  // namespace

absl::StatusOr<BegunShard> BeginShard(const ShardView& view, const std::string& ledger_dir, const TreeState& state, std::string_view origin,
                                      std::string_view note, uint64_t map_bytes, Fs& fs) {
  const std::string dir = ShardDir(ledger_dir, view.set().active_number() + 1);
  if (fs.Facts(dir).ok()) RETURN_IF_ERROR(RemoveShard(fs, dir));  // of a try that failed
  absl::StatusOr<BegunShard> begun = Begin(view, dir, state, origin, note, map_bytes, fs);
  if (absl::IsResourceExhausted(begun.status()) && fs.Facts(dir).ok()) {
    // Its copies take space that appending needs more.
    if (const absl::Status removed = RemoveShard(fs, dir); !removed.ok()) {
      LogWarn("A shard that was not begun is still there; it is removed later.", {{"dir", dir}, {"error", Describe(removed)}});
    }
  }
  return begun;
}

absl::Status SealShard(Shard& shard, uint64_t end, int64_t now_ns) {
  ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, lmdb::WriteTxn::Begin(*shard.env));
  RETURN_IF_ERROR(txn->Put(shard.meta, kSealKey, Seal{end, now_ns}.Encode()));
  return txn->Commit();
}

absl::StatusOr<OpenedShards> OpenShards(const std::string& ledger_dir, uint64_t map_bytes, bool read_only, Fs& fs, int64_t now_ns) {
  ASSIGN_OR_RETURN(std::vector<uint32_t> numbers, ListShards(fs, ledger_dir));
  if (numbers.empty()) {
    if (read_only) return absl::NotFoundError(absl::StrCat("there is no ledger in ", ledger_dir));
    RETURN_IF_ERROR(fs.MakeDirs(ShardDir(ledger_dir, 1), 0700));
    numbers.push_back(1);
  }
  OpenedShards opened;
  uint32_t number = numbers.back();
  std::string dir = ShardDir(ledger_dir, number);
  absl::StatusOr<Shard> active = Shard::Open(dir, map_bytes, read_only);
  if (active.ok()) {
    ASSIGN_OR_RETURN(opened.state, StateOf(*active));
  } else if (!read_only || number == 1 || !absl::IsNotFound(active.status())) {
    return active.status();
  }
  if (!opened.state.has_value() && number > 1) {
    // A roll that did not get to its first commit.
    active = absl::UnknownError("");
    if (!read_only) {
      LogInfo("A shard that was not begun is removed.", {{"dir", dir}});
      RETURN_IF_ERROR(RemoveShard(fs, dir));
    }
    dir = ShardDir(ledger_dir, --number);
    active = Shard::Open(dir, map_bytes, read_only);
    if (!active.ok()) return active.status();
    ASSIGN_OR_RETURN(opened.state, StateOf(*active));
    if (!opened.state.has_value()) return absl::DataLossError(absl::StrCat(dir, "/data.mdb has no state: restore the ledger from a backup"));
  }
  opened.active = *std::move(active);
  {
    const lmdb::ReadTxn txn(*opened.active.env);
    if (txn.Get(opened.active.meta, kSealKey).has_value()) {
      return absl::DataLossError(absl::StrCat(dir, " is sealed and ", ShardDir(ledger_dir, number + 1),
                                              ", which continues it, is missing or has nothing in it: put it back, or restore the ledger from a backup"));
    }
    if (number > 1) {
      const absl::StatusOr<ShardList> list = ShardList::Decode(txn.Get(opened.active.meta, kShardsKey).value_or(""));
      if (!list.ok()) return Annotate(list.status(), dir + "/data.mdb: restore the ledger from a backup");
      opened.sealed = list->sealed;
      opened.carried_bytes = list->carried_bytes;
    }
  }
  if (opened.sealed.size() != number - 1 || (opened.state.has_value() && opened.state->first != (opened.sealed.empty() ? 0 : opened.sealed.back().end))) {
    return absl::DataLossError(absl::StrCat(dir, "/data.mdb does not continue the shards before it: restore the ledger from a backup"));
  }
  if (number == 1) return opened;

  const std::string before_dir = ShardDir(ledger_dir, number - 1);
  const SealedShard& known = opened.sealed.back();
  if (const absl::StatusOr<Shard> sealed = Shard::OpenSealed(before_dir); sealed.ok()) {
    RETURN_IF_ERROR(CheckContinued(known, *sealed));
    return opened;
  }
  ASSIGN_OR_RETURN(Shard before, Shard::Open(before_dir, read_only ? 0 : map_bytes, read_only));
  RETURN_IF_ERROR(CheckContinued(known, before));
  if (read_only) {
    opened.unsealed = std::move(before);
  } else {
    LogInfo("A shard is sealed; the process ended before it could be.", {{"dir", before_dir}});
    RETURN_IF_ERROR(SealShard(before, known.end, now_ns));
  }
  return opened;
}

}  // namespace orgtrail
