#include "aggregator/ledger/ledger.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "aggregator/ledger/anchor.h"
#include "aggregator/ledger/inflater.h"
#include "aggregator/ledger/shard.h"
#include "aggregator/ledger/tail.h"
#include "common/base/bytes.h"
#include "common/base/guarded.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/crypto/cipher.h"

namespace orgtrail {
namespace {

constexpr size_t kRecordsPerTxn = 1024;                     // a read transaction is short: what it pins, the writer cannot reuse
constexpr absl::Duration kBetweenAnchors = absl::Seconds(1);
constexpr uint64_t kTileWidth = 256;                        // C2SP tlog-tiles
constexpr int kTileHeight = 8;

class DiskLedger final : public Ledger {
 public:
  DiskLedger(const LedgerOptions& options, const SigningKey* log_key, Fs& fs, const Clock& clock)
      : options_(options), log_key_(log_key), clock_(clock), anchor_(options.anchor_dir, fs), tail_(options.tail_bytes) {}
  ~DiskLedger() override;

  absl::Status Start(std::string origin, Fs& fs);

  absl::StatusOr<Flush> Append(std::span<Admitted> group) override;
  Tick MaybeAnchor(Tick now) override;
  void SetCarries(std::function<std::string(const Uuid&)> carries) override { inflater_.SetCarries(std::move(carries)); }
  Stats stats() const override;

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
  std::optional<uint64_t> FindLeaf(const Hash& leaf) const override;
  std::vector<AgentHead> Heads() const override;
  std::optional<AgentHead> HeadOf(const Uuid& uuid) const override;
  std::vector<uint64_t> ControlLeaves(uint64_t from, size_t max) const override;
  uint64_t FirstLoggedAt(int64_t logged_ns) const override;

 private:
  struct Published {
    SignedHead head;
    bool woken = false;
  };
  // One item of a group while its transaction is open: what becomes true when it commits.
  struct Placed {
    uint64_t index = 0;
    bool stored = false, quarantined = false, moves_head = false;
    Hash hash;
    AgentHead head;
  };

  absl::Status CheckNewest(const lmdb::ReadTxn& txn) const;
  absl::Status CheckAnchor() const;
  std::string Note(const TreeState& state) const;
  void Publish(const TreeState& state, std::string note);
  absl::Status Store(lmdb::WriteTxn& txn, TreeState& next, Admitted& item, Placed& placed);
  absl::Status StoreBytes(lmdb::WriteTxn& txn, uint64_t index, const StoredLeaf& leaf);
  absl::Status StoreHead(lmdb::WriteTxn& txn, const Leaf& leaf, const AgentHead& head, Placed& placed, int64_t logged_ns);
  absl::Status StoreNewestNote(lmdb::WriteTxn& txn);
  absl::StatusOr<RawLeaf> ReadRawIn(const lmdb::ReadTxn& txn, uint64_t index) const;
  absl::Status CheckIndex(uint64_t index) const;
  absl::Status CheckSize(uint64_t size) const;
  uint64_t size() const { return size_.load(std::memory_order_acquire); }

