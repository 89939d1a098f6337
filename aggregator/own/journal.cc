#include "aggregator/own/journal.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"

namespace orgtrail {
namespace {

constexpr uint64_t kJournalBytes = 64 << 20;
constexpr size_t kLineBytes = 1 << 20;       // as much as an event holds inline
constexpr size_t kPieceBytes = 1 << 20, kPieceLines = 500;
constexpr uint64_t kReserveBytes = 4 << 20;

}  // namespace

OwnJournal::OwnJournal(Fs& fs, std::string dir, IsLogged logged)
    : fs_(fs), logged_(std::move(logged)), path_(JoinPath(dir, "journal.ndjson")), mark_(JoinPath(dir, "journal.replay")) {}

absl::StatusOr<std::unique_ptr<OwnJournal>> OwnJournal::Open(Fs& fs, std::string dir, const std::optional<AgentHead>& head, IsLogged logged) {
  std::unique_ptr<OwnJournal> journal(new OwnJournal(fs, std::move(dir), std::move(logged)));
  RETURN_IF_ERROR(journal->Cut());
  RETURN_IF_ERROR(journal->Recover(head));
  return journal;
}

absl::Status OwnJournal::Reserve() {
  std::lock_guard lock(mu_);
  reserve_ = true;
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs_.Open(path_, OpenMode::kAppend, 0600));
  RETURN_IF_ERROR(fs_.SyncDir(DirName(path_)));
  absl::Status given;
  for (const uint64_t to : {size_ + kReserveBytes, kReserveBytes}) {   // the second: what an earlier process took
    given = file->Allocate(to);
    if (!given.ok()) continue;
    reserved_ = to;
    break;
  }
  return given;
}

// The JSON text of a line that is still to be logged; nothing when its batch is in the ledger.
std::optional<std::string_view> OwnJournal::Due(std::string_view line) const {
  if (!line.starts_with('+')) return line;
  const size_t colon = line.find(':'), space = line.find(' ');
  Batch batch;
  if (colon > space || space == std::string_view::npos || !absl::SimpleAtoi(ToAbsl(line.substr(1, colon - 1)), &batch.epoch) ||
      !absl::SimpleAtoi(ToAbsl(line.substr(colon + 1, space - colon - 1)), &batch.batch_seq)) {
    return line;   // not ours to judge: logged as it is
  }
  if (logged_ && logged_(batch)) return std::nullopt;
  return line.substr(space + 1);
}

absl::StatusOr<std::string> OwnJournal::ReadAt(uint64_t offset, size_t most) const {
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs_.Open(path_, OpenMode::kRead));
  std::string text(most, '\0');
  ASSIGN_OR_RETURN(size_t n, file->ReadAt(offset, text.data(), most));
  text.resize(n);
  return text;
}

std::string OwnJournal::Ident() const {
  absl::StatusOr<std::string> text = ReadAt(0, kLineBytes + 1);
  return text.ok() ? Hex(Sha256(text->substr(0, text->find('\n'))).view()) : std::string();
}

absl::Status OwnJournal::Cut() {
  absl::StatusOr<FileFacts> facts = fs_.Facts(path_);
  if (absl::IsNotFound(facts.status())) return absl::OkStatus();
  RETURN_IF_ERROR(facts.status());
  size_ = facts->size;
  if (size_ == 0) return absl::OkStatus();
  const uint64_t from = size_ - std::min<uint64_t>(size_, 2 * kLineBytes);
  ASSIGN_OR_RETURN(std::string tail, ReadAt(from, static_cast<size_t>(size_ - from)));
  const size_t end = tail.rfind('\n');
  const uint64_t whole = end == std::string::npos ? from : from + end + 1;
  if (whole == size_) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs_.Open(path_, OpenMode::kAppend, 0600));
  RETURN_IF_ERROR(file->Truncate(whole));
  size_ = whole;
  return file->Sync();
}

