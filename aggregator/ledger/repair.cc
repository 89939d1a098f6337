#include "aggregator/ledger/repair.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "aggregator/ledger/anchor.h"
#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/roll.h"
#include "aggregator/ledger/shards.h"
#include "common/base/bytes.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/cipher.h"
#include "common/format/batch.h"
#include "common/format/chain.h"
#include "common/format/expire.h"
#include "common/format/frame.h"

namespace orgtrail {
namespace {

constexpr size_t kPiece = 1 << 20;

std::string CandidateDir(const std::string& ledger_dir, uint32_t shard) { return JoinPath(ShardDir(ledger_dir, shard), kRepairingDir); }

absl::Status Empty(Fs& fs, const std::string& dir) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(dir));
  for (const std::string& name : names) RETURN_IF_ERROR(fs.Remove(JoinPath(dir, name)));
  return absl::OkStatus();
}

absl::Status RemoveAll(Fs& fs, const std::string& dir) {
  const absl::Status emptied = Empty(fs, dir);
  if (absl::IsNotFound(emptied)) return absl::OkStatus();
  RETURN_IF_ERROR(emptied);
  RETURN_IF_ERROR(fs.Remove(dir));
  return fs.SyncDir(DirName(dir));
}

// What is hashed is what the tree holds, and what the records lead to is what their header says.
absl::Status CheckFetched(const RawLeaf& raw, const Hash& want, ZstdDecompressor& zstd) {
  if (LeafHash(EntryOf(raw.bytes)) != want) return absl::DataLossError("another leaf than this ledger's tree has there");
  if (!IsBatch(raw.bytes)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const FrameView frame, FrameView::Decode(raw.bytes));
  ASSIGN_OR_RETURN(const BatchEntry entry, BatchEntry::Decode(frame.entry));
  RETURN_IF_ERROR(CheckExtension(entry.header, frame.extension, nullptr, nullptr));
  if (frame.bodies_gone) return absl::OkStatus();
  ASSIGN_OR_RETURN(Events events, InflateFrame(frame, zstd));
  return CheckRows(entry.header, events.rows, HashRows(frame.batch_key, events.rows));
}

struct Source {
  std::string dir;
  std::unique_ptr<Ledger> ledger;
};

absl::StatusOr<std::vector<Source>> OpenSources(const RepairOrder& order, const std::string& origin, Fs& fs, const Clock& clock) {
  std::vector<Source> sources;
  for (const std::string& dir : order.sources) {
    LedgerOptions options;
    options.dir = dir;
    options.read_only = true;
    options.map_bytes = order.map_bytes;
    options.kek = order.kek;
    absl::StatusOr<std::unique_ptr<Ledger>> ledger = Ledger::Open(options, origin, nullptr, fs, clock);
    if (!ledger.ok()) return Annotate(ledger.status(), dir);
    sources.push_back({dir, *std::move(ledger)});
  }
  return sources;
}

// The batch as the ledger keeps one whose bodies are gone; nothing when its entry is not what the tree has.
std::optional<std::string> WithoutBodies(std::string_view stored_value, uint64_t index, const Hash& want) {
  const absl::StatusOr<StoredLeaf> stored = ReadLeaf(index, stored_value, Crc::kSkip);
  if (!stored.ok() || !IsBatch(stored->bytes)) return std::nullopt;
  const std::string_view entry = EntryOf(stored->bytes);
  const absl::StatusOr<BatchEntry> batch = BatchEntry::Decode(entry);
  if (entry.empty() || LeafHash(entry) != want || !batch.ok() || batch->header.n_events == 0) return std::nullopt;
  const size_t at = 6 + entry.size();
  if (stored->bytes.size() < at + 4) return std::nullopt;
  const std::string_view extension = stored->bytes.substr(at + 4, GetU32(stored->bytes.data() + at));
  if (!CheckExtension(batch->header, extension, nullptr, nullptr).ok()) return std::nullopt;
  return BodilessFrame(entry, extension, TombstoneReason::kCorrupt);
}

struct Patch {
  std::string bytes;
  int64_t logged_ns = 0;
  uint16_t flags = 0;
};

