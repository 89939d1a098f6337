// zstd, bounded: what is decompressed says its size first, within a cap, and needs a window we allow. Threads: one object each.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/base/buffer.h"

namespace orgtrail {

class ZstdCompressor {
 public:
  explicit ZstdCompressor(int level);
  ~ZstdCompressor();
  ZstdCompressor(const ZstdCompressor&) = delete;
  void Compress(std::string_view plain, std::string* out);  // appends one frame with content size, no dictionary, checksum off
 private:
  void* ctx_;
  Buffer room_;  // for the largest frame so far: what is returned then takes only the memory it needs
};

class ZstdDecompressor {
 public:
  ZstdDecompressor();
  ~ZstdDecompressor();
  ZstdDecompressor(const ZstdDecompressor&) = delete;
  // Exactly one frame, content size declared and at most `cap`, windowLog at most limits::kZstdWindowLog, no dictionary.
  // ResourceExhausted ("DECOMP_LIMIT …") before any allocation otherwise; DataLoss when the content is corrupt.
  absl::Status Decompress(std::string_view frame, size_t cap, std::string* out);
  absl::Status Decompress(std::string_view frame, size_t cap, Buffer* out);
 private:
  void* ctx_;
};

}  // namespace orgtrail
