// The child process of the scrub: reads the ledger through as fsck does, then the runs of the history, with the least claim to processor and
// disk, and says what it finds on standard output (lines.h). A page that cannot be read ends this process, not the aggregator.
// Threads  one.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/clock.h"
#include "common/fs/file.h"

namespace orgtrail {

struct ScrubOrder {
  std::string ledger_dir, history_dir;
  std::string kek_file;               // the ledger's key-encryption key; empty: none, and what is encrypted under one is not looked into
  uint32_t from_shard = 1;
  uint64_t bytes_per_second = 0;      // at most; and never busy for more than half of the time. 0: as fast as it goes
};

// The least claim to processor and disk, from here on. Where the system refuses, it stays as it is.
void TakeTheLastPlace();

// The arguments behind the program's name that ask for it, and the exit code: 0 read to the end, whatever it found; 1 could not look.
inline constexpr const char* kScrubCommand = "scrub";   // LEDGER_DIR HISTORY_DIR FROM_SHARD BYTES_PER_SECOND KEK_FILE
int RunScrubChild(const ScrubOrder& order, Fs& fs, const Clock& clock);

}  // namespace orgtrail
