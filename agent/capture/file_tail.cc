#include "agent/capture/file_tail.h"

#include <fnmatch.h>

#include <algorithm>
#include <cstring>

#include "agent/capture/lines.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/worker.h"
#include "common/json/scanner.h"

namespace orgtrail {
namespace {

constexpr size_t kReadBytes = 1 << 20;
constexpr size_t kChunkLines = 1000;
constexpr int kReadsPerRound = 16;  // of one file before others get their turn
constexpr size_t kOpenFiles = 256;
constexpr size_t kComplaints = 1000;
constexpr absl::Duration kQuiet = absl::Seconds(5);  // after a rotation, before its last line counts as complete
constexpr absl::Duration kPoll = absl::Milliseconds(200);
constexpr absl::Duration kPollWatched = absl::Seconds(1);
constexpr absl::Duration kGather = absl::Milliseconds(5);  // between rounds: a writer's next lines come along
constexpr absl::Duration kForgetEvery = absl::Hours(1);
constexpr int kForgetAfter = 24;  // looks in a row that found no such file
constexpr size_t kForgetStep = 1000;

// A record is one line everywhere. In a printed {"Records":[…]} file its members stand on lines of their own: line ends between
// tokens become spaces, in place. (Inside a string a line end is a flaw, and the record is wrapped with every byte.)
void OnOneLine(char* text, size_t size) {
  bool quoted = false;
  for (size_t i = 0; i < size; ++i) {
    if (text[i] == '"') quoted = !quoted;
    else if (text[i] == '\\' && quoted) ++i;
    else if ((text[i] == '\n' || text[i] == '\r') && !quoted) text[i] = ' ';
  }
}

bool LooksLikeRecords(std::string_view head) {
  const auto skip = [&](std::string_view token) {
    const size_t at = head.find_first_not_of(" \t\r\n");
    if (at == std::string_view::npos || head.substr(at, token.size()) != token) return false;
    head.remove_prefix(at + token.size());
    return true;
  };
  return skip("{") && skip("\"Records\"") && skip(":") && skip("[");
}

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

// ---- The files: what they hold beyond their offset.

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

absl::StatusOr<bool> FileTail::Read(Tracked& t) {
  if (absl::Status opened = Open(t); !opened.ok()) {
    Complain(t.path, opened);
    return false;
  }
  if (t.offset == 0 || t.kind == Kind::kUnknown) {
    char head[kHeadBytes];
    absl::StatusOr<size_t> n = t.content->ReadAt(0, head, sizeof head);
    if (!n.ok()) return Damaged(t, n.status());
    t.kind = LooksLikeRecords({head, *n}) ? Kind::kRecords : Kind::kLines;
  }
  return t.kind == Kind::kRecords ? ReadRecords(t) : ReadLines(t);
}

absl::StatusOr<bool> FileTail::ReadLines(Tracked& t) {
  if (buffer_.size() < kReadBytes) buffer_.resize(kReadBytes);
  for (int reads = 0; reads < kReadsPerRound; ++reads) {
    if (t.searched > t.offset) return ReadLongLine(t);
    absl::StatusOr<size_t> n = t.content->ReadAt(t.offset, buffer_.data(), kReadBytes);
    if (!n.ok()) return Damaged(t, n.status());
    std::string_view rest(buffer_.data(), *n);
    const bool at_end = *n < kReadBytes;
    const size_t before = rest.size();
    for (;;) {
      texts_.clear();
      const size_t taken = TakeLines(rest, kChunkLines, kReadBytes, &texts_);
      if (taken == 0) break;
      if (texts_.empty()) {
        t.offset += taken;  // only empty lines: the next position that is stored includes them
      } else {
        RETURN_IF_ERROR(Take(t, texts_, t.offset + taken, false));
      }
      rest.remove_prefix(taken);
    }
    if (!at_end && rest.size() == before) {
      t.searched = t.offset + before;
      continue;
    }
    if (at_end) return EndOfLines(t, rest);
  }
  return true;
}

// Everything that is there was read; `rest` is what stands after the last line end.
absl::StatusOr<bool> FileTail::EndOfLines(Tracked& t, std::string_view rest) {
  t.caught_up = true;
  absl::Status damage;
  if (t.gzip) {
    char next;
    damage = t.content->ReadAt(t.offset + rest.size(), &next, 1).status();
    if (!damage.ok() && !Quiet(t)) return false;  // perhaps still being written
  } else if (!t.rotated || !Quiet(t)) {
    return false;
  }
  texts_.clear();
  if (!WithoutCr(rest).empty()) texts_.push_back(WithoutCr(rest));
  RETURN_IF_ERROR(Take(t, texts_, t.offset + rest.size(), true));
  if (!damage.ok()) {
    intake_.Lost("file:" + t.path, "decode", 1,
                 absl::StrCat(t.path, ": ", damage.message(), " after ", t.offset, " inflated bytes"));
  }
  return false;
}

// A line of more than one read: finds its end first, then holds it once.
absl::StatusOr<bool> FileTail::ReadLongLine(Tracked& t) {
  size_t skip_end = 0;
  for (;;) {
    absl::StatusOr<size_t> n = t.content->ReadAt(t.searched, buffer_.data(), kReadBytes);
    if (!n.ok() && !t.gzip) return Damaged(t, n.status());
    const size_t got = n.ok() ? *n : 0;
    const void* end = std::memchr(buffer_.data(), '\n', got);
    if (end != nullptr) {
      t.searched += static_cast<size_t>(static_cast<const char*>(end) - buffer_.data());
      skip_end = 1;
      break;
    }
    t.searched += got;
    if (got == kReadBytes) continue;
    t.caught_up = true;
    if (t.gzip ? !n.ok() && !Quiet(t) : !t.rotated || !Quiet(t)) return false;
    break;  // the file ends with this line
  }
  const uint64_t length = t.searched - t.offset;
  std::string line(static_cast<size_t>(std::min<uint64_t>(length, options_.max_line_bytes)), '\0');
  absl::StatusOr<size_t> n = t.content->ReadAt(t.offset, line.data(), line.size());
  if (!n.ok()) return Damaged(t, n.status());
  if (*n < line.size()) return false;  // shrank meanwhile: the next look finds out
  const uint64_t start = t.offset;
  texts_.assign(1, WithoutCr(line));
  RETURN_IF_ERROR(Take(t, texts_, t.searched + skip_end, false));
  texts_.clear();
  t.caught_up = false;
  if (length > line.size()) {
    intake_.Lost(
        "file:" + t.path, "decode", 1,
        absl::StrCat(t.path, ": the line at offset ", start, " has ", length, " bytes; kept the first ", line.size()));
  }
  return true;
}

absl::StatusOr<bool> FileTail::ReadRecords(Tracked& t) {
  std::string text;
  for (size_t got = kReadBytes; got == kReadBytes;) {
    const size_t have = text.size();
    if (have > options_.max_file_bytes) {
      t.kind = Kind::kLines;  // one line too long is cut, with Lost; lines of usual length are read as they are
      return ReadLines(t);
    }
    text.resize(have + kReadBytes);
    absl::StatusOr<size_t> n = t.content->ReadAt(have, text.data() + have, kReadBytes);
    if (!n.ok()) return Damaged(t, n.status());
    got = *n;
    text.resize(have + got);
  }
  t.caught_up = true;
  std::vector<std::string_view> records;
  if (!json::SplitRecords(text, &records)) {
    if (!Quiet(t)) return false;  // perhaps still being written
    // Not one object: several, a line each, or something else. Every line goes on as what it is; nothing is dropped.
    records.clear();
    std::string_view rest = text;
    while (!rest.empty()) {
      const size_t end = rest.find('\n');
      const std::string_view line = WithoutCr(rest.substr(0, end));
      if (std::vector<std::string_view> inner; json::SplitRecords(line, &inner)) {
        records.insert(records.end(), inner.begin(), inner.end());
      } else if (!line.empty()) {
        records.push_back(line);
      }
      rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    }
  }
  texts_.clear();
  size_t bytes = 0;
  for (size_t i = 0; i < records.size(); ++i) {
    const auto begin = static_cast<uint64_t>(records[i].data() - text.data());
    if (begin < t.offset) continue;  // taken before a restart
    OnOneLine(text.data() + begin, records[i].size());
    texts_.push_back(records[i]);
    bytes += records[i].size();
    if (i + 1 < records.size() && texts_.size() < kChunkLines && bytes + records[i + 1].size() <= kReadBytes) continue;
    const bool last = i + 1 == records.size();
    RETURN_IF_ERROR(Take(t, texts_, last ? text.size() : begin + records[i].size(), last));
    texts_.clear();
    bytes = 0;
  }
  if (!t.finished) RETURN_IF_ERROR(Take(t, {}, text.size(), true));
  return false;
}

// A file that gives errors. A .gz may be half written; once it stays as it is, its loss is recorded.
absl::StatusOr<bool> FileTail::Damaged(Tracked& t, const absl::Status& why) {
  t.caught_up = true;
  if (!t.gzip) {
    t.caught_up = false;  // the disk may recover
    Complain(t.path, why);
    return false;
  }
  if (!Quiet(t)) return false;
  RETURN_IF_ERROR(Take(t, {}, t.offset, true));
  intake_.Lost("file:" + t.path, "decode", 1,
               absl::StrCat(t.path, ": ", why.message(), " after ", t.offset, " inflated bytes"));
  return false;
}

absl::Status FileTail::Take(Tracked& t, const std::vector<std::string_view>& texts, uint64_t offset, bool finished) {
  FileIdentity identity = t.identity;
  if (identity.head_bytes < kHeadBytes) {
    // It may have grown since: the longer head tells more.
    absl::StatusOr<FileIdentity> longer = Identify(t.facts, *t.content);
    if (longer.ok() && longer->head_bytes > identity.head_bytes) identity = *longer;
  }
  FilePosition position;
  position.key = identity.Key();
  position.path = t.listed_path;
  position.offset = offset;
  position.finished = finished;
  if (absl::StatusOr<std::string> mark = MarkAt(*t.content, offset); mark.ok()) position.mark = *std::move(mark);
  const std::string source = "file:" + t.path;
  RawChunk chunk;
  chunk.source = source;
  chunk.texts = texts;
  chunk.positions.push_back(position);
  const bool renamed = !t.committed_key.empty() && t.committed_key != position.key;
  if (renamed) {
    FilePosition old;
    old.key = t.committed_key;
    old.forget = true;
    chunk.positions.push_back(std::move(old));
  }
  RETURN_IF_ERROR(intake_.Take(chunk).status());
  if (renamed) known_.Remove(t.committed_key);
  t.identity = identity;
  t.committed_key = position.key;
  t.offset = offset;
  t.searched = 0;
  t.finished = finished;
  known_.Put(std::move(position));
  if (finished) Close(t);
  return absl::OkStatus();
}

}  // namespace orgtrail
