#include "tests/sim/disk.h"

#include <lmdb.h>

#include <cerrno>
#include <filesystem>

#include "common/base/status.h"
#include "common/fs/errno.h"

namespace orgtrail {
namespace {

namespace fs = std::filesystem;

// The disks there are, for LMDB's commits: one thread runs everything.
std::vector<SimDisk*>& Disks() {
  static std::vector<SimDisk*> disks;
  return disks;
}

absl::Status Eio(std::string_view what) { return ErrnoStatus("simulated", what, EIO); }

}  // namespace

class SimDisk::OpenFile final : public File {
 public:
  OpenFile(SimDisk& disk, std::string path, std::unique_ptr<File> file)
      : disk_(disk), path_(std::move(path)), file_(std::move(file)) {}
  absl::StatusOr<size_t> ReadAt(uint64_t offset, char* out, size_t n) override {
    if (disk_.dead_) return Eio(path_);
    return file_->ReadAt(offset, out, n);
  }
  absl::Status Append(std::string_view data) override {
    const Verdict verdict = disk_.BeforeWrite();
    if (verdict == Verdict::kFull && !data.empty()) {   // some of it may have fitted
      RETURN_IF_ERROR(file_->Append(data.substr(0, disk_.rng_.Below(data.size()))));
    }
    if (verdict == Verdict::kDo || verdict == Verdict::kDeadDone) {
      ASSIGN_OR_RETURN(const FileFacts facts, file_->Facts());
      disk_.synced_.try_emplace(path_, facts.size);
      RETURN_IF_ERROR(file_->Append(data));
    }
    return disk_.Check(verdict, path_);
  }
  absl::Status Sync() override {
    const Verdict verdict = disk_.BeforeWrite();
    if (verdict == Verdict::kDo || verdict == Verdict::kDeadDone || verdict == Verdict::kFailDone) disk_.synced_.erase(path_);
    if (verdict == Verdict::kFull) return absl::OkStatus();
    return disk_.Check(verdict, path_);
  }
  absl::Status Truncate(uint64_t size) override {
    if (disk_.dead_) return Eio(path_);
    return file_->Truncate(size);
  }
  absl::StatusOr<FileFacts> Facts() override { return file_->Facts(); }

