// The child process that puts frames which agents sent once more back into a sealed shard: a copy of it, the leaves in their places, its indexes
// written anew, and all of it checked as fsck does. What the copy lacks still is said on standard output (lines.h), each leaf that is back as
// "put LEAF". The aggregator compares that with what it knows and renames; a page that cannot be read ends this process, not the aggregator.
// Threads  one.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/clock.h"
#include "common/fs/file.h"

namespace orgtrail {

struct PutBackOrder {
  std::string ledger_dir;
  uint32_t shard = 0;
  std::string kek_file;               // the ledger's key-encryption key; empty: none
};

// The arguments behind the program's name that ask for it. Standard input: of each frame u64 leaf, u32 size, the frame. The exit code: 0 the
// candidate lies in the shard's repairing/, checked and fsynced; 1 it does not, and the last line says why.
inline constexpr const char* kPutBackCommand = "put-back";   // LEDGER_DIR SHARD KEK_FILE
int RunPutBackChild(const PutBackOrder& order, Fs& fs, const Clock& clock);

}  // namespace orgtrail
