// KillingFs: the real files, and a process that is killed before the n-th step that changes or looks at one. For a forked child.
#pragma once

#include <signal.h>
#include <unistd.h>

#include "common/fs/file.h"

namespace orgtrail {

class KillingFs final : public Fs {
 public:
  explicit KillingFs(int at) : at_(at) {}
  bool armed = false, counts_looks = true;

  absl::StatusOr<std::unique_ptr<File>> Open(std::string_view p, OpenMode m, int perm) override { return PosixFs().Open(p, m, perm); }
  absl::StatusOr<FileFacts> Facts(std::string_view p) override { return counts_looks ? Count() : void(), PosixFs().Facts(p); }
  absl::StatusOr<std::vector<std::string>> List(std::string_view d) override { return PosixFs().List(d); }
  absl::StatusOr<std::vector<std::string>> Glob(std::string_view p) override { return PosixFs().Glob(p); }
  absl::Status Rename(std::string_view a, std::string_view b, Fsync f) override { return Count(), PosixFs().Rename(a, b, f); }
  absl::Status Remove(std::string_view p) override { return Count(), PosixFs().Remove(p); }
  absl::Status MakeDirs(std::string_view p, int perm) override {
    Count();
    const absl::Status made = PosixFs().MakeDirs(p, perm);
    Count();
    return made;
  }
  absl::Status SyncDir(std::string_view p) override {
    Count();
    const absl::Status synced = PosixFs().SyncDir(p);
    Count();
    return synced;
  }
  absl::StatusOr<uint64_t> FreeBytes(std::string_view p) override { return PosixFs().FreeBytes(p); }
  absl::StatusOr<uint64_t> TotalBytes(std::string_view p) override { return PosixFs().TotalBytes(p); }

 private:
  void Count() {
    if (armed && --at_ < 0) ::kill(::getpid(), SIGKILL);
  }
  int at_;
};

}  // namespace orgtrail
