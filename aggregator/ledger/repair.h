// Repair: puts back what a disk damaged in a ledger, from copies of it: backups, mirrors, or the agents that sealed it. Nothing is taken on a copy's word: a leaf must have the
// hash that this ledger's tree holds for it, and its records the root in its signed header; a whole file must hold the stretch of the tree
// that the later shards, or the anchor, know. Offline: no aggregator runs on the ledger; but a sealed shard's leaves may be put back beneath a
// running one (aggregator/scrub/refill.h), which reads on in the old file until it lets go of it.
//
//   damaged shard ──copied──▶ repairing/ ──leaves put back, indexes written anew──▶ checked as fsck does ──renamed over the original
//        └── cannot be read at all: the whole file from a copy, checked where it lies, then the same rename
//
// Holds    until the rename the ledger is as it was. Ended anywhere, it is run again: it removes what it had begun.
// Steps    each runs in a process of its own (repair.h's caller starts it): damaged pages may end it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/ledger/fsck.h"
#include "common/base/clock.h"
#include "common/fs/file.h"

namespace orgtrail {

inline constexpr std::string_view kRepairedFile = "repaired";    // within state_dir: what was done, for the aggregator to log

// The directory of a ledger for what people give: a state directory, a backup, or the ledger itself.
std::string LedgerDirOf(Fs& fs, const std::string& given);

struct RepairOrder {
  std::string ledger_dir;
  uint32_t shard = 0;
  std::vector<std::string> sources;     // ledger directories, the first that has it counts
  std::vector<uint64_t> leaves;         // damaged
  // Frames as their agents sealed them, by leaf: taken before any source. They say nothing of what the ledger keeps beside a leaf (when it was
  // logged, its flags): that must be sound, or be proven by the CRC that the leaf was stored with.
  std::map<uint64_t, std::string> returned;
  bool give_up_bodies = false;          // a batch that no source has is left without its bodies, when its entry is sound
  uint64_t map_bytes = 1ull << 40;
  std::string kek;                      // the ledger's key-encryption key; empty: it has none
};

inline constexpr std::string_view kFromAgent = "its agent";
struct RepairedLeaf {
  uint64_t leaf = 0;
  std::string source;                   // kFromAgent: `returned`. Empty: it is without bodies now
};
struct Candidate {                      // what lies in repairing/
  bool is_packed = false;               // it has the tables of a repacked shard: to become packed/
  bool is_pruned = false;               // … or, its bodies having expired, pruned/
  std::vector<RepairedLeaf> repaired;
  std::vector<uint64_t> left;           // damaged leaves that no source has
};
// Step 1, of a shard that can be read: a copy of it with every leaf put back that a source has.
absl::StatusOr<Candidate> CopyAndPatch(const RepairOrder& order, Fs& fs, const Clock& clock);
// Step 1, of a shard that cannot: the whole file of source `from`, which must be sound there and hold what this ledger's shard did.
// FailedPrecondition: it does not, and why. `anchor`: the newest checkpoint known, for the shard that grows.
absl::StatusOr<Candidate> CopyWhole(const RepairOrder& order, const std::string& from, const std::string& anchor_dir, Fs& fs, const Clock& clock);
// Step 3: the candidate takes the original's place. A copy that has bodies which expired here loses them when the aggregator runs again.
absl::Status Install(const std::string& ledger_dir, uint32_t shard, bool is_packed, Fs& fs, bool is_pruned = false);
absl::Status RemoveCandidate(const std::string& ledger_dir, uint32_t shard, Fs& fs);

// "12 to 14, 20": at most `most` stretches of leaves, which ascend.
std::string Stretches(const std::vector<uint64_t>& leaves, size_t most);
// Adds what was done, a line each, to kRepairedFile: the aggregator logs it and removes the file.
absl::Status NoteForTheLog(const std::string& state_dir, const std::vector<std::string>& done, Fs& fs, const Clock& clock);

}  // namespace orgtrail
