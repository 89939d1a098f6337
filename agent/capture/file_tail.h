// FileTail: records from files, one JSON object a line, or whole {"Records":[…]} files as CloudTrail delivers them; plain or .gz.
//
// Path     files under one glob → [FileTail] → Intake
// Threads  Start spawns one, which alone calls Step. Stop: any.
// Owns     its open files (at most 256; others are opened when they change). Intake, Fs and Clock outlive it.
// Holds    every line once: a position moves in the transaction that stores its lines. A file is known by its identity, not its
//          name: a renamed one is read to its end, a copy or a .gz of one already read goes on where that one stood.
// Loses    only with copytruncate: what was written between the last read and the truncation and is in no copy beside the file.
//          Whenever it is certain that bytes went, Intake::Lost says so. Rotation by rename loses nothing.
// Lines    end at LF; one CR before it is left out, empty ones are skipped. A last line without LF waits until its file was
//          renamed, replaced or deleted and then stayed quiet for 5 s. A line beyond 64 MiB is cut there, with Lost, and
//          with the hash and length of all of it.
// Fails    Intake full: waits and tries again, never skips. A file that cannot be opened: logged once, tried again.
// Tests    tests/unit/agent/capture/file_tail_test.cc
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/capture/content.h"
#include "agent/capture/dir_watch.h"
#include "agent/capture/file_identity.h"
#include "agent/capture/known_files.h"
#include "agent/capture/source.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/fs/file.h"

namespace orgtrail {

struct FileTailOptions {
  std::string path;                                 // a glob
  bool from_end = false;                            // when nothing under this glob was ever read: skip what is there
  size_t max_line_bytes = 64 << 20;
  size_t max_file_bytes = 256 << 20;                // of a {"Records":[…]} file, inflated: it is held whole while it is read
};

class FileTail final : public Source {
 public:
  FileTail(FileTailOptions options, Intake& intake, Fs& fs, const Clock& clock);
  ~FileTail() override;
  absl::Status Start() override;                    // ResourceExhausted or DataLoss when the positions cannot be read
  void Stop() override;

  // One round: looks at the directory, reads a bounded amount of every file that has something new. True: there is more.
  // An error is the intake's: nothing moved for the file it happened on; call again later. The thread's, or a test's instead of it.
  absl::StatusOr<bool> Step();

 private:
  enum class Kind { kUnknown, kLines, kRecords };
  struct Tracked {
    std::string path;
    std::string listed_path;                        // under which its position is stored: one the glob matches
    FileIdentity identity;
    Kind kind = Kind::kUnknown;
    bool gzip = false;
    std::unique_ptr<File> file;                     // null: closed, opened when needed
    std::unique_ptr<Content> content;
    FileFacts facts;                                // as last seen
    uint64_t offset = 0;                            // everything before it was taken
    uint64_t searched = 0;                          // no line end between offset and here
    std::string committed_key;                      // under which its position is stored; empty: none yet
    bool rotated = false;                           // renamed, replaced, deleted or a copy: nobody appends for long
    bool gone = false;                              // no name under the glob any more
    bool beside = false;                            // never had one: found next to a file of ours
    std::string carries_on_from;                    // the key of the file that was read before it; empty: none
    bool finished = false;
    bool caught_up = false;
    Tick quiet_since;                               // last time size, time or name changed
  };
  using FileId = std::pair<uint64_t, uint64_t>;     // device, inode

  struct Waiting {                                  // a file that may be half written: not taken before it settles
    uint64_t size = 0;
    Tick since;
    uint64_t copy_of_bytes = 0;                     // of this size it was equal to a known file
  };
  struct Likeness {
    const KnownFiles::Known* known;                 // null: a file of its own
    uint64_t offset;                                // where to go on
    bool wait;                                      // too early to say
  };

  absl::Status LoadPositions();
  bool Ours(const std::string& path) const;         // matches the glob
  bool Quiet(const Tracked& t) const;
  void Complain(const std::string& path, const absl::Status& status);
  absl::Status Open(Tracked& t);
  void Close(Tracked& t);
  void LimitOpenFiles();

  absl::Status Scan();
  absl::Status Refresh(FileId id, const std::string& path, const FileFacts& facts);
  absl::Status Missing(FileId id);
  absl::Status Truncated(FileId id, const FileFacts& facts);
  absl::StatusOr<bool> Adopt(const std::string& path, const FileFacts& facts, bool beside);
  absl::StatusOr<bool> AdoptBeside(const std::string& path, const std::string& key);
  absl::StatusOr<Likeness> Compare(Tracked& t, bool settled, Waiting* waiting);
  absl::Status SkipToEnd(Tracked& t);
  absl::Status ForgetOld();

  absl::StatusOr<bool> Read(Tracked& t);
  absl::StatusOr<bool> ReadLines(Tracked& t);
  absl::StatusOr<bool> EndOfLines(Tracked& t, std::string_view rest);
  absl::StatusOr<bool> ReadLongLine(Tracked& t);
  absl::StatusOr<WholeText> HashLine(Tracked& t);
  absl::StatusOr<bool> ReadRecords(Tracked& t);
  absl::StatusOr<bool> Damaged(Tracked& t, const absl::Status& why);
  absl::Status Take(Tracked& t, const std::vector<std::string_view>& texts, uint64_t offset, bool finished,
                    const std::optional<WholeText>& whole = std::nullopt);
  void Run();

  const FileTailOptions options_;
  Intake& intake_;
  Fs& fs_;
  const Clock& clock_;
  bool loaded_ = false, first_start_ = false, first_scan_ = true;
  KnownFiles known_;
  std::map<FileId, Tracked> tracked_;
  std::map<FileId, Waiting> waiting_;
  std::map<std::string, int> absent_;               // hourly looks in a row that did not find the file of this key
  Tick forgot_;
  std::set<std::string> complained_;
  std::string buffer_;
  std::vector<std::string_view> texts_;
  DirWatch watch_;
  Guarded<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace orgtrail
