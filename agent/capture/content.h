// Content: the bytes a file stands for, by offset: its own, or what it inflates to. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/fs/file.h"

namespace orgtrail {

class Content {
 public:
  virtual ~Content() = default;
  // Short only at the end. A .gz whose end is missing or damaged gives what came before, then DataLoss at that offset.
  virtual absl::StatusOr<size_t> ReadAt(uint64_t offset, char* out, size_t n) = 0;
};

std::unique_ptr<Content> PlainContent(File& file);   // file outlives it
// gzip members one after another. Constant memory: inflates forward, remembers the last 2 MiB, and starts over when asked for
// what lies before them.
std::unique_ptr<Content> GzipContent(File& file);

}  // namespace orgtrail
