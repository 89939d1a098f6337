// Repacker: rewrites sealed shards in the background so that they take less: the rows and bodies of many leaves share one zstd block of
// 1 MiB, and tables are filled in the order of their keys. Entries, hashes and indexes are the same, so nobody sees a difference but
// in bytes; frames come back with the same rows.
//
// Path     sealed shard → packing/ → compared leaf by leaf with the original → renamed to packed/ → the original is removed
// Threads  Step: one (its Worker, or a simulator). progress(): any.
// Holds    until the rename packed/ does not exist, from then on it is complete: ended anywhere, a start begins again or cleans up.
// Fails    damage in the original, a full disk: the original stays, it is said, and the shard is tried again an hour later.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "aggregator/ledger/rewrite.h"
#include "aggregator/ledger/shards.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/stage.h"
#include "common/fs/file.h"

namespace orgtrail {

struct RepackProgress {
  uint32_t waiting = 0;               // sealed shards not repacked yet, the one at work included
  uint32_t shard = 0;                 // at work on; 0: none
  uint64_t done = 0, total = 0;       // leaves of it
  uint64_t bytes_before = 0, bytes_after = 0;  // of the shards repacked since the start
};

class Repacker final : public Stage {
 public:
  Repacker(Shards& shards, Fs& fs, const Clock& clock);
  ~Repacker() override;
  Tick Step(Tick now) override;       // a slice: some 16 MiB of records, then as long a rest
  RepackProgress progress() const {
    return progress_.Peek([](const RepackProgress& p) { return p; });
  }

 private:
  absl::Status Begin(uint32_t number);
  absl::Status Advance();
  bool NextShard();

  Shards& shards_;
  Fs& fs_;
  const Clock& clock_;
  std::unique_ptr<ShardRewrite> job_;
  uint32_t next_ = 1;
  Guarded<RepackProgress> progress_;
};

}  // namespace orgtrail