 private:
  SimDisk& disk_;
  const std::string path_;
  std::unique_ptr<File> file_;
};

SimDisk::SimDisk(std::string dir, uint64_t seed) : dir_(std::move(dir)), aside_(dir_ + ".aside"), rng_(seed) {
  fs::create_directories(aside_);
  Disks().push_back(this);
}

SimDisk::~SimDisk() {
  std::erase(Disks(), this);
  std::error_code ignored;
  fs::remove_all(aside_, ignored);
}

SimDisk* SimDisk::Of(std::string_view path) {
  for (SimDisk* disk : Disks()) {
    if (path.starts_with(disk->dir_ + "/")) return disk;
  }
  return nullptr;
}

SimDisk::Verdict SimDisk::BeforeWrite() {
  if (dead_) return Verdict::kDead;
  ++writes;
  if (dies_after >= 0 && dies_after-- == 0) {
    dead_ = true;
    return rng_.Below(2) == 0 ? Verdict::kDead : Verdict::kDeadDone;
  }
  if (full) {
    ++refused;
    return Verdict::kFull;
  }
  if (failing > 0 && static_cast<double>(rng_.Below(1'000'000)) < failing * 1e6) {
    ++eio;
    failed_since_start = true;
    return rng_.Below(2) == 0 ? Verdict::kFail : Verdict::kFailDone;
  }
  return Verdict::kDo;
}

absl::Status SimDisk::Check(Verdict verdict, std::string_view what) const {
  if (verdict == Verdict::kDo) return absl::OkStatus();
  return verdict == Verdict::kFull ? ErrnoStatus("simulated", what, ENOSPC) : Eio(what);
}

std::string SimDisk::Keep(const std::string& path) {
  std::error_code missing;
  const std::string kept = aside_ + "/" + std::to_string(++kept_);
  fs::create_hard_link(path, kept, missing);
  return missing ? "" : kept;
}

absl::StatusOr<std::unique_ptr<File>> SimDisk::Open(std::string_view path, OpenMode mode, int permissions) {
  if (dead_) return Eio(path);
  const std::string name(path);
  const bool is_new = mode != OpenMode::kRead && !fs::exists(name);
  if (is_new) {
    const Verdict verdict = BeforeWrite();
    if (verdict != Verdict::kDo) return Check(verdict, path);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, PosixFs().Open(path, mode, permissions));
  if (is_new) Created(name);
  return std::unique_ptr<File>(std::make_unique<OpenFile>(*this, name, std::move(file)));
}

void SimDisk::Created(const std::string& path) { changes_.push_back({Change::kCreate, path, "", ""}); }

absl::StatusOr<FileFacts> SimDisk::Facts(std::string_view path) {
  if (dead_) return Eio(path);
  return PosixFs().Facts(path);
}
absl::StatusOr<std::vector<std::string>> SimDisk::List(std::string_view dir) {
  if (dead_) return Eio(dir);
  return PosixFs().List(dir);
}
absl::StatusOr<std::vector<std::string>> SimDisk::Glob(std::string_view pattern) { return PosixFs().Glob(pattern); }

absl::Status SimDisk::Rename(std::string_view from, std::string_view to, Fsync directory) {
  const Verdict verdict = BeforeWrite();
  if (verdict == Verdict::kDo || verdict == Verdict::kDeadDone || verdict == Verdict::kFailDone) {
    const std::string source(from), target(to);
    Change change{Change::kRename, target, source, Keep(target)};
    RETURN_IF_ERROR(PosixFs().Rename(from, to, Fsync::kNo));
    changes_.push_back(std::move(change));
    synced_.erase(target);
    if (auto s = synced_.extract(source); !s.empty()) {
      s.key() = target;
      synced_.insert(std::move(s));
    }
  }
  RETURN_IF_ERROR(Check(verdict, to));
  return directory == Fsync::kNo ? absl::OkStatus() : SyncDir(DirName(to));
}

absl::Status SimDisk::Remove(std::string_view path) {
  const Verdict verdict = BeforeWrite();   // a full disk can remove
  if (verdict != Verdict::kDo && verdict != Verdict::kFull && verdict != Verdict::kDeadDone) return Check(verdict, path);
  const std::string name(path);
  std::string kept = Keep(name);
  RETURN_IF_ERROR(PosixFs().Remove(path));
  changes_.push_back({Change::kRemove, name, "", std::move(kept)});
  return verdict == Verdict::kDeadDone ? Eio(path) : absl::OkStatus();
}

absl::Status SimDisk::MakeDirs(std::string_view path, int permissions) {
  if (dead_) return Eio(path);
  const std::string whole(path);
  for (size_t slash = whole.find('/', dir_.size());; slash = whole.find('/', slash + 1)) {
    const std::string part = whole.substr(0, slash);
    if (!fs::exists(part)) {
      RETURN_IF_ERROR(Check(BeforeWrite(), part));
      RETURN_IF_ERROR(PosixFs().MakeDirs(part, permissions));
      changes_.push_back({Change::kMakeDir, part, "", ""});
      RETURN_IF_ERROR(SyncDir(DirName(part)));   // as posix.cc does
    }
    if (slash == std::string::npos) return absl::OkStatus();
  }
}

absl::Status SimDisk::SyncDir(std::string_view path) {
  const Verdict verdict = BeforeWrite();
  if (verdict == Verdict::kDo || verdict == Verdict::kFull || verdict == Verdict::kDeadDone || verdict == Verdict::kFailDone) {
    if (!lost_dir_sync) std::erase_if(changes_, [&](const Change& c) { return DirName(c.path) == path; });
  }
  return verdict == Verdict::kFull ? absl::OkStatus() : Check(verdict, path);
}

absl::StatusOr<uint64_t> SimDisk::FreeBytes(std::string_view path) {
  if (dead_) return Eio(path);
  return full ? 0 : 50ull << 30;
}
absl::StatusOr<uint64_t> SimDisk::TotalBytes(std::string_view path) {
  if (dead_) return Eio(path);
  return 100ull << 30;
}

void SimDisk::Unsynced(const std::string& data_file) {
  // The kernel writes back by itself, sooner or later: every few commits.
  if (auto it = unsynced_.find(data_file); it != unsynced_.end() && ++unsynced_age_[data_file] < 8) return;
  const std::string copy = aside_ + "/" + std::to_string(++kept_);
  fs::copy_file(data_file, copy);
  unsynced_[data_file] = copy;
  unsynced_age_[data_file] = 0;
}

void SimDisk::Undo(const Change& change) {
  std::error_code ignored;
  switch (change.kind) {
    case Change::kCreate: fs::remove(change.path, ignored); break;
    case Change::kMakeDir: fs::remove_all(change.path, ignored); break;
    case Change::kRename:
      fs::rename(change.path, change.from, ignored);
      if (!change.kept.empty()) fs::rename(change.kept, change.path, ignored);
      break;
    case Change::kRemove:
      if (!change.kept.empty()) fs::rename(change.kept, change.path, ignored);
      break;
  }
}

void SimDisk::PowerCut() {
  dead_ = true;
  for (const auto& [path, copy] : unsynced_) {
    std::error_code ignored;
    fs::copy_file(copy, path, fs::copy_options::overwrite_existing, ignored);
  }
  for (const auto& [path, synced] : synced_) {
    std::error_code missing;
    const uint64_t size = fs::file_size(path, missing);
    if (!missing && size > synced) fs::resize_file(path, synced + rng_.Below(size - synced + 1), missing);
  }
  const size_t kept = static_cast<size_t>(rng_.Below(changes_.size() + 1));
  for (size_t i = changes_.size(); i-- > kept;) Undo(changes_[i]);
  changes_.clear();
  synced_.clear();
  unsynced_.clear();
}

void SimDisk::Revive() {
  dead_ = false;
  dies_after = -1;
  failed_since_start = false;
  panicked_.clear();
}

}  // namespace orgtrail

