#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/base/status.h"
#include "common/fs/errno.h"
#include "common/fs/file.h"

namespace orgtrail {

absl::Status ErrnoStatus(std::string_view operation, std::string_view path, int error) {
  // strerrordesc_np: thread-safe and never localised, unlike strerror.
  const char* what = strerrordesc_np(error);
  const std::string message =
      absl::StrCat(ToAbsl(operation), " ", ToAbsl(path), ": ", what == nullptr ? "unknown error" : what);
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case ENOSPC:
      return absl::ResourceExhaustedError(absl::StrCat(message, "; free space on that file system"));
    case EFBIG:
      return absl::ResourceExhaustedError(absl::StrCat(message, "; raise LimitFSIZE (ulimit -f)"));
    case EDQUOT:
      return absl::ResourceExhaustedError(absl::StrCat(message, "; raise this user's disk quota or free space"));
    case EMFILE:
      return absl::ResourceExhaustedError(absl::StrCat(message, "; raise LimitNOFILE (ulimit -n)"));
    case ENFILE:
      return absl::ResourceExhaustedError(absl::StrCat(message, "; raise fs.file-max"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(
          absl::StrCat(message, "; let user ", geteuid(), " reach it (ls -ld each directory on the way)"));
    case EROFS:
      return absl::PermissionDeniedError(absl::StrCat(message, "; remount it writable, after looking why (dmesg)"));
    case EIO:
      return absl::DataLossError(absl::StrCat(message, "; the disk fails: look at dmesg and smartctl"));
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case ENOTDIR:
    case EISDIR:
    case ENOTEMPTY:
      return absl::FailedPreconditionError(message);
    case ENAMETOOLONG:
    case ELOOP:
      return absl::InvalidArgumentError(message);
    default:
      return absl::InternalError(message);
  }
}

namespace {

// open, statvfs and the like fail with EINTR only on slow file systems (NFS, FUSE): then the call is simply made again.
template <class F>
auto Retry(F call) -> decltype(call()) {
  decltype(call()) result;
  do {
    result = call();
  } while (result == -1 && errno == EINTR);
  return result;
}

FileFacts ToFacts(const struct stat& st) {
  FileFacts facts;
  facts.device = st.st_dev;
  facts.inode = st.st_ino;
  facts.size = st.st_size < 0 ? 0 : static_cast<uint64_t>(st.st_size);
  facts.modified = absl::TimeFromTimespec(st.st_mtim);
  facts.is_directory = S_ISDIR(st.st_mode);
  return facts;
}

class PosixFile final : public File {
 public:
  PosixFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  // Close reports late write errors of some file systems; whoever needs to know has called Sync before.
  ~PosixFile() override { ::close(fd_); }

  absl::StatusOr<size_t> ReadAt(uint64_t offset, char* out, size_t n) override {
    size_t done = 0;
    while (done < n) {
      const ssize_t got = Retry([&] { return ::pread(fd_, out + done, n - done, static_cast<off_t>(offset + done)); });
      if (got < 0) return ErrnoStatus("read", path_, errno);
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

  absl::Status Append(std::string_view data) override {
    while (!data.empty()) {
      const ssize_t put = Retry([&] { return ::write(fd_, data.data(), data.size()); });
      if (put < 0) return ErrnoStatus("write", path_, errno);
      data.remove_prefix(static_cast<size_t>(put));
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    if (Retry([&] { return ::fdatasync(fd_); }) != 0) return ErrnoStatus("fsync", path_, errno);
    return absl::OkStatus();
  }

  absl::Status Truncate(uint64_t size) override {
    if (Retry([&] { return ::ftruncate(fd_, static_cast<off_t>(size)); }) != 0)
      return ErrnoStatus("truncate", path_, errno);
    return absl::OkStatus();
  }

  absl::Status Allocate(uint64_t size) override {
    const auto length = static_cast<off_t>(size);
    if (Retry([&] { return ::fallocate(fd_, FALLOC_FL_KEEP_SIZE, 0, length); }) == 0) return absl::OkStatus();
    if (errno == EOPNOTSUPP) return absl::UnimplementedError(absl::StrCat("allocate ", path_, ": this file system has no fallocate"));
    return ErrnoStatus("allocate", path_, errno);
  }

  absl::StatusOr<FileFacts> Facts() override {
    struct stat st;
    if (::fstat(fd_, &st) != 0) return ErrnoStatus("stat", path_, errno);
    return ToFacts(st);
  }

 private:
  const std::string path_;
  const int fd_;
};

class Posix final : public Fs {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(std::string_view path, OpenMode mode, int permissions) override {
    int flags = O_CLOEXEC;
    switch (mode) {
      case OpenMode::kRead:
        flags |= O_RDONLY;
        break;
      case OpenMode::kAppend:
        flags |= O_RDWR | O_CREAT | O_APPEND;
        break;
      case OpenMode::kCreateNew:
        flags |= O_RDWR | O_CREAT | O_EXCL | O_APPEND;
        break;
    }
    std::string name(path);
    // O_NONBLOCK: opening a FIFO somebody named *.jsonl must not hang; it means nothing for regular files.
    const int fd = Retry([&] { return ::open(name.c_str(), flags | O_NONBLOCK, static_cast<mode_t>(permissions)); });
    if (fd < 0) return ErrnoStatus("open", path, errno);
    return std::unique_ptr<File>(std::make_unique<PosixFile>(std::move(name), fd));
  }

  absl::StatusOr<FileFacts> Facts(std::string_view path) override {
    struct stat st;
    if (::stat(std::string(path).c_str(), &st) != 0) return ErrnoStatus("stat", path, errno);
    return ToFacts(st);
  }

  absl::StatusOr<std::vector<std::string>> List(std::string_view dir) override {
    struct Close {
      void operator()(DIR* d) const { ::closedir(d); }
    };
    std::unique_ptr<DIR, Close> handle(::opendir(std::string(dir).c_str()));
    if (handle == nullptr) return ErrnoStatus("list", dir, errno);
    std::vector<std::string> names;
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(handle.get());
      if (entry == nullptr) break;
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) return ErrnoStatus("list", dir, errno);
    std::sort(names.begin(), names.end());
    return names;
  }

  absl::StatusOr<std::vector<std::string>> Glob(std::string_view pattern) override {
    struct Matches {
      glob_t g{};
      ~Matches() { ::globfree(&g); }
    } matches;
    // Without GLOB_ERR: a directory that cannot be read hides its own matches, not everybody's.
    switch (::glob(std::string(pattern).c_str(), GLOB_NOSORT, nullptr, &matches.g)) {
      case 0:
        break;
      case GLOB_NOMATCH:
        return std::vector<std::string>();
      case GLOB_NOSPACE:
        return absl::ResourceExhaustedError(absl::StrCat("glob ", ToAbsl(pattern), ": out of memory"));
      default:
        return absl::InternalError(absl::StrCat("glob ", ToAbsl(pattern), ": a directory could not be read"));
    }
    std::vector<std::string> paths(matches.g.gl_pathv, matches.g.gl_pathv + matches.g.gl_pathc);
    std::sort(paths.begin(), paths.end());
    return paths;
  }

  absl::Status Rename(std::string_view from, std::string_view to, Fsync directory) override {
    if (::rename(std::string(from).c_str(), std::string(to).c_str()) != 0) {
      return ErrnoStatus("rename", absl::StrCat(ToAbsl(from), " to ", ToAbsl(to)), errno);
    }
    if (directory == Fsync::kNo) return absl::OkStatus();
    RETURN_IF_ERROR(SyncDir(DirName(to)));
    return DirName(from) == DirName(to) ? absl::OkStatus() : SyncDir(DirName(from));
  }

  absl::Status Remove(std::string_view path) override {
    if (::remove(std::string(path).c_str()) != 0) return ErrnoStatus("remove", path, errno);
    return absl::OkStatus();
  }

  absl::Status MakeDirs(std::string_view path, int permissions) override {
    const std::string whole(path);
    for (size_t slash = whole.find('/', 1);; slash = whole.find('/', slash + 1)) {
      const std::string part = whole.substr(0, slash);
      if (::mkdir(part.c_str(), static_cast<mode_t>(permissions)) == 0) {
        if (absl::Status synced = SyncDir(DirName(part)); !synced.ok()) return synced;
      } else {
        const int error = errno;
        // Somewhere above the target a read-only parent that exists is fine, so only what is missing is an error.
        struct stat st;
        if (::stat(part.c_str(), &st) != 0) return ErrnoStatus("mkdir", part, error);
        if (!S_ISDIR(st.st_mode)) {
          return absl::FailedPreconditionError(
              absl::StrCat("mkdir ", part, ": there is a file of that name; move it away"));
        }
      }
      if (slash == std::string::npos) return absl::OkStatus();
    }
  }

  absl::Status SyncDir(std::string_view path) override {
    const int fd = Retry([&] { return ::open(std::string(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
    if (fd < 0) return ErrnoStatus("open directory", path, errno);
    const int result = Retry([&] { return ::fsync(fd); });
    const int error = errno;
    ::close(fd);
    // EINVAL: this file system has no directory sync (some FUSE); it has nothing better to offer.
    if (result != 0 && error != EINVAL) return ErrnoStatus("fsync directory", path, error);
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> FreeBytes(std::string_view path) override {
    struct statvfs st;
    if (Retry([&] { return ::statvfs(std::string(path).c_str(), &st); }) != 0)
      return ErrnoStatus("statvfs", path, errno);
    return static_cast<uint64_t>(st.f_bavail) * st.f_frsize;
  }

  absl::StatusOr<uint64_t> TotalBytes(std::string_view path) override {
    struct statvfs st;
    if (Retry([&] { return ::statvfs(std::string(path).c_str(), &st); }) != 0)
      return ErrnoStatus("statvfs", path, errno);
    return static_cast<uint64_t>(st.f_blocks) * st.f_frsize;
  }
};

}  // namespace

Fs& PosixFs() {
  static Posix fs;  // no state and a trivial destructor: not an object in the sense of "no statics"
  return fs;
}

}  // namespace orgtrail
