// Ledger: one log, append only. LMDB, one transaction per append: leaves, tree nodes, frontier, agent heads, batch identities,
// control index and (size, root); then the checkpoint is signed and published to readers. docs/formats/ledger.md
//
// Threads  Append: the committer's. LedgerReader: any.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "aggregator/ledger/committer.h"
#include "aggregator/ledger/reader.h"
#include "common/base/clock.h"
#include "common/crypto/sign.h"
#include "common/fs/file.h"
#include "common/lmdb/env.h"

namespace orgtrail {

struct LedgerOptions {
  std::string dir;                    // …/ledger: one directory per shard below it
  std::string anchor_dir;             // …/anchor: head file, outside the ledger's directory, compared at start; empty: none
  uint64_t map_bytes = 1ull << 40;
  size_t tail_bytes = 32 << 20;       // inflated leaves kept in memory for followers
  bool read_only = false;             // fsck, verify
};

class Ledger : public LedgerReader {
 public:
  // LOG_ROLLBACK (FailedPrecondition) when the anchor is ahead of what is here or disagrees with it. DataLoss names file and remedy.
  static absl::StatusOr<std::unique_ptr<Ledger>> Open(const LedgerOptions& options, std::string origin,
                                                      const SigningKey* log_key, Fs& fs, const Clock& clock);
  // One transaction for the whole group; fills each leaf's index and logged_ns. ResourceExhausted: nothing written.
  virtual absl::StatusOr<Flush> Append(std::span<Admitted> group) = 0;
  // Builds a Leaf (inflated, scanned) from raw bytes: shared by Read and by verify.
  struct Stats {
    uint64_t used_bytes = 0, map_bytes = 0, oldest_reader_txns = 0;
    double last_commit_seconds = 0;
  };
  virtual Stats stats() const = 0;
};

}  // namespace orgtrail
