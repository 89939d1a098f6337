#include "aggregator/ledger/inflater.h"

#include <utility>

#include "aggregator/ledger/shard.h"
#include "aggregator/ledger/tail.h"
#include "common/base/status.h"
#include "common/format/frame.h"

namespace orgtrail {
namespace {

constexpr size_t kRememberedLeaves = 16;
constexpr size_t kRememberedBytes = 32 << 20;  // a leaf of the largest kind inflates to some 8 MiB
constexpr size_t kIdleTools = 8;
constexpr size_t kUuidOffset = 8;              // in a batch header: docs/formats/batch.md

}  // namespace

void Inflater::SetCarries(std::function<std::string(const Uuid&)> carries) {
  auto shared = std::make_shared<const std::function<std::string(const Uuid&)>>(std::move(carries));
  state_.With([&](State& s) {
    s.carries = std::move(shared);
    s.recent.clear();  // admitted under the old answer
    s.bytes = 0;
  });
}

void Inflater::Forget(uint64_t index) {
  state_.With([&](State& s) {
    s.recent.remove_if([&](const std::shared_ptr<const Leaf>& leaf) {
      if (leaf->index != index) return false;
      s.bytes -= MemoryOf(*leaf);
      return true;
    });
  });
}

std::shared_ptr<const Leaf> Inflater::Remembered(uint64_t index) const {
  return state_.With([&](State& s) -> std::shared_ptr<const Leaf> {
    for (auto it = s.recent.begin(); it != s.recent.end(); ++it) {
      if ((*it)->index != index) continue;
      s.recent.splice(s.recent.begin(), s.recent, it);
      return s.recent.front();
    }
    return nullptr;
  });
}

absl::StatusOr<std::shared_ptr<const Leaf>> Inflater::Inflate(RawLeaf raw, const Hash& hash) {
  const std::string_view entry = EntryOf(raw.bytes);
  if (LeafHash(entry) != hash) return absl::DataLossError("its entry does not have the hash the tree holds");

  std::shared_ptr<Leaf> leaf;
  if (!IsBatch(raw.bytes)) {
    leaf = std::make_shared<Leaf>();
    leaf->bytes = std::move(raw.bytes);
  } else {
    if (entry.size() < kUuidOffset + 16) return absl::DataLossError("its entry is too short for a batch header");
    const Uuid uuid = Uuid::FromBytes(entry.substr(kUuidOffset, 16));
    std::unique_ptr<Tools> tools;
    std::shared_ptr<const std::function<std::string(const Uuid&)>> carries;
    state_.With([&](State& s) {
      carries = s.carries;
      if (s.idle.empty()) return;
      tools = std::move(s.idle.back());
      s.idle.pop_back();
    });
    if (tools == nullptr) tools = std::make_unique<Tools>();
    absl::StatusOr<std::shared_ptr<Leaf>> inflated =
        InflateLeaf(std::move(raw.bytes), carries && *carries ? (*carries)(uuid) : std::string(), tools->zstd, tools->admitter);
    state_.With([&](State& s) {
      if (s.idle.size() < kIdleTools) s.idle.push_back(std::move(tools));
    });
    if (!inflated.ok()) return absl::DataLossError(Describe(inflated.status()));
    leaf = *std::move(inflated);
    leaf->is_batch = true;
  }
  leaf->index = raw.index;
  leaf->hash = hash;
  leaf->logged_ns = raw.logged_ns;
  leaf->flags = raw.flags;

  std::vector<std::shared_ptr<const Leaf>> evicted;  // freed outside the lock
  state_.With([&](State& s) {
    s.recent.push_front(leaf);
    s.bytes += MemoryOf(*leaf);
    while (s.recent.size() > kRememberedLeaves || (s.bytes > kRememberedBytes && s.recent.size() > 1)) {
      s.bytes -= MemoryOf(*s.recent.back());
      evicted.push_back(std::move(s.recent.back()));
      s.recent.pop_back();
    }
  });
  return std::shared_ptr<const Leaf>(std::move(leaf));
}

}  // namespace orgtrail
