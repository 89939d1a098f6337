#include "aggregator/ledger/repack.h"

#include <utility>

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
constexpr absl::Duration kBetweenLooks = absl::Seconds(10), kAfterFailure = absl::Hours(1);

absl::Status RemoveDir(Fs& fs, const std::string& dir) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(dir));
  for (const std::string& name : names) RETURN_IF_ERROR(fs.Remove(JoinPath(dir, name)));
  RETURN_IF_ERROR(fs.Remove(dir));
  return fs.SyncDir(DirName(dir));
}

// The original beside what replaced it.
absl::Status RemoveOriginal(Fs& fs, const std::string& shard_dir) {
  for (const char* name : {"data.mdb", "lock.mdb"}) {
    const std::string path = JoinPath(shard_dir, name);
    if (fs.Facts(path).ok()) RETURN_IF_ERROR(fs.Remove(path));
  }
  return fs.SyncDir(shard_dir);
}

// A leaf as both forms have it: what is stored plainly, and its rows and bodies.
struct Parts {
  std::string_view head;
  std::string plain;
};
absl::StatusOr<Parts> PartsOf(const StoredLeaf& leaf, ZstdDecompressor& zstd) {
  Parts parts{leaf.bytes, ""};
  if (!IsBatch(leaf.bytes)) return parts;
  ASSIGN_OR_RETURN(const FrameView frame, FrameView::Decode(leaf.bytes));
  if (frame.packed.empty()) return parts;   // without rows, or its bodies are gone: it stays as it is
  parts.head = leaf.bytes.substr(0, leaf.bytes.size() - frame.packed.size());
  RETURN_IF_ERROR(zstd.Decompress(frame.packed, limits::kFrameRawBytes, &parts.plain));
  return parts;
}

}  // namespace

// One shard: the tables one after another, then the leaves, then the comparison.
struct Repacker::Job {
  enum class At { kTables, kLeaves, kCompare } at = At::kTables;
  uint32_t number = 0;
  std::string dir;                    // of the shard
  std::shared_ptr<const Shard> from;
  Shard to;
  SealedShard known;
  size_t table = 0;
  std::string key;                    // where in the table; empty: at its beginning
  uint64_t leaf = 0;                  // the next; copies first
  bool is_leaf_begun = false;
  uint64_t block = 0;
  std::string plain;                  // of the open block
  ZstdCompressor zip{kLevel};
  ZstdDecompressor unzip, unzip_block;
  uint64_t compared_block = UINT64_MAX;
  std::string compared;               // its plain bytes

  std::vector<std::pair<lmdb::Table, lmdb::Table>> Tables() const {
    return {{from->nodes, to.nodes}, {from->heads, to.heads}, {from->batches, to.batches}, {from->hashes, to.hashes},
            {from->control, to.control}, {from->times, to.times}, {from->meta, to.meta}};
  }
  absl::Status CopyTable();
  absl::Status CopyLeaves();
  absl::Status CloseBlock(lmdb::WriteTxn& txn);
  absl::Status CompareLeaves();
  absl::Status CompareTable(lmdb::Table a, lmdb::Table b) const;
};

absl::Status Repacker::Job::CopyTable() {
  const auto tables = Tables();
  ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, lmdb::WriteTxn::Begin(*to.env));
  const lmdb::ReadTxn read(*from->env);
  lmdb::Cursor cursor(read, tables[table].first);
  bool more = key.empty() ? cursor.First() : cursor.Seek(key);
  for (size_t n = 0; more && n < kSliceRows; ++n, more = cursor.Next()) {
    RETURN_IF_ERROR(txn->Append(tables[table].second, cursor.key(), cursor.value()));
  }
  key = more ? std::string(cursor.key()) : "";
  if (!more && ++table == tables.size()) at = At::kLeaves;
  return txn->Commit();
}

