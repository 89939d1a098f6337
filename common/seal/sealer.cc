#include "common/seal/sealer.h"

#include <algorithm>

#include "common/base/limits.h"
#include "common/base/mutant.h"
#include "common/base/status.h"
#include "common/merkle/tree.h"

namespace orgtrail {
namespace {

constexpr int kZstdLevel = 1;  // 10 times smaller at 0.9 GB/s; higher levels gain little and cost much
constexpr uint32_t kRollSlot = limits::kTreeSlots - 1;
constexpr size_t kBatchKeyBytes = 32;

uint64_t NotNegative(int64_t ns) { return ns < 0 ? 0 : static_cast<uint64_t>(ns); }

}  // namespace

struct Sealer::Impl {
  Impl(AgentIdentity identity_in, const SigningKey& key_in, const Clock& clock_in, Rng& rng_in)
      : identity(std::move(identity_in)), identity_key(key_in), clock(clock_in), rng(rng_in), zstd(kZstdLevel) {}

  const AgentIdentity identity;
  const SigningKey& identity_key;
  const Clock& clock;
  Rng& rng;
  ZstdCompressor zstd;

  // The chain: what the next header continues.
  uint64_t epoch = 0, next_batch_seq = 0;
  uint64_t next_seq = 1;             // of the next event
  uint64_t sealed_through = 0;       // last_seq of the last batch
  uint64_t cum_events = 0, cum_lost = 0;
  uint64_t last_wall_ns = 0, last_boot_close_ns = 0;
  uint64_t seen_size = 0, policy_version = 0;
  Hash seen_root, policy_hash;
  std::array<char, 16> boot_id{};
  Hash head;
  bool open = false;                 // an epoch is open

  // Keys: the tree in use, the one growing behind it, and slots whose batches are not known to be stored yet.
  std::unique_ptr<KeyTree> tree, next_tree;
  uint64_t tree_base = 0;
  std::vector<uint32_t> used_slots;          // of `tree`
  std::unique_ptr<KeyTree> rolled_tree;      // replaced by the last roll; destroyed, seeds and all, when that is committed

  // The open batch.
  FramePacker packer;
  std::vector<Hash> leaves;
  std::optional<EventPrefix> unhashed;  // the last event, when it waits for a second one: two are hashed at once
  uint64_t body_bytes = 0;           // full EV1 lengths
  uint32_t n_lost = 0;
  std::string batch_key;
  std::optional<SaltCipher> salts;

  uint64_t ClampWall() {             // strictly increasing, whatever the clock does
    const uint64_t now = NotNegative(clock.WallNanos());
    last_wall_ns = std::max(now, last_wall_ns + 1);
    return last_wall_ns;
  }

  uint32_t NextSlot() const { return static_cast<uint32_t>(next_batch_seq - tree_base); }

  void NewBatchKey() {
    batch_key = rng.Bytes(kBatchKeyBytes);
    salts.emplace(batch_key);
  }

  void Quote(const Seen& seen) {     // neither log nor policy goes back within an epoch
    if (seen.size >= seen_size) {
      seen_size = seen.size;
      seen_root = seen.root;
    }
    if (seen.policy_version >= policy_version) {
      policy_version = seen.policy_version;
      policy_hash = seen.policy_hash;
    }
  }

  void HashLast() {
    if (!unhashed) return;
    leaves.back() = EventLeaf(*unhashed, packer.body(packer.body_bytes() - unhashed->body_len, unhashed->body_len));
    unhashed.reset();
  }

