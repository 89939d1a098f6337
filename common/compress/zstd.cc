#include "common/compress/zstd.h"

#include <zstd.h>
#include <zstd_errors.h>

#include "common/base/limits.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr char kMagic[] = "\x28\xB5\x2F\xFD";

// What a frame asks for, read from its first bytes (RFC 8878 §3.1.1.1) before anything is allocated.
absl::Status CheckHeader(std::string_view frame) {
  if (frame.size() < 6 || frame.substr(0, 4) != std::string_view(kMagic, 4)) {
    return absl::DataLossError("not a zstd frame");
  }
  const auto descriptor = static_cast<uint8_t>(frame[4]);
  const bool single_segment = (descriptor & 0x20) != 0;
  if ((descriptor & 0x08) != 0) return absl::DataLossError("zstd frame with a reserved bit set");
  if ((descriptor & 0x03) != 0) return absl::ResourceExhaustedError("DECOMP_LIMIT zstd frame wants a dictionary");
  if (!single_segment) {
    const auto window = static_cast<uint8_t>(frame[5]);
    const uint64_t base = uint64_t{1} << (10 + (window >> 3));
    if (base + base / 8 * (window & 7) > uint64_t{1} << limits::kZstdWindowLog) {
      return absl::ResourceExhaustedError("DECOMP_LIMIT zstd frame wants a window of more than 8 MiB");
    }
  }
  return absl::OkStatus();
}

}  // namespace

ZstdCompressor::ZstdCompressor(int level) : ctx_(ZSTD_createCCtx()) {
  CHECK(ctx_ != nullptr);
  auto* ctx = static_cast<ZSTD_CCtx*>(ctx_);
  CHECK(!ZSTD_isError(ZSTD_CCtx_setParameter(ctx, ZSTD_c_compressionLevel, level)));
  CHECK(!ZSTD_isError(ZSTD_CCtx_setParameter(ctx, ZSTD_c_contentSizeFlag, 1)));
  CHECK(!ZSTD_isError(ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, 0)));
}

ZstdCompressor::~ZstdCompressor() { ZSTD_freeCCtx(static_cast<ZSTD_CCtx*>(ctx_)); }

void ZstdCompressor::Compress(std::string_view plain, std::string* out) {
  auto* ctx = static_cast<ZSTD_CCtx*>(ctx_);
  // High levels would take a larger window than the decompressor allows; small content never needs one.
  const bool large = plain.size() > size_t{1} << limits::kZstdWindowLog;
  CHECK(!ZSTD_isError(ZSTD_CCtx_setParameter(ctx, ZSTD_c_windowLog, large ? limits::kZstdWindowLog : 0)));
  char* const room = room_.Reset(ZSTD_compressBound(plain.size()));
  const size_t n = ZSTD_compress2(ctx, room, room_.size(), plain.data(), plain.size());
  CHECK(!ZSTD_isError(n));  // the bound always suffices; what is left is lack of memory
  out->append(room, n);
}

ZstdDecompressor::ZstdDecompressor() : ctx_(ZSTD_createDCtx()) { CHECK(ctx_ != nullptr); }

ZstdDecompressor::~ZstdDecompressor() { ZSTD_freeDCtx(static_cast<ZSTD_DCtx*>(ctx_)); }

namespace {

// How much the one frame inflates to, when that may be: before anything is allocated.
absl::StatusOr<size_t> InflatedSize(std::string_view frame, size_t cap) {
  RETURN_IF_ERROR(CheckHeader(frame));
  const unsigned long long size = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (size == ZSTD_CONTENTSIZE_ERROR) return absl::DataLossError("zstd frame header is cut short");
  if (size == ZSTD_CONTENTSIZE_UNKNOWN) return absl::ResourceExhaustedError("DECOMP_LIMIT zstd frame without content size");
  if (size > cap) {
    return absl::ResourceExhaustedError(
        absl::StrCat("DECOMP_LIMIT zstd frame declares ", static_cast<uint64_t>(size), " bytes, at most ", cap, " are taken"));
  }
  const size_t used = ZSTD_findFrameCompressedSize(frame.data(), frame.size());
  if (ZSTD_isError(used)) return absl::DataLossError(absl::StrCat("zstd frame: ", ZSTD_getErrorName(used)));
  if (used != frame.size()) return absl::DataLossError("bytes after the zstd frame");
  return static_cast<size_t>(size);
}

absl::Status Inflate(void* ctx, std::string_view frame, char* out, size_t size) {
  const size_t n = ZSTD_decompressDCtx(static_cast<ZSTD_DCtx*>(ctx), out, size, frame.data(), frame.size());
  if (ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall) {
    return absl::ResourceExhaustedError("DECOMP_LIMIT zstd frame holds more than it declares");
  }
  if (ZSTD_isError(n)) return absl::DataLossError(absl::StrCat("zstd frame: ", ZSTD_getErrorName(n)));
  if (n != size) return absl::DataLossError("zstd frame holds less than it declares");
  return absl::OkStatus();
}

}  // namespace

absl::Status ZstdDecompressor::Decompress(std::string_view frame, size_t cap, std::string* out) {
  ASSIGN_OR_RETURN(const size_t size, InflatedSize(frame, cap));
  out->resize(size);
  return Inflate(ctx_, frame, out->data(), size);
}

absl::Status ZstdDecompressor::Decompress(std::string_view frame, size_t cap, Buffer* out) {
  ASSIGN_OR_RETURN(const size_t size, InflatedSize(frame, cap));
  return Inflate(ctx_, frame, out->Reset(size), size);
}

}  // namespace orgtrail
