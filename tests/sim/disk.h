// SimDisk: one machine's disk. Real files below a directory in memory; what was synced is kept apart from what was only written,
// and PowerCut keeps the first and a random prefix of the second. LMDB environments below the directory commit through it.
//
// A disk that died does nothing any more and answers every call with EIO: whoever called is gone, the caller of the step notices.
// Threads: one for all disks.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/fs/file.h"
#include "tests/support/ledger_builder.h"

namespace orgtrail {

class SimDisk final : public Fs {
 public:
  SimDisk(std::string dir, uint64_t seed);   // the directory exists
  ~SimDisk() override;
  SimDisk(const SimDisk&) = delete;

  // --- what may go wrong; the world sets these
  bool full = false;             // nothing can be written
  double failing = 0;            // share of syncs and commits that end with EIO
  int dies_after = -1;           // so many writes from now; -1: not
  bool lost_dir_sync = false;    // Mutant::kLostDirSync
  bool dead() const { return dead_; }
  void Die() { dead_ = true; }
  uint64_t eio = 0, refused = 0, writes = 0;   // how often
  bool failed_since_start = false;
  bool opening = false;          // an environment that was there before: its first transaction writes nothing

  void PowerCut();               // what was not synced is gone, but for a random prefix of it
  void Revive();                 // mounted again
  const std::string& dir() const { return dir_; }

  // --- Fs
  absl::StatusOr<std::unique_ptr<File>> Open(std::string_view path, OpenMode mode, int permissions) override;
  absl::StatusOr<FileFacts> Facts(std::string_view path) override;
  absl::StatusOr<std::vector<std::string>> List(std::string_view dir) override;
  absl::StatusOr<std::vector<std::string>> Glob(std::string_view pattern) override;
  absl::Status Rename(std::string_view from, std::string_view to, Fsync directory) override;
  absl::Status Remove(std::string_view path) override;
  absl::Status MakeDirs(std::string_view path, int permissions) override;
  absl::Status SyncDir(std::string_view path) override;
  absl::StatusOr<uint64_t> FreeBytes(std::string_view path) override;
  absl::StatusOr<uint64_t> TotalBytes(std::string_view path) override;

  // --- LMDB's door
  enum class Verdict { kDo, kFull, kFail, kFailDone, kDead, kDeadDone };
  Verdict BeforeWrite();         // also counts down dies_after
  void Created(const std::string& path);
  void Unsynced(const std::string& data_file);   // about to be changed by a commit that does not sync
  bool panicked(const std::string& env) const { return panicked_.contains(env); }
  void Panic(const std::string& env) { panicked_[env] = true; }
  static SimDisk* Of(std::string_view path);

 private:
  class OpenFile;
  struct Change {                // of a name, not yet synced
    enum Kind { kCreate, kMakeDir, kRename, kRemove } kind;
    std::string path, from;      // from: kRename
    std::string kept;            // a link to what stood under `path` before; empty: nothing
  };
  std::string Keep(const std::string& path);     // links what is there aside
  void Undo(const Change& change);
  absl::Status Check(Verdict verdict, std::string_view what) const;

  const std::string dir_, aside_;
  SeededRng rng_;
  bool dead_ = false;
  uint64_t kept_ = 0;
  std::vector<Change> changes_;
  std::map<std::string, uint64_t> synced_;       // path → bytes that are synced, of files with more
  std::map<std::string, std::string> unsynced_;  // LMDB data file → copy as last synced
  std::map<std::string, int> unsynced_age_;
  std::map<std::string, bool> panicked_;         // environments after a failed commit
};

}  // namespace orgtrail