  const LedgerOptions options_;
  const SigningKey* const log_key_;
  const Clock& clock_;
  std::string origin_;
  std::unique_ptr<DirLock> lock_;
  Shard shard_;
  TreeState state_;                       // the committer's
  uint64_t stored_note_size_ = UINT64_MAX;  // the committer's: size of the note in the store
  Anchor anchor_;
  uint64_t anchored_size_ = UINT64_MAX;   // the committer's
  Tick anchor_not_before_;
  Tail tail_;
  mutable Inflater inflater_;
  mutable Guarded<Published> published_;
  std::atomic<uint64_t> size_{0};         // published_.head.size, for those who need nothing else
  std::atomic<double> last_commit_seconds_{0};
};

// ---- opening -------------------------------------------------------------------------------------------------------------------

absl::Status DiskLedger::Start(std::string origin, Fs& fs) {
  if (!options_.kek.empty() && options_.kek.size() != 32) {
    return absl::InvalidArgumentError(absl::StrCat("the ledger's key-encryption key has ", options_.kek.size(), " bytes; it needs 32"));
  }
  if (!options_.read_only && log_key_ == nullptr) return absl::InvalidArgumentError("a ledger that is written needs the log's key");
  const std::string shard_dir = ShardDir(options_.dir, 1);
  if (fs.Facts(ShardDir(options_.dir, 2)).ok()) {
    return absl::FailedPreconditionError(absl::StrCat(ShardDir(options_.dir, 2), " exists: a newer orgtrail wrote this ledger; run that one"));
  }
  if (!options_.read_only) {
    RETURN_IF_ERROR(fs.MakeDirs(shard_dir, 0700));
    ASSIGN_OR_RETURN(lock_, DirLock::Take(options_.dir));
  }
  ASSIGN_OR_RETURN(shard_, Shard::Open(shard_dir, options_.map_bytes, options_.read_only));

  std::string stored_note;
  bool fresh = false;
  {
    const lmdb::ReadTxn txn(*shard_.env);
    const std::optional<std::string_view> state = txn.Get(shard_.meta, kStateKey), stored_origin = txn.Get(shard_.meta, kOriginKey);
    fresh = !state.has_value();
    if (fresh && options_.read_only) return absl::NotFoundError(absl::StrCat("there is no ledger in ", shard_dir));
    if (!fresh) {
      const std::string remedy = absl::StrCat(shard_dir, "/data.mdb: restore the ledger from a backup");
      absl::StatusOr<TreeState> decoded = TreeState::Decode(*state);
      if (!decoded.ok()) return Annotate(decoded.status(), remedy);
      state_ = *std::move(decoded);
      if (!stored_origin.has_value()) return absl::DataLossError(absl::StrCat("the ledger's origin is missing in ", remedy));
      if (origin.empty()) origin = std::string(*stored_origin);
      if (origin != *stored_origin) {
        return absl::FailedPreconditionError(absl::StrCat("the ledger in ", options_.dir, " is of log ", ToAbsl(*stored_origin), ", not ",
                                                          origin, ": a log keeps its origin for ever; use another directory for another log"));
      }
      if (const auto note = txn.Get(shard_.meta, kNoteKey); note.has_value() && note->size() > 8) {
        stored_note_size_ = GetU64(note->data());
        stored_note = std::string(note->substr(8));
      }
      RETURN_IF_ERROR(CheckNewest(txn));
    }
  }
  origin_ = std::move(origin);
  if (fresh) {
    ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, lmdb::WriteTxn::Begin(*shard_.env));
    RETURN_IF_ERROR(txn->Put(shard_.meta, kOriginKey, origin_));
    RETURN_IF_ERROR(txn->Put(shard_.meta, kStateKey, state_.Encode()));
    RETURN_IF_ERROR(txn->Commit());
  }
  // The data file's name: a first start may have ended before it got here, so each does it.
  if (!options_.read_only) RETURN_IF_ERROR(fs.SyncDir(shard_dir));
  size_.store(state_.size, std::memory_order_release);
  if (!options_.anchor_dir.empty()) {
    RETURN_IF_ERROR(CheckAnchor());
    // Before the first leaf: from then on a ledger without an anchor is one that lost it.
    if (state_.size == 0 && !options_.read_only) RETURN_IF_ERROR(anchor_.Store(Note(state_)));
  }
  Publish(state_, log_key_ != nullptr ? Note(state_) : std::move(stored_note));
  return absl::OkStatus();
}

// Whatever the size: the newest leaf, and that nodes and frontier say the same root. The rest is fsck's.
absl::Status DiskLedger::CheckNewest(const lmdb::ReadTxn& txn) const {
  const std::string file = shard_.env->dir() + "/data.mdb";
  if (state_.frontier.Root() != state_.root) return absl::DataLossError("the frontier does not lead to the root in " + file);
  ASSIGN_OR_RETURN(const Hash root, RootAt(ShardNodes(shard_, txn), state_.size));
  if (root != state_.root) {
    return absl::DataLossError(absl::StrCat("tree nodes do not lead to the root in ", file, ": restore the ledger from a backup"));
  }
  lmdb::Cursor cursor(txn, shard_.leaves);
  const bool any = cursor.Last();
  if (!any && state_.size == 0) return absl::OkStatus();
  if (!any || cursor.key() != IndexKey(state_.size - 1)) {
    return absl::DataLossError(absl::StrCat("the last leaf is not number ", state_.size, " - 1 in ", file, ": restore the ledger from a backup"));
  }
  const absl::StatusOr<StoredLeaf> last = ReadLeaf(state_.size - 1, cursor.value(), Crc::kCheck);
  if (!last.ok()) return DamagedLeaf(state_.size - 1, shard_.env->dir(), ToStd(last.status().message()));
  ASSIGN_OR_RETURN(const Hash node, ShardNodes(shard_, txn).Node(0, state_.size - 1));
  if (LeafHash(EntryOf(last->bytes)) != node) return DamagedLeaf(state_.size - 1, shard_.env->dir(), "its hash is not the tree's");
  return absl::OkStatus();
}

absl::Status DiskLedger::CheckAnchor() const {
  ASSIGN_OR_RETURN(const std::optional<Checkpoint> anchored, anchor_.Load(origin_, log_key_));
  if (options_.recovery.has_value()) {
    return CheckRecovery(*options_.recovery, anchored, anchor_.path(), state_.size, [this](uint64_t size) { return Root(size); },
                         [this](uint64_t index) { return ReadEntry(index); });
  }
  if (!anchored.has_value()) return state_.size == 0 ? absl::OkStatus() : AnchorMissingError(anchor_.path(), options_.dir);
  if (anchored->size > state_.size) return RollbackError(anchor_.path(), options_.dir, *anchored, state_.size);
  ASSIGN_OR_RETURN(const Hash root, Root(anchored->size));
  return root == anchored->root ? absl::OkStatus() : RollbackError(anchor_.path(), options_.dir, *anchored, state_.size);
}

// The same state always gives the same text: Ed25519 is deterministic. So signing again after a crash is no second signature.
std::string DiskLedger::Note(const TreeState& state) const {
  return SignNote(Checkpoint{origin_, state.size, state.root}.Text(), origin_, *log_key_);
}

void DiskLedger::Publish(const TreeState& state, std::string note) {
  size_.store(state.size, std::memory_order_release);
  published_.With([&](Published& p) { p.head = SignedHead{state.size, state.root, std::move(note), state.events}; });
}

DiskLedger::~DiskLedger() {
  Wake();
  if (options_.read_only || log_key_ == nullptr || shard_.env == nullptr || origin_.empty()) return;
  const SignedHead newest = head();
  if (newest.note.empty()) return;  // never opened
  if (stored_note_size_ != newest.size) {
    // So that a reader without the log's key finds the note of the last leaf. Lost, it is signed again at the next start.
    absl::StatusOr<std::unique_ptr<lmdb::WriteTxn>> txn = lmdb::WriteTxn::Begin(*shard_.env);
    absl::Status stored = txn.ok() ? StoreNewestNote(**txn) : txn.status();
    if (stored.ok()) stored = (*txn)->Commit();
    if (!stored.ok()) LogWarn("The newest checkpoint note was not stored.", {{"error", Describe(stored)}});
  }
  anchor_not_before_ = Tick{};
  MaybeAnchor(Tick{});
}

// ---- appending -----------------------------------------------------------------------------------------------------------------

absl::Status DiskLedger::StoreBytes(lmdb::WriteTxn& txn, uint64_t index, const StoredLeaf& leaf) {
  ASSIGN_OR_RETURN(char* const room, txn.Reserve(shard_.leaves, IndexKey(index), StoredSize(leaf), /*append=*/true));
  WriteLeaf(index, leaf, room);
  return absl::OkStatus();
}

// Completes what only the ledger knows, then writes the head.
absl::Status DiskLedger::StoreHead(lmdb::WriteTxn& txn, const Leaf& leaf, const AgentHead& head, Placed& placed, int64_t logged_ns) {
  const auto before = txn.Get(shard_.heads, head.uuid.view());
  placed.moves_head = true;
  if ((leaf.flags & kLeafQuarantined) != 0 && before.has_value()) {
    // Where the agent's chain in the feed stands stays; that it is in quarantine and speaks is what is new.
    ASSIGN_OR_RETURN(placed.head, AgentHead::Decode(*before));
    placed.head.quarantined = true;
    placed.head.logged_ns = logged_ns;
    return txn.Put(shard_.heads, head.uuid.view(), placed.head.Encode());
  }
  placed.head = head;
  placed.head.leaf = placed.hash;
  placed.head.leaf_index = placed.index;
  placed.head.logged_ns = logged_ns;
  const bool opens = leaf.header.kind == BatchKind::kEpochOpen, rolls = leaf.header.kind == BatchKind::kKeytreeRoll;
  if (opens) placed.head.epoch_leaf = placed.index;
  if (opens || rolls) placed.head.tree_leaf = placed.index;
  if (!opens && before.has_value()) {
    // Later batches are submitted before the verifier can know where the opening one came to lie.
    ASSIGN_OR_RETURN(const AgentHead previous, AgentHead::Decode(*before));
    placed.head.epoch_leaf = previous.epoch_leaf;
    if (!rolls) placed.head.tree_leaf = previous.tree_leaf;
  }
  return txn.Put(shard_.heads, head.uuid.view(), placed.head.Encode());
}

absl::Status DiskLedger::Store(lmdb::WriteTxn& txn, TreeState& next, Admitted& item, Placed& placed) {
  const Leaf& leaf = *item.leaf;
  const std::string_view entry = EntryOf(leaf.bytes);
  CHECK(!entry.empty() && leaf.is_batch == IsBatch(leaf.bytes));
  placed.hash = LeafHash(entry);
  CHECK(leaf.hash.IsZero() || leaf.hash == placed.hash);  // what is logged is what was verified

  const uint64_t index = next.size;
  if (leaf.is_batch) {
    if (const auto same = txn.Get(shard_.hashes, placed.hash.view()); same.has_value()) {  // a repeat
      placed.index = GetU64(same->data());
      return absl::OkStatus();
    }
    const std::string id = BatchKey(item.batch);
    if (const auto before = txn.Get(shard_.batches, id); !before.has_value()) {
      RETURN_IF_ERROR(txn.Put(shard_.batches, id, IndexKey(index)));
    } else {
      placed.quarantined = true;  // kept, as evidence; the identity stays the first's
      if ((leaf.flags & kLeafQuarantined) == 0) {
        LogError("A batch contradicts one that is logged; it is kept in quarantine.",
                 {{"agent", item.batch.uuid.ToString()}, {"logged_leaf", std::to_string(GetU64(before->data()))}});
      }
    }
  } else {
    RETURN_IF_ERROR(txn.Append(shard_.control, IndexKey(index), ""));
  }
  placed.index = index;
  placed.stored = true;

  StoredLeaf stored;
  stored.flags = static_cast<uint16_t>(leaf.flags | (placed.quarantined ? kLeafQuarantined : 0));
  stored.logged_ns = next.last_logged_ns;
  stored.bytes = leaf.bytes;
  std::string sealed, without_key;
  if (leaf.is_batch && !options_.kek.empty()) {
    const size_t at = BatchKeyOffset(leaf.bytes);
    CHECK(at != std::string_view::npos);
    sealed = GcmSeal(options_.kek, LeafKeyContext(origin_, index), std::string_view(leaf.bytes).substr(at, 32), SystemRng());
    without_key = leaf.bytes;
    std::fill_n(without_key.begin() + static_cast<ptrdiff_t>(at), 32, '\0');
    stored.form = LeafForm::kSealedKey;
    stored.sealed_key = sealed;
    stored.bytes = without_key;
  }
  RETURN_IF_ERROR(StoreBytes(txn, index, stored));

  absl::Status nodes;
  next.frontier.Append(placed.hash, [&](int level, uint64_t at, const Hash& hash) {
    if (nodes.ok()) nodes = txn.Put(shard_.nodes, NodeKey(level, at), hash.view());
  });
  RETURN_IF_ERROR(nodes);
  if (!txn.Get(shard_.hashes, placed.hash.view()).has_value()) {
    RETURN_IF_ERROR(txn.Put(shard_.hashes, placed.hash.view(), IndexKey(index)));
  }
  const bool known_apart = (leaf.flags & kLeafQuarantined) != 0;
  if (item.head.has_value() && (!placed.quarantined || known_apart)) RETURN_IF_ERROR(StoreHead(txn, leaf, *item.head, placed, next.last_logged_ns));
  next.size = index + 1;
  next.events += leaf.is_batch ? leaf.header.n_events : 0;
  return absl::OkStatus();
}

absl::Status DiskLedger::StoreNewestNote(lmdb::WriteTxn& txn) {
  const SignedHead newest = head();
  std::string value;
  PutU64(value, newest.size);
  value += newest.note;
  RETURN_IF_ERROR(txn.Put(shard_.meta, kNoteKey, value));
  stored_note_size_ = newest.size;
  return absl::OkStatus();
}

absl::StatusOr<Flush> DiskLedger::Append(std::span<Admitted> group) {
  CHECK(!options_.read_only);
  const Tick begin = clock_.Now();
  TreeState next = state_;
  next.last_logged_ns = std::max(state_.last_logged_ns, clock_.WallNanos());
  std::vector<Placed> placed(group.size());
  {
    ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, lmdb::WriteTxn::Begin(*shard_.env));
    for (size_t i = 0; i < group.size(); ++i) {
      Admitted& item = group[i];
      if (item.leaf != nullptr) {
        RETURN_IF_ERROR(Store(*txn, next, item, placed[i]));
      } else if (item.duplicate_of.has_value()) {
        placed[i].index = *item.duplicate_of;
      } else {
        const auto logged = txn->Get(shard_.hashes, item.repeats.view());
        CHECK(logged.has_value() && logged->size() == 8);  // a repeat of what nobody submitted
        placed[i].index = GetU64(logged->data());
      }
    }
    if (next.size > state_.size) {
      next.root = next.frontier.Root();
      if (next.last_logged_ns > state_.last_logged_ns || state_.size == 0) {
        RETURN_IF_ERROR(txn->Append(shard_.times, IndexKey(static_cast<uint64_t>(next.last_logged_ns)), IndexKey(state_.size)));
      }
      RETURN_IF_ERROR(txn->Put(shard_.meta, kStateKey, next.Encode()));
      const uint64_t note_size = stored_note_size_;
      absl::Status committed = StoreNewestNote(*txn);  // of the flush before: costs no fsync of its own
      if (committed.ok()) committed = txn->Commit();
      if (!committed.ok()) {
        stored_note_size_ = note_size;
        return committed;
      }
    }
  }
  last_commit_seconds_ = absl::ToDoubleSeconds(clock_.Now() - begin);