// What stands before a leaf's bytes is not under any hash. It counts when the leaf is sound as it lies there (its bodies never came, or lie in a block
// that is damaged), else when the leaf with `frame` in it has the CRC it was stored with; then it is what was logged, bit for bit.
// `by_time` is what the time index says of it. Nothing: nobody can say any more.
std::optional<Patch> AsLogged(uint64_t index, std::string_view stored_value, std::string_view frame, int64_t by_time) {
  if (const absl::StatusOr<StoredLeaf> sound = ReadLeaf(index, stored_value, Crc::kCheck); sound.ok()) {
    return Patch{std::string(frame), sound->logged_ns, sound->flags};
  }
  absl::StatusOr<StoredLeaf> leaf = ReadLeaf(index, stored_value, Crc::kSkip);
  const size_t key = BatchKeyOffset(frame);
  if (!leaf.ok() || key == std::string_view::npos || frame.size() < key + 36) return std::nullopt;
  std::string bytes(leaf->IsPacked() ? frame.substr(0, key + 36) : frame);
  if (leaf->HasSealedKey()) std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(key), 32, '\0');
  leaf->bytes = bytes;
  constexpr size_t kCrcAt = kLeafHeaderBytes - 4;
  const auto fits = [&](uint16_t flags, int64_t logged_ns) {
    leaf->flags = flags;
    leaf->logged_ns = logged_ns;
    std::string value(StoredSize(*leaf), '\0');
    WriteLeaf(index, *leaf, value.data());
    return value.compare(kCrcAt, 4, stored_value.substr(kCrcAt, 4)) == 0;
  };
  const auto patch = [&] { return Patch{std::string(frame), leaf->logged_ns, leaf->flags}; };
  if (fits(leaf->flags, leaf->logged_ns)) return patch();
  for (uint16_t flags = 0; flags <= (kLeafQuarantined | kLeafLate); ++flags) {
    if (fits(flags, by_time)) return patch();
  }
  return std::nullopt;
}

// When a leaf was logged, by the index: the last time in it that does not begin behind the leaf. `not_before`: of a leaf in front of it.
int64_t LoggedByIndex(const lmdb::ReadTxn& txn, const Shard& shard, uint64_t index, int64_t not_before) {
  int64_t logged_ns = not_before;
  lmdb::Cursor cursor(txn, shard.times);
  for (bool more = cursor.Seek(IndexKey(static_cast<uint64_t>(not_before))); more; more = cursor.Next()) {
    if (cursor.key().size() != 8 || cursor.value().size() != 8 || GetU64(cursor.value().data()) > index) break;
    logged_ns = static_cast<int64_t>(GetU64(cursor.key().data()));
  }
  return logged_ns;
}

// With a key-encryption key the batch key is sealed again, as the ledger does.
absl::Status Put(Shard& to, uint64_t index, Patch patch, const std::string& kek, const std::string& origin) {
  ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, lmdb::WriteTxn::Begin(*to.env));
  StoredLeaf leaf;
  leaf.flags = patch.flags;
  leaf.logged_ns = patch.logged_ns;
  std::string sealed;
  if (const size_t at = BatchKeyOffset(patch.bytes); !kek.empty() && IsBatch(patch.bytes) && at != std::string_view::npos) {
    sealed = GcmSeal(kek, LeafKeyContext(origin, index), std::string_view(patch.bytes).substr(at, 32), SystemRng());
    std::fill_n(patch.bytes.begin() + static_cast<ptrdiff_t>(at), 32, '\0');
    leaf.form = LeafForm::kSealedKey;
    leaf.sealed_key = sealed;
  }
  leaf.bytes = patch.bytes;
  std::string value(StoredSize(leaf), '\0');
  WriteLeaf(index, leaf, value.data());
  RETURN_IF_ERROR(txn->Put(to.leaves, IndexKey(index), value));
  return txn->Commit();
}

}  // namespace

std::string LedgerDirOf(Fs& fs, const std::string& given) {
  const std::string below = JoinPath(given, "ledger");
  return fs.Facts(below).ok() ? below : given;
}

absl::Status RemoveCandidate(const std::string& ledger_dir, uint32_t shard, Fs& fs) { return RemoveAll(fs, CandidateDir(ledger_dir, shard)); }

