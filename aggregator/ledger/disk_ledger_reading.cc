#include <algorithm>
#include <utility>

#include "aggregator/ledger/disk_ledger.h"
#include "common/base/bytes.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/crypto/cipher.h"

namespace orgtrail {
namespace {

constexpr size_t kRecordsPerTxn = 1024;                     // a read transaction is short: what it pins, the writer cannot reuse
constexpr uint64_t kTileWidth = 256;                        // C2SP tlog-tiles
constexpr int kTileHeight = 8;

}  // namespace

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

absl::StatusOr<RawLeaf> DiskLedger::ReadRawIn(const ShardView& view, uint64_t index) const {
  ASSIGN_OR_RETURN(const ShardView::Part part, view.OfLeaf(index));
  const std::string& dir = part.shard->env->dir();
  const std::optional<std::string_view> value = part.Get(part.shard->leaves, IndexKey(index));
  if (!value.has_value()) return DamagedLeaf(index, dir, "it is missing");
  const absl::StatusOr<StoredLeaf> stored = ReadLeaf(index, *value, Crc::kCheck);
  if (!stored.ok()) return DamagedLeaf(index, dir, ToStd(stored.status().message()));
  RawLeaf raw{index, stored->logged_ns, stored->flags, ""};
  if (stored->IsPacked()) {
    absl::StatusOr<std::string> frame = blocks_.Frame(part, *stored);
    if (!frame.ok()) return DamagedLeaf(index, dir, ToStd(frame.status().message()));
    raw.bytes = *std::move(frame);
  } else {
    raw.bytes = stored->bytes;
  }
  part.txn->Unmap(stored->bytes);
  if (stored->HasSealedKey()) {
    if (options_.kek.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "leaf ", index, " in ", dir, " was stored with its batch key encrypted: give the ledger its key-encryption key (kek.key)"));
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

std::shared_ptr<const Leaf> DiskLedger::InTail(uint64_t index) const {
  return index < gone_below_.load(std::memory_order_acquire) ? nullptr : tail_.Get(index);
}

absl::StatusOr<RawLeaf> DiskLedger::ReadRaw(uint64_t index) const {
  RETURN_IF_ERROR(CheckIndex(index));
  if (const std::shared_ptr<const Leaf> leaf = InTail(index)) return RawLeaf{index, leaf->logged_ns, leaf->flags, leaf->bytes};
  return ReadRawIn(ShardView(shards_), index);
}

absl::StatusOr<std::shared_ptr<const Leaf>> DiskLedger::Read(uint64_t index) const {
  RETURN_IF_ERROR(CheckIndex(index));
  if (std::shared_ptr<const Leaf> leaf = InTail(index)) return leaf;
  const bool gone = index < gone_below_.load(std::memory_order_acquire);
  if (std::shared_ptr<const Leaf> leaf = gone ? nullptr : inflater_.Remembered(index)) return leaf;
  RawLeaf raw;
  Hash hash;
  {
    const ShardView view(shards_);
    ASSIGN_OR_RETURN(raw, ReadRawIn(view, index));
    ASSIGN_OR_RETURN(hash, view.Node(0, index));
  }
  absl::StatusOr<std::shared_ptr<const Leaf>> leaf = inflater_.Inflate(std::move(raw), hash);
  if (!leaf.ok()) return DamagedLeaf(index, ShardDir(options_.dir, shards_.set()->NumberOf(index)), ToStd(leaf.status().message()));
  return leaf;
}

absl::StatusOr<std::shared_ptr<const LeafTerms>> DiskLedger::ReadTerms(uint64_t index) const {
  RETURN_IF_ERROR(CheckIndex(index));
  const bool gone = index < gone_below_.load(std::memory_order_acquire);
  if (std::shared_ptr<const LeafTerms> terms = gone ? nullptr : tail_.Terms(index)) return terms;
  return LedgerReader::ReadTerms(index);
}

absl::StatusOr<std::string> DiskLedger::ReadEntry(uint64_t index) const {
  RETURN_IF_ERROR(CheckIndex(index));
  if (const std::shared_ptr<const Leaf> leaf = InTail(index)) return std::string(EntryOf(leaf->bytes));
  const ShardView view(shards_);
  ASSIGN_OR_RETURN(const ShardView::Part part, view.OfLeaf(index));
  const std::string& dir = part.shard->env->dir();
  const std::optional<std::string_view> value = part.Get(part.shard->leaves, IndexKey(index));
  if (!value.has_value()) return DamagedLeaf(index, dir, "it is missing");
  const absl::StatusOr<StoredLeaf> stored = ReadLeaf(index, *value, Crc::kSkip);
  if (!stored.ok()) return DamagedLeaf(index, dir, ToStd(stored.status().message()));
  std::string entry(EntryOf(stored->bytes));
  ASSIGN_OR_RETURN(const Hash node, view.Node(0, index));
  if (LeafHash(entry) != node) return DamagedLeaf(index, dir, "its entry does not have the hash the tree holds");
  return entry;
}

absl::StatusOr<BatchId> DiskLedger::IdentityOf(uint64_t index) const {
  RETURN_IF_ERROR(CheckIndex(index));
  if (const absl::StatusOr<std::string> bytes = ReadEntry(index); bytes.ok()) {
    const absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(*bytes);
    if (!entry.ok()) return absl::NotFoundError(absl::StrCat("leaf ", index, " is no batch"));
    return BatchId{entry->header.agent_uuid, entry->header.epoch, entry->header.batch_seq};
  }
  const std::shared_ptr<const Shards::Set> set = shards_.set();
  ASSIGN_OR_RETURN(const std::shared_ptr<const Shard> shard, shards_.Get(*set, set->NumberOf(index)));
  const std::string wanted = IndexKey(index);
  std::string from;
  for (bool more = true; more;) {
    const lmdb::ReadTxn txn(*shard->env);
    lmdb::Cursor cursor(txn, shard->batches);
    more = from.empty() ? cursor.First() : cursor.Seek(from);
    for (size_t n = 0; more && n < kRecordsPerTxn; ++n, more = cursor.Next()) {
      if (cursor.value() != wanted || cursor.key().size() != 32) continue;
      const char* numbers = cursor.key().data() + 16;
      return BatchId{Uuid::FromBytes(cursor.key().substr(0, 16)), GetU64(numbers), GetU64(numbers + 8)};
    }
    if (more) from = std::string(cursor.key());
  }
  return absl::NotFoundError(absl::StrCat("no batch is logged as leaf ", index));
}

bool DiskLedger::Replaced(uint32_t shard, const std::vector<uint64_t>& leaves) {
  const bool released = shards_.Release(shard);
  for (const uint64_t leaf : leaves) {
    tail_.Forget(leaf);
    inflater_.Forget(leaf);
  }
  return released;
}

absl::StatusOr<Hash> DiskLedger::LeafHashAt(uint64_t index) const {
  RETURN_IF_ERROR(CheckIndex(index));
  return ShardView(shards_).Node(0, index);
}

absl::StatusOr<Hash> DiskLedger::Root(uint64_t asked) const {
  RETURN_IF_ERROR(CheckSize(asked));
  return RootAt(ShardView(shards_), asked);
}

absl::StatusOr<std::vector<Hash>> DiskLedger::Inclusion(uint64_t index, uint64_t asked) const {
  RETURN_IF_ERROR(CheckSize(asked));
  if (index >= asked) return absl::InvalidArgumentError(absl::StrCat("leaf ", index, " is not in a tree of size ", asked));
  return InclusionPathAt(ShardView(shards_), index, asked);
}

absl::StatusOr<std::vector<Hash>> DiskLedger::Consistency(uint64_t old_size, uint64_t new_size) const {
  RETURN_IF_ERROR(CheckSize(new_size));
  if (old_size > new_size) {
    return absl::InvalidArgumentError(absl::StrCat("a tree of size ", old_size, " cannot be a prefix of one of size ", new_size));
  }
  return ConsistencyPathAt(ShardView(shards_), old_size, new_size);
}

absl::StatusOr<std::vector<Hash>> DiskLedger::Tile(int level, uint64_t tile, uint32_t width) const {
  if (level < 0 || level > 7 || width < 1 || width > kTileWidth || tile >= UINT64_MAX / kTileWidth) {
    return absl::InvalidArgumentError(absl::StrCat("no such tile: level ", level, ", tile ", tile, ", width ", width));
  }
  const uint64_t begin = tile * kTileWidth, nodes = size() >> (kTileHeight * level);  // complete nodes at this level
  if (begin + width > nodes) return absl::NotFoundError(absl::StrCat("tile ", level, "/", tile, " has fewer than ", width, " hashes yet"));
  std::vector<Hash> hashes;
  hashes.reserve(width);
  const ShardView view(shards_);
  for (uint64_t i = begin; i < begin + width; ++i) {
    ASSIGN_OR_RETURN(const Hash hash, view.Node(kTileHeight * level, i));
    hashes.push_back(hash);
  }
  return hashes;
}

// An index is only told when it is published. A shard that cannot be looked into is no answer; the log says which one it was.
std::optional<uint64_t> DiskLedger::OfPublished(const absl::StatusOr<std::optional<uint64_t>>& found, std::string_view what) const {
  if (!found.ok()) {
    LogError("A shard cannot be searched.", {{"for", std::string(what)}, {"error", Describe(found.status())}});
    return std::nullopt;
  }
  return found->has_value() && **found < size() ? *found : std::nullopt;
}

std::optional<uint64_t> DiskLedger::Find(const BatchId& id) const {
  const ShardView view(shards_);
  return OfPublished(view.Find(id, HeadIn(view, id.uuid)), "a batch");
}

std::optional<uint64_t> DiskLedger::FindLeaf(const Hash& leaf, uint64_t from) const {
  return OfPublished(ShardView(shards_).FindLeaf(leaf, from), "a leaf hash");
}

std::vector<AgentHead> DiskLedger::Heads() const {
  std::vector<AgentHead> heads;
  const std::shared_ptr<Shard> active = shards_.set()->active;
  std::string from;
  for (bool more = true; more;) {
    const lmdb::ReadTxn txn(*active->env);
    lmdb::Cursor cursor(txn, active->heads);
    more = from.empty() ? cursor.First() : cursor.Seek(from);
    for (size_t n = 0; more && n < kRecordsPerTxn; ++n, more = cursor.Next()) {
      absl::StatusOr<AgentHead> head = AgentHead::Decode(cursor.value());
      if (head.ok()) {
        heads.push_back(*std::move(head));
      } else {
        LogError("An agent's head cannot be read.", {{"dir", active->env->dir()}, {"error", Describe(head.status())}});
      }
    }
    if (more) from = std::string(cursor.key());
  }
  return heads;
}

std::optional<AgentHead> DiskLedger::HeadIn(const ShardView& view, const Uuid& uuid) const {
  const ShardView::Part active = view.Active();
  const std::optional<std::string_view> value = active.Get(active.shard->heads, uuid.view());
  if (!value.has_value()) return std::nullopt;
  absl::StatusOr<AgentHead> head = AgentHead::Decode(*value);
  CHECK_OK(head.status());  // to go on as if the agent were new would fork its chain
  return *std::move(head);
}

std::optional<AgentHead> DiskLedger::HeadOf(const Uuid& uuid) const { return HeadIn(ShardView(shards_), uuid); }

std::vector<uint64_t> DiskLedger::ControlLeaves(uint64_t from, size_t max) const {
  std::vector<uint64_t> leaves;
  const uint64_t end = size();
  const std::shared_ptr<const Shards::Set> set = shards_.set();
  for (uint32_t number = set->NumberOf(from); number <= set->active_number() && leaves.size() < max; ++number) {
    for (bool more = true; more && leaves.size() < max;) {
      const absl::StatusOr<std::shared_ptr<const Shard>> shard = shards_.Get(*set, number);
      CHECK_OK(shard.status());  // identities are folded from these: without one a revoked agent would be let in
      const lmdb::ReadTxn txn(*(*shard)->env);
      lmdb::Cursor cursor(txn, (*shard)->control);
      more = cursor.Seek(IndexKey(from));
      for (size_t n = 0; more && n < kRecordsPerTxn && leaves.size() < max; ++n, more = cursor.Next()) {
        const uint64_t index = GetU64(cursor.key().data());
        if (index >= end) return leaves;
        leaves.push_back(index);
        from = index + 1;
      }
    }
  }
  return leaves;
}

uint64_t DiskLedger::FirstLoggedAt(int64_t logged_ns) const {
  const uint64_t end = size();
  const std::shared_ptr<const Shards::Set> set = shards_.set();
  const auto it = std::lower_bound(set->sealed.begin(), set->sealed.end(), logged_ns,
                                   [](const SealedShard& s, int64_t t) { return s.last_logged_ns < t; });
  const absl::StatusOr<std::shared_ptr<const Shard>> shard = shards_.Get(*set, static_cast<uint32_t>(it - set->sealed.begin() + 1));
  if (!shard.ok()) {
    LogError("A shard cannot be searched.", {{"for", "a time"}, {"error", Describe(shard.status())}});
    return it->first;  // earlier than asked for: the reader passes over what it does not want
  }
  const lmdb::ReadTxn txn(*(*shard)->env);
  lmdb::Cursor cursor(txn, (*shard)->times);
  if (!cursor.Seek(IndexKey(static_cast<uint64_t>(std::max<int64_t>(logged_ns, 0)))) || cursor.value().size() != 8) return end;
  return std::min(end, GetU64(cursor.value().data()));
}

}  // namespace orgtrail