  Flush flush;
  for (size_t i = 0; i < group.size(); ++i) {
    Admitted& item = group[i];
    if (item.leaf == nullptr) {
      item.duplicate_of = placed[i].index;
    } else {
      item.leaf->index = placed[i].index;
      item.leaf->hash = placed[i].hash;
      item.leaf->logged_ns = next.last_logged_ns;
      if (placed[i].quarantined) item.leaf->flags |= kLeafQuarantined;
      if (item.head.has_value() && placed[i].moves_head) item.head = placed[i].head;
      if (placed[i].stored) tail_.Push(item.leaf);
    }
    if (item.leaf == nullptr || item.leaf->is_batch) {
      flush.batches.push_back(CommittedLeaf{item.batch, item.from, placed[i].index, !placed[i].stored});
    }
  }
  if (next.size > state_.size) {
    state_ = std::move(next);
    Publish(state_, Note(state_));
  }
  flush.head = head();
  return flush;
}

Tick DiskLedger::MaybeAnchor(Tick now) {
  if (options_.anchor_dir.empty() || options_.read_only || anchored_size_ == state_.size) return Tick::Never();
  if (now < anchor_not_before_) return anchor_not_before_;
  anchor_not_before_ = now + kBetweenAnchors;
  const SignedHead newest = head();
  if (const absl::Status stored = anchor_.Store(newest.note); !stored.ok()) {
    LogWarn("The anchor could not be written; it is tried again.", {{"file", anchor_.path()}, {"error", Describe(stored)}});
    return anchor_not_before_;
  }
  anchored_size_ = newest.size;
  return Tick::Never();
}

