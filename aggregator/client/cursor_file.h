// CursorFile: where a feed got to, and how long its output file was then. On resume the output is cut to that length, so that
// nothing is there twice however the last run ended. Without an output file records go to standard output.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/fs/file.h"

namespace orgtrail::client {

class CursorFile {
 public:
  // Either path may be empty. FailedPrecondition when the output is shorter than the cursor says.
  static absl::StatusOr<CursorFile> Open(Fs& fs, std::string path, std::string output);
  const std::string& cursor() const { return cursor_; }   // empty: start anew
  // Writes `text`, makes it durable when there is an output file, then moves the cursor.
  absl::Status Write(std::string_view text, const std::string& cursor);

 private:
  CursorFile(Fs& fs, std::string path) : fs_(&fs), path_(std::move(path)) {}
  absl::Status Save();
  Fs* fs_;
  std::string path_, cursor_;
  std::unique_ptr<File> output_;
  uint64_t length_ = 0;
};

}  // namespace orgtrail::client
