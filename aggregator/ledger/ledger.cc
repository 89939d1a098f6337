#include "aggregator/ledger/ledger.h"

#include <algorithm>
#include <utility>

#include "aggregator/ledger/disk_ledger.h"
#include "common/base/bytes.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/crypto/cipher.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kBetweenAnchors = absl::Seconds(1);

}  // namespace

// ---- opening -------------------------------------------------------------------------------------------------------------------

absl::Status DiskLedger::Start(std::string origin) {
  if (!options_.kek.empty() && options_.kek.size() != 32) {
    return absl::InvalidArgumentError(absl::StrCat("the ledger's key-encryption key has ", options_.kek.size(), " bytes; it needs 32"));
  }
  if (!options_.read_only && log_key_ == nullptr) return absl::InvalidArgumentError("a ledger that is written needs the log's key");
  if (!options_.read_only) {
    RETURN_IF_ERROR(fs_.MakeDirs(options_.dir, 0700));
    ASSIGN_OR_RETURN(lock_, DirLock::Take(options_.dir));
    RETURN_IF_ERROR(CleanUpRewrites(options_.dir, fs_));
  }
  ASSIGN_OR_RETURN(OpenedShards opened, OpenShards(options_.dir, options_.map_bytes, options_.read_only, fs_, clock_.WallNanos()));
  const bool fresh = !opened.state.has_value();
  if (fresh && options_.read_only) return absl::NotFoundError(absl::StrCat("there is no ledger in ", options_.dir));
  if (!fresh) state_ = *opened.state;
  carried_bytes_ = opened.carried_bytes;
  for (uint32_t n = 1; n <= opened.sealed.size(); ++n) {
    const std::string dir = ShardDir(options_.dir, n);
    absl::StatusOr<FileFacts> facts = fs_.Facts(JoinPath(JoinPath(dir, kPrunedDir), "data.mdb"));
    if (!facts.ok()) facts = fs_.Facts(JoinPath(JoinPath(dir, kPackedDir), "data.mdb"));
    if (!facts.ok()) facts = fs_.Facts(JoinPath(dir, "data.mdb"));
    if (facts.ok()) sealed_bytes_ += facts->size;
  }
  const uint32_t number = static_cast<uint32_t>(opened.sealed.size() + 1);
  shards_.Begin(std::move(opened.sealed), std::move(opened.active));
  if (opened.unsealed.has_value()) shards_.Adopt(number - 1, std::make_shared<Shard>(*std::move(opened.unsealed)));
  const std::shared_ptr<Shard> active = shards_.set()->active;

  std::string stored_note;
  if (!fresh) {
    const lmdb::ReadTxn txn(*active->env);
    const std::optional<std::string_view> stored_origin = txn.Get(active->meta, kOriginKey);
    if (!stored_origin.has_value()) {
      return absl::DataLossError(absl::StrCat("the ledger's origin is missing in ", active->env->dir(), "/data.mdb: restore the ledger from a backup"));
    }
    if (origin.empty()) origin = std::string(*stored_origin);
    if (origin != *stored_origin) {
      return absl::FailedPreconditionError(absl::StrCat("the ledger in ", options_.dir, " is of log ", ToAbsl(*stored_origin), ", not ",
                                                        origin, ": a log keeps its origin for ever; use another directory for another log"));
    }
    if (const auto note = txn.Get(active->meta, kNoteKey); note.has_value() && note->size() > 8) {
      stored_note_size_ = GetU64(note->data());
      stored_note = std::string(note->substr(8));
    }
  }
  if (!fresh) RETURN_IF_ERROR(CheckNewest());
  origin_ = std::move(origin);
  if (fresh) {
    ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, lmdb::WriteTxn::Begin(*active->env));
    RETURN_IF_ERROR(txn->Put(active->meta, kOriginKey, origin_));
    RETURN_IF_ERROR(txn->Put(active->meta, kStateKey, state_.Encode()));
    RETURN_IF_ERROR(txn->Commit());
  }
  // The data file's name: a first start may have ended before it got here, so each does it.
  if (!options_.read_only) RETURN_IF_ERROR(fs_.SyncDir(active->env->dir()));
  size_.store(state_.size, std::memory_order_release);
  RETURN_IF_ERROR(CheckKek());
  if (state_.size > state_.first) {
    const lmdb::ReadTxn txn(*active->env);
    const absl::StatusOr<StoredLeaf> first = ReadLeaf(state_.first, txn.Get(active->leaves, IndexKey(state_.first)).value_or(""), Crc::kSkip);
    began_ns_ = first.ok() ? first->logged_ns : state_.last_logged_ns;  // damaged, it is found when it is read
  }
  if (!options_.anchor_dir.empty()) {
    RETURN_IF_ERROR(CheckAnchor());
    // Before the first leaf: from then on a ledger without an anchor is one that lost it.
    if (state_.size == 0 && !options_.read_only) RETURN_IF_ERROR(anchor_.Store(Note(state_)));
  }
  Publish(state_, log_key_ != nullptr ? Note(state_) : std::move(stored_note));
  if (!options_.read_only) repacker_ = std::make_unique<Repacker>(shards_, fs_, clock_);
  return absl::OkStatus();
}

