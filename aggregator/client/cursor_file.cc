#include "aggregator/client/cursor_file.h"

#include <cstdio>

#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail::client {

// The file: cursor (empty before the first), newline, output length in decimal, newline.
absl::StatusOr<CursorFile> CursorFile::Open(Fs& fs, std::string path, std::string output) {
  CursorFile c(fs, std::move(path));
  std::optional<uint64_t> length;  // of the output when the file was last written
  if (!c.path_.empty()) {
    absl::StatusOr<std::string> text = ReadFile(fs, c.path_, 64 << 10);
    if (text.ok()) {
      const size_t end = text->find('\n');
      const size_t second = end == std::string::npos ? end : text->find('\n', end + 1);
      std::optional<uint64_t> n = second == std::string::npos ? std::nullopt : ParseUint(text->substr(end + 1, second - end - 1));
      if (!n) return absl::DataLossError(absl::StrCat(c.path_, ": not a cursor file; delete it to start anew"));
      c.cursor_ = text->substr(0, end);
      length = n;
    } else if (!absl::IsNotFound(text.status())) {
      return text.status();
    }
  }
  if (output.empty()) return c;
  const bool fresh = !fs.Facts(output).ok();
  ASSIGN_OR_RETURN(c.output_, fs.Open(output, OpenMode::kAppend));
  if (fresh) RETURN_IF_ERROR(fs.SyncDir(DirName(output)));
  ASSIGN_OR_RETURN(FileFacts facts, c.output_->Facts());
  c.length_ = length.value_or(facts.size);
  if (facts.size < c.length_) {
    return absl::FailedPreconditionError(absl::StrCat(output, " is shorter than ", c.path_, " says (", facts.size, " < ", c.length_,
                                                      " bytes): it was changed since; delete both to start anew"));
  }
  if (facts.size > c.length_) RETURN_IF_ERROR(c.output_->Truncate(c.length_));
  // Before the first record: a run that is killed before its first cursor would leave records that nobody knows to cut.
  if (!c.path_.empty() && !length) RETURN_IF_ERROR(c.Save());
  return c;
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

absl::Status CursorFile::Save() { return WriteFileAtomically(*fs_, path_, cursor_ + "\n" + std::to_string(length_) + "\n", 0600); }

}  // namespace orgtrail::client
