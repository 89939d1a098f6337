// MappedFile: a file's bytes, read in place. For immutable files only: one that is cut while mapped ends the process (SIGBUS).
// Threads: any. The mapping outlives the file's name, so a reader keeps what was removed.
#pragma once

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"

namespace orgtrail {

class MappedFile {
 public:
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(std::string_view path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::string_view bytes() const { return {data_, size_}; }

 private:
  MappedFile(const char* data, size_t size) : data_(data), size_(size) {}
  const char* data_;
  size_t size_;
};

}  // namespace orgtrail