Ledger::Stats DiskLedger::stats() const {
  const lmdb::EnvStats env = shard_.env->Stats();
  return Stats{env.used_bytes, env.map_bytes, env.oldest_reader_txns, last_commit_seconds_};
}

// ---- reading -------------------------------------------------------------------------------------------------------------------

bool DiskLedger::WaitBeyond(uint64_t size, absl::Duration limit) const {
  return published_.WhenFor(
      std::min(limit, absl::Hours(1)), [&](const Published& p) { return p.woken || p.head.size > size; },
      [&](const Published& p, bool) { return p.head.size > size; });
}

absl::Status DiskLedger::CheckIndex(uint64_t index) const {
  const uint64_t now = size();
  if (index < now) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("leaf ", index, " is beyond the log, which has ", now, " leaves"));
}

absl::Status DiskLedger::CheckSize(uint64_t asked) const {
  const uint64_t now = size();
  if (asked <= now) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("tree size ", asked, " is beyond the log, which has ", now, " leaves"));
}

absl::StatusOr<RawLeaf> DiskLedger::ReadRawIn(const lmdb::ReadTxn& txn, uint64_t index) const {
  const std::string& dir = shard_.env->dir();
  const std::optional<std::string_view> value = txn.Get(shard_.leaves, IndexKey(index));
  if (!value.has_value()) return DamagedLeaf(index, dir, "it is missing");
  const absl::StatusOr<StoredLeaf> stored = ReadLeaf(index, *value, Crc::kCheck);
  if (!stored.ok()) return DamagedLeaf(index, dir, ToStd(stored.status().message()));
  RawLeaf raw{index, stored->logged_ns, stored->flags, std::string(stored->bytes)};
  txn.Unmap(stored->bytes);
  if (stored->form == LeafForm::kSealedKey) {
    if (options_.kek.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "leaf ", index, " in ", dir, " was stored with its batch key encrypted: give the ledger its key-encryption key"));
    }
    const absl::StatusOr<std::string> key = GcmOpen(options_.kek, LeafKeyContext(origin_, index), stored->sealed_key);
    const size_t at = BatchKeyOffset(raw.bytes);
    if (!key.ok() || key->size() != 32 || at == std::string_view::npos) {
      return DamagedLeaf(index, dir, "its batch key does not open with this key-encryption key");
    }
    raw.bytes.replace(at, 32, *key);
  }
  return raw;
}

