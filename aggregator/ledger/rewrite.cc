#include "aggregator/ledger/rewrite.h"

#include <algorithm>
#include <utility>

#include "aggregator/ledger/blocks.h"
#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/format/frame.h"

namespace orgtrail {
namespace {

constexpr int kLevel = 9;                        // measured: tests/bench/README.md
constexpr size_t kSliceBytes = 16 << 20;         // of records, one transaction
constexpr size_t kSliceRows = 16'384;            // of an index

absl::Status RemoveDir(Fs& fs, const std::string& dir) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(dir));
  for (const std::string& name : names) RETURN_IF_ERROR(fs.Remove(JoinPath(dir, name)));
  RETURN_IF_ERROR(fs.Remove(dir));
  return fs.SyncDir(DirName(dir));
}

// What lies in a shard's directory beside what replaced it.
absl::Status RemoveReplaced(Fs& fs, const std::string& shard_dir, std::string_view by) {
  if (const std::string packed = JoinPath(shard_dir, kPackedDir); by != kPackedDir && fs.Facts(packed).ok()) RETURN_IF_ERROR(RemoveDir(fs, packed));
  for (const char* name : {"data.mdb", "lock.mdb"}) {
    const std::string path = JoinPath(shard_dir, name);
    if (fs.Facts(path).ok()) RETURN_IF_ERROR(fs.Remove(path));
  }
  return fs.SyncDir(shard_dir);
}

}  // namespace

absl::Status CleanUpRewrites(const std::string& ledger_dir, Fs& fs) {
  ASSIGN_OR_RETURN(const std::vector<uint32_t> numbers, ListShards(fs, ledger_dir));
  for (const uint32_t number : numbers) {
    const std::string dir = ShardDir(ledger_dir, number);
    for (const std::string_view making : {kPackingDir, kPruningDir, kRepairingDir}) {
      if (const std::string path = JoinPath(dir, making); fs.Facts(path).ok()) RETURN_IF_ERROR(RemoveDir(fs, path));
    }
    if (fs.Facts(JoinPath(dir, kPrunedDir)).ok()) {
      if (fs.Facts(JoinPath(dir, "data.mdb")).ok() || fs.Facts(JoinPath(dir, kPackedDir)).ok()) RETURN_IF_ERROR(RemoveReplaced(fs, dir, kPrunedDir));
    } else if (fs.Facts(JoinPath(dir, kPackedDir)).ok() && fs.Facts(JoinPath(dir, "data.mdb")).ok()) {
      RETURN_IF_ERROR(RemoveReplaced(fs, dir, kPackedDir));
    }
  }
  return absl::OkStatus();
}

ShardRewrite::ShardRewrite(Shards& shards, uint32_t number, Dirs dirs, Change change, Fs& fs)
    : shards_(shards), number_(number), dirs_(dirs), change_(std::move(change)), fs_(fs), dir_(ShardDir(shards.dir(), number)), zip_(kLevel) {}
ShardRewrite::~ShardRewrite() = default;

absl::StatusOr<std::unique_ptr<ShardRewrite>> ShardRewrite::Begin(Shards& shards, uint32_t number, Dirs dirs, Change change, Fs& fs) {
  std::unique_ptr<ShardRewrite> job(new ShardRewrite(shards, number, dirs, std::move(change), fs));
  const std::shared_ptr<const Shards::Set> set = shards.set();
  job->known_ = set->sealed[number - 1];
  ASSIGN_OR_RETURN(job->from_, shards.Get(*set, number));
  const std::string making = JoinPath(job->dir_, dirs.making);
  if (fs.Facts(making).ok()) RETURN_IF_ERROR(RemoveDir(fs, making));
  RETURN_IF_ERROR(fs.MakeDirs(making, 0700));
  for (const std::string_view other : {kPackingDir, kPruningDir, kRepairingDir}) {
    if (other == dirs.making || !fs.Facts(JoinPath(job->dir_, other)).ok()) continue;
    RETURN_IF_ERROR(RemoveDir(fs, making));
    return absl::UnavailableError(job->dir_ + " is being rewritten already");
  }
  job->bytes_before_ = job->from_->env->Stats().file_bytes;
  // Sparse, and more than it can take: what is written is smaller, but for a page here and there.
  ASSIGN_OR_RETURN(job->to_, Shard::OpenPacking(making, 2 * job->bytes_before_ + (64 << 20)));
  return job;
}

uint64_t ShardRewrite::done() const {
  const uint64_t at = leaf_ > known_.first ? std::min(leaf_, known_.end) - known_.first : 0;
  return at + (at_ == At::kCompare || at_ == At::kDone ? leaves() : 0);
}

std::vector<std::pair<lmdb::Table, lmdb::Table>> ShardRewrite::Tables() const {
  return {{from_->nodes, to_.nodes}, {from_->heads, to_.heads}, {from_->batches, to_.batches}, {from_->hashes, to_.hashes},
          {from_->control, to_.control}, {from_->times, to_.times}, {from_->meta, to_.meta}};
}