  // Signs and links one batch; the open batch's events go into it when `kind` is data.
  SealedBatch Seal(BatchKind kind, uint16_t flags, std::string_view extension) {
    HashLast();
    SealedBatch out;
    BatchHeader& h = out.header;
    h.kind = kind;
    h.flags = flags;
    h.agent_uuid = identity.uuid;
    h.epoch = epoch;
    h.batch_seq = next_batch_seq;
    h.first_seq = sealed_through + 1;
    // Rolls and closings count nothing of their own: what is lost goes with the data batch or heartbeat before them.
    h.last_seq = sealed_through;
    if (kind == BatchKind::kData || kind == BatchKind::kHeartbeat) {
      h.last_seq = next_seq - 1;
      h.n_events = static_cast<uint32_t>(leaves.size());
      h.n_lost = n_lost;
      h.body_bytes = body_bytes;
    }
    cum_events += h.n_events;
    cum_lost += h.n_lost;
    h.cum_events = cum_events;
    h.cum_lost = cum_lost;
    h.wall_close_ns = ClampWall();
    last_boot_close_ns = std::max(NotNegative(clock.Now().ns), last_boot_close_ns + 1);
    h.boot_close_ns = last_boot_close_ns;
    h.boot_id = boot_id;
    h.events_root = RootOf(leaves);
    h.prev_hash = head;
    h.policy_version = policy_version;
    h.policy_hash = policy_hash;
    h.seen_size = seen_size;
    h.seen_root = seen_root;
    h.key_slot = NextSlot();
    if (Planted(Mutant::kReusedSlot) && h.key_slot % 8 == 5) --h.key_slot;
    h.keytree_root = tree->root();
    if (!extension.empty()) h.ext_hash = Sha256(extension);
    h.org = identity.org;
    h.account = identity.account;
    h.region = identity.region;
    h.agent = identity.name;

    std::string entry = h.Encode();
    const size_t header_bytes = entry.size();
    const Signature slot = tree->SignOnce(h.key_slot, kBatchLabel, entry);
    used_slots.push_back(h.key_slot);
    entry.append(View(slot));
    if (h.TwoSignatures()) {
      entry.append(View(identity_key.Sign(kEpochLabel, std::string_view(entry).substr(0, header_bytes))));
    }
    out.leaf = LeafHash(entry);
    out.frame = packer.Finish(entry, extension, batch_key, zstd);

    head = out.leaf;
    ++next_batch_seq;
    sealed_through = h.last_seq;
    if (h.n_events > 0) NewBatchKey();
    if (kind == BatchKind::kData || kind == BatchKind::kHeartbeat) {
      leaves.clear();
      body_bytes = 0;
      n_lost = 0;
    }
    return out;
  }

  // The tree's last slot signs the next tree's list; grown in the background, completed here if it is not.
  SealedBatch Roll() {
    CHECK(next_tree->Grow(limits::kTreeSlots));
    const std::string list = EncodeKeyList(next_tree->keys());
    SealedBatch roll = Seal(BatchKind::kKeytreeRoll, 0, list);
    rolled_tree = std::move(tree);
    tree = std::move(next_tree);
    next_tree = std::make_unique<KeyTree>(rng);
    tree_base = next_batch_seq;
    used_slots.clear();
    return roll;
  }