absl::StatusOr<RawLeaf> DiskLedger::ReadRaw(uint64_t index) const {
  RETURN_IF_ERROR(CheckIndex(index));
  if (const std::shared_ptr<const Leaf> leaf = tail_.Get(index)) return RawLeaf{index, leaf->logged_ns, leaf->flags, leaf->bytes};
  const lmdb::ReadTxn txn(*shard_.env);
  return ReadRawIn(txn, index);
}

absl::StatusOr<std::shared_ptr<const Leaf>> DiskLedger::Read(uint64_t index) const {
  RETURN_IF_ERROR(CheckIndex(index));
  if (std::shared_ptr<const Leaf> leaf = tail_.Get(index)) return leaf;
  if (std::shared_ptr<const Leaf> leaf = inflater_.Remembered(index)) return leaf;
  RawLeaf raw;
  Hash hash;
  {
    const lmdb::ReadTxn txn(*shard_.env);
    ASSIGN_OR_RETURN(raw, ReadRawIn(txn, index));
    ASSIGN_OR_RETURN(hash, ShardNodes(shard_, txn).Node(0, index));
  }
  absl::StatusOr<std::shared_ptr<const Leaf>> leaf = inflater_.Inflate(std::move(raw), hash);
  if (!leaf.ok()) return DamagedLeaf(index, shard_.env->dir(), ToStd(leaf.status().message()));
  return leaf;
}