std::string Stretches(const std::vector<uint64_t>& leaves, size_t most) {
  std::string words;
  size_t stretches = 0;
  for (size_t i = 0; i < leaves.size();) {
    size_t j = i;
    while (j + 1 < leaves.size() && leaves[j + 1] == leaves[j] + 1) ++j;
    if (stretches++ == most) return words + ", …";
    words += (words.empty() ? "" : ", ") + std::to_string(leaves[i]) + (j > i ? " to " + std::to_string(leaves[j]) : "");
    i = j + 1;
  }
  return words;
}

absl::Status NoteForTheLog(const std::string& state_dir, const std::vector<std::string>& done, Fs& fs, const Clock& clock) {
  const std::string path = JoinPath(state_dir, kRepairedFile);
  absl::StatusOr<std::string> text = ReadFile(fs, path, 1 << 20);
  if (!text.ok()) text = std::string();
  for (const std::string& words : done) *text += Rfc3339(clock.Wall()) + " " + Printable(words) + "\n";
  return WriteFileAtomically(fs, path, *text, 0600);
}

absl::StatusOr<Candidate> CopyAndPatch(const RepairOrder& order, Fs& fs, const Clock& clock) {
  ASSIGN_OR_RETURN(OpenedShards opened, OpenShards(order.ledger_dir, order.map_bytes, /*read_only=*/true, fs, 0));
  const uint32_t active_number = static_cast<uint32_t>(opened.sealed.size() + 1);
  if (!opened.state.has_value() || order.shard > active_number) return absl::NotFoundError("there is no such shard");
  Shards shards(order.ledger_dir);
  shards.Begin(std::move(opened.sealed), std::move(opened.active));
  const std::shared_ptr<const Shards::Set> set = shards.set();
  ASSIGN_OR_RETURN(const std::shared_ptr<const Shard> own, shards.Get(*set, order.shard));
  Candidate candidate;
  candidate.is_packed = own->blocks.has_value();
  candidate.is_pruned = BaseName(own->env->dir()) == kPrunedDir;
  const std::string dir = CandidateDir(order.ledger_dir, order.shard);
  RETURN_IF_ERROR(fs.MakeDirs(dir, 0700));   // it may be there: while it is, nobody rewrites the shard
  RETURN_IF_ERROR(Empty(fs, dir));
  RETURN_IF_ERROR(own->env->CopyTo(dir));
  absl::StatusOr<Shard> to = candidate.is_packed ? Shard::OpenPacking(dir, order.map_bytes) : Shard::Open(dir, order.map_bytes, /*read_only=*/false);
  if (!to.ok()) return to.status();

  std::string origin;
  {
    const lmdb::ReadTxn txn(*own->env);
    origin = std::string(txn.Get(own->meta, kOriginKey).value_or(""));
  }
  ASSIGN_OR_RETURN(const std::vector<Source> sources, OpenSources(order, origin, fs, clock));
  ZstdDecompressor zstd;
  ZstdCompressor zip(1);
  for (const uint64_t index : order.leaves) {
    std::optional<std::string> value;
    std::optional<Hash> want;
    int64_t not_before = 0, not_after = INT64_MAX;   // its neighbours' times
    int64_t by_time = 0;
    {
      const lmdb::ReadTxn txn(*own->env);
      if (const auto v = txn.Get(own->leaves, IndexKey(index))) value = std::string(*v);
      if (const auto node = txn.Get(own->nodes, NodeKey(0, index)); node && node->size() == 32) want = Hash::From(*node);
      const auto time_of = [&](uint64_t i, int64_t otherwise) {
        const absl::StatusOr<StoredLeaf> near = ReadLeaf(i, txn.Get(own->leaves, IndexKey(i)).value_or(""), Crc::kCheck);
        return near.ok() ? near->logged_ns : otherwise;
      };
      if (index > 0) not_before = time_of(index - 1, not_before);
      not_after = std::max(not_before, time_of(index + 1, not_after));
      by_time = LoggedByIndex(txn, *own, index, not_before);
    }
    if (!value && set->NumberOf(index) != order.shard) continue;   // a head of this shard names it
    bool done = false;
    if (const auto sealed = order.returned.find(index); sealed != order.returned.end() && value && want && !candidate.is_pruned) {
      const absl::StatusOr<FrameView> frame = FrameView::Decode(sealed->second);
      std::optional<Patch> patch = AsLogged(index, *value, sealed->second, by_time);
      if (frame.ok() && !frame->bodies_gone && CheckFetched({index, 0, 0, sealed->second}, *want, zstd).ok() && patch) {
        RETURN_IF_ERROR(Put(*to, index, *std::move(patch), order.kek, origin));
        candidate.repaired.push_back({index, std::string(kFromAgent)});
        done = true;
      }
    }
    for (const Source& source : sources) {
      if (done) break;
      if (index >= source.ledger->head().size) continue;
      absl::StatusOr<RawLeaf> raw = source.ledger->ReadRaw(index);
      if (!raw.ok()) continue;   // damaged there too, or its key is sealed
      // Where this ledger's own hash is damaged, the root that all leaves must lead to decides.
      const Hash hash = LeafHash(EntryOf(raw->bytes));
      if (!CheckFetched(*raw, want.value_or(hash), zstd).ok()) continue;
      if (candidate.is_pruned && IsBatch(raw->bytes)) {   // what expired does not come back
        ASSIGN_OR_RETURN(const FrameView frame, FrameView::Decode(raw->bytes));
        if (!frame.bodies_gone) {
          ASSIGN_OR_RETURN(raw->bytes, ExpiredFrame(frame, zstd, zip));
        }
      }
      RETURN_IF_ERROR(Put(*to, index, {std::move(raw->bytes), raw->logged_ns, raw->flags}, candidate.is_pruned ? "" : order.kek, origin));
      candidate.repaired.push_back({index, source.dir});
      done = true;
      break;
    }
    if (done) continue;
    if (order.give_up_bodies && value && want) {
      const absl::StatusOr<StoredLeaf> stored = ReadLeaf(index, *value, Crc::kSkip);
      if (std::optional<std::string> bodiless = WithoutBodies(*value, index, *want)) {
        // What stands before the bytes may be damaged as well; the tree does not hold it.
        const uint16_t flags = stored->flags & (kLeafQuarantined | kLeafLate);
        RETURN_IF_ERROR(Put(*to, index, {*std::move(bodiless), std::clamp(stored->logged_ns, not_before, not_after), flags}, "", origin));
        candidate.repaired.push_back({index, ""});
        continue;
      }
    }
    candidate.left.push_back(index);
  }
  to->env.reset();
  fs.Remove(JoinPath(dir, "lock.mdb")).IgnoreError();   // whoever opens it makes its own
  return candidate;
}