  void CloseInto(std::vector<SealedBatch>& out, BatchKind kind, uint16_t flags) {
    out.push_back(Seal(kind, flags, {}));
    next_tree->Grow(1);
    if (kind != BatchKind::kEpochClose && NextSlot() == kRollSlot) out.push_back(Roll());
  }
};

Sealer::Sealer(AgentIdentity identity, const SigningKey& identity_key, const Clock& clock, Rng& rng)
    : impl_(std::make_unique<Impl>(std::move(identity), identity_key, clock, rng)) {
  impl_->leaves.reserve(limits::kBatchEvents);
}

Sealer::~Sealer() = default;

absl::StatusOr<SealedBatch> Sealer::OpenEpoch(uint64_t epoch, EpochOpening opening, const Seen& seen) {
  Impl& s = *impl_;
  CHECK(epoch > s.epoch);
  CHECK(empty());
  s.tree = std::make_unique<KeyTree>(s.rng);
  s.tree->Grow(limits::kTreeSlots);
  s.next_tree = std::make_unique<KeyTree>(s.rng);
  s.rolled_tree.reset();
  s.used_slots.clear();
  s.tree_base = 0;
  s.epoch = epoch;
  s.next_batch_seq = 0;
  s.next_seq = 1;
  s.sealed_through = 0;
  s.cum_events = s.cum_lost = 0;
  s.seen_size = s.policy_version = 0;
  s.Quote(seen);
  s.head = opening.previous_leaf;
  const std::string boot_id = s.clock.BootId();
  CHECK(boot_id.size() == s.boot_id.size());
  std::copy(boot_id.begin(), boot_id.end(), s.boot_id.begin());
  opening.boot_id = boot_id;
  opening.keys = s.tree->keys();
  const std::string extension = opening.Encode();
  // What others will refuse is refused here, before an epoch is spent on it.
  if (absl::StatusOr<EpochOpening> check = EpochOpening::Decode(extension); !check.ok()) return check.status();
  s.NewBatchKey();
  SealedBatch batch = s.Seal(BatchKind::kEpochOpen, 0, extension);
  if (absl::StatusOr<BatchHeader> check = BatchHeader::Decode(batch.header.Encode()); !check.ok()) return check.status();
  s.open = true;
  return batch;
}

uint64_t Sealer::Add(EventClass event_class, uint16_t flags, std::string_view body) {
  Impl& s = *impl_;
  CHECK(s.open && !full());
  EventPrefix prefix;
  prefix.seq = s.next_seq++;
  prefix.wall_ns = s.ClampWall();
  prefix.boot_ns = NotNegative(s.clock.Now().ns);
  prefix.event_class = static_cast<uint16_t>(event_class);
  prefix.flags = flags;
  prefix.body_len = static_cast<uint32_t>(body.size());
  s.salts->Salt(prefix.seq, prefix.salt);
  s.leaves.emplace_back();
  s.body_bytes += kEventPrefixBytes + body.size();
  s.packer.Add(flags, prefix.event_class, prefix.seq, prefix.wall_ns, prefix.boot_ns, body);
  if (!s.unhashed) {
    s.unhashed = prefix;
    return prefix.seq;
  }
  const size_t n = s.leaves.size(), here = s.packer.body_bytes() - body.size(), before = here - s.unhashed->body_len;
  EventLeaves(*s.unhashed, s.packer.body(before, s.unhashed->body_len), prefix, s.packer.body(here, body.size()), &s.leaves[n - 2],
              &s.leaves[n - 1]);
  s.unhashed.reset();
  return prefix.seq;
}

void Sealer::Lose(uint32_t count) {
  Impl& s = *impl_;
  CHECK(s.open && count <= UINT32_MAX - s.n_lost);
  s.next_seq += count;
  s.n_lost += count;
}

bool Sealer::empty() const { return impl_->leaves.empty() && impl_->n_lost == 0; }

bool Sealer::full() const {
  return impl_->leaves.size() >= limits::kBatchEvents || impl_->packer.body_bytes() >= limits::kBatchBytes;
}

size_t Sealer::pending_events() const { return impl_->leaves.size(); }
size_t Sealer::pending_bytes() const { return impl_->packer.body_bytes(); }

absl::StatusOr<std::vector<SealedBatch>> Sealer::Close(uint16_t flags, const Seen& seen) {
  Impl& s = *impl_;
  if (!s.open) return absl::FailedPreconditionError("no epoch is open");
  s.Quote(seen);
  std::vector<SealedBatch> out;
  s.CloseInto(out, s.leaves.empty() ? BatchKind::kHeartbeat : BatchKind::kData, flags);
  return out;
}

absl::StatusOr<std::vector<SealedBatch>> Sealer::CloseEpoch(uint16_t flags, const Seen& seen) {
  Impl& s = *impl_;
  if (!s.open) return absl::FailedPreconditionError("no epoch is open");
  s.Quote(seen);
  std::vector<SealedBatch> out;
  if (!empty()) {
    const auto own = static_cast<uint16_t>(flags & ~kBatchRetired);
    s.CloseInto(out, s.leaves.empty() ? BatchKind::kHeartbeat : BatchKind::kData, own);
  }
  s.CloseInto(out, BatchKind::kEpochClose, flags);
  s.open = false;
  return out;
}

void Sealer::Committed() {
  Impl& s = *impl_;
  s.rolled_tree.reset();
  for (uint32_t slot : s.used_slots) s.tree->Erase(slot);
  s.used_slots.clear();
}

uint64_t Sealer::epoch() const { return impl_->epoch; }
uint64_t Sealer::next_seq() const { return impl_->next_seq; }
uint64_t Sealer::cum_events() const { return impl_->cum_events; }
const Hash& Sealer::head() const { return impl_->head; }

}  // namespace orgtrail