absl::Status Repacker::Job::CloseBlock(lmdb::WriteTxn& txn) {
  if (plain.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(txn.Append(*to.blocks, IndexKey(block), EncodeBlock(block, plain, zip)));
  ++block;
  plain.clear();
  return absl::OkStatus();
}

absl::Status Repacker::Job::CopyLeaves() {
  ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, lmdb::WriteTxn::Begin(*to.env));
  const lmdb::ReadTxn read(*from->env);
  lmdb::Cursor cursor(read, from->leaves);
  bool more = cursor.Seek(IndexKey(leaf));
  for (size_t bytes = 0; more && bytes < kSliceBytes; more = cursor.Next()) {
    const uint64_t index = GetU64(cursor.key().data());
    absl::StatusOr<StoredLeaf> stored = ReadLeaf(index, cursor.value(), Crc::kCheck);
    if (!stored.ok()) return DamagedLeaf(index, from->env->dir(), ToStd(stored.status().message()));
    absl::StatusOr<Parts> parts = PartsOf(*stored, unzip);
    if (!parts.ok()) return DamagedLeaf(index, from->env->dir(), ToStd(parts.status().message()));
    if (!parts->plain.empty()) {
      stored->form = stored->HasSealedKey() ? LeafForm::kPackedSealedKey : LeafForm::kPacked;
      stored->at = {block, static_cast<uint32_t>(plain.size()), static_cast<uint32_t>(parts->plain.size())};
      stored->bytes = parts->head;
      plain += parts->plain;
    }
    ASSIGN_OR_RETURN(char* const room, txn->Reserve(to.leaves, cursor.key(), StoredSize(*stored), /*append=*/true));
    WriteLeaf(index, *stored, room);
    read.Unmap(cursor.value());
    if (plain.size() >= kPackedBlockBytes) RETURN_IF_ERROR(CloseBlock(*txn));
    bytes += parts->plain.size() + parts->head.size();
    leaf = index + 1;
  }
  if (!more) {
    RETURN_IF_ERROR(CloseBlock(*txn));
    at = At::kCompare;
    leaf = 0;
  }
  return txn->Commit();
}

// Every leaf against the original: what is stored plainly, its rows and bodies, and that its entry has the hash the tree holds.
absl::Status Repacker::Job::CompareLeaves() {
  const lmdb::ReadTxn old_txn(*from->env), new_txn(*to.env);
  lmdb::Cursor a(old_txn, from->leaves), b(new_txn, to.leaves);
  bool more = a.Seek(IndexKey(leaf));
  bool same = b.Seek(IndexKey(leaf)) == more;
  for (size_t bytes = 0; more && same && bytes < kSliceBytes; more = a.Next(), same = b.Next() == more) {
    const uint64_t index = GetU64(a.key().data());
    ASSIGN_OR_RETURN(const StoredLeaf was, ReadLeaf(index, a.value(), Crc::kCheck));
    ASSIGN_OR_RETURN(const StoredLeaf is, ReadLeaf(index, b.value(), Crc::kCheck));
    ASSIGN_OR_RETURN(const Parts parts, PartsOf(was, unzip));
    same = a.key() == b.key() && is.bytes == parts.head && is.sealed_key == was.sealed_key && is.flags == was.flags &&
           is.logged_ns == was.logged_ns && is.IsPacked() == !parts.plain.empty();
    if (same && is.IsPacked()) {
      if (compared_block != is.at.block) {
        const std::optional<std::string_view> value = new_txn.Get(*to.blocks, IndexKey(is.at.block));
        RETURN_IF_ERROR(DecodeBlock(is.at.block, value.value_or(""), unzip_block, &compared));
        compared_block = is.at.block;
      }
      same = compared.compare(is.at.offset, is.at.size, parts.plain) == 0;
    }
    const std::optional<std::string_view> node = new_txn.Get(to.nodes, NodeKey(0, index));
    same = same && node == std::optional(LeafHash(EntryOf(is.bytes)).view());
    if (!same) return absl::DataLossError(absl::StrCat("leaf ", index, " of the rewritten shard differs from the original"));
    old_txn.Unmap(a.value());
    bytes += parts.plain.size() + parts.head.size();
    leaf = index + 1;
  }
  if (!same) return absl::DataLossError(absl::StrCat("the rewritten shard has other leaves than the original after leaf ", leaf));
  if (more) return absl::OkStatus();
  for (const auto& [old_table, new_table] : Tables()) RETURN_IF_ERROR(CompareTable(old_table, new_table));
  at = At::kTables;  // done
  leaf = UINT64_MAX;
  return absl::OkStatus();
}

absl::Status Repacker::Job::CompareTable(lmdb::Table a, lmdb::Table b) const {
  const lmdb::ReadTxn old_txn(*from->env), new_txn(*to.env);
  lmdb::Cursor was(old_txn, a), is(new_txn, b);
  bool more = was.First();
  bool same = is.First() == more;
  for (; more && same; more = was.Next(), same = same && is.Next() == more) same = was.key() == is.key() && was.value() == is.value();
  return same ? absl::OkStatus() : absl::DataLossError("an index of the rewritten shard differs from the original");
}

Repacker::Repacker(Shards& shards, Fs& fs, const Clock& clock) : shards_(shards), fs_(fs), clock_(clock) {}
Repacker::~Repacker() = default;

absl::Status Repacker::CleanUp(const std::string& ledger_dir, Fs& fs) {
  ASSIGN_OR_RETURN(const std::vector<uint32_t> numbers, ListShards(fs, ledger_dir));
  for (const uint32_t number : numbers) {
    const std::string dir = ShardDir(ledger_dir, number);
    if (const std::string packing = JoinPath(dir, kPackingDir); fs.Facts(packing).ok()) RETURN_IF_ERROR(RemoveDir(fs, packing));
    if (fs.Facts(JoinPath(dir, kPackedDir)).ok() && fs.Facts(JoinPath(dir, "data.mdb")).ok()) RETURN_IF_ERROR(RemoveOriginal(fs, dir));
  }
  return absl::OkStatus();
}