absl::StatusOr<Candidate> CopyWhole(const RepairOrder& order, const std::string& from, const std::string& anchor_dir, Fs& fs, const Clock& clock) {
  // What must be in it: for a sealed shard what its successors say, for the newest what the anchor does.
  std::optional<SealedShard> known;
  ASSIGN_OR_RETURN(const std::vector<uint32_t> numbers, ListShards(fs, order.ledger_dir));
  const bool newest = numbers.empty() || order.shard == numbers.back();
  if (!newest) {
    absl::StatusOr<OpenedShards> opened = OpenShards(order.ledger_dir, order.map_bytes, /*read_only=*/true, fs, 0);
    if (!opened.ok()) return Annotate(opened.status(), "the newest shard says what the others must hold; repair that one first");
    if (order.shard > opened->sealed.size()) return absl::NotFoundError("there is no such shard");
    known = opened->sealed[order.shard - 1];
  }
  LedgerOptions options;
  options.dir = from;
  options.read_only = true;
  options.map_bytes = order.map_bytes;
  std::string file;
  Candidate candidate;
  {
    ASSIGN_OR_RETURN(const std::unique_ptr<Ledger> source, Ledger::Open(options, "", nullptr, fs, clock));
    if (newest) {
      ASSIGN_OR_RETURN(const std::optional<Checkpoint> anchored, Anchor(anchor_dir, fs).Load(source->origin(), nullptr));
      if (!anchored) return absl::FailedPreconditionError("there is no anchor that says what the newest shard must hold: restore a backup, and governance declares it");
      if (anchored->size > source->head().size) {
        return absl::FailedPreconditionError(absl::StrCat(from, " ends with ", source->head().size, " leaves, ", anchored->size, " were signed: it is older. "
                                                          "Restore it, and governance declares that the log goes on from there"));
      }
      ASSIGN_OR_RETURN(const Hash root, source->Root(anchored->size));
      if (root != anchored->root) return absl::FailedPreconditionError(from + " is of another log than the anchor");
    }
  }
  const std::string shard_dir = ShardDir(from, order.shard), packed = JoinPath(JoinPath(shard_dir, kPackedDir), "data.mdb"),
                    pruned = JoinPath(JoinPath(shard_dir, kPrunedDir), "data.mdb");
  candidate.is_pruned = fs.Facts(pruned).ok();
  candidate.is_packed = candidate.is_pruned || fs.Facts(packed).ok();
  file = candidate.is_pruned ? pruned : candidate.is_packed ? packed : JoinPath(shard_dir, "data.mdb");
  const std::string dir = CandidateDir(order.ledger_dir, order.shard);
  RETURN_IF_ERROR(RemoveAll(fs, dir));
  RETURN_IF_ERROR(fs.MakeDirs(dir, 0700));
  {
    absl::StatusOr<std::unique_ptr<File>> in = fs.Open(file, OpenMode::kRead);
    if (!in.ok()) return absl::FailedPreconditionError(std::string(in.status().message()));
    ASSIGN_OR_RETURN(const std::unique_ptr<File> out, fs.Open(JoinPath(dir, "data.mdb"), OpenMode::kCreateNew, 0600));
    std::string piece(kPiece, '\0');
    for (uint64_t at = 0;;) {
      ASSIGN_OR_RETURN(const size_t n, (*in)->ReadAt(at, piece.data(), piece.size()));
      if (n == 0) break;
      RETURN_IF_ERROR(out->Append(std::string_view(piece).substr(0, n)));
      at += n;
    }
    RETURN_IF_ERROR(out->Sync());
  }
  // A place that is packed stays one: its table of blocks is empty then.
  const bool own_packed = fs.Facts(JoinPath(ShardDir(order.ledger_dir, order.shard), kPackedDir)).ok();
  if (own_packed && !candidate.is_packed) {
    absl::StatusOr<Shard> with_blocks = Shard::OpenPacking(dir, order.map_bytes);
    if (!with_blocks.ok()) return with_blocks.status();
    candidate.is_packed = true;
  }
  if (known) {
    absl::StatusOr<Shard> copy = candidate.is_packed ? Shard::OpenPacking(dir, order.map_bytes) : Shard::Open(dir, order.map_bytes, /*read_only=*/false);
    if (!copy.ok()) return copy.status();
    if (const absl::Status same = CheckContinued(*known, *copy); !same.ok()) return absl::FailedPreconditionError(from + ": " + std::string(same.message()));
    const lmdb::ReadTxn txn(*copy->env);
    if (!txn.Get(copy->meta, kSealKey).has_value()) return absl::FailedPreconditionError(from + " was copied before this shard was complete");
  }
  fs.Remove(JoinPath(dir, "lock.mdb")).IgnoreError();
  return candidate;
}

