#include "tests/fault/disk_faults.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace orgtrail::fault {

DiskFaults::DiskFaults(const std::string& block_file, const std::string& directory) : file_(block_file) {
  const int fd = open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(FaultBlock)) != 0) e2e::Fail(file_ + ": " + std::strerror(errno));
  void* page = mmap(nullptr, sizeof(FaultBlock), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (page == MAP_FAILED) e2e::Fail(file_ + ": " + std::strerror(errno));
  block_ = static_cast<FaultBlock*>(page);
  if (directory.size() >= sizeof block_->directory) e2e::Fail(directory + " is too long a path for a test");
  std::strcpy(block_->directory, directory.c_str());
}

DiskFaults::~DiskFaults() { munmap(block_, sizeof(FaultBlock)); }

e2e::Environment DiskFaults::environment() const {
  // Sanitizers come after this library; it calls them by name, so the order they ask for does not matter.
  return {{"LD_PRELOAD", ORGTRAIL_FAULT_PRELOAD}, {kBlockVariable, file_}, {"ASAN_OPTIONS", "verify_asan_link_order=0"}};
}

void DiskFaults::Arm(Kind kind, uint32_t nth) {
  block_->armed = 0;
  block_->kind = kind;
  block_->nth = nth;
  block_->calls = 0;
  block_->hits = 0;
  block_->armed = 1;
}

std::vector<FaultBlock::Step> DiskFaults::trace() const {
  return {block_->trace, block_->trace + std::min(calls(), FaultBlock::kTrace)};
}

const char* Name(Kind kind) {
  switch (kind) {
    case Kind::kNone: return "none";
    case Kind::kEio: return "EIO";
    case Kind::kEioDone: return "done and EIO";
    case Kind::kErofs: return "EROFS";
    case Kind::kEnospc: return "ENOSPC";
    case Kind::kHang: return "hangs";
    case Kind::kKill: return "kill before";
    case Kind::kKillDone: return "kill after";
    case Kind::kKillHalf: return "kill half way";
    case Kind::kPower: return "power cut";
  }
  return "?";
}

const char* Name(Call call) {
  switch (call) {
    case Call::kWrite: return "write";
    case Call::kSync: return "sync";
    case Call::kOpen: return "create";
    case Call::kRename: return "rename";
    case Call::kRemove: return "remove";
    case Call::kMkdir: return "mkdir";
    case Call::kTruncate: return "truncate";
  }
  return "?";
}

std::string Describe(const FaultBlock::Step& step) {
  std::string text = std::string(Name(step.call)) + " " + step.file;
  if (step.call == Call::kWrite) text += " at " + std::to_string(step.offset) + ", " + std::to_string(step.bytes) + " bytes";
  return text;
}

}  // namespace orgtrail::fault