absl::StatusOr<LeafParts> ShardRewrite::PartsOf(const lmdb::ReadTxn& txn, uint64_t index, const StoredLeaf& leaf) {
  LeafParts parts{leaf.bytes, leaf.sealed_key, "", nullptr};
  if (leaf.IsPacked()) {
    if (!from_->blocks.has_value()) return absl::DataLossError("it names a block in a shard that has none");
    if (source_block_.number != leaf.at.block) {
      RETURN_IF_ERROR(DecodeBlock(leaf.at.block, txn.Get(*from_->blocks, IndexKey(leaf.at.block)).value_or(""), source_block_.unzip, &source_block_.plain));
      source_block_.number = leaf.at.block;
    }
    if (leaf.at.offset > source_block_.plain.size() || leaf.at.size > source_block_.plain.size() - leaf.at.offset) {
      return absl::DataLossError(absl::StrCat("block ", leaf.at.block, " is shorter than it says"));
    }
    parts.plain = source_block_.plain.substr(leaf.at.offset, leaf.at.size);
  } else if (IsBatch(leaf.bytes)) {
    ASSIGN_OR_RETURN(const FrameView frame, FrameView::Decode(leaf.bytes));
    if (!frame.packed.empty()) {   // else without rows, or its bodies are gone: it stays as it is
      parts.head = leaf.bytes.substr(0, leaf.bytes.size() - frame.packed.size());
      RETURN_IF_ERROR(unzip_.Decompress(frame.packed, limits::kFrameRawBytes, &parts.plain));
    }
  }
  if (change_) RETURN_IF_ERROR(change_(index, &parts));
  return parts;
}

absl::Status ShardRewrite::CopyTable() {
  const auto tables = Tables();
  ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, lmdb::WriteTxn::Begin(*to_.env));
  const lmdb::ReadTxn read(*from_->env);
  lmdb::Cursor cursor(read, tables[table_].first);
  bool more = key_.empty() ? cursor.First() : cursor.Seek(key_);
  for (size_t n = 0; more && n < kSliceRows; ++n, more = cursor.Next()) {
    RETURN_IF_ERROR(txn->Append(tables[table_].second, cursor.key(), cursor.value()));
  }
  key_ = more ? std::string(cursor.key()) : "";
  if (!more && ++table_ == tables.size()) at_ = At::kLeaves;
  return txn->Commit();
}

absl::Status ShardRewrite::CloseBlock(lmdb::WriteTxn& txn) {
  if (plain_.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(txn.Append(*to_.blocks, IndexKey(block_), EncodeBlock(block_, plain_, zip_)));
  ++block_;
  plain_.clear();
  return absl::OkStatus();
}

absl::Status ShardRewrite::CopyLeaves() {
  ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, lmdb::WriteTxn::Begin(*to_.env));
  const lmdb::ReadTxn read(*from_->env);
  lmdb::Cursor cursor(read, from_->leaves);
  bool more = cursor.Seek(IndexKey(leaf_));
  for (size_t bytes = 0; more && bytes < kSliceBytes; more = cursor.Next()) {
    const uint64_t index = GetU64(cursor.key().data());
    absl::StatusOr<StoredLeaf> stored = ReadLeaf(index, cursor.value(), Crc::kCheck);
    if (!stored.ok()) return DamagedLeaf(index, from_->env->dir(), ToStd(stored.status().message()));
    absl::StatusOr<LeafParts> parts = PartsOf(read, index, *stored);
    if (!parts.ok()) return DamagedLeaf(index, from_->env->dir(), ToStd(parts.status().message()));
    const bool packed = !parts->plain.empty(), sealed = !parts->sealed_key.empty();
    stored->form = packed ? (sealed ? LeafForm::kPackedSealedKey : LeafForm::kPacked) : (sealed ? LeafForm::kSealedKey : LeafForm::kPlain);
    stored->at = {block_, static_cast<uint32_t>(plain_.size()), static_cast<uint32_t>(parts->plain.size())};
    stored->sealed_key = parts->sealed_key;
    stored->bytes = parts->head;
    plain_ += parts->plain;
    ASSIGN_OR_RETURN(char* const room, txn->Reserve(to_.leaves, cursor.key(), StoredSize(*stored), /*append=*/true));
    WriteLeaf(index, *stored, room);
    read.Unmap(cursor.value());
    if (plain_.size() >= kPackedBlockBytes) RETURN_IF_ERROR(CloseBlock(*txn));
    bytes += parts->plain.size() + parts->head.size();
    leaf_ = index + 1;
  }
  if (!more) {
    RETURN_IF_ERROR(CloseBlock(*txn));
    at_ = At::kCompare;
    leaf_ = 0;
  }
  return txn->Commit();
}

