// Loaded before the C library's functions (LD_PRELOAD): counts the calls that change files below one directory, and makes one of them
// go wrong as the FaultBlock says. Everything else goes through untouched.
//
// It remembers what every write since the last sync replaced, so that a failed sync or a power cut can take it back: what only the
// page cache had is gone, as on a real disk. A name without its directory's sync is not taken back (tests/sim does that).
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <string>
#include <vector>

#include "tests/fault/fault_block.h"

namespace {

using orgtrail::fault::Call;
using orgtrail::fault::FaultBlock;
using orgtrail::fault::Kind;

// The function that stands behind this library's own of that name.
#define REAL(name)                                                                       \
  ([] {                                                                                  \
    static const auto next = reinterpret_cast<decltype(&::name)>(dlsym(RTLD_NEXT, #name)); \
    return next;                                                                         \
  }())

FaultBlock* Map() {
  const char* path = getenv(orgtrail::fault::kBlockVariable);
  if (path == nullptr) return nullptr;
  const int fd = REAL(open)(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  void* page = mmap(nullptr, sizeof(FaultBlock), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (page == MAP_FAILED) return nullptr;
  auto* block = static_cast<FaultBlock*>(page);
  block->attached = 1;
  return block;
}
FaultBlock* Block() {
  static FaultBlock* const block = Map();
  return block;
}

struct Change {          // what a write since the last sync replaced
  dev_t device;
  ino_t inode;
  int fd;                // ours, without O_APPEND
  uint64_t offset;
  std::string before;    // shorter than what was written where the file was shorter
  uint64_t size_before;
};
// Neither is ever destroyed: the program's threads may write until the very end.
std::mutex& Lock() {
  static auto* lock = new std::mutex;
  return *lock;
}
std::vector<Change>& Changes() {
  static auto* changes = new std::vector<Change>;
  return *changes;
}

bool Below(const char* path) {
  const FaultBlock* block = Block();
  return block != nullptr && block->directory[0] != '\0' && strncmp(path, block->directory, strlen(block->directory)) == 0;
}

std::string PathOf(int fd) {
  char link[32], path[512];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, sizeof path - 1);
  return n > 0 ? std::string(path, static_cast<size_t>(n)) : std::string();
}

[[noreturn]] void Die() {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

// Takes back what was not synced, newest first: of one file, or of all.
void TakeBack(const struct stat* only) {
  const std::lock_guard lock(Lock());
  auto& changes = Changes();
  for (auto c = changes.rbegin(); c != changes.rend(); ++c) {
    if (only != nullptr && (c->device != only->st_dev || c->inode != only->st_ino)) continue;
    if (!c->before.empty()) (void)!REAL(pwrite)(c->fd, c->before.data(), c->before.size(), static_cast<off_t>(c->offset));
    struct stat now;
    if (fstat(c->fd, &now) == 0 && static_cast<uint64_t>(now.st_size) != c->size_before) {
      (void)!REAL(ftruncate)(c->fd, static_cast<off_t>(c->size_before));
    }
  }
}

void Forget(const struct stat& facts) {
  const std::lock_guard lock(Lock());
  std::erase_if(Changes(), [&](const Change& c) {
    if (c.device != facts.st_dev || c.inode != facts.st_ino) return false;
    close(c.fd);
    return true;
  });
}

void Remember(int fd, uint64_t offset, uint64_t bytes) {
  struct stat facts;
  if (fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode)) return;
  if (fcntl(fd, F_GETFL) & O_DSYNC) return;      // on the disk when it returns
  char link[32];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  Change change{facts.st_dev, facts.st_ino, REAL(open)(link, O_RDWR | O_CLOEXEC), offset, {}, static_cast<uint64_t>(facts.st_size)};
  if (change.fd < 0) return;
  const uint64_t size = change.size_before;
  if (offset < size) {
    change.before.resize(std::min(bytes, size - offset));
    const ssize_t n = pread(change.fd, change.before.data(), change.before.size(), static_cast<off_t>(offset));
    change.before.resize(n > 0 ? static_cast<size_t>(n) : 0);
  }
  const std::lock_guard lock(Lock());
  Changes().push_back(std::move(change));
}

// What shall happen to this call. Sticky: the disk stays full, or read-only.
Kind Fate(Call call, const std::string& path, uint64_t offset, uint64_t bytes) {
  FaultBlock* block = Block();
  if (block == nullptr || block->armed == 0) return Kind::kNone;
  const uint32_t n = ++block->calls;
  if (n <= FaultBlock::kTrace) {
    FaultBlock::Step& step = block->trace[n - 1];
    step.call = call;
    step.offset = offset;
    step.bytes = bytes;
    const size_t from = path.size() > sizeof step.file - 1 ? path.size() - (sizeof step.file - 1) : 0;
    snprintf(step.file, sizeof step.file, "%s", path.c_str() + from);
  }
  const Kind kind = block->kind;
  const bool needs_space = call != Call::kSync && call != Call::kRemove;
  const bool stays = n > block->nth && (kind == Kind::kErofs || kind == Kind::kHang || (kind == Kind::kEnospc && needs_space));
  if (block->nth == 0 || (n != block->nth && !stays)) return Kind::kNone;
  ++block->hits;
  if (kind != Kind::kHang) return kind;
  while (block->armed != 0) usleep(1000);
  return Kind::kNone;
}

// A call without a half. `undo`: what EIO, EROFS and ENOSPC take with them.
template <class Do, class Undo>
int Simple(Kind fate, Do act, Undo undo) {
  switch (fate) {
    case Kind::kNone:
    case Kind::kHang:   // over
      return act();
    case Kind::kEio:
    case Kind::kErofs:
    case Kind::kEnospc:
      undo();
      errno = fate == Kind::kEio ? EIO : fate == Kind::kErofs ? EROFS : ENOSPC;
      return -1;
    case Kind::kEioDone:
      act();
      errno = EIO;
      return -1;
    case Kind::kKillDone:
      act();
      Die();
    case Kind::kPower:
      TakeBack(nullptr);
      Die();
    case Kind::kKill:
    case Kind::kKillHalf:
      Die();
  }
  return -1;
}

constexpr auto kNothing = [] {};

// `put` writes that many of the bytes.
template <class Put>
ssize_t Write(int fd, uint64_t offset, size_t bytes, Put put) {
  if (Block() == nullptr || bytes == 0) return put(bytes);
  const std::string path = PathOf(fd);
  if (!Below(path.c_str())) return put(bytes);
  const Kind fate = Fate(Call::kWrite, path, offset, bytes);
  if (fate != Kind::kKill && fate != Kind::kEio && fate != Kind::kErofs) Remember(fd, offset, bytes);
  switch (fate) {
    case Kind::kNone:
    case Kind::kHang:
      return put(bytes);
    case Kind::kEio:
    case Kind::kErofs:
      errno = fate == Kind::kEio ? EIO : EROFS;
      return -1;
    case Kind::kEioDone:
      put(bytes);
      errno = EIO;
      return -1;
    case Kind::kEnospc:
      // The first to find the disk full still stores a part; LMDB sees only that, the next one the error.
      if (Block()->hits == 1 && bytes > 1) return put(bytes / 2);
      errno = ENOSPC;
      return -1;
    case Kind::kKill:
      Die();
    case Kind::kKillDone:
      put(bytes);
      Die();
    case Kind::kKillHalf:
      put(bytes / 2);
      Die();
    case Kind::kPower:
      put(bytes);
      TakeBack(nullptr);
      Die();
  }
  return -1;
}

uint64_t Place(int fd) {
  if (fcntl(fd, F_GETFL) & O_APPEND) {
    struct stat facts;
    return fstat(fd, &facts) == 0 ? static_cast<uint64_t>(facts.st_size) : 0;
  }
  const off_t at = lseek(fd, 0, SEEK_CUR);
  return at < 0 ? 0 : static_cast<uint64_t>(at);
}

template <class Do>
int Sync(int fd, Do act) {
  if (Block() == nullptr) return act();
  const std::string path = PathOf(fd);
  struct stat facts;
  if (!Below(path.c_str()) || fstat(fd, &facts) != 0) return act();
  const int result = Simple(Fate(Call::kSync, path, 0, 0), act, [&] { TakeBack(&facts); });
  if (result == 0 || errno == EIO || errno == EROFS || errno == ENOSPC) Forget(facts);
  return result;
}

template <class Do>
int Named(Call call, const char* path, Do act) {
  if (!Below(path)) return act();
  return Simple(Fate(call, path, 0, 0), act, kNothing);
}

int Space(int result, struct statvfs* facts) {
  const FaultBlock* block = Block();
  if (result == 0 && block != nullptr && block->armed != 0 && block->kind == Kind::kEnospc && block->hits > 0) facts->f_bavail = facts->f_bfree = 0;
  return result;
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* data, size_t n) {
  return Write(fd, Block() != nullptr ? Place(fd) : 0, n, [&](size_t m) { return REAL(write)(fd, data, m); });
}

ssize_t pwrite(int fd, const void* data, size_t n, off_t at) {
  return Write(fd, static_cast<uint64_t>(at), n, [&](size_t m) { return REAL(pwrite)(fd, data, m, at); });
}

// LMDB: runs of dirty pages, after an lseek.
ssize_t writev(int fd, const iovec* parts, int count) {
  size_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += parts[i].iov_len;
  return Write(fd, Block() != nullptr ? Place(fd) : 0, bytes, [&](size_t m) -> ssize_t {
    if (m == bytes) return REAL(writev)(fd, parts, count);
    std::string half;
    for (int i = 0; i < count; ++i) half.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
    return REAL(write)(fd, half.data(), m);
  });
}

int fsync(int fd) {
  return Sync(fd, [&] { return REAL(fsync)(fd); });
}
int fdatasync(int fd) {
  return Sync(fd, [&] { return REAL(fdatasync)(fd); });
}

int open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
  va_end(more);
  const auto act = [&] { return REAL(open)(path, flags, mode); };
  return flags & O_CREAT ? Named(Call::kOpen, path, act) : act();
}

int rename(const char* from, const char* to) noexcept {
  return Named(Call::kRename, to, [&] { return REAL(rename)(from, to); });
}
int remove(const char* path) noexcept {
  return Named(Call::kRemove, path, [&] { return REAL(remove)(path); });
}
int unlink(const char* path) noexcept {
  return Named(Call::kRemove, path, [&] { return REAL(unlink)(path); });
}
int mkdir(const char* path, mode_t mode) noexcept {
  return Named(Call::kMkdir, path, [&] { return REAL(mkdir)(path, mode); });
}

int ftruncate(int fd, off_t size) noexcept {
  if (Block() == nullptr) return REAL(ftruncate)(fd, size);
  const std::string path = PathOf(fd);
  if (!Below(path.c_str())) return REAL(ftruncate)(fd, size);
  struct stat facts;
  if (fstat(fd, &facts) == 0 && facts.st_size > size) {
    Remember(fd, static_cast<uint64_t>(size), static_cast<uint64_t>(facts.st_size - size));
  } else {
    Remember(fd, static_cast<uint64_t>(size), 0);
  }
  return Simple(Fate(Call::kTruncate, path, 0, static_cast<uint64_t>(size)), [&] { return REAL(ftruncate)(fd, size); }, kNothing);
}

// A disk that refuses bytes says that it has none.
int statvfs(const char* path, struct statvfs* facts) noexcept { return Space(REAL(statvfs)(path, facts), facts); }
int fstatvfs(int fd, struct statvfs* facts) noexcept { return Space(REAL(fstatvfs)(fd, facts), facts); }

}  // extern "C"
