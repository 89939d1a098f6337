#include "aggregator/ledger/shard_check.h"

#include <algorithm>
#include <optional>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/crypto/cipher.h"
#include "common/format/frame.h"

namespace orgtrail {
namespace {

constexpr size_t kLeavesPerTxn = 256;
constexpr uint64_t kBytesPerTxn = 4 << 20;
constexpr size_t kEntriesPerTxn = 1024;
constexpr std::string_view kRestoreIndex =
    "stop the aggregator and run orgtrail repair, or restore the ledger from a backup; the leaves themselves are not affected, lookups through this table are";

}  // namespace

void ShardCheck::Expect(const lmdb::ReadTxn& txn, lmdb::Table table, std::string_view key, std::string_view want, uint64_t leaf,
                     std::string_view what) {
  const std::optional<std::string_view> got = txn.Get(table, key);
  if (got.has_value() && *got == want) return;
  if (fixing_ != nullptr) {
    if (const absl::Status put = fixing_->Put(table, key, want); !put.ok()) return Find(leaf, std::string(put.message()));
    ++totals_.fixed;
    return;
  }
  std::string text(what);
  text += got.has_value() ? " is " + Hex(*got) + ", not " : " is missing; expected ";
  text += Hex(want);
  Find(leaf, std::move(text));
}

void ShardCheck::CheckRecords(const lmdb::ReadTxn& txn, uint64_t index, const StoredLeaf& stored, const BatchHeader& header) {
  std::string key, rebuilt;
  if (stored.IsPacked()) {
    totals_.read_bytes += stored.at.size;
    absl::StatusOr<std::string> whole = blocks_.Frame({number_, &shard_, &txn}, stored);
    if (!whole.ok()) return FindLacking(index, Describe(whole.status()));
    rebuilt = *std::move(whole);
  }
  absl::StatusOr<FrameView> frame = FrameView::Decode(stored.IsPacked() ? std::string_view(rebuilt) : stored.bytes);
  if (!frame.ok()) return FindLacking(index, "its frame does not decode: " + Describe(frame.status()));
  if (frame->bodies_gone) {
    totals_.bodies_missing += header.n_events;
    if (options_.lacking && *frame->bodies_gone == TombstoneReason::kCorrupt) options_.lacking(index, /*is_bodiless=*/true);
    return;
  }
  if (stored.HasSealedKey()) {
    if (options_.kek.empty()) {
      ++totals_.records_unchecked;
      return;
    }
    absl::StatusOr<std::string> opened = GcmOpen(options_.kek, LeafKeyContext(log_.origin, index), stored.sealed_key);
    if (!opened.ok()) return FindLacking(index, "its batch key does not open with the key-encryption key given");
    key = *std::move(opened);
  } else {
    key = std::string(frame->batch_key);
  }
  absl::StatusOr<Events> events = InflateFrame(*frame, zstd_);
  if (!events.ok()) return FindLacking(index, "its records do not inflate: " + Describe(events.status()));
  const RowHashes hashes = HashRows(key, events->rows);
  const auto expired = std::count_if(events->rows.begin(), events->rows.end(),
                                     [](const Row& r) { return r.tombstone && r.reason == TombstoneReason::kExpired; });
  if (expired != 0) {
    totals_.expired += static_cast<uint64_t>(expired);
    if (log_.expired.empty() || log_.expired.back().file != file_) log_.expired.push_back({index, index, file_});
    log_.expired.back().last = index;
  }
  if (hashes.root != header.events_root) {
    FindLacking(index, "its records lead to " + Hex(hashes.root.view()) + ", its signed header says " + Hex(header.events_root.view()));
  }
}

bool ShardCheck::IsLoggedBefore(const BatchId& id) const {
  if (state_.first == 0) return false;
  const ShardView view(shards_);
  for (uint32_t number = view.set().NumberOf(state_.first) - 1; number >= 1; --number) {
    const absl::StatusOr<ShardView::Part> part = view.Number(number);
    if (part.ok() && part->Get(part->shard->batches, BatchKey(id)).has_value()) return true;
  }
  return false;
}

void ShardCheck::CheckBatch(const lmdb::ReadTxn& txn, uint64_t index, const StoredLeaf& stored, const Hash& hash) {
  ++totals_.batches;
  const absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(EntryOf(stored.bytes));
  if (!entry.ok()) return FindLacking(index, "its entry does not decode: " + Describe(entry.status()));
  const BatchHeader& header = entry->header;
  totals_.events += header.n_events;
  log_.events += header.n_events;
  const BatchId id{header.agent_uuid, header.epoch, header.batch_seq};
  const bool quarantined = (stored.flags & kLeafQuarantined) != 0;
  const auto named = txn.Get(shard_.batches, BatchKey(id));
  // A batch in quarantine may contradict an earlier one, which then keeps the identity.
  const bool earlier = quarantined && (named.has_value() ? named->size() == 8 && GetU64(named->data()) < index : IsLoggedBefore(id));
  if (!earlier) {
    ++batch_ids_;
    Expect(txn, shard_.batches, BatchKey(id), IndexKey(index), index, "the identity map's entry for this batch");
  }
  if (!quarantined) {
    AgentHead& head = log_.newest[header.agent_uuid];
    head.leaf = hash;
    head.leaf_index = index;
    head.epoch = header.epoch;
    head.batch_seq = header.batch_seq;
    head.logged_ns = stored.logged_ns;
  }
  if (options_.records) CheckRecords(txn, index, stored, header);
}

void ShardCheck::CheckLeaf(const lmdb::ReadTxn& txn, uint64_t index) {
  ++totals_.leaves;
  ++leaves_;
  Hash hash;
  const std::optional<std::string_view> node = txn.Get(shard_.nodes, NodeKey(0, index));
  const std::optional<std::string_view> value = txn.Get(shard_.leaves, IndexKey(index));
  const absl::StatusOr<StoredLeaf> stored =
      value.has_value() ? ReadLeaf(index, *value, Crc::kCheck) : absl::DataLossError("it is missing");
  if (!stored.ok()) {
    FindLacking(index, std::string(stored.status().message()));
    // Go on with the hash the tree holds, so that what follows is checked against something.
    if (node.has_value() && node->size() == 32) hash = Hash::From(*node);
  } else {
    totals_.bytes += value->size();
    totals_.read_bytes += value->size();
    const std::string_view entry = EntryOf(stored->bytes);
    hash = LeafHash(entry);
    Expect(txn, shard_.hashes, hash.view(),
           [&] {  // the same control entry may be logged twice: the table names the first
             const auto first = txn.Get(shard_.hashes, hash.view());
             const bool repeat = first.has_value() && first->size() == 8 && GetU64(first->data()) < index &&
                                 txn.Get(shard_.nodes, NodeKey(0, GetU64(first->data()))) == std::optional(hash.view());
             if (!repeat) ++hashes_;
             return repeat ? std::string(*first) : IndexKey(index);
           }(),
           index, "the hash index's entry for this leaf");
    if (stored->logged_ns < log_.last_logged_ns) Find(index, "it was logged before the leaf in front of it");
    if (stored->logged_ns > log_.last_logged_ns || index == state_.first) {
      ++times_;
      Expect(txn, shard_.times, IndexKey(static_cast<uint64_t>(stored->logged_ns)), IndexKey(index), index, "the time index's entry");
    }
    log_.last_logged_ns = std::max(log_.last_logged_ns, stored->logged_ns);
    if (IsBatch(stored->bytes)) {
      CheckBatch(txn, index, *stored, hash);
    } else {
      ++controls_;
      if (!txn.Get(shard_.control, IndexKey(index)).has_value() && fixing_ == nullptr) {
        Find(index, "it is missing in the control index", kRestoreIndex);
      } else if (fixing_ != nullptr) {
        Expect(txn, shard_.control, IndexKey(index), "", index, "the control index's entry");
      }
    }
  }
  log_.frontier.Append(hash, [&](int level, uint64_t at, const Hash& complete) {
    ++nodes_;
    Expect(txn, shard_.nodes, NodeKey(level, at), complete.view(), index,
           "tree node " + std::to_string(level) + "/" + std::to_string(at));
  });
}

// What a shard after the first begins with, against the shards gone through.
void ShardCheck::CheckBeginning() {
  const lmdb::ReadTxn txn(*shard_.env);
  if (state_.first != log_.frontier.size()) {
    Find(state_.first, "the shard begins with this leaf; the shards before it have " + std::to_string(log_.frontier.size()));
  }
  if (state_.first == 0) return;
  const absl::StatusOr<ShardList> list = ShardList::Decode(txn.Get(shard_.meta, kShardsKey).value_or(""));
  if (!list.ok()) {
    Find(UINT64_MAX, Describe(list.status()));
  } else if (list->sealed != log_.sealed) {
    Find(UINT64_MAX, "its list of the shards before it is not what they are");
  }
  const std::vector<Hash> peaks = PeaksOf(log_.frontier);
  uint64_t begin = 0;
  size_t at = 0;
  for (int level = 63; level >= 0; --level) {
    if ((log_.frontier.size() >> level & 1) == 0) continue;
    ++copied_nodes_;
    Expect(txn, shard_.nodes, NodeKey(level, begin >> level), peaks[at++].view(), state_.first,
           "the copied peak " + std::to_string(level) + "/" + std::to_string(begin >> level));
    begin += uint64_t{1} << level;
  }
}

// Leaves of earlier shards that were copied for their key trees: the bytes, and that they are what is logged there.
void ShardCheck::CheckCopies() {
  const ShardView view(shards_);
  std::vector<uint64_t> copies;
  {
    const lmdb::ReadTxn txn(*shard_.env);
    lmdb::Cursor cursor(txn, shard_.leaves);
    for (bool more = cursor.First(); more && GetU64(cursor.key().data()) < state_.first; more = cursor.Next()) {
      copies.push_back(GetU64(cursor.key().data()));
    }
  }
  copied_leaves_ = copies.size();
  for (const uint64_t index : copies) {
    const lmdb::ReadTxn txn(*shard_.env);
    const absl::StatusOr<StoredLeaf> stored = ReadLeaf(index, txn.Get(shard_.leaves, IndexKey(index)).value_or(""), Crc::kCheck);
    if (!stored.ok()) {
      Find(index, "its copy: " + std::string(stored.status().message()));
      continue;
    }
    const std::string_view entry = EntryOf(stored->bytes);
    const Hash hash = LeafHash(entry);
    const absl::StatusOr<ShardView::Part> home = view.Number(view.set().NumberOf(index));
    if (!home.ok()) return Find(index, Describe(home.status()));
    const std::optional<std::string_view> logged = home->Get(home->shard->nodes, NodeKey(0, index));
    if (logged != std::optional(hash.view())) Find(index, "its copy is not the leaf that " + home->shard->env->dir() + " has");
    if (state_.first > 0 && (index + 1 != state_.first || (state_.first & 1) == 0)) ++copied_nodes_;  // else it is a peak, and counted
    Expect(txn, shard_.nodes, NodeKey(0, index), hash.view(), index, "the copied node of this leaf");
    if (const absl::StatusOr<BatchEntry> batch = BatchEntry::Decode(entry); batch.ok()) {
      ++copied_ids_;
      Expect(txn, shard_.batches, BatchKey({batch->header.agent_uuid, batch->header.epoch, batch->header.batch_seq}), IndexKey(index), index,
             "the copied entry of the identity map");
    }
  }
}

void ShardCheck::CheckState() {
  if (log_.frontier.Root() != state_.root) {
    Find(UINT64_MAX, "the leaves lead to root " + Hex(log_.frontier.Root().view()) + ", the ledger says " + Hex(state_.root.view()));
  }
  if (log_.frontier.Encode() != state_.frontier.Encode()) Find(UINT64_MAX, "the frontier is not the one the leaves lead to");
  if (log_.is_whole && log_.events != state_.events) {
    Find(UINT64_MAX, "the batches have " + std::to_string(log_.events) + " records, the ledger says " + std::to_string(state_.events));
  }
  // What is wrong here is said once: the next shard continues what this one says it ends with.
  log_.events = state_.events;
  log_.frontier = state_.frontier;
}

void ShardCheck::CheckHeads() {
  size_t known = 0;
  for (const auto& [key, value] : heads_) {
    const absl::StatusOr<AgentHead> head = AgentHead::Decode(value);
    if (!head.ok() || key != head->uuid.view()) {
      Find(UINT64_MAX, "the head of agent " + Hex(key) + " does not decode");
      continue;
    }
    const auto newest = log_.newest.find(head->uuid);
    if (newest != log_.newest.end()) ++known;
    if (newest == log_.newest.end() && !log_.is_whole) continue;
    if (newest == log_.newest.end()) {
      Find(head->leaf_index, "the head of agent " + head->uuid.ToString() + " names a batch that is not here");
      continue;
    }
    const AgentHead& want = newest->second;
    if (head->leaf != want.leaf || head->leaf_index != want.leaf_index || head->epoch != want.epoch ||
        head->batch_seq != want.batch_seq || (head->logged_ns != want.logged_ns && !head->quarantined)) {
      Find(want.leaf_index, "agent " + head->uuid.ToString() + "'s newest batch is epoch " + std::to_string(want.epoch) + ", batch " +
                                std::to_string(want.batch_seq) + " in this leaf; its head says epoch " + std::to_string(head->epoch) +
                                ", batch " + std::to_string(head->batch_seq) + " in leaf " + std::to_string(head->leaf_index));
      newest->second = *head;
    }
  }
  if (known < log_.newest.size()) {
    Find(UINT64_MAX, std::to_string(log_.newest.size() - known) + " agents that have batches have no head");
  }
}

// Entries nobody expects: every expected one was looked up, so a larger count means others.
void ShardCheck::CheckTable(lmdb::Table table, std::string_view name, uint64_t want, bool keyed_by_leaf) {
  uint64_t count = 0;
  std::string from;
  for (bool more = true; more; Breathe(state_.size)) {
    const lmdb::ReadTxn txn(*shard_.env);
    lmdb::Cursor cursor(txn, table);
    more = from.empty() ? cursor.First() : cursor.Seek(from);
    for (size_t n = 0; more && n < kEntriesPerTxn; ++n, more = cursor.Next()) {
      const std::string_view number = keyed_by_leaf ? cursor.key() : cursor.value();
      const bool appended_since = number.size() == 8 && GetU64(number.data()) >= state_.size;
      count += appended_since ? 0 : 1;
      totals_.read_bytes += cursor.key().size() + number.size();
    }
    if (more) from = std::string(cursor.key());
  }
  if (count == want) return;
  Find(UINT64_MAX, "table " + std::string(name) + " has " + std::to_string(count) + " entries; the leaves account for " + std::to_string(want),
       kRestoreIndex);
}

void ShardCheck::CheckNodeCount() {
  uint64_t count = 0;
  std::string from;
  for (bool more = true; more; Breathe(state_.size)) {
    const lmdb::ReadTxn txn(*shard_.env);
    lmdb::Cursor cursor(txn, shard_.nodes);
    more = from.empty() ? cursor.First() : cursor.Seek(from);
    for (size_t n = 0; more && n < kEntriesPerTxn; ++n, more = cursor.Next()) {
      ByteReader key(cursor.key());
      const int level = key.U8();
      const uint64_t index = key.U64();
      const bool appended_since = key.Done() && level < 64 && index >= (state_.size >> level);
      count += appended_since ? 0 : 1;
      totals_.read_bytes += cursor.key().size() + 32;
    }
    if (more) from = std::string(cursor.key());
  }
  if (count != nodes_ + copied_nodes_) {
    Find(UINT64_MAX, "there are " + std::to_string(count) + " tree nodes; the leaves account for " + std::to_string(nodes_ + copied_nodes_));
  }
}

bool ShardCheck::Run(const std::function<void(uint64_t, uint64_t)>& progress) {
  progress_ = &progress;
  {
    const lmdb::ReadTxn txn(*shard_.env);
    const std::optional<std::string_view> state = txn.Get(shard_.meta, kStateKey), origin = txn.Get(shard_.meta, kOriginKey);
    absl::StatusOr<TreeState> decoded = TreeState::Decode(state.value_or(""));
    if (!decoded.ok()) {
      Find(UINT64_MAX, Describe(decoded.status()));
      return false;  // without a size there is nothing to compare with
    }
    state_ = *std::move(decoded);
    if (log_.origin.empty()) log_.origin = options_.origin.empty() ? std::string(origin.value_or("")) : options_.origin;
    if (log_.origin.empty() || origin != std::optional<std::string_view>(log_.origin)) {
      Find(UINT64_MAX, "the stored origin is \"" + Printable(origin.value_or("")) + "\", not \"" + log_.origin + "\"");
    }
    lmdb::Cursor cursor(txn, shard_.heads);
    for (bool more = cursor.First(); more; more = cursor.Next()) heads_.emplace_back(cursor.key(), cursor.value());
  }
  CheckBeginning();
  for (uint64_t index = state_.first; index < state_.size && !Full();) {
    const uint64_t enough = totals_.read_bytes + kBytesPerTxn;
    const auto look = [&](const lmdb::ReadTxn& txn) {
      for (size_t n = 0; n < kLeavesPerTxn && totals_.read_bytes < enough && index < state_.size && !Full(); ++n, ++index) CheckLeaf(txn, index);
    };
    if (!options_.fix) {
      look(lmdb::ReadTxn(*shard_.env));
    } else {
      absl::StatusOr<std::unique_ptr<lmdb::WriteTxn>> txn = lmdb::WriteTxn::Begin(*shard_.env);
      if (txn.ok()) fixing_ = txn->get(), look(**txn), fixing_ = nullptr;
      const absl::Status fixed = txn.ok() ? (*txn)->Commit() : txn.status();
      if (!fixed.ok()) return Find(index, std::string(fixed.message())), false;
    }
    Breathe(index);
  }
  if (Full()) return false;  // counts would only repeat it
  CheckCopies();
  CheckState();
  CheckHeads();
  CheckNodeCount();
  CheckTable(shard_.leaves, "leaves", leaves_ + copied_leaves_, /*keyed_by_leaf=*/true);
  CheckTable(shard_.control, "control", controls_, /*keyed_by_leaf=*/true);
  CheckTable(shard_.batches, "batches", batch_ids_ + copied_ids_, /*keyed_by_leaf=*/false);
  CheckTable(shard_.hashes, "hashes", hashes_, /*keyed_by_leaf=*/false);
  CheckTable(shard_.times, "times", times_, /*keyed_by_leaf=*/false);
  log_.sealed.push_back({state_.first, state_.size, state_.last_logged_ns, log_.frontier.Root()});
  return true;
}

}  // namespace orgtrail
