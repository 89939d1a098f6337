// Roll: how one shard ends and the next begins. No transaction spans two environments, so the order decides:
//
//   1. the successor's directory, fsynced; its environment; copies of the key trees of open epochs
//   2. the successor's first commit: state (the tree as it stands), list of shards, heads, the tree's peaks: it exists from here on
//   3. fsync of its directory
//   4. the old shard's last commit seals it
//
// Ended before 2, the successor is removed at the next start and the old shard goes on; ended before 4, the seal is made up for then.
// Nothing is appended to the successor before 4. Threads: the writer's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/ledger/shards.h"
#include "common/fs/file.h"

namespace orgtrail {

struct OpenedShards {
  std::vector<SealedShard> sealed;
  Shard active;
  std::optional<TreeState> state;       // of the active one; none: a ledger that has not begun
  uint64_t carried_bytes = 0;           // what its copies take
  std::optional<Shard> unsealed;        // read-only: the one before it, when the roll ended before step 4
};
// The shards as a start finds them, the roll completed or taken back (unless read-only). NotFound: read-only and nothing there.
absl::StatusOr<OpenedShards> OpenShards(const std::string& ledger_dir, uint64_t map_bytes, bool read_only, Fs& fs, int64_t now_ns);

// Steps 1 to 3. `state` is the active shard's; `note` is stored as the newest. ResourceExhausted: nothing is left of it.
struct BegunShard {
  Shard shard;
  uint64_t carried_bytes = 0;
};
absl::StatusOr<BegunShard> BeginShard(const ShardView& view, const std::string& ledger_dir, const TreeState& state, std::string_view origin,
                                      std::string_view note, uint64_t map_bytes, Fs& fs);
absl::Status SealShard(Shard& shard, uint64_t end, int64_t now_ns);   // step 4

}  // namespace orgtrail
