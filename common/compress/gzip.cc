#include <libdeflate.h>

#include <algorithm>
#include <memory>

#include "common/base/status.h"
#include "common/compress/zstd.h"

namespace orgtrail {
namespace {

struct FreeDecompressor {
  void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }
};
struct FreeCompressor {
  void operator()(libdeflate_compressor* c) const { libdeflate_free_compressor(c); }
};

uint32_t LittleU32(std::string_view b) {
  const auto at = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(b[i])); };
  return at(0) | at(1) << 8 | at(2) << 16 | at(3) << 24;
}

}  // namespace

absl::Status Gunzip(std::string_view gz, size_t cap, std::string* out) {
  out->clear();
  std::unique_ptr<libdeflate_decompressor, FreeDecompressor> inflater(libdeflate_alloc_decompressor());
  if (inflater == nullptr) return absl::ResourceExhaustedError("no memory to inflate gzip");
  if (gz.size() < 18) return absl::DataLossError("gzip file is cut short: fewer than 18 bytes");
  // The last four bytes are the size of the last member: with one member, the usual case, the first try fits. Deflate
  // cannot expand more than 1,032 times, so a hint beyond that lies.
  const size_t hint = std::min<size_t>(LittleU32(gz.substr(gz.size() - 4)), gz.size() * 1032);
  out->resize(std::min(cap, std::max<size_t>(hint, 4096)));
  size_t filled = 0;
  for (bool first = true; first || !gz.empty(); first = false) {
    // Tar and tape writers pad with zeros; anything else after a member must be a member.
    if (!first && gz.find_first_not_of('\0') == std::string_view::npos) break;
    size_t used = 0, got = 0;
    const libdeflate_result result = libdeflate_gzip_decompress_ex(inflater.get(), gz.data(), gz.size(), out->data() + filled,
                                                                   out->size() - filled, &used, &got);
    if (result == LIBDEFLATE_INSUFFICIENT_SPACE) {
      if (out->size() >= cap) {
        out->clear();
        return absl::ResourceExhaustedError(absl::StrCat("DECOMP_LIMIT gzip holds more than ", cap, " bytes"));
      }
      out->resize(std::min(cap, out->size() * 2));  // doubling: repeating the member keeps the whole linear
      continue;
    }
    if (result != LIBDEFLATE_SUCCESS) {
      out->clear();
      return absl::DataLossError("gzip content is corrupt or cut short");
    }
    filled += got;
    gz.remove_prefix(used);
  }
  out->resize(filled);
  return absl::OkStatus();
}

std::string Gzip(std::string_view plain, int level) {
  std::unique_ptr<libdeflate_compressor, FreeCompressor> deflater(libdeflate_alloc_compressor(std::clamp(level, 0, 12)));
  CHECK(deflater != nullptr);
  std::string out(libdeflate_gzip_compress_bound(deflater.get(), plain.size()), '\0');
  const size_t n = libdeflate_gzip_compress(deflater.get(), plain.data(), plain.size(), out.data(), out.size());
  CHECK(n != 0);  // the bound always suffices
  out.resize(n);
  return out;
}

}  // namespace orgtrail