// Whatever the size: the newest leaf, and that nodes and frontier say the same root. The rest is fsck's.
absl::Status DiskLedger::CheckNewest() const {
  const ShardView view(shards_);
  const ShardView::Part active = view.Active();
  const std::string file = active.shard->env->dir() + "/data.mdb";
  if (state_.frontier.Root() != state_.root) return absl::DataLossError("the frontier does not lead to the root in " + file);
  ASSIGN_OR_RETURN(const Hash root, RootAt(view, state_.size));
  if (root != state_.root) {
    return absl::DataLossError(absl::StrCat("tree nodes do not lead to the root in ", file, ": restore the ledger from a backup"));
  }
  if (state_.size == 0) return absl::OkStatus();
  const uint64_t newest = state_.size - 1;
  // A shard that was just begun has copies only; then the newest leaf is the last of the shard before it.
  ASSIGN_OR_RETURN(const ShardView::Part part, view.Number(view.set().NumberOf(newest)));
  lmdb::Cursor cursor(*part.txn, part.shard->leaves);
  if (!cursor.Last() || cursor.key() != IndexKey(newest)) {
    return absl::DataLossError(absl::StrCat("the last leaf is not number ", state_.size, " - 1 in ", part.shard->env->dir(),
                                            "/data.mdb: restore the ledger from a backup"));
  }
  const absl::StatusOr<StoredLeaf> last = ReadLeaf(newest, cursor.value(), Crc::kCheck);
  if (!last.ok()) return DamagedLeaf(newest, part.shard->env->dir(), ToStd(last.status().message()));
  ASSIGN_OR_RETURN(const Hash node, view.Node(0, newest));
  if (LeafHash(EntryOf(last->bytes)) != node) return DamagedLeaf(newest, part.shard->env->dir(), "its hash is not the tree's");
  return absl::OkStatus();
}

// The newest batch says whether there is a key-encryption key, and which: found at the start, not at the first read a day later.
absl::Status DiskLedger::CheckKek() const {
  if (options_.read_only && options_.kek.empty()) return absl::OkStatus();  // entries and hashes are readable without it
  constexpr uint64_t kLooked = 4096;
  const ShardView view(shards_);
  for (uint64_t index = state_.size; index > 0 && state_.size - index < kLooked;) {
    --index;
    ASSIGN_OR_RETURN(const ShardView::Part part, view.OfLeaf(index));
    const std::optional<std::string_view> value = part.Get(part.shard->leaves, IndexKey(index));
    const absl::StatusOr<StoredLeaf> stored = ReadLeaf(index, value.value_or(""), Crc::kSkip);
    if (!stored.ok() || !IsBatch(stored->bytes)) continue;
    if (!stored->HasSealedKey()) return absl::OkStatus();
    if (options_.kek.empty()) {
      return absl::FailedPreconditionError(absl::StrCat("leaf ", index, " in ", options_.dir,
                                                        " has its batch key encrypted, and no ledger.key_encryption_key is configured: give the file it had"));
    }
    if (!GcmOpen(options_.kek, LeafKeyContext(origin_, index), stored->sealed_key).ok()) {
      return absl::FailedPreconditionError(absl::StrCat("the batch key of leaf ", index, " in ", options_.dir,
                                                        " does not open with this key-encryption key: it is another file than the one that was configured when it was logged"));
    }
    return absl::OkStatus();
  }
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
  published_.With([&](Published& p) {
    p.head = SignedHead{state.size, state.root, std::move(note), state.events};
    p.logged_ns = state.last_logged_ns;
  });
}