absl::StatusOr<std::shared_ptr<const LeafTerms>> DiskLedger::ReadTerms(uint64_t index) const {
  RETURN_IF_ERROR(CheckIndex(index));
  if (std::shared_ptr<const LeafTerms> terms = tail_.Terms(index)) return terms;
  return LedgerReader::ReadTerms(index);
}

absl::StatusOr<std::string> DiskLedger::ReadEntry(uint64_t index) const {
  RETURN_IF_ERROR(CheckIndex(index));
  if (const std::shared_ptr<const Leaf> leaf = tail_.Get(index)) return std::string(EntryOf(leaf->bytes));
  const lmdb::ReadTxn txn(*shard_.env);
  const std::optional<std::string_view> value = txn.Get(shard_.leaves, IndexKey(index));
  if (!value.has_value()) return DamagedLeaf(index, shard_.env->dir(), "it is missing");
  const absl::StatusOr<StoredLeaf> stored = ReadLeaf(index, *value, Crc::kSkip);
  if (!stored.ok()) return DamagedLeaf(index, shard_.env->dir(), ToStd(stored.status().message()));
  std::string entry(EntryOf(stored->bytes));
  ASSIGN_OR_RETURN(const Hash node, ShardNodes(shard_, txn).Node(0, index));
  if (LeafHash(entry) != node) return DamagedLeaf(index, shard_.env->dir(), "its entry does not have the hash the tree holds");
  return entry;
}

