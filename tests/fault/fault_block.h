// FaultBlock: a page that a test and the program under test share: which file operation of the program goes wrong, and how; and
// what it did. The program's side is preload.cc.
//
// Threads  any; each field is atomic, `armed` is set last and cleared first.
#pragma once

#include <atomic>
#include <cstdint>

namespace orgtrail::fault {

enum class Call : uint32_t { kWrite = 1, kSync, kOpen, kRename, kRemove, kMkdir, kTruncate };  // kOpen: that may create a file

enum class Kind : uint32_t {
  kNone,
  kEio,        // not done, EIO. A sync: what was written since the last one is gone from the disk and from the page cache
  kEioDone,    // done, and EIO all the same
  kErofs,      // EROFS, and so is every call from then on until disarmed: what the kernel makes of a file system it does not trust any more
  kEnospc,     // ENOSPC, and whatever needs space from then on until disarmed; a write stores its first half before
  kKill,       // SIGKILL instead of it
  kKillDone,   // SIGKILL right after it
  kKillHalf,   // SIGKILL after half of a write; other calls: as kKill
  kHang,       // it and every call from then on waits until disarmed, then is done: a disk that does not answer
  kPower,      // what was written and not synced is gone, and so is the process
};
inline constexpr Kind kKinds[] = {Kind::kEio,  Kind::kEioDone,  Kind::kErofs,    Kind::kEnospc,
                                  Kind::kKill, Kind::kKillDone, Kind::kKillHalf, Kind::kPower};

struct FaultBlock {
  static constexpr uint32_t kTrace = 512;
  struct Step {
    Call call;
    uint64_t offset, bytes;    // of a write
    char file[64];             // the end of its path
  };
  std::atomic<uint32_t> attached;    // the program has found this page
  std::atomic<uint32_t> armed;
  std::atomic<Kind> kind;
  std::atomic<uint32_t> nth;         // of the calls since armed; 1 is the first; 0: only count
  std::atomic<uint32_t> calls;       // since armed
  std::atomic<uint32_t> hits;        // calls that went wrong
  char directory[256];               // only what lies below it counts
  Step trace[kTrace];
};

inline constexpr char kBlockVariable[] = "ORGTRAIL_FAULT_BLOCK";   // a file to map

}  // namespace orgtrail::fault
