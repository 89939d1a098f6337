// Backup: a copy of the aggregator's state that can be checked and put back. docs/formats/ledger.md
//
//   TO/manifest                        what is there: sizes, SHA-256, the head
//   TO/ledger/shard-000001/data.mdb    a compacted copy; orgtrail fsck and verify ledger read it as they do the ledger
//   TO/own/…                           the built-in agent's identity and journal
//
// A shard that is not the newest never changes: it is copied once. The next copy of the newest is complete and its manifest written
// beside the old one before anything is replaced, so an interrupted run leaves one backup or the other.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/crypto/digest.h"
#include "common/fs/file.h"

namespace orgtrail {

struct BackupFacts {
  std::string origin;
  uint64_t size = 0;               // of the tree
  Hash root;
  std::string checkpoint;          // the newest signed note in the copy; may be of a smaller size, empty in a log without leaves
  uint64_t shards = 0, copied_bytes = 0, kept_bytes = 0;
};
using BackupProgress = std::function<void(uint64_t bytes_done)>;

// Copies what `state_dir` holds, whether or not an aggregator runs on it, to `to`, and checks the copy. FailedPrecondition: `to` holds a
// backup of another log, or of a newer state. DataLoss: the copy does not check; the old backup is untouched.
absl::StatusOr<BackupFacts> Backup(const std::string& state_dir, const std::string& to, Fs& fs, const Clock& clock,
                                   const BackupProgress& progress);

// Puts a backup into `state_dir`, where there is no ledger, anchor or own agent yet (AlreadyExists). What does not match the manifest is
// DataLoss, and nothing is in place then.
absl::StatusOr<BackupFacts> Restore(const std::string& from, const std::string& state_dir, Fs& fs, const Clock& clock,
                                    const BackupProgress& progress);

}  // namespace orgtrail