// ---- LMDB's door: env.cc of this build calls these -----------------------------------------------------------------------------

extern "C" int sim_env_open(MDB_env* env, const char* path, unsigned int flags, mdb_mode_t mode) {
  orgtrail::SimDisk* disk = orgtrail::SimDisk::Of(path);
  const std::string data = std::string(path) + "/data.mdb";
  const bool is_new = disk != nullptr && !std::filesystem::exists(data);
  const int rc = mdb_env_open(env, path, flags, mode);
  if (rc == MDB_SUCCESS && is_new) disk->Created(data);
  if (disk != nullptr) disk->opening = rc == MDB_SUCCESS && !is_new;
  return rc;
}

extern "C" int sim_txn_commit(MDB_txn* txn) {
  using Verdict = orgtrail::SimDisk::Verdict;
  MDB_env* env = mdb_txn_env(txn);
  const char* path = "";
  mdb_env_get_path(env, &path);
  orgtrail::SimDisk* disk = orgtrail::SimDisk::Of(path);
  if (disk == nullptr) return mdb_txn_commit(txn);
  if (disk->panicked(path)) {
    mdb_txn_abort(txn);
    return MDB_PANIC;
  }
  if (std::exchange(disk->opening, false) && !disk->dead()) return mdb_txn_commit(txn);
  const Verdict verdict = disk->BeforeWrite();
  if (verdict == Verdict::kFull || verdict == Verdict::kFail || verdict == Verdict::kDead) {
    mdb_txn_abort(txn);
    return verdict == Verdict::kFull ? ENOSPC : EIO;
  }
  unsigned flags = 0;
  mdb_env_get_flags(env, &flags);
  if (flags & MDB_NOSYNC) disk->Unsynced(std::string(path) + "/data.mdb");
  const int rc = mdb_txn_commit(txn);
  if (rc != MDB_SUCCESS || verdict == Verdict::kDo) return rc;
  disk->Panic(path);   // the last page was written, its sync failed: LMDB gives up the environment then
  return EIO;
}