DiskLedger::~DiskLedger() {
  Wake();
  if (options_.read_only || log_key_ == nullptr || shards_.set() == nullptr || origin_.empty()) return;
  const SignedHead newest = head();
  if (newest.note.empty()) return;  // never opened
  if (stored_note_size_ != newest.size && !begun_.has_value()) {
    const std::shared_ptr<Shard> active = shards_.set()->active;
    // So that a reader without the log's key finds the note of the last leaf. Lost, it is signed again at the next start.
    absl::StatusOr<std::unique_ptr<lmdb::WriteTxn>> txn = lmdb::WriteTxn::Begin(*active->env);
    absl::Status stored = txn.ok() ? StoreNewestNote(**txn, *active) : txn.status();
    if (stored.ok()) stored = (*txn)->Commit();
    if (!stored.ok()) LogWarn("The newest checkpoint note was not stored.", {{"error", Describe(stored)}});
  }
  anchor_not_before_ = Tick{};
  MaybeAnchor(Tick{});
}

// ---- rolling -------------------------------------------------------------------------------------------------------------------

bool DiskLedger::IsRollDue() const {
  if (state_.size == state_.first) return false;
  if (is_roll_asked_) return true;
  const std::shared_ptr<Shard> active = shards_.set()->active;
  // What it began with does not count twice, or a ledger of very many agents would do nothing but roll.
  if (active->env->UsedBytes() >= std::max(options_.shard_bytes, 2 * carried_bytes_)) return true;
  return std::max(clock_.WallNanos(), state_.last_logged_ns) - began_ns_ >= absl::ToInt64Nanoseconds(options_.shard_period);
}

absl::Status DiskLedger::Roll() {
  const std::shared_ptr<const Shards::Set> before = shards_.set();
  if (!begun_.has_value()) {
    ASSIGN_OR_RETURN(begun_, BeginShard(ShardView(shards_), options_.dir, state_, origin_, NewestNote(), options_.map_bytes, fs_));
  }
  // From the successor's first commit on nothing goes into the old shard but its seal.
  RETURN_IF_ERROR(SealShard(*before->active, state_.size, clock_.WallNanos()));
  const SealedShard sealed{state_.first, state_.size, state_.last_logged_ns, state_.root};
  carried_bytes_ = begun_->carried_bytes;
  shards_.Rolled(sealed, std::move(begun_->shard));
  begun_.reset();
  is_roll_asked_ = false;
  sealed_bytes_ += before->active->env->UsedBytes();
  state_.first = state_.size;
  stored_note_size_ = state_.size;
  LogInfo("A shard is sealed; the next one has begun.",
          {{"sealed", before->active->env->dir()}, {"leaves", absl::StrCat(sealed.first, "-", sealed.end - 1)},
           {"bytes", std::to_string(before->active->env->UsedBytes())}});
  return absl::OkStatus();
}

// ---- appending -----------------------------------------------------------------------------------------------------------------