absl::Status Install(const std::string& ledger_dir, uint32_t shard, bool is_packed, Fs& fs, bool is_pruned) {
  const std::string dir = ShardDir(ledger_dir, shard), candidate = CandidateDir(ledger_dir, shard), pruned = JoinPath(dir, kPrunedDir);
  const std::string packed = is_pruned ? pruned : JoinPath(dir, kPackedDir);
  const std::string file = JoinPath(candidate, "data.mdb");
  {
    ASSIGN_OR_RETURN(const std::unique_ptr<File> written, fs.Open(file, OpenMode::kAppend, 0600));
    RETURN_IF_ERROR(written->Sync());
  }
  fs.Remove(JoinPath(candidate, "lock.mdb")).IgnoreError();
  RETURN_IF_ERROR(fs.SyncDir(candidate));
  if (!is_pruned) RETURN_IF_ERROR(RemoveAll(fs, pruned));   // it would be read instead
  if (is_packed && !fs.Facts(packed).ok()) {
    RETURN_IF_ERROR(fs.Rename(candidate, packed, Fsync::kYes));
    fs.Remove(JoinPath(dir, "data.mdb")).IgnoreError();   // the next start removes it otherwise
    fs.Remove(JoinPath(dir, "lock.mdb")).IgnoreError();
    return fs.SyncDir(dir);
  }
  const std::string place = is_packed ? packed : dir;
  fs.Remove(JoinPath(place, "lock.mdb")).IgnoreError();
  RETURN_IF_ERROR(fs.Rename(file, JoinPath(place, "data.mdb"), Fsync::kYes));
  return RemoveCandidate(ledger_dir, shard, fs);
}

}  // namespace orgtrail
