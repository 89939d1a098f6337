#include "aggregator/ledger/shards.h"

#include <algorithm>

#include "common/base/bytes.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kOpenShards = 32;

}  // namespace

absl::Status CheckContinued(const SealedShard& known, const Shard& shard) {
  const lmdb::ReadTxn txn(*shard.env);
  ASSIGN_OR_RETURN(const TreeState state, TreeState::Decode(txn.Get(shard.meta, kStateKey).value_or("")));
  const SealedShard here{state.first, state.size, state.last_logged_ns, state.root};
  if (here == known) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(shard.env->dir(), "/data.mdb has leaves ", here.first, " to ", here.end, "; the shards after it continue leaves ", known.first, " to ",
                                          known.end, here.end == known.end ? " with another root" : "",
                                          ": it is of another ledger or an older copy; restore it from a backup"));
}

std::optional<uint64_t> IndexIn(const std::optional<std::string_view>& value) {
  if (!value.has_value() || value->size() != 8) return std::nullopt;
  return GetU64(value->data());
}

uint32_t Shards::Set::NumberOf(uint64_t leaf) const {
  const auto it = std::upper_bound(sealed.begin(), sealed.end(), leaf, [](uint64_t l, const SealedShard& s) { return l < s.end; });
  return static_cast<uint32_t>(it - sealed.begin() + 1);
}

void Shards::Begin(std::vector<SealedShard> sealed, Shard active) {
  auto set = std::make_shared<Set>();
  set->sealed = std::move(sealed);
  set->active = std::make_shared<Shard>(std::move(active));
  set_.With([&](std::shared_ptr<const Set>& s) { s = std::move(set); });
}

void Shards::Adopt(uint32_t number, std::shared_ptr<const Shard> shard) {
  open_.With([&](std::list<Open>& open) { open.push_front({number, std::move(shard), false}); });
}

void Shards::Reopen(uint32_t number) {
  std::list<Open> dropped;  // whoever reads it now holds it on; its files were moved, so nothing opens them again
  open_.With([&](std::list<Open>& open) {
    for (auto it = open.begin(); it != open.end();) {
      const auto next = std::next(it);
      if (it->number == number) dropped.splice(dropped.begin(), open, it);
      it = next;
    }
  });
}

bool Shards::Release(uint32_t number) {
  return open_.With([&](std::list<Open>& open) {
    for (auto it = open.begin(); it != open.end(); ++it) {
      if (it->number != number) continue;
      if (it->shard.use_count() > 1) return false;
      open.erase(it);
      return true;
    }
    return true;
  });
}

void Shards::Rolled(const SealedShard& sealed, Shard active) {
  const std::shared_ptr<const Set> before = set();
  auto next = std::make_shared<Set>();
  next->sealed = before->sealed;
  next->sealed.push_back(sealed);
  next->active = std::make_shared<Shard>(std::move(active));
  // Into the list first: who sees the new set finds the old environment there, which is open and may not be opened again.
  open_.With([&](std::list<Open>& open) { open.push_front({before->active_number(), before->active, true}); });
  set_.With([&](std::shared_ptr<const Set>& s) { s = std::move(next); });
}

absl::StatusOr<std::shared_ptr<const Shard>> Shards::Get(const Set& set, uint32_t number) const {
  if (number == set.active_number()) return std::shared_ptr<const Shard>(set.active);
  if (number < 1 || number > set.sealed.size()) return absl::NotFoundError(absl::StrCat("there is no shard ", number));
  // An environment is closed only while nobody else can get hold of it: with the list as its last owner, under the lock.
  return open_.With([&](std::list<Open>& open) -> absl::StatusOr<std::shared_ptr<const Shard>> {
    for (auto it = open.begin(); it != open.end(); ++it) {
      if (it->number != number) continue;
      open.splice(open.begin(), open, it);
      if (!it->was_active || it->shard.use_count() > 1) return it->shard;
      open.erase(it);  // nobody reads it: from here on as a file that does not change
      break;
    }
    const std::string dir = ShardDir(dir_, number);
    ASSIGN_OR_RETURN(Shard opened, Shard::OpenSealed(dir));
    RETURN_IF_ERROR(CheckContinued(set.sealed[number - 1], opened));
    open.push_front({number, std::make_shared<const Shard>(std::move(opened)), false});
    std::shared_ptr<const Shard> shard = open.front().shard;
    for (auto it = open.end(); open.size() > kOpenShards && it != open.begin();) {
      --it;
      if (it->shard.use_count() == 1) it = open.erase(it);
    }
    return shard;
  });
}

