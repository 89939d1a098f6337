// What a file holds beyond its offset: lines, long lines, whole {"Records":[…]} files. The reading half of FileTail.
#include <algorithm>
#include <cstring>

#include "agent/capture/file_tail.h"
#include "agent/capture/lines.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/json/scanner.h"

namespace orgtrail {
namespace {

constexpr size_t kReadBytes = 1 << 20;
constexpr size_t kChunkLines = 1000;
constexpr int kReadsPerRound = 16;  // of one file before others get their turn

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

}  // namespace

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
  std::optional<WholeText> whole;
  if (length > line.size() && line.size() > limits::kRecordBytes) {
    absl::StatusOr<WholeText> hashed = HashLine(t);
    if (!hashed.ok()) return Damaged(t, hashed.status());
    whole = *hashed;
  }
  texts_.assign(1, WithoutCr(line));
  RETURN_IF_ERROR(Take(t, texts_, t.searched + skip_end, false, whole));
  texts_.clear();
  t.caught_up = false;
  if (length > line.size()) {
    intake_.Lost(
        "file:" + t.path, "decode", 1,
        absl::StrCat(t.path, ": the line at offset ", start, " has ", length, " bytes; kept the first ", line.size()));
  }
  return true;
}

// Of the line that was searched to its end, however long it is. It is read once more: what a restart had hashed would be lost.
absl::StatusOr<WholeText> FileTail::HashLine(Tracked& t) {
  uint64_t end = t.searched;
  char last = '\0';
  ASSIGN_OR_RETURN(const size_t one, t.content->ReadAt(end - 1, &last, 1));
  if (one == 1 && last == '\r') --end;
  Sha256Stream hash;
  for (uint64_t at = t.offset; at < end;) {
    ASSIGN_OR_RETURN(const size_t n, t.content->ReadAt(at, buffer_.data(), static_cast<size_t>(std::min<uint64_t>(kReadBytes, end - at))));
    if (n == 0) return absl::UnavailableError("it became shorter while it was read");
    hash.Update({buffer_.data(), n});
    at += n;
  }
  return WholeText{hash.Finish(), end - t.offset};
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

absl::Status FileTail::Take(Tracked& t, const std::vector<std::string_view>& texts, uint64_t offset, bool finished,
                            const std::optional<WholeText>& whole) {
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
  chunk.cut = whole;
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