absl::Status OwnJournal::Recover(const std::optional<AgentHead>& head) {
  absl::StatusOr<std::string> mark = ReadFile(fs_, mark_, 4096);
  if (absl::IsNotFound(mark.status())) return absl::OkStatus();
  RETURN_IF_ERROR(mark.status());
  const std::vector<std::string> parts = absl::StrSplit(*mark, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  uint64_t offset = 0, epoch = 0, first_seq = 0;
  uint64_t records = UINT64_MAX;
  const bool readable = parts.size() >= 4 && absl::SimpleAtoi(parts[0], &offset) && absl::SimpleAtoi(parts[1], &epoch) &&
                        absl::SimpleAtoi(parts[2], &first_seq) && offset <= size_ &&
                        (parts.size() == 4 || absl::SimpleAtoi(parts[4], &records));
  // A mark of a journal that is done and gone says nothing about this one.
  if (size_ == 0 || !readable || parts[3] != Ident()) return fs_.Remove(mark_);
  done_ = offset;
  if (head && head->epoch == epoch && head->last_seq >= first_seq) {
    uint64_t logged = std::min(head->last_seq - first_seq + 1, records);  // what came after the piece was not the journal's
    ASSIGN_OR_RETURN(std::string text, ReadAt(offset, static_cast<size_t>(std::min(size_ - offset, 2 * static_cast<uint64_t>(kPieceBytes)))));
    for (size_t at = 0, end; logged > 0 && (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
      if (Due(std::string_view(text).substr(at, end - at))) --logged;
      done_ = offset + end + 1;
    }
  }
  if (done_ == size_) return Remove();
  return WriteFileAtomically(fs_, mark_, absl::StrCat(done_, " 0 0 ", Ident(), " 0\n"), 0600);
}

bool OwnJournal::empty() const {
  std::lock_guard lock(mu_);
  return size_ == 0;
}

absl::Status OwnJournal::Append(std::string_view json, std::optional<Batch> waiting) {
  std::string line = waiting ? absl::StrCat("+", waiting->epoch, ":", waiting->batch_seq, " ") : std::string();
  line += json;
  std::replace(line.begin(), line.end(), '\n', ' ');  // white space: no JSON string holds one
  line += '\n';
  if (line.size() > kLineBytes) return absl::InvalidArgumentError("a record of a read is at most 1 MiB");
  std::lock_guard lock(mu_);
  if (size_ + line.size() > kJournalBytes) {
    return absl::ResourceExhaustedError("the ledger cannot write and the local journal of reads is full: free disk space");
  }
  const bool fresh = !fs_.Facts(path_).ok();
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs_.Open(path_, OpenMode::kAppend, 0600));
  ASSIGN_OR_RETURN(FileFacts facts, file->Facts());
  if (facts.size != size_) {  // an append that failed half-way, on a full disk
    RETURN_IF_ERROR(file->Truncate(size_));
    reserved_ = size_;
  }
  if (reserve_ && size_ + line.size() > reserved_) {
    // Better while there is room than when there is none; if this fails the append may still find some.
    if (file->Allocate(size_ + line.size() + kReserveBytes).ok()) reserved_ = size_ + line.size() + kReserveBytes;
  }
  absl::Status written = file->Append(line);
  if (written.ok()) written = file->Sync();
  if (written.ok() && fresh) written = fs_.SyncDir(DirName(path_));
  if (!written.ok()) {
    file->Truncate(size_).IgnoreError();  // the next append looks again
    reserved_ = size_;
    return written;
  }
  size_ += line.size();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> OwnJournal::Next() {
  std::lock_guard lock(mu_);
  std::vector<std::string> lines;
  if (piece_end_ != 0 || done_ == size_) return lines;
  ASSIGN_OR_RETURN(std::string text, ReadAt(done_, static_cast<size_t>(std::min<uint64_t>(size_ - done_, kPieceBytes))));
  size_t at = 0;
  for (size_t end; lines.size() < kPieceLines && (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    if (const auto json = Due(std::string_view(text).substr(at, end - at))) lines.emplace_back(*json);
  }
  if (at == 0) return absl::DataLossError(path_ + ": not what was written; its records cannot be logged");
  if (lines.empty()) {   // all of them are logged
    done_ += at;
    if (done_ == size_) RETURN_IF_ERROR(Remove());
    return lines;
  }
  piece_end_ = done_ + at;
  piece_records_ = lines.size();
  return lines;
}

absl::Status OwnJournal::Begin(uint64_t epoch, uint64_t first_seq) {
  std::lock_guard lock(mu_);
  return WriteFileAtomically(fs_, mark_, absl::StrCat(done_, " ", epoch, " ", first_seq, " ", Ident(), " ", piece_records_, "\n"), 0600);
}

absl::Status OwnJournal::Done() {
  std::lock_guard lock(mu_);
  done_ = piece_end_;
  piece_end_ = 0;
  return done_ == size_ ? Remove() : absl::OkStatus();
}

absl::Status OwnJournal::Remove() {
  if (reserve_) {   // stays, empty, with its room
    ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs_.Open(path_, OpenMode::kAppend, 0600));
    RETURN_IF_ERROR(file->Truncate(0));
    reserved_ = file->Allocate(kReserveBytes).ok() ? kReserveBytes : 0;
    RETURN_IF_ERROR(file->Sync());
  } else {
    RETURN_IF_ERROR(fs_.Remove(path_));
  }
  size_ = done_ = 0;
  absl::Status removed = fs_.Remove(mark_);
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

}  // namespace orgtrail