size_t Shards::open() const {
  return open_.Peek([](const std::list<Open>& open) { return open.size(); });
}

ShardView::Part ShardView::Hold(uint32_t number, std::shared_ptr<const Shard> shard) const {
  auto txn = std::make_unique<lmdb::ReadTxn>(*shard->env);
  held_.push_back({number, std::move(shard), std::move(txn)});
  return {number, held_.back().shard.get(), held_.back().txn.get()};
}

ShardView::Part ShardView::Active() const {
  for (const Held& h : held_) {
    if (h.number == set_->active_number()) return {h.number, h.shard.get(), h.txn.get()};
  }
  return Hold(set_->active_number(), set_->active);
}

absl::StatusOr<ShardView::Part> ShardView::Number(uint32_t number) const {
  for (const Held& h : held_) {
    if (h.number == number) return Part{h.number, h.shard.get(), h.txn.get()};
  }
  ASSIGN_OR_RETURN(std::shared_ptr<const Shard> shard, shards_.Get(*set_, number));
  return Hold(number, std::move(shard));
}

absl::StatusOr<ShardView::Part> ShardView::OfLeaf(uint64_t index) const {
  const Part active = Active();
  if (index >= set_->first() || active.Get(active.shard->leaves, IndexKey(index)).has_value()) return active;
  return Number(set_->NumberOf(index));
}

absl::StatusOr<Hash> ShardView::Node(int level, uint64_t index) const {
  const std::string key = NodeKey(level, index);
  const uint64_t completed_by = ((index + 1) << level) - 1;
  Part part = Active();
  std::optional<std::string_view> hash = part.Get(part.shard->nodes, key);
  if (!hash.has_value() && completed_by < set_->first()) {
    ASSIGN_OR_RETURN(part, Number(set_->NumberOf(completed_by)));
    hash = part.Get(part.shard->nodes, key);
  }
  if (hash.has_value() && hash->size() == 32) return Hash::From(*hash);
  return absl::DataLossError(absl::StrCat("tree node ", level, "/", index, " in ", part.shard->env->dir(),
                                          " is missing or damaged: run orgtrail fsck, then restore from a backup"));
}

absl::StatusOr<std::optional<uint64_t>> ShardView::Find(const BatchId& id, const std::optional<AgentHead>& newest) const {
  const std::string key = BatchKey(id);
  const Part active = Active();
  if (std::optional<uint64_t> here = IndexIn(active.Get(active.shard->batches, key))) return here;
  const auto reaches = [&](const AgentHead& head) { return std::pair(head.epoch, head.batch_seq) >= std::pair(id.epoch, id.batch_seq); };
  if (set_->sealed.empty() || !newest.has_value()) return std::optional<uint64_t>();
  if (!reaches(*newest)) {
    for (uint32_t number = 1; newest->quarantined && number < set_->active_number(); ++number) {
      const ShardView one(shards_);
      ASSIGN_OR_RETURN(const Part part, one.Number(number));
      if (std::optional<uint64_t> there = IndexIn(part.Get(part.shard->batches, key))) return there;
    }
    return std::optional<uint64_t>();
  }
  // The first shard at whose end the agent had come so far.
  uint32_t low = 1, high = set_->active_number();
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    ASSIGN_OR_RETURN(const Part part, Number(middle));
    bool is_there = false;
    if (const auto value = part.Get(part.shard->heads, id.uuid.view()); value.has_value()) {
      ASSIGN_OR_RETURN(const AgentHead head, AgentHead::Decode(*value));
      is_there = reaches(head);
    }
    if (is_there) high = middle;
    else low = middle + 1;
  }
  if (low == set_->active_number()) return std::optional<uint64_t>();
  ASSIGN_OR_RETURN(const Part part, Number(low));
  return IndexIn(part.Get(part.shard->batches, key));
}

absl::StatusOr<std::optional<uint64_t>> ShardView::FindLeaf(const Hash& leaf, uint64_t from) const {
  const uint32_t last = set_->NumberOf(from);
  for (uint32_t number = set_->active_number(); number >= last; --number) {
    const ShardView one(shards_);  // its transactions end with each step: a search through all shards holds one open
    ASSIGN_OR_RETURN(const Part part, number == set_->active_number() ? absl::StatusOr<Part>(Active()) : one.Number(number));
    if (std::optional<uint64_t> here = IndexIn(part.Get(part.shard->hashes, leaf.view()))) return here;
  }
  return std::optional<uint64_t>();
}

}  // namespace orgtrail