absl::StatusOr<Hash> DiskLedger::LeafHashAt(uint64_t index) const {
  RETURN_IF_ERROR(CheckIndex(index));
  const lmdb::ReadTxn txn(*shard_.env);
  return ShardNodes(shard_, txn).Node(0, index);
}

absl::StatusOr<Hash> DiskLedger::Root(uint64_t asked) const {
  RETURN_IF_ERROR(CheckSize(asked));
  const lmdb::ReadTxn txn(*shard_.env);
  return RootAt(ShardNodes(shard_, txn), asked);
}

absl::StatusOr<std::vector<Hash>> DiskLedger::Inclusion(uint64_t index, uint64_t asked) const {
  RETURN_IF_ERROR(CheckSize(asked));
  if (index >= asked) return absl::InvalidArgumentError(absl::StrCat("leaf ", index, " is not in a tree of size ", asked));
  const lmdb::ReadTxn txn(*shard_.env);
  return InclusionPathAt(ShardNodes(shard_, txn), index, asked);
}

absl::StatusOr<std::vector<Hash>> DiskLedger::Consistency(uint64_t old_size, uint64_t new_size) const {
  RETURN_IF_ERROR(CheckSize(new_size));
  if (old_size > new_size) {
    return absl::InvalidArgumentError(absl::StrCat("a tree of size ", old_size, " cannot be a prefix of one of size ", new_size));
  }
  const lmdb::ReadTxn txn(*shard_.env);
  return ConsistencyPathAt(ShardNodes(shard_, txn), old_size, new_size);
}

absl::StatusOr<std::vector<Hash>> DiskLedger::Tile(int level, uint64_t tile, uint32_t width) const {
  if (level < 0 || level > 7 || width < 1 || width > kTileWidth || tile >= UINT64_MAX / kTileWidth) {
    return absl::InvalidArgumentError(absl::StrCat("no such tile: level ", level, ", tile ", tile, ", width ", width));
  }
  const uint64_t begin = tile * kTileWidth, nodes = size() >> (kTileHeight * level);  // complete nodes at this level
  if (begin + width > nodes) return absl::NotFoundError(absl::StrCat("tile ", level, "/", tile, " has fewer than ", width, " hashes yet"));
  std::vector<Hash> hashes;
  hashes.reserve(width);
  const lmdb::ReadTxn txn(*shard_.env);
  for (uint64_t i = begin; i < begin + width; ++i) {
    ASSIGN_OR_RETURN(const Hash hash, ShardNodes(shard_, txn).Node(kTileHeight * level, i));
    hashes.push_back(hash);
  }
  return hashes;
}

