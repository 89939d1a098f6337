#include "aggregator/client/cursor_file.h"

#include <cstdio>

#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail::client {

// The file: cursor, newline, output length in decimal, newline. With an output file it exists before the first record is written,
// with an empty cursor, so that a run that died early leaves nothing behind that the next would write again.
absl::StatusOr<CursorFile> CursorFile::Open(Fs& fs, std::string path, std::string output) {
  CursorFile c(fs, std::move(path));
  uint64_t length = 0;
  bool resumed = false;
  if (!c.path_.empty()) {
    absl::StatusOr<std::string> text = ReadFile(fs, c.path_, 64 << 10);
    if (text.ok()) {
      const size_t end = text->find('\n');
      const size_t second = end == std::string::npos ? end : text->find('\n', end + 1);
      std::optional<uint64_t> n = second == std::string::npos ? std::nullopt : ParseUint(text->substr(end + 1, second - end - 1));
      if (!n) return absl::DataLossError(absl::StrCat(c.path_, ": not a cursor file; delete it to start anew"));
      c.cursor_ = text->substr(0, end);
      length = *n;
      resumed = true;
    } else if (!absl::IsNotFound(text.status())) {
      return text.status();
    }
  }
  if (output.empty()) return c;
  const bool fresh = !fs.Facts(output).ok();
  ASSIGN_OR_RETURN(c.output_, fs.Open(output, OpenMode::kAppend));
  if (fresh) RETURN_IF_ERROR(fs.SyncDir(DirName(output)));
  ASSIGN_OR_RETURN(FileFacts facts, c.output_->Facts());
  c.length_ = facts.size;
  if (!c.path_.empty() && !resumed) RETURN_IF_ERROR(c.Save());
  if (resumed) {
    if (facts.size < length) {
      return absl::FailedPreconditionError(absl::StrCat(output, " is shorter than ", c.path_, " says (", facts.size, " < ", length,
                                                        " bytes): it was changed since; delete both to start anew"));
    }
    if (facts.size > length) RETURN_IF_ERROR(c.output_->Truncate(length));
    c.length_ = length;
  }
  return c;
}

absl::Status CursorFile::Save() {
  return WriteFileAtomically(*fs_, path_, cursor_ + "\n" + std::to_string(length_) + "\n", 0600);
}

absl::Status CursorFile::Write(std::string_view text, const std::string& cursor) {
  if (output_ != nullptr) {
    RETURN_IF_ERROR(output_->Append(text));
    if (!path_.empty() && !text.empty()) RETURN_IF_ERROR(output_->Sync());
    length_ += text.size();
  } else {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
      return absl::UnavailableError("standard output was closed");
    }
  }
  if (path_.empty() || cursor.empty() || cursor == cursor_) return absl::OkStatus();
  if (cursor.find('\n') != std::string::npos) return absl::DataLossError("the server sent a cursor of two lines");
  cursor_ = cursor;
  return Save();
}

}  // namespace orgtrail::client