bool Repacker::NextShard() {
  const std::shared_ptr<const Shards::Set> set = shards_.set();
  while (next_ <= set->sealed.size() && fs_.Facts(JoinPath(ShardDir(shards_.dir(), next_), kPackedDir)).ok()) ++next_;
  progress_.With([&](RepackProgress& p) { p.waiting = static_cast<uint32_t>(set->sealed.size() - (next_ - 1)); });
  return next_ <= set->sealed.size();
}

absl::Status Repacker::Begin(uint32_t number) {
  const std::shared_ptr<const Shards::Set> set = shards_.set();
  auto job = std::make_unique<Job>();
  job->number = number;
  job->dir = ShardDir(shards_.dir(), number);
  job->known = set->sealed[number - 1];
  ASSIGN_OR_RETURN(job->from, shards_.Get(*set, number));
  const std::string packing = JoinPath(job->dir, kPackingDir);
  if (fs_.Facts(packing).ok()) RETURN_IF_ERROR(RemoveDir(fs_, packing));
  RETURN_IF_ERROR(fs_.MakeDirs(packing, 0700));
  // Sparse, and more than it can take: what is written is smaller, but for a page here and there.
  ASSIGN_OR_RETURN(job->to, Shard::OpenPacking(packing, 2 * job->from->env->Stats().file_bytes + (64 << 20)));
  progress_.With([&](RepackProgress& p) {
    p.shard = number;
    p.done = 0;
    p.total = 2 * (job->known.end - job->known.first);  // written, then compared
  });
  job_ = std::move(job);
  return absl::OkStatus();
}

absl::Status Repacker::Advance(Job& job) {
  switch (job.at) {
    case Job::At::kTables: RETURN_IF_ERROR(job.CopyTable()); break;
    case Job::At::kLeaves: RETURN_IF_ERROR(job.CopyLeaves()); break;
    case Job::At::kCompare: RETURN_IF_ERROR(job.CompareLeaves()); break;
  }
  const uint64_t leaves = job.known.end - job.known.first;
  const uint64_t at = job.leaf > job.known.first ? std::min(job.leaf, job.known.end) - job.known.first : 0;
  progress_.With([&](RepackProgress& p) { p.done = at + (job.at == Job::At::kCompare ? leaves : 0); });
  return job.leaf == UINT64_MAX ? Finish(job) : absl::OkStatus();
}

absl::Status Repacker::Finish(Job& job) {
  const uint64_t before = job.from->env->Stats().file_bytes, after = job.to.env->Stats().file_bytes;
  const std::string packing = JoinPath(job.dir, kPackingDir);
  job.to.env.reset();
  RETURN_IF_ERROR(fs_.Remove(JoinPath(packing, "lock.mdb")));
  RETURN_IF_ERROR(fs_.SyncDir(packing));
  RETURN_IF_ERROR(fs_.Rename(packing, JoinPath(job.dir, kPackedDir), Fsync::kYes));
  shards_.Reopen(job.number);  // who reads the original keeps it until then
  if (const absl::Status removed = RemoveOriginal(fs_, job.dir); !removed.ok()) {
    LogWarn("The original of a repacked shard is still there; the next start removes it.", {{"dir", job.dir}, {"error", Describe(removed)}});
  }
  progress_.With([&](RepackProgress& p) {
    p.bytes_before += before;
    p.bytes_after += after;
    p.shard = 0;
    p.done = p.total = 0;
    --p.waiting;
  });
  LogInfo("A sealed shard was repacked.", {{"dir", job.dir}, {"bytes", std::to_string(before)}, {"now", std::to_string(after)}});
  ++next_;
  job_.reset();
  return absl::OkStatus();
}

Tick Repacker::Step(Tick now) {
  absl::Status done;
  if (job_ != nullptr) {
    done = Advance(*job_);
  } else {
    if (!NextShard()) return now + kBetweenLooks;
    done = Begin(next_);
  }
  if (done.ok()) return clock_.Now() + (clock_.Now() - now);  // as long a rest: at most half a core
  const std::string dir = ShardDir(shards_.dir(), next_);
  LogError("A sealed shard cannot be repacked. It stays as it is, and is tried again in an hour.", {{"dir", dir}, {"error", Describe(done)}});
  job_.reset();
  if (const std::string packing = JoinPath(dir, kPackingDir); fs_.Facts(packing).ok()) {
    if (const absl::Status removed = RemoveDir(fs_, packing); !removed.ok()) LogWarn("What was begun is still there.", {{"error", Describe(removed)}});
  }
  progress_.With([](RepackProgress& p) { p.shard = 0; });
  return now + kAfterFailure;
}

}  // namespace orgtrail
