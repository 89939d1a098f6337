// Fs: the only door to files. posix.cc is the only place that says open, write, fsync, rename; a simulation passes its own.
// Threads: any for Fs; one File, one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace orgtrail {

struct FileFacts {
  uint64_t device = 0, inode = 0, size = 0;
  absl::Time modified;
  bool is_directory = false;
};

class File {
 public:
  virtual ~File() = default;
  virtual absl::StatusOr<size_t> ReadAt(uint64_t offset, char* out, size_t n) = 0;  // short only at the end of the file
  virtual absl::Status Append(std::string_view data) = 0;
  virtual absl::Status Sync() = 0;                                                  // fdatasync
  virtual absl::Status Truncate(uint64_t size) = 0;
  // Room on the disk for the file to grow to `size` by Append, taken now; what the file holds does not change. Truncate gives the
  // room back. Unimplemented: this file system makes no such promise.
  virtual absl::Status Allocate(uint64_t) { return absl::UnimplementedError("this file cannot be given room in advance"); }
  virtual absl::StatusOr<FileFacts> Facts() = 0;
};

enum class OpenMode { kRead, kAppend, kCreateNew };
enum class Fsync { kYes, kNo };

class Fs {
 public:
  virtual ~Fs() = default;
  virtual absl::StatusOr<std::unique_ptr<File>> Open(std::string_view path, OpenMode mode, int permissions = 0644) = 0;
  virtual absl::StatusOr<FileFacts> Facts(std::string_view path) = 0;               // NotFound when there is none
  virtual absl::StatusOr<std::vector<std::string>> List(std::string_view dir) = 0;  // names, sorted, without . and ..
  virtual absl::StatusOr<std::vector<std::string>> Glob(std::string_view pattern) = 0;  // paths, sorted
  virtual absl::Status Rename(std::string_view from, std::string_view to, Fsync directory) = 0;
  virtual absl::Status Remove(std::string_view path) = 0;
  virtual absl::Status MakeDirs(std::string_view path, int permissions = 0755) = 0;  // what it makes survives a power cut
  virtual absl::Status SyncDir(std::string_view path) = 0;
  virtual absl::StatusOr<uint64_t> FreeBytes(std::string_view path) = 0;
  virtual absl::StatusOr<uint64_t> TotalBytes(std::string_view path) = 0;
};

Fs& PosixFs();

absl::StatusOr<std::string> ReadFile(Fs& fs, std::string_view path, size_t cap = 64 << 20);
// Temporary file beside it, fsync, rename, fsync of the directory: readers see the old text or the new, never a part.
absl::Status WriteFileAtomically(Fs& fs, std::string_view path, std::string_view data, int permissions = 0644);
std::string JoinPath(std::string_view dir, std::string_view name);
std::string DirName(std::string_view path);
std::string BaseName(std::string_view path);

// An exclusive lock on DIR/lock for as long as the object lives; FailedPrecondition names the holder's pid.
class DirLock {
 public:
  static absl::StatusOr<std::unique_ptr<DirLock>> Take(std::string_view dir);
  ~DirLock();
 private:
  explicit DirLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace orgtrail
