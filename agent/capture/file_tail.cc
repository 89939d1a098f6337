#include "agent/capture/file_tail.h"

#include <fnmatch.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/worker.h"

namespace orgtrail {
namespace {

constexpr size_t kReadBytes = 1 << 20;
constexpr size_t kOpenFiles = 256;
constexpr size_t kComplaints = 1000;
constexpr absl::Duration kQuiet = absl::Seconds(5);  // after a rotation, before its last line counts as complete
constexpr absl::Duration kPoll = absl::Milliseconds(200);
constexpr absl::Duration kPollWatched = absl::Seconds(1);
constexpr absl::Duration kGather = absl::Milliseconds(5);  // between rounds: a writer's next lines come along
constexpr absl::Duration kForgetEvery = absl::Hours(1);
constexpr int kForgetAfter = 24;  // looks in a row that found no such file
constexpr size_t kForgetStep = 1000;

bool IsGzip(File& file) {
  char magic[2];
  absl::StatusOr<size_t> n = file.ReadAt(0, magic, 2);
  return n.ok() && *n == 2 && magic[0] == '\x1f' && magic[1] == '\x8b';
}

}  // namespace

FileTail::FileTail(FileTailOptions options, Intake& intake, Fs& fs, const Clock& clock)
    : options_(std::move(options)), intake_(intake), fs_(fs), clock_(clock) {}

FileTail::~FileTail() { Stop(); }

absl::Status FileTail::Start() {
  RETURN_IF_ERROR(LoadPositions());
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void FileTail::Stop() {
  stopping_.With([](bool& stopping) { stopping = true; });
  watch_.Wake();
  if (thread_.joinable()) thread_.join();
}

void FileTail::Run() {
  NameThread("tail");
  absl::Duration backoff = absl::Milliseconds(10);
  const auto stopping = [this] { return stopping_.Peek([](bool s) { return s; }); };
  const auto pause = [this](absl::Duration d) {
    stopping_.WhenFor(
        d, [](bool s) { return s; }, [](bool, bool) {});
  };
  const bool one_dir = DirName(options_.path).find_first_of("*?[") == std::string::npos;
  while (!stopping()) {
    absl::StatusOr<bool> more = Step();
    if (!more.ok()) {
      if (!absl::IsResourceExhausted(more.status()))
        LogWarn("files wait", {{"path", options_.path}, {"why", Describe(more.status())}});
      pause(backoff);
      backoff = std::min(backoff * 2, absl::Seconds(1));
      continue;
    }
    backoff = absl::Milliseconds(10);
    if (*more) continue;
    bool watched = one_dir && watch_.Watch(DirName(options_.path));
    for (const auto& [id, t] : tracked_) {
      if (!t.gone) watched = watch_.Watch(DirName(t.path)) && watched;
    }
    pause(kGather);
    if (!stopping()) watch_.Wait(watched ? kPollWatched : kPoll);
  }
}

absl::Status FileTail::LoadPositions() {
  if (loaded_) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::vector<FilePosition> positions, intake_.Positions());
  first_start_ = true;
  for (FilePosition& position : positions) {
    if (Ours(position.path)) first_start_ = false;
    known_.Put(std::move(position));
  }
  loaded_ = true;
  return absl::OkStatus();
}

bool FileTail::Ours(const std::string& path) const {
  return ::fnmatch(options_.path.c_str(), path.c_str(), FNM_PATHNAME) == 0;
}

bool FileTail::Quiet(const Tracked& t) const { return clock_.Now() - t.quiet_since >= kQuiet; }

void FileTail::Complain(const std::string& path, const absl::Status& status) {
  if (complained_.size() >= kComplaints) complained_.clear();
  if (complained_.insert(path).second)
    LogWarn("file cannot be read; trying again", {{"path", path}, {"why", Describe(status)}});
}

absl::Status FileTail::Open(Tracked& t) {
  if (t.file != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs_.Open(t.path, OpenMode::kRead));
  ASSIGN_OR_RETURN(const FileFacts facts, file->Facts());
  if (facts.device != t.facts.device || facts.inode != t.facts.inode) {
    return absl::NotFoundError(absl::StrCat(t.path, " is another file now"));
  }
  t.file = std::move(file);
  t.gzip = IsGzip(*t.file);
  t.content = t.gzip ? GzipContent(*t.file) : PlainContent(*t.file);
  return absl::OkStatus();
}

void FileTail::Close(Tracked& t) {
  t.content.reset();
  t.file.reset();
}

// ---- The directory: which files there are, and what became of those we know.

absl::Status FileTail::Scan() {
  absl::StatusOr<std::vector<std::string>> paths = fs_.Glob(options_.path);
  if (!paths.ok()) {
    Complain(options_.path, paths.status());
    return absl::OkStatus();  // nothing is known to be gone
  }
  std::set<FileId> seen;
  std::vector<std::pair<std::string, FileFacts>> fresh;
  for (const std::string& path : *paths) {
    absl::StatusOr<FileFacts> facts = fs_.Facts(path);
    if (!facts.ok() || facts->is_directory) continue;  // gone between the two calls: the next round knows
    const FileId id{facts->device, facts->inode};
    if (!seen.insert(id).second) continue;  // a second name (hard link) of the same file
    if (tracked_.contains(id)) {
      RETURN_IF_ERROR(Refresh(id, path, *facts));
    } else {
      fresh.emplace_back(path, *facts);
    }
  }
  std::vector<FileId> missing;
  for (auto& [id, t] : tracked_) {
    if (!seen.contains(id)) missing.push_back(id);
  }
  for (const FileId& id : missing) RETURN_IF_ERROR(Missing(id));
  // Oldest first, so that records come in about the order they were written.
  std::stable_sort(fresh.begin(), fresh.end(),
                   [](const auto& a, const auto& b) { return a.second.modified < b.second.modified; });
  for (const auto& [path, facts] : fresh) RETURN_IF_ERROR(Adopt(path, facts, /*beside=*/false).status());
  if (first_scan_) {
    // What was renamed out of the glob or compressed while the agent was down lies beside its old name.
    first_scan_ = false;
    std::vector<std::pair<std::string, std::string>> unfinished;
    for (const auto& [key, known] : known_.all()) {
      if (!known.position.finished && Ours(known.position.path)) unfinished.emplace_back(known.position.path, key);
    }
    for (const auto& [path, key] : unfinished) {
      const bool found =
          std::any_of(tracked_.begin(), tracked_.end(), [&](const auto& e) { return e.second.committed_key == key; });
      if (!found) RETURN_IF_ERROR(AdoptBeside(path, key).status());
    }
  }
  return absl::OkStatus();
}

absl::Status FileTail::Refresh(FileId id, const std::string& path, const FileFacts& facts) {
  Tracked& t = tracked_.at(id);
  t.gone = false;
  if (path != t.path) {
    t.path = t.listed_path = path;
    t.beside = false;
    t.rotated = true;
    t.quiet_since = clock_.Now();
  }
  if (facts.size == t.facts.size && facts.modified == t.facts.modified) return absl::OkStatus();
  if (absl::Status opened = Open(t); !opened.ok()) {
    Complain(path, opened);
    return absl::OkStatus();
  }
  absl::StatusOr<bool> same = t.gzip ? absl::StatusOr<bool>(true) : SameHead(*t.content, t.identity);
  if (!same.ok()) {
    Complain(path, same.status());
    return absl::OkStatus();
  }
  if (t.gzip && facts.size < t.facts.size) same = false;
  if (!t.gzip && facts.size < std::max<uint64_t>(t.offset, t.identity.head_bytes)) same = false;
  if (!*same) return Truncated(id, facts);
  if (t.gzip) t.content = GzipContent(*t.file);  // what it said about the end may be out of date
  t.facts = facts;
  t.quiet_since = clock_.Now();
  t.caught_up = false;
  if (t.finished && !t.gzip && facts.size > t.offset) t.finished = false;  // somebody still appends
  if (t.finished) Close(t);
  return absl::OkStatus();
}

// Not under the glob any more: deleted, or renamed out of it.
absl::Status FileTail::Missing(FileId id) {
  Tracked& t = tracked_.at(id);
  if (t.finished) {
    tracked_.erase(id);
    return absl::OkStatus();
  }
  if (t.file == nullptr) {
    // Its handle was given up for others'. It may still be there under another name.
    const std::string path = t.path, key = t.committed_key;
    const bool unread = t.facts.size > t.offset;
    const uint64_t bytes = t.facts.size - std::min(t.facts.size, t.offset);
    const bool beside = t.beside && fs_.Facts(path).ok();
    if (beside) return absl::OkStatus();
    tracked_.erase(id);
    ASSIGN_OR_RETURN(const bool found, AdoptBeside(path, key));
    if (!found && unread) {
      intake_.Lost("file:" + path, "source_overflow", 1,
                   absl::StrCat(path, " was deleted with ", bytes, " bytes unread"));
    }
    return absl::OkStatus();
  }
  absl::StatusOr<FileFacts> facts = t.file->Facts();
  if (!facts.ok()) {
    Complain(t.path, facts.status());
    return absl::OkStatus();
  }
  if (!t.gone || facts->size != t.facts.size || facts->modified != t.facts.modified) {
    if (!t.gone && !t.beside) t.quiet_since = clock_.Now();
    if (facts->size != t.facts.size || facts->modified != t.facts.modified) {
      t.quiet_since = clock_.Now();
      t.caught_up = false;
    }
    t.gone = t.rotated = true;
    t.facts = *facts;
  }
  return absl::OkStatus();
}

// The bytes that were read are no longer the file's beginning: copytruncate, or rewritten in place.
absl::Status FileTail::Truncated(FileId id, const FileFacts& facts) {
  const Tracked old = std::move(tracked_.at(id));
  tracked_.erase(id);
  // The copy that copytruncate made goes on where the original stood: under the glob or beside it.
  ASSIGN_OR_RETURN(const bool copied, AdoptBeside(old.path, old.committed_key));
  if (!copied && !old.gzip && old.facts.size > old.offset) {
    intake_.Lost("file:" + old.path, "source_overflow", 1,
                 absl::StrCat(old.path, " was truncated with at least ", old.facts.size - old.offset, " bytes unread"));
  }
  return Adopt(old.path, facts, /*beside=*/false).status();
}

// Looks at the files whose names begin like this one's (audit.jsonl.1, audit.jsonl-20261121.gz) for what carries on
// from a known one. True when something did.
absl::StatusOr<bool> FileTail::AdoptBeside(const std::string& path, const std::string& key) {
  const std::string dir = DirName(path), base = BaseName(path);
  absl::StatusOr<std::vector<std::string>> names = fs_.List(dir);
  if (!names.ok()) return false;
  bool found = false;
  for (const std::string& name : *names) {
    if (name == base || name.compare(0, base.size(), base) != 0) continue;
    const std::string candidate = JoinPath(dir, name);
    absl::StatusOr<FileFacts> facts = fs_.Facts(candidate);
    if (!facts.ok() || facts->is_directory || facts->size == 0) continue;
    if (auto it = tracked_.find({facts->device, facts->inode}); it != tracked_.end()) {
      found = found || it->second.carries_on_from == key;
      continue;
    }
    ASSIGN_OR_RETURN(const bool adopted, Adopt(candidate, *facts, /*beside=*/!Ours(candidate)));
    found = found || (adopted && tracked_.at({facts->device, facts->inode}).carries_on_from == key);
  }
  return found;
}

absl::StatusOr<bool> FileTail::Adopt(const std::string& path, const FileFacts& facts, bool beside) {
  const FileId id{facts.device, facts.inode};
  if (facts.size == 0) return false;
  Tracked t;
  t.path = t.listed_path = path;
  t.facts = facts;
  t.beside = beside;
  t.quiet_since = clock_.Now();
  // Unless it has been lying unchanged for long, how it looks now may be how it looks half written.
  const auto [waiting, first_look] = waiting_.try_emplace(id, Waiting{facts.size, clock_.Now()});
  if (!first_look && waiting->second.size != facts.size) waiting->second = {facts.size, clock_.Now()};
  const bool settled = clock_.Now() - waiting->second.since >= kQuiet;
  absl::Status status = Open(t);
  if (!status.ok()) {
    if (!absl::IsNotFound(status)) Complain(path, status);
    return false;
  }
  absl::StatusOr<FileIdentity> identity = Identify(facts, *t.content);
  if (identity.ok() && identity->head_bytes == 0 && !t.gzip) return false;
  if (!identity.ok()) {
    if (!t.gzip) Complain(path, identity.status());
    if (!t.gzip || beside || !settled) return false;
    identity = FileIdentity{facts.device, facts.inode, 1,
                            Sha256(absl::StrCat(facts.device, " ", facts.inode, " ", facts.size))};
  }
  t.identity = *identity;
  absl::StatusOr<const KnownFiles::Known*> itself = known_.Itself(facts, path, *t.content);
  if (!itself.ok()) {
    if (!settled || beside) return false;
    itself = nullptr;
  }
  if (*itself != nullptr && !t.gzip && facts.size < (*itself)->position.offset)
    itself = nullptr;  // cut, and grown alike since
  const KnownFiles::Known* known = *itself;
  if (known != nullptr) {
    t.offset = known->position.offset;
  } else {
    ASSIGN_OR_RETURN(const Likeness like, Compare(t, settled, &waiting->second));
    if (like.wait) return false;
    known = like.known;
    t.offset = like.offset;
  }
  if (beside && known == nullptr) return false;
  waiting_.erase(id);
  if (known != nullptr) {
    t.carries_on_from = known->position.key;
    if (beside) t.listed_path = known->position.path;
    t.rotated = beside || *itself == nullptr || known->position.path != path;
  }
  if (*itself != nullptr) {
    t.committed_key = known->position.key;
    t.finished = known->position.finished && (t.gzip || facts.size <= t.offset);
  }
  if (t.finished) {
    Close(t);
  } else if (known == nullptr && options_.from_end && first_start_ && first_scan_) {
    RETURN_IF_ERROR(SkipToEnd(t));
  }
  tracked_.emplace(id, std::move(t));
  LimitOpenFiles();
  return true;
}

// Is this new file a copy (copytruncate's, a compressed rotation) of one already read, and how far was that read?
absl::StatusOr<FileTail::Likeness> FileTail::Compare(Tracked& t, bool settled, Waiting* waiting) {
  const Likeness wait{nullptr, 0, true}, own{nullptr, 0, false};
  absl::StatusOr<const KnownFiles::Known*> found = known_.SameBeginning(t.identity, *t.content);
  if (!found.ok()) return settled ? own : wait;  // a .gz still being written, or a damaged one
  const KnownFiles::Known* known = *found;
  if (known == nullptr) return own;
  const FilePosition& read = known->position;

  // The original may still be there, as it was when it was read.
  std::unique_ptr<File> original;
  uint64_t original_size = 0;
  if (absl::StatusOr<std::unique_ptr<File>> file = fs_.Open(read.path, OpenMode::kRead); file.ok()) {
    absl::StatusOr<FileFacts> facts = (*file)->Facts();
    std::unique_ptr<Content> content = PlainContent(**file);
    absl::StatusOr<bool> same = SameHead(*content, known->identity);
    if (facts.ok() && facts->inode == known->identity.inode && facts->size >= read.offset && same.ok() && *same) {
      original = *std::move(file);
      original_size = facts->size;
    }
  }
  if (original != nullptr && t.gzip && read.offset < original_size) return wait;  // gzip(1) removes it when it is done
  if (original != nullptr && !t.gzip) {
    const uint64_t size = t.facts.size;
    if (size > original_size) return own;
    std::unique_ptr<Content> content = PlainContent(*original);
    absl::StatusOr<std::string> here = MarkAt(*t.content, size), there = MarkAt(*content, size);
    if (!here.ok() || !there.ok() || *here != *there) return own;
    waiting->copy_of_bytes = size;
    // Small files can be equal by chance; such a one is taken for a copy only if the original goes within seconds.
    if (known->identity.head_bytes < kHeadBytes) return settled ? own : wait;
    if (read.offset < size) return wait;  // the original is read first
    return Likeness{known, size, false};
  }
  absl::StatusOr<std::string> mark = MarkAt(*t.content, read.offset);
  if (mark.ok() && *mark == read.mark) return Likeness{known, read.offset, false};
  if (mark.ok() && !mark->empty()) return own;
  // Shorter than what was read of the original: known to be its beginning, still being made, or another file.
  if (!t.gzip && waiting->copy_of_bytes == t.facts.size) return Likeness{known, t.facts.size, false};
  return settled ? own : wait;
}

// The start of the last line that is not complete yet. Stored at once: after a restart what came meanwhile is read.
absl::Status FileTail::SkipToEnd(Tracked& t) {
  if (t.gzip) return Take(t, {}, 0, true);
  const uint64_t from = t.facts.size - std::min<uint64_t>(t.facts.size, kReadBytes);
  buffer_.resize(kReadBytes);
  absl::StatusOr<size_t> n = t.content->ReadAt(from, buffer_.data(), kReadBytes);
  if (!n.ok()) return absl::OkStatus();
  const size_t end = std::string_view(buffer_.data(), *n).rfind('\n');
  if (end == std::string_view::npos) return absl::OkStatus();
  return Take(t, {}, from + end + 1, false);
}

void FileTail::LimitOpenFiles() {
  const auto open = static_cast<size_t>(
      std::count_if(tracked_.begin(), tracked_.end(), [](const auto& e) { return e.second.file != nullptr; }));
  if (open <= kOpenFiles) return;
  Tracked* oldest = nullptr;
  for (auto& [id, t] : tracked_) {
    if (t.file == nullptr || t.gone) continue;  // a deleted file's handle is all that is left of it
    if (oldest == nullptr || t.facts.modified < oldest->facts.modified) oldest = &t;
  }
  if (oldest != nullptr) Close(*oldest);
}

// Positions of files that have not been seen for a day are removed, a bounded number an hour.
absl::Status FileTail::ForgetOld() {
  if (clock_.Now() - forgot_ < kForgetEvery) return absl::OkStatus();
  forgot_ = clock_.Now();
  std::set<std::string> present;
  for (const auto& [id, t] : tracked_) present.insert(t.committed_key);
  RawChunk chunk;
  const std::string source = "file:" + options_.path;
  chunk.source = source;
  for (const auto& [key, known] : known_.all()) {
    if (!Ours(known.position.path)) continue;
    // No such directory: perhaps it is not mounted, and then nothing is known about its files.
    if (present.contains(key) || !fs_.Facts(DirName(known.position.path)).ok()) {
      absent_.erase(key);
      continue;
    }
    if (++absent_[key] < kForgetAfter || chunk.positions.size() >= kForgetStep) continue;
    chunk.positions.push_back(known.position);
    chunk.positions.back().forget = true;
  }
  if (chunk.positions.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(intake_.Take(chunk).status());
  for (const FilePosition& position : chunk.positions) {
    known_.Remove(position.key);
    absent_.erase(position.key);
  }
  return absl::OkStatus();
}

// ---- A round: the directory, then every file that has something new (file_read.cc).

absl::StatusOr<bool> FileTail::Step() {
  RETURN_IF_ERROR(LoadPositions());
  RETURN_IF_ERROR(Scan());
  RETURN_IF_ERROR(ForgetOld());
  std::vector<Tracked*> due;
  for (auto& [id, t] : tracked_) {
    const bool may_end = t.rotated || t.gzip || t.kind == Kind::kRecords;
    if (!t.finished && (!t.caught_up || (may_end && Quiet(t)))) due.push_back(&t);
  }
  std::stable_sort(due.begin(), due.end(), [](const Tracked* a, const Tracked* b) {
    if (a->rotated != b->rotated) return a->rotated;
    return a->facts.modified != b->facts.modified ? a->facts.modified < b->facts.modified : a->path < b->path;
  });
  bool more = false;
  for (Tracked* t : due) {
    ASSIGN_OR_RETURN(const bool unread, Read(*t));
    more = more || unread;
  }
  LimitOpenFiles();
  return more;
}

}  // namespace orgtrail
