// SizedFs: the real file system, on a disk of whatever size a test says.
#pragma once

#include <functional>

#include "common/fs/file.h"

namespace orgtrail {

class ForwardingFs : public Fs {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(std::string_view path, OpenMode mode, int permissions) override {
    return real_.Open(path, mode, permissions);
  }
  absl::StatusOr<FileFacts> Facts(std::string_view path) override { return real_.Facts(path); }
  absl::StatusOr<std::vector<std::string>> List(std::string_view dir) override { return real_.List(dir); }
  absl::StatusOr<std::vector<std::string>> Glob(std::string_view pattern) override { return real_.Glob(pattern); }
  absl::Status Rename(std::string_view from, std::string_view to, Fsync directory) override { return real_.Rename(from, to, directory); }
  absl::Status Remove(std::string_view path) override { return real_.Remove(path); }
  absl::Status MakeDirs(std::string_view path, int permissions) override { return real_.MakeDirs(path, permissions); }
  absl::Status SyncDir(std::string_view path) override { return real_.SyncDir(path); }
  absl::StatusOr<uint64_t> FreeBytes(std::string_view path) override { return real_.FreeBytes(path); }
  absl::StatusOr<uint64_t> TotalBytes(std::string_view path) override { return real_.TotalBytes(path); }

 private:
  Fs& real_ = PosixFs();
};

class SizedFs : public ForwardingFs {
 public:
  absl::StatusOr<uint64_t> FreeBytes(std::string_view) override {
    if (asked) asked();
    if (full) return absl::ResourceExhaustedError("no space left on device");
    return free;
  }
  absl::StatusOr<uint64_t> TotalBytes(std::string_view) override { return total; }
  uint64_t free = 90ull << 30, total = 100ull << 30;
  bool full = false;
  std::function<void()> asked;   // something that happens meanwhile
};

}  // namespace orgtrail