// Every leaf against the source: what is stored plainly, its rows and bodies, and that its entry has the hash the tree holds.
absl::Status ShardRewrite::CompareLeaves() {
  const lmdb::ReadTxn old_txn(*from_->env), new_txn(*to_.env);
  lmdb::Cursor a(old_txn, from_->leaves), b(new_txn, to_.leaves);
  bool more = a.Seek(IndexKey(leaf_));
  bool same = b.Seek(IndexKey(leaf_)) == more;
  for (size_t bytes = 0; more && same && bytes < kSliceBytes; more = a.Next(), same = b.Next() == more) {
    const uint64_t index = GetU64(a.key().data());
    ASSIGN_OR_RETURN(const StoredLeaf was, ReadLeaf(index, a.value(), Crc::kCheck));
    ASSIGN_OR_RETURN(const StoredLeaf is, ReadLeaf(index, b.value(), Crc::kCheck));
    ASSIGN_OR_RETURN(const LeafParts parts, PartsOf(old_txn, index, was));
    same = a.key() == b.key() && is.bytes == parts.head && is.sealed_key == parts.sealed_key && is.flags == was.flags &&
           is.logged_ns == was.logged_ns && is.IsPacked() == !parts.plain.empty();
    if (same && is.IsPacked()) {
      if (made_block_.number != is.at.block) {
        RETURN_IF_ERROR(DecodeBlock(is.at.block, new_txn.Get(*to_.blocks, IndexKey(is.at.block)).value_or(""), made_block_.unzip, &made_block_.plain));
        made_block_.number = is.at.block;
      }
      same = is.at.offset <= made_block_.plain.size() && made_block_.plain.compare(is.at.offset, is.at.size, parts.plain) == 0;
    }
    const std::optional<std::string_view> node = new_txn.Get(to_.nodes, NodeKey(0, index));
    same = same && node == std::optional(LeafHash(EntryOf(is.bytes)).view());
    if (!same) return absl::DataLossError(absl::StrCat("leaf ", index, " of the rewritten shard is not what the source's becomes"));
    old_txn.Unmap(a.value());
    bytes += parts.plain.size() + parts.head.size();
    leaf_ = index + 1;
  }
  if (!same) return absl::DataLossError(absl::StrCat("the rewritten shard has other leaves than the source after leaf ", leaf_));
  if (more) return absl::OkStatus();
  for (const auto& [old_table, new_table] : Tables()) RETURN_IF_ERROR(CompareTable(old_table, new_table));
  at_ = At::kDone;
  return absl::OkStatus();
}

absl::Status ShardRewrite::CompareTable(lmdb::Table a, lmdb::Table b) const {
  const lmdb::ReadTxn old_txn(*from_->env), new_txn(*to_.env);
  lmdb::Cursor was(old_txn, a), is(new_txn, b);
  bool more = was.First();
  bool same = is.First() == more;
  for (; more && same; more = was.Next(), same = same && is.Next() == more) same = was.key() == is.key() && was.value() == is.value();
  return same ? absl::OkStatus() : absl::DataLossError("an index of the rewritten shard differs from the source's");
}

absl::StatusOr<bool> ShardRewrite::Advance() {
  switch (at_) {
    case At::kTables: RETURN_IF_ERROR(CopyTable()); break;
    case At::kLeaves: RETURN_IF_ERROR(CopyLeaves()); break;
    case At::kCompare: RETURN_IF_ERROR(CompareLeaves()); break;
    case At::kDone: break;
  }
  return at_ == At::kDone;
}

absl::Status ShardRewrite::Finish() {
  CHECK(at_ == At::kDone);
  bytes_after_ = to_.env->Stats().file_bytes;
  const std::string making = JoinPath(dir_, dirs_.making);
  to_.env.reset();
  RETURN_IF_ERROR(fs_.Remove(JoinPath(making, "lock.mdb")));
  RETURN_IF_ERROR(fs_.SyncDir(making));
  RETURN_IF_ERROR(fs_.Rename(making, JoinPath(dir_, dirs_.made), Fsync::kYes));
  shards_.Reopen(number_);  // who reads the source keeps it until then
  if (const absl::Status removed = RemoveReplaced(fs_, dir_, dirs_.made); !removed.ok()) {
    LogWarn("What a rewritten shard was before is still there; the next start removes it.", {{"dir", dir_}, {"error", Describe(removed)}});
  }
  return absl::OkStatus();
}

void ShardRewrite::Abandon() {
  to_.env.reset();
  if (const std::string making = JoinPath(dir_, dirs_.making); fs_.Facts(making).ok()) {
    if (const absl::Status removed = RemoveDir(fs_, making); !removed.ok()) LogWarn("What was begun is still there.", {{"error", Describe(removed)}});
  }
}

}  // namespace orgtrail
