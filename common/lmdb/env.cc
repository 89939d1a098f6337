#include "common/lmdb/env.h"

#include <lmdb.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "common/base/mutant.h"
#include "common/base/status.h"
#include "common/fs/errno.h"
#include "common/fs/file.h"
#include "common/lmdb/short_file.h"

namespace orgtrail::lmdb {
namespace {

MDB_val ToVal(std::string_view s) { return MDB_val{s.size(), const_cast<char*>(s.data())}; }
std::string_view ToView(const MDB_val& v) { return {static_cast<const char*>(v.mv_data), v.mv_size}; }

absl::Status LmdbStatus(std::string_view operation, std::string_view dir, int rc) {
  const std::string message = absl::StrCat(ToAbsl(operation), " ", ToAbsl(dir), "/data.mdb: ", mdb_strerror(rc));
  switch (rc) {
    case MDB_SUCCESS:
      return absl::OkStatus();
    case MDB_MAP_FULL:
      return absl::ResourceExhaustedError(
          absl::StrCat(message, "; the store has reached its largest size: raise its limit"));
    case MDB_MAP_RESIZED:
      return absl::UnavailableError(absl::StrCat(message, "; it grew by more than 64 GiB while it was read: run this again"));
    case ENOSPC:
    case EFBIG:
    case EDQUOT:
    case EROFS:
      return ErrnoStatus(operation, std::string(dir) + "/data.mdb", rc);
    case ENOMEM:
      return absl::ResourceExhaustedError(absl::StrCat(
          message, "; the address space or memory is limited (ulimit -v, MemoryMax=, vm.overcommit_memory)"));
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case EIO:
      return absl::DataLossError(
          absl::StrCat(message, "; keep a copy of the directory, then run `orgtrail fsck` on it or restore it"));
    case ENOENT:
      return absl::NotFoundError(absl::StrCat(message, "; there is no store in this directory"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(absl::StrCat(message, "; let this user read and write the directory"));
    default:
      return absl::InternalError(message);
  }
}

// LMDB calls a write that stored less than it was given EIO, and that is how a file system runs full: the next write, which would
// say ENOSPC, is never made. Either way its data pages go first and its meta page last, so nothing was committed; if the meta page
// was the one that failed, LMDB refuses the next transaction (MDB_PANIC), whatever is answered here.
bool IsFileSystemFull(MDB_env* env) {
  constexpr uint64_t kNothing = 16 << 20;  // what file systems keep for themselves
  mdb_filehandle_t fd = -1;
  struct statvfs facts {};
  if (mdb_env_get_fd(env, &fd) != MDB_SUCCESS || ::fstatvfs(fd, &facts) != 0) return false;
  if (uint64_t{facts.f_bavail} * facts.f_frsize < kNothing) return true;
  // A limit on the size of files ends a write early in the same way.
  struct rlimit limit {};
  struct stat st {};
  return ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && ::fstat(fd, &st) == 0 &&
         static_cast<uint64_t>(st.st_size) + kNothing > limit.rlim_cur;
}

// What Unmap gave back of one environment's map, and between which addresses. What else is looked at there, pages of trees and beginnings of
// values (each look maps 16 pages around it), goes now and then with all that lies between.
class GivenBack {
 public:
  void Add(uintptr_t begin, uintptr_t end) {
    for (uintptr_t low = low_; begin < low && !low_.compare_exchange_weak(low, begin);) {
    }
    for (uintptr_t high = high_; end > high && !high_.compare_exchange_weak(high, end);) {
    }
  }
  // Counts what may have been mapped beside. Going through a large map takes its time, so it waits for a part of it.
  void Count(uint64_t bytes) {
    const uintptr_t low = low_, high = high_;
    if (low >= high || seen_.fetch_add(bytes) + bytes < std::max<uint64_t>(kSweepBytes, (high - low) / 64)) return;
    seen_ = 0;
    Drop(low, high);
  }
  // Of a shared file mapping only the page table entries go. Nothing depends on it, so a refusal changes nothing.
  static void Drop(uintptr_t begin, uintptr_t end) {
    if (begin < end) (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }

 private:
  static constexpr uint64_t kSweepBytes = 1 << 20;
  std::atomic<uintptr_t> low_{UINTPTR_MAX}, high_{0};
  std::atomic<uint64_t> seen_{0};   // since all between them went
};
constexpr uint64_t kCommitLooks = 256 << 10;   // bytes a commit leaves mapped around the pages it looks at

// LMDB's locks are per process: opening one environment twice in a process silently drops them. This is a fact about
// the process, so the guard is one too. It is built on first use, so there is no static constructor, and never destroyed: what
// closes an environment may itself be static.
class OpenDirs {
 public:
  static OpenDirs& Process() {
    static OpenDirs& dirs = *new OpenDirs;
    return dirs;
  }
  bool Enter(uint64_t device, uint64_t inode) {
    std::lock_guard lock(mu_);
    return open_.emplace(device, inode).second;
  }
  void Leave(uint64_t device, uint64_t inode) {
    std::lock_guard lock(mu_);
    open_.erase({device, inode});
  }

 private:
  std::mutex mu_;
  std::set<std::pair<uint64_t, uint64_t>> open_;
};

// LMDB's own assertions end here too, so that the last words name the store.
void OnAssert(MDB_env* env, const char* message) {
  const char* path = "";
  mdb_env_get_path(env, &path);
  CheckFailed(path, 0, message, "LMDB found its own pages inconsistent; run `orgtrail fsck` on this directory");
}

// A read that finds a page it cannot follow has no answer to give; going on would be inventing one.
[[noreturn]] void DamagedWhileReading(MDB_txn* txn, int rc) {
  OnAssert(mdb_txn_env(txn), mdb_strerror(rc));
  std::abort();
}

}  // namespace

ReadTxn::ReadTxn(const Env& env) {
  const int rc = mdb_txn_begin(env.raw(), nullptr, MDB_RDONLY, &txn_);
  if (rc != MDB_SUCCESS)
    CheckFailed(__FILE__, __LINE__, "mdb_txn_begin(MDB_RDONLY)", Describe(LmdbStatus("begin", env.dir(), rc)));
}

ReadTxn::~ReadTxn() {
  if (txn_ != nullptr) mdb_txn_abort(txn_);
}

std::optional<std::string_view> ReadTxn::Get(Table t, std::string_view key) const {
  MDB_val k = ToVal(key), v{};
  const int rc = mdb_get(txn_, t.dbi, &k, &v);
  if (rc == MDB_SUCCESS) return ToView(v);
  if (rc != MDB_NOTFOUND) DamagedWhileReading(txn_, rc);
  return std::nullopt;
}

void ReadTxn::Unmap(std::string_view value) const {
  constexpr uintptr_t kPage = 4096;
  if (writes_ || value.size() < kPage) return;
  // The page with its beginning stays: a glance at it later would map 16 pages around it.
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(value.data()) + kPage - 1) & ~(kPage - 1);
  const uintptr_t end = reinterpret_cast<uintptr_t>(value.data() + value.size()) & ~(kPage - 1);
  GivenBack::Drop(begin, end);
  auto* given = static_cast<GivenBack*>(mdb_env_get_userctx(mdb_txn_env(txn_)));
  given->Add(begin, end);
  given->Count(value.size());
}

absl::StatusOr<std::unique_ptr<WriteTxn>> WriteTxn::Begin(Env& env) {
  std::unique_ptr<WriteTxn> txn(new WriteTxn);
  txn->writes_ = true;
  const int rc = mdb_txn_begin(env.raw(), nullptr, 0, &txn->txn_);
  if (rc != MDB_SUCCESS) {
    txn->txn_ = nullptr;
    return LmdbStatus("begin a transaction in", env.dir(), rc);
  }
  txn->dir_ = &env.dir();
  return txn;
}

WriteTxn::~WriteTxn() = default;

absl::Status WriteTxn::Put(Table t, std::string_view key, std::string_view value) {
  MDB_val k = ToVal(key), v = ToVal(value);
  return LmdbStatus("write to", *dir_, mdb_put(txn_, t.dbi, &k, &v, 0));
}

absl::Status WriteTxn::Append(Table t, std::string_view key, std::string_view value) {
  MDB_val k = ToVal(key), v = ToVal(value);
  return LmdbStatus("append to", *dir_, mdb_put(txn_, t.dbi, &k, &v, MDB_APPEND));
}

absl::StatusOr<char*> WriteTxn::Reserve(Table t, std::string_view key, size_t size, bool append) {
  MDB_val k = ToVal(key), v{size, nullptr};
  const unsigned flags = MDB_RESERVE | (append ? MDB_APPEND : 0u);
  RETURN_IF_ERROR(LmdbStatus("reserve in", *dir_, mdb_put(txn_, t.dbi, &k, &v, flags)));
  return static_cast<char*>(v.mv_data);
}

absl::Status WriteTxn::Delete(Table t, std::string_view key) {
  MDB_val k = ToVal(key);
  const int rc = mdb_del(txn_, t.dbi, &k, nullptr);
  return rc == MDB_NOTFOUND ? absl::OkStatus() : LmdbStatus("delete from", *dir_, rc);
}

absl::Status WriteTxn::Commit() {
  MDB_env* const env = mdb_txn_env(txn_);
  int rc = mdb_txn_commit(std::exchange(txn_, nullptr));
  if (rc == MDB_SUCCESS) static_cast<GivenBack*>(mdb_env_get_userctx(env))->Count(kCommitLooks);
  if (rc == EIO && IsFileSystemFull(env)) rc = ENOSPC;
  return LmdbStatus("commit to", *dir_, rc);
}

Cursor::Cursor(const ReadTxn& txn, Table t) {
  const int rc = mdb_cursor_open(txn.txn_, t.dbi, &cursor_);
  if (rc != MDB_SUCCESS) CheckFailed(__FILE__, __LINE__, "mdb_cursor_open", mdb_strerror(rc));
}

Cursor::~Cursor() { mdb_cursor_close(cursor_); }

bool Cursor::Do(int op) {
  MDB_val k = ToVal(key_), v{};
  const int rc = mdb_cursor_get(cursor_, &k, &v, static_cast<MDB_cursor_op>(op));
  if (rc == MDB_SUCCESS) {
    key_ = ToView(k);
    value_ = ToView(v);
    return true;
  }
  if (rc != MDB_NOTFOUND) DamagedWhileReading(mdb_cursor_txn(cursor_), rc);
  key_ = value_ = {};
  return false;
}

bool Cursor::First() { return Do(MDB_FIRST); }
bool Cursor::Last() { return Do(MDB_LAST); }
bool Cursor::Next() { return Do(MDB_NEXT); }
bool Cursor::Prev() { return Do(MDB_PREV); }
bool Cursor::Seek(std::string_view key) {
  key_ = key;
  return Do(MDB_SET_RANGE);
}

constexpr uint64_t kGrowthWhileRead = 64ull << 30;

// Whether LMDB died while it made the file. It writes the first two pages in one call and refuses a file with less for ever; but the number of
// the newest commit in the first page (MDB_page, then MDB_meta up to mm_txnid) says whether there was ever more.
absl::StatusOr<bool> IsNeverMade(const std::string& file, uint64_t bytes) {
  constexpr size_t kTxnId = 144;
  if (bytes >= 2 * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE))) return false;
  ASSIGN_OR_RETURN(const std::unique_ptr<File> opened, PosixFs().Open(file, OpenMode::kRead));
  char head[kTxnId + 8];
  ASSIGN_OR_RETURN(const size_t read, opened->ReadAt(0, head, sizeof head));
  return read < sizeof head || std::all_of(head + kTxnId, std::end(head), [](char c) { return c == 0; });
}

absl::StatusOr<std::unique_ptr<Env>> Env::Open(std::string_view dir, const EnvOptions& options) {
  std::unique_ptr<Env> env(new Env);
  env->dir_ = std::string(dir);
  struct stat st;
  if (::stat(env->dir_.c_str(), &st) != 0) return LmdbStatus("open", dir, errno);
  if (!OpenDirs::Process().Enter(st.st_dev, st.st_ino)) {
    return absl::FailedPreconditionError(absl::StrCat(ToAbsl(dir), " is already open in this process; share that one"));
  }
  env->device_ = st.st_dev;
  env->inode_ = st.st_ino;
  env->entered_ = true;

  const std::string data = env->dir_ + "/data.mdb";
  const bool existed = ::stat(data.c_str(), &st) == 0;
  uint64_t file_bytes = existed ? static_cast<uint64_t>(st.st_size) : 0;
  if (!options.read_only && existed) {
    ASSIGN_OR_RETURN(const bool never_made, IsNeverMade(data, file_bytes));
    if (never_made) {
      RETURN_IF_ERROR(PosixFs().Remove(data));
      file_bytes = 0;
    }
  }
  if (options.read_only && !existed) return LmdbStatus("open", dir, ENOENT);

  int rc = mdb_env_create(&env->env_);
  if (rc != MDB_SUCCESS) {
    env->env_ = nullptr;
    return LmdbStatus("open", dir, rc);
  }
  mdb_env_set_assert(env->env_, OnAssert);
  mdb_env_set_userctx(env->env_, new GivenBack);
  rc = mdb_env_set_maxreaders(env->env_, options.max_readers);
  if (rc == MDB_SUCCESS) rc = mdb_env_set_maxdbs(env->env_, static_cast<MDB_dbi>(options.tables.size() + 1));
  // LMDB raises a map smaller than the file says to what its last commit needs, so 0 is right for a sealed store.
  // A reader beside the writer needs room for what that writes meanwhile, not for all it may ever write.
  uint64_t map_bytes = options.map_bytes == 0 ? file_bytes : options.map_bytes;
  if (options.read_only) map_bytes = std::min(map_bytes, file_bytes + kGrowthWhileRead);
  if (rc == MDB_SUCCESS) rc = mdb_env_set_mapsize(env->env_, map_bytes);
  if (rc != MDB_SUCCESS) return LmdbStatus("configure", dir, rc);

  // NORDAHEAD: stores are larger than memory and read at random; NOTLS: a transaction belongs to its object, not to a
  // thread.
  unsigned flags = MDB_NOTLS | MDB_NORDAHEAD;
  if (options.read_only) flags |= MDB_RDONLY;
  if (options.read_only && options.immutable) flags |= MDB_NOLOCK;
  if (options.no_meta_sync) flags |= MDB_NOMETASYNC;
  if (Planted(Mutant::kAckBeforeCommit)) flags |= MDB_NOSYNC;
  rc = mdb_env_open(env->env_, env->dir_.c_str(), flags, 0640);
  if (rc != MDB_SUCCESS) return LmdbStatus("open", dir, rc);
  int dead = 0;
  rc = mdb_reader_check(env->env_, &dead);  // slots of killed processes would pin their snapshots for ever
  if (rc != MDB_SUCCESS) return LmdbStatus("check readers of", dir, rc);

  // LMDB has no page checksums and maps the file: a page the file is too short for is a SIGBUS when it is touched.
  MDB_envinfo info;
  MDB_stat stat;
  rc = mdb_env_info(env->env_, &info);
  if (rc == MDB_SUCCESS) rc = mdb_env_stat(env->env_, &stat);
  if (rc != MDB_SUCCESS) return LmdbStatus("inspect", dir, rc);
  const uint64_t needed = (static_cast<uint64_t>(info.me_last_pgno) + 1) * stat.ms_psize;
  mdb_filehandle_t fd;
  rc = mdb_env_get_fd(env->env_, &fd);
  if (rc != MDB_SUCCESS) return LmdbStatus("inspect", dir, rc);
  // Another process may have written since the file was looked at: what it had grown to by now is what counts.
  const uint64_t bytes_now = file_bytes != 0 && ::fstat(fd, &st) == 0 ? static_cast<uint64_t>(st.st_size) : file_bytes;
  if (bytes_now != 0 && bytes_now < needed &&
      !MissingPagesAreFree(fd, bytes_now, stat.ms_psize, info.me_last_pgno)) {
    return absl::DataLossError(
        absl::StrCat(data, " is cut short: ", bytes_now, " bytes of the ", needed,
                     " its last commit needs; keep a copy, then restore it or start with an empty directory"));
  }

  MDB_txn* txn = nullptr;
  rc = mdb_txn_begin(env->env_, nullptr, options.read_only ? MDB_RDONLY : 0u, &txn);
  if (rc != MDB_SUCCESS) return LmdbStatus("begin a transaction in", dir, rc);
  for (const std::string& name : options.tables) {
    Table table;
    rc = mdb_dbi_open(txn, name.c_str(), options.read_only ? 0u : static_cast<unsigned>(MDB_CREATE), &table.dbi);
    if (rc != MDB_SUCCESS) {
      mdb_txn_abort(txn);
      if (rc == MDB_NOTFOUND) {
        return absl::DataLossError(
            absl::StrCat(data, " has no table '", name, "'; is this directory another program's?"));
      }
      return LmdbStatus("open table " + name + " of", dir, rc);
    }
    env->tables_.emplace_back(name, table);
  }
  rc = mdb_txn_commit(txn);
  if (rc != MDB_SUCCESS) return LmdbStatus("open", dir, rc);
  return env;
}

Env::~Env() {
  if (env_ != nullptr) {
    const std::unique_ptr<GivenBack> given(static_cast<GivenBack*>(mdb_env_get_userctx(env_)));
    mdb_env_close(env_);
  }
  if (entered_) OpenDirs::Process().Leave(device_, inode_);
}

Table Env::table(std::string_view name) const {
  for (const auto& [listed, table] : tables_) {
    if (listed == name) return table;
  }
  CheckFailed(__FILE__, __LINE__, "table was listed in EnvOptions", name);
}

absl::Status Env::CopyTo(const std::string& dir) const {
  const int rc = mdb_env_copy2(env_, dir.c_str(), MDB_CP_COMPACT);
  if (rc == ENOSPC) return absl::ResourceExhaustedError(absl::StrCat("copy to ", dir, ": no space left on that disk"));
  return LmdbStatus("copy", dir_, rc);
}

uint64_t Env::UsedBytes() const {
  MDB_envinfo info;
  MDB_stat stat;
  if (mdb_env_info(env_, &info) != MDB_SUCCESS || mdb_env_stat(env_, &stat) != MDB_SUCCESS) return 0;
  return (static_cast<uint64_t>(info.me_last_pgno) + 1) * stat.ms_psize;
}

EnvStats Env::Stats() const {
  EnvStats stats;
  MDB_envinfo info;
  MDB_stat stat;
  if (mdb_env_info(env_, &info) != MDB_SUCCESS || mdb_env_stat(env_, &stat) != MDB_SUCCESS) return stats;
  stats.map_bytes = info.me_mapsize;
  stats.used_bytes = (static_cast<uint64_t>(info.me_last_pgno) + 1) * stat.ms_psize;
  mdb_filehandle_t fd;
  struct stat st;
  if (mdb_env_get_fd(env_, &fd) == MDB_SUCCESS && ::fstat(fd, &st) == 0)
    stats.file_bytes = static_cast<uint64_t>(st.st_size);

  int dead = 0;
  (void)mdb_reader_check(env_, &dead);   // they pin nothing from here on

  // The reader table is only printed as text: a heading line, then "pid thread txnid" with "-" for a reader between
  // snapshots.
  struct Readers {
    uint64_t last_txn;
    uint64_t oldest_behind = 0;
    unsigned open = 0;
  } readers{info.me_last_txnid};
  mdb_reader_list(
      env_,
      [](const char* line, void* context) -> int {
        auto* r = static_cast<Readers*>(context);
        std::string_view text(line);
        while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
        const size_t space = text.rfind(' ');
        const std::optional<uint64_t> txn =
            space == std::string_view::npos ? std::nullopt : ParseUint(text.substr(space + 1));
        if (!txn) return 0;
        ++r->open;
        if (*txn < r->last_txn) r->oldest_behind = std::max(r->oldest_behind, r->last_txn - *txn);
        return 0;
      },
      &readers);
  stats.readers = readers.open;
  stats.oldest_reader_txns = readers.oldest_behind;
  return stats;
}

}  // namespace orgtrail::lmdb