std::optional<uint64_t> DiskLedger::Find(const BatchId& id) const {
  const lmdb::ReadTxn txn(*shard_.env);
  const std::optional<std::string_view> value = txn.Get(shard_.batches, BatchKey(id));
  if (!value.has_value() || value->size() != 8) return std::nullopt;
  const uint64_t index = GetU64(value->data());
  return index < size() ? std::optional(index) : std::nullopt;
}

std::optional<uint64_t> DiskLedger::FindLeaf(const Hash& leaf) const {
  const lmdb::ReadTxn txn(*shard_.env);
  const std::optional<std::string_view> value = txn.Get(shard_.hashes, leaf.view());
  if (!value.has_value() || value->size() != 8) return std::nullopt;
  const uint64_t index = GetU64(value->data());
  return index < size() ? std::optional(index) : std::nullopt;
}

std::vector<AgentHead> DiskLedger::Heads() const {
  std::vector<AgentHead> heads;
  std::string from;
  for (bool more = true; more;) {
    const lmdb::ReadTxn txn(*shard_.env);
    lmdb::Cursor cursor(txn, shard_.heads);
    more = from.empty() ? cursor.First() : cursor.Seek(from);
    for (size_t n = 0; more && n < kRecordsPerTxn; ++n, more = cursor.Next()) {
      absl::StatusOr<AgentHead> head = AgentHead::Decode(cursor.value());
      if (head.ok()) {
        heads.push_back(*std::move(head));
      } else {
        LogError("An agent's head cannot be read.", {{"dir", shard_.env->dir()}, {"error", Describe(head.status())}});
      }
    }
    if (more) from = std::string(cursor.key());
  }
  return heads;
}

std::optional<AgentHead> DiskLedger::HeadOf(const Uuid& uuid) const {
  const lmdb::ReadTxn txn(*shard_.env);
  const std::optional<std::string_view> value = txn.Get(shard_.heads, uuid.view());
  if (!value.has_value()) return std::nullopt;
  absl::StatusOr<AgentHead> head = AgentHead::Decode(*value);
  CHECK_OK(head.status());  // to go on as if the agent were new would fork its chain
  return *std::move(head);
}

std::vector<uint64_t> DiskLedger::ControlLeaves(uint64_t from, size_t max) const {
  std::vector<uint64_t> leaves;
  const uint64_t end = size();
  while (leaves.size() < max) {
    const lmdb::ReadTxn txn(*shard_.env);
    lmdb::Cursor cursor(txn, shard_.control);
    bool more = cursor.Seek(IndexKey(from));
    for (size_t n = 0; more && n < kRecordsPerTxn && leaves.size() < max; ++n, more = cursor.Next()) {
      const uint64_t index = GetU64(cursor.key().data());
      if (index >= end) return leaves;
      leaves.push_back(index);
      from = index + 1;
    }
    if (!more) break;
  }
  return leaves;
}

uint64_t DiskLedger::FirstLoggedAt(int64_t logged_ns) const {
  const lmdb::ReadTxn txn(*shard_.env);
  lmdb::Cursor cursor(txn, shard_.times);
  const uint64_t end = size();
  if (!cursor.Seek(IndexKey(static_cast<uint64_t>(std::max<int64_t>(logged_ns, 0)))) || cursor.value().size() != 8) return end;
  return std::min(end, GetU64(cursor.value().data()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ledger>> Ledger::Open(const LedgerOptions& options, std::string origin, const SigningKey* log_key,
                                                     Fs& fs, const Clock& clock) {
  auto ledger = std::make_unique<DiskLedger>(options, log_key, fs, clock);
  RETURN_IF_ERROR(ledger->Start(std::move(origin), fs));
  return ledger;
}

}  // namespace orgtrail