absl::Status DiskLedger::StoreBytes(lmdb::WriteTxn& txn, const Shard& active, uint64_t index, const StoredLeaf& leaf) {
  ASSIGN_OR_RETURN(char* const room, txn.Reserve(active.leaves, IndexKey(index), StoredSize(leaf), /*append=*/true));
  WriteLeaf(index, leaf, room);
  return absl::OkStatus();
}

// Completes what only the ledger knows, then writes the head.
absl::Status DiskLedger::StoreHead(lmdb::WriteTxn& txn, const Shard& active, const Leaf& leaf, const AgentHead& head, Placed& placed,
                                   int64_t logged_ns) {
  const auto before = txn.Get(active.heads, head.uuid.view());
  placed.moves_head = true;
  if ((leaf.flags & kLeafQuarantined) != 0 && before.has_value()) {
    // Where the agent's chain in the feed stands stays; that it is in quarantine and speaks is what is new.
    ASSIGN_OR_RETURN(placed.head, AgentHead::Decode(*before));
    placed.head.quarantined = true;
    placed.head.logged_ns = logged_ns;
    return txn.Put(active.heads, head.uuid.view(), placed.head.Encode());
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
  return txn.Put(active.heads, head.uuid.view(), placed.head.Encode());
}

// Where a leaf with this hash is logged, this transaction included. A batch that its agent's chain has not come to yet is nowhere.
absl::StatusOr<std::optional<uint64_t>> DiskLedger::FindSame(const lmdb::ReadTxn& txn, const Shard& active, const BatchId& id, const Hash& hash) const {
  if (std::optional<uint64_t> here = IndexIn(txn.Get(active.hashes, hash.view()))) return here;
  if (state_.first == 0) return std::optional<uint64_t>();
  ASSIGN_OR_RETURN(const std::optional<AgentHead> newest, HeadOfTxn(txn, active, id.uuid));
  if (!newest.has_value() || std::pair(id.epoch, id.batch_seq) > std::pair(newest->epoch, newest->batch_seq)) return std::optional<uint64_t>();
  return ShardView(shards_).FindLeaf(hash, 0);
}

// Where the identity is logged, this transaction included.
absl::StatusOr<std::optional<uint64_t>> DiskLedger::FindIdentity(const lmdb::ReadTxn& txn, const Shard& active, const BatchId& id) const {
  if (std::optional<uint64_t> here = IndexIn(txn.Get(active.batches, BatchKey(id)))) return here;
  if (state_.first == 0) return std::optional<uint64_t>();
  ASSIGN_OR_RETURN(const std::optional<AgentHead> newest, HeadOfTxn(txn, active, id.uuid));
  return ShardView(shards_).Find(id, newest);
}

absl::StatusOr<std::optional<AgentHead>> DiskLedger::HeadOfTxn(const lmdb::ReadTxn& txn, const Shard& active, const Uuid& uuid) const {
  const std::optional<std::string_view> value = txn.Get(active.heads, uuid.view());
  if (!value.has_value()) return std::optional<AgentHead>();
  ASSIGN_OR_RETURN(AgentHead head, AgentHead::Decode(*value));
  return std::optional<AgentHead>(std::move(head));
}

absl::Status DiskLedger::Store(lmdb::WriteTxn& txn, const Shard& active, TreeState& next, Admitted& item, Placed& placed) {
  const Leaf& leaf = *item.leaf;
  const std::string_view entry = EntryOf(leaf.bytes);
  CHECK(!entry.empty() && leaf.is_batch == IsBatch(leaf.bytes));
  placed.hash = LeafHash(entry);
  CHECK(leaf.hash.IsZero() || leaf.hash == placed.hash);  // what is logged is what was verified

  const uint64_t index = next.size;
  if (leaf.is_batch) {
    // A batch in quarantine was looked for by the verifier, wherever it may be; its identity counts in this shard only.
    const bool is_apart = (leaf.flags & kLeafQuarantined) != 0;
    std::optional<uint64_t> same = IndexIn(txn.Get(active.hashes, placed.hash.view()));
    if (!same.has_value() && !is_apart) {
      ASSIGN_OR_RETURN(same, FindSame(txn, active, item.batch, placed.hash));
    }
    if (same.has_value()) {  // a repeat
      placed.index = *same;
      return absl::OkStatus();
    }
    std::optional<uint64_t> before = IndexIn(txn.Get(active.batches, BatchKey(item.batch)));
    if (!before.has_value() && !is_apart) {
      ASSIGN_OR_RETURN(before, FindIdentity(txn, active, item.batch));
    }
    if (!before.has_value()) {
      RETURN_IF_ERROR(txn.Put(active.batches, BatchKey(item.batch), IndexKey(index)));
    } else {
      placed.quarantined = true;  // kept, as evidence; the identity stays the first's
      if (!is_apart) {
        LogError("A batch contradicts one that is logged; it is kept in quarantine.",
                 {{"agent", item.batch.uuid.ToString()}, {"logged_leaf", std::to_string(*before)}});
      }
    }
  } else {
    RETURN_IF_ERROR(txn.Append(active.control, IndexKey(index), ""));
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
  RETURN_IF_ERROR(StoreBytes(txn, active, index, stored));

  absl::Status nodes;
  next.frontier.Append(placed.hash, [&](int level, uint64_t at, const Hash& hash) {
    if (nodes.ok()) nodes = txn.Put(active.nodes, NodeKey(level, at), hash.view());
  });
  RETURN_IF_ERROR(nodes);
  if (!txn.Get(active.hashes, placed.hash.view()).has_value()) {
    RETURN_IF_ERROR(txn.Put(active.hashes, placed.hash.view(), IndexKey(index)));
  }
  const bool known_apart = (leaf.flags & kLeafQuarantined) != 0;
  if (item.head.has_value() && (!placed.quarantined || known_apart)) {
    RETURN_IF_ERROR(StoreHead(txn, active, leaf, *item.head, placed, next.last_logged_ns));
  }
  next.size = index + 1;
  next.events += leaf.is_batch ? leaf.header.n_events : 0;
  return absl::OkStatus();
}

std::string DiskLedger::NewestNote() const {
  const SignedHead newest = head();
  std::string value;
  PutU64(value, newest.size);
  return value + newest.note;
}

absl::Status DiskLedger::StoreNewestNote(lmdb::WriteTxn& txn, const Shard& active) {
  RETURN_IF_ERROR(txn.Put(active.meta, kNoteKey, NewestNote()));
  stored_note_size_ = size();
  return absl::OkStatus();
}

absl::StatusOr<Flush> DiskLedger::Append(std::span<Admitted> group) {
  CHECK(!options_.read_only);
  if (begun_.has_value() || IsRollDue()) RETURN_IF_ERROR(Roll());
  const std::shared_ptr<Shard> active = shards_.set()->active;
  const Tick begin = clock_.Now();
  TreeState next = state_;
  next.last_logged_ns = std::max(state_.last_logged_ns, clock_.WallNanos());
  std::vector<Placed> placed(group.size());
  {
    ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, lmdb::WriteTxn::Begin(*active->env));
    for (size_t i = 0; i < group.size(); ++i) {
      Admitted& item = group[i];
      if (item.leaf != nullptr) {
        RETURN_IF_ERROR(Store(*txn, *active, next, item, placed[i]));
      } else if (item.duplicate_of.has_value()) {
        placed[i].index = *item.duplicate_of;
      } else {
        std::optional<uint64_t> logged = IndexIn(txn->Get(active->hashes, item.repeats.view()));
        if (!logged.has_value()) {
          ASSIGN_OR_RETURN(logged, ShardView(shards_).FindLeaf(item.repeats, 0));
        }
        CHECK(logged.has_value());  // a repeat of what nobody submitted
        placed[i].index = *logged;
      }
    }
    if (next.size > state_.size) {
      next.root = next.frontier.Root();
      if (next.last_logged_ns > state_.last_logged_ns || state_.size == state_.first) {
        RETURN_IF_ERROR(txn->Append(active->times, IndexKey(static_cast<uint64_t>(next.last_logged_ns)), IndexKey(state_.size)));
      }
      RETURN_IF_ERROR(txn->Put(active->meta, kStateKey, next.Encode()));
      const uint64_t note_size = stored_note_size_;
      absl::Status committed = StoreNewestNote(*txn, *active);  // of the flush before: costs no fsync of its own
      const Tick filled = clock_.Now();
      if (committed.ok()) committed = txn->Commit();
      if (!committed.ok()) {
        stored_note_size_ = note_size;
        return committed;
      }
      const Tick done = clock_.Now();
      if (options_.on_commit) options_.on_commit(done - begin, done - filled);
    }
  }

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
    if (state_.size == state_.first) began_ns_ = next.last_logged_ns;
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
  const std::shared_ptr<const Shards::Set> set = shards_.set();
  const lmdb::EnvStats env = set->active->env->Stats();
  Stats stats;
  stats.used_bytes = sealed_bytes_ - std::min(sealed_bytes_.load(), freed_bytes_.load()) + env.used_bytes;
  if (repacker_ != nullptr) {
    const RepackProgress repacked = repacker_->progress();
    stats.used_bytes -= std::min(stats.used_bytes, repacked.bytes_before - std::min(repacked.bytes_before, repacked.bytes_after));
    stats.to_repack = repacked.waiting;
    stats.repack_share = repacked.total == 0 ? 0 : static_cast<double>(repacked.done) / static_cast<double>(repacked.total);
  }
  stats.active_bytes = env.used_bytes;
  stats.map_bytes = env.map_bytes;
  stats.oldest_reader_txns = env.oldest_reader_txns;
  stats.shards = set->active_number();
  stats.open_shards = static_cast<uint32_t>(shards_.open() + 1);
  return stats;
}

std::vector<ShardFacts> DiskLedger::Sealed() const {
  const std::shared_ptr<const Shards::Set> set = shards_.set();
  std::vector<ShardFacts> all;
  for (uint32_t n = 1; n <= set->sealed.size(); ++n) {
    const SealedShard& s = set->sealed[n - 1];
    ShardFacts& facts = all.emplace_back(ShardFacts{.number = n, .first = s.first, .end = s.end, .last_logged_ns = s.last_logged_ns, .sealed = true});
    const std::string dir = ShardDir(options_.dir, n);
    absl::StatusOr<FileFacts> file = fs_.Facts(JoinPath(JoinPath(dir, kPrunedDir), "data.mdb"));
    facts.pruned = file.ok();
    if (!file.ok()) file = fs_.Facts(JoinPath(JoinPath(dir, kPackedDir), "data.mdb"));
    facts.repacked = file.ok();
    if (!file.ok()) file = fs_.Facts(JoinPath(dir, "data.mdb"));
    if (file.ok()) facts.bytes = file->size;
  }
  return all;
}

std::vector<ShardFacts> DiskLedger::shard_facts() const {
  std::vector<ShardFacts> all = Sealed();
  const std::shared_ptr<const Shards::Set> set = shards_.set();
  const auto [size, logged_ns] = published_.Peek([](const Published& p) { return std::pair(p.head.size, p.logged_ns); });
  if (all.size() != set->sealed.size()) return shard_facts();   // a shard was sealed between the two looks
  all.push_back({.number = set->active_number(), .first = set->first(), .end = std::max(size, set->first()),
                 .last_logged_ns = size > set->first() ? logged_ns : 0, .bytes = set->active->env->UsedBytes()});
  return all;
}

absl::StatusOr<std::unique_ptr<Ledger>> Ledger::Open(const LedgerOptions& options, std::string origin, const SigningKey* log_key,
                                                     Fs& fs, const Clock& clock) {
  auto ledger = std::make_unique<DiskLedger>(options, log_key, fs, clock);
  RETURN_IF_ERROR(ledger->Start(std::move(origin)));
  return ledger;
}

}  // namespace orgtrail
