#include "common/fs/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/base/status.h"
#include "common/fs/errno.h"

namespace orgtrail {

absl::StatusOr<std::string> ReadFile(Fs& fs, std::string_view path, size_t cap) {
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  ASSIGN_OR_RETURN(const FileFacts facts, file->Facts());
  if (facts.is_directory) return absl::FailedPreconditionError(absl::StrCat("read ", ToAbsl(path), ": is a directory"));
  std::string text;
  // The size is a hint only: /proc says 0 and a growing file says less than there is.
  size_t want = std::min<uint64_t>(facts.size, cap) + 1;
  for (;;) {
    const size_t have = text.size();
    text.resize(have + want);
    ASSIGN_OR_RETURN(const size_t got, file->ReadAt(have, text.data() + have, want));
    text.resize(have + got);
    if (text.size() > cap) {
      return absl::ResourceExhaustedError(absl::StrCat("read ", ToAbsl(path), ": larger than the ", cap,
                                                       " bytes expected at most; is this the right file?"));
    }
    if (got < want) return text;
    want = std::min<size_t>(std::max<size_t>(text.size(), 4096), cap - text.size() + 1);
  }
}

absl::Status WriteFileAtomically(Fs& fs, std::string_view path, std::string_view data, int permissions) {
  // A fixed name beside the target: what a crash left behind is overwritten by the next write instead of piling up.
  const std::string temporary = std::string(path) + ".tmp";
  if (absl::Status removed = fs.Remove(temporary); !removed.ok() && !absl::IsNotFound(removed)) return removed;
  absl::Status written = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(temporary, OpenMode::kCreateNew, permissions));
    RETURN_IF_ERROR(file->Append(data));
    return file->Sync();
  }();
  if (written.ok()) return fs.Rename(temporary, path, Fsync::kYes);
  fs.Remove(temporary).IgnoreError();  // the first error is the one to report; the next write removes it again
  return written;
}

std::string JoinPath(std::string_view dir, std::string_view name) {
  if (dir.empty()) return std::string(name);
  std::string path(dir);
  if (path.back() != '/') path += '/';
  path += name;
  return path;
}

std::string DirName(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  if (slash == 0) return "/";
  return std::string(path.substr(0, slash));
}

std::string BaseName(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  if (path == "/") return "/";
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

absl::StatusOr<std::unique_ptr<DirLock>> DirLock::Take(std::string_view dir) {
  const std::string path = JoinPath(dir, "lock");
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return ErrnoStatus("open lock file", path, errno);
  std::unique_ptr<DirLock> lock(new DirLock(fd));
  int locked;
  do {
    locked = ::flock(
        fd, LOCK_EX | LOCK_NB);  // of the open file, not of the process: a second Take in this process is refused too
  } while (locked != 0 && errno == EINTR);
  if (locked != 0) {
    if (errno != EWOULDBLOCK) return ErrnoStatus("lock", path, errno);
    char text[32] = {};
    const ssize_t n = ::pread(fd, text, sizeof text - 1, 0);
    std::string holder(text, n > 0 ? static_cast<size_t>(n) : 0);
    while (!holder.empty() && holder.back() == '\n') holder.pop_back();
    return absl::FailedPreconditionError(absl::StrCat(ToAbsl(dir), " is in use by process ",
                                                      holder.empty() ? std::string("(unknown)") : holder,
                                                      "; stop it, or give this one a directory of its own"));
  }
  const std::string pid = absl::StrCat(::getpid(), "\n");
  if (::ftruncate(fd, 0) != 0) return ErrnoStatus("truncate lock file", path, errno);
  if (::pwrite(fd, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return ErrnoStatus("write lock file", path, errno);
  }
  return lock;
}

// The file stays: removing it would let two processes hold locks on two files of the same name.
DirLock::~DirLock() { ::close(fd_); }

}  // namespace orgtrail
