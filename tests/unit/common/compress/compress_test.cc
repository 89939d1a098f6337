#include <gtest/gtest.h>
#include <zstd.h>

#include "common/base/limits.h"
#include "common/compress/zstd.h"

namespace orgtrail {
namespace {

std::string Text(size_t n) {
  std::string s;
  for (size_t i = 0; s.size() < n; ++i) s += "record " + std::to_string(i * 7919 % 10007) + ";";
  s.resize(n);
  return s;
}

TEST(Zstd, RoundTripsAtEverySizeAndLevel) {
  ZstdDecompressor zstd;
  for (int level : {1, 3, 19}) {
    ZstdCompressor compressor(level);
    for (size_t n : {size_t{0}, size_t{1}, size_t{255}, size_t{256}, size_t{70000}, size_t{3} << 20}) {
      if (level == 19 && n > 100000) continue;  // slow, and nothing new
      std::string packed = "before", plain = "stale content";
      compressor.Compress(Text(n), &packed);
      ASSERT_EQ(packed.substr(0, 6), "before") << "Compress appends";
      ASSERT_TRUE(zstd.Decompress(std::string_view(packed).substr(6), n, &plain).ok());
      EXPECT_EQ(plain, Text(n));
    }
  }
}

TEST(Zstd, LargeContentStaysWithinTheWindow) {
  ZstdCompressor compressor(1);
  ZstdDecompressor zstd;
  std::string packed, plain;
  const std::string text = Text(size_t{9} << 20);
  compressor.Compress(text, &packed);
  ASSERT_TRUE(zstd.Decompress(packed, text.size(), &plain).ok());
  EXPECT_EQ(plain, text);
}

struct Refusal {
  const char* name;
  std::string frame;
  size_t cap;
  absl::StatusCode code;
};

TEST(Zstd, RefusesWhatIsNotExactlyOneBoundedFrame) {
  ZstdCompressor compressor(1);
  std::string good;
  compressor.Compress(Text(1000), &good);
  std::string nosize(200, '\0');
  {
    ZSTD_CCtx* ctx = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(ctx, ZSTD_c_contentSizeFlag, 0);
    const std::string text = Text(100);
    nosize.resize(ZSTD_compress2(ctx, nosize.data(), nosize.size(), text.data(), text.size()));
    ZSTD_freeCCtx(ctx);
  }
  std::string corrupt = good;
  corrupt[good.size() / 2] = static_cast<char>(corrupt[good.size() / 2] ^ 0x55);
  corrupt[good.size() / 2 + 1] = static_cast<char>(corrupt[good.size() / 2 + 1] ^ 0x55);
  const std::string magic = good.substr(0, 4);
  using enum absl::StatusCode;
  const Refusal table[] = {
      {"empty", "", 1000, kDataLoss},
      {"not zstd", "{\"a\":1} and more", 1000, kDataLoss},
      {"cap", good, 999, kResourceExhausted},
      {"no content size", nosize, 1000, kResourceExhausted},
      {"window 2^31", magic + "\x80" + std::string(1, char(21 << 3)) + std::string("\x64\0\0\0", 4), 1000, kResourceExhausted},
      {"declares 1 GiB", magic + "\xA0" + std::string("\0\0\0\x40", 4) + std::string(9, '\1'), 1000, kResourceExhausted},
      {"dictionary", magic + "\x21" + std::string("\x07\x64", 2) + std::string(9, '\1'), 1000, kResourceExhausted},
      {"reserved bit", magic + "\x28" + std::string("\x64", 1) + std::string(9, '\1'), 1000, kDataLoss},
      {"cut short", good.substr(0, good.size() - 1), 1000, kDataLoss},
      {"header only", good.substr(0, 6), 1000, kDataLoss},
      {"two frames", good + good, 5000, kDataLoss},
      {"trailing byte", good + "x", 5000, kDataLoss},
      {"skippable frame", std::string("\x50\x2A\x4D\x18\0\0\0\0", 8), 1000, kDataLoss},
      {"corrupt", corrupt, 1000, kDataLoss},
  };
  ZstdDecompressor zstd;
  for (const Refusal& r : table) {
    std::string plain;
    const absl::Status status = zstd.Decompress(r.frame, r.cap, &plain);
    if (std::string_view(r.name) == "corrupt" && status.ok()) {
      EXPECT_NE(plain, Text(1000));  // without a checksum a flipped literal is another text; hashes find it
      continue;
    }
    EXPECT_EQ(status.code(), r.code) << r.name << ": " << status;
    if (r.code == kResourceExhausted) {
      EXPECT_EQ(status.message().substr(0, 12), "DECOMP_LIMIT") << r.name;
    }
  }
  std::string plain;
  EXPECT_TRUE(zstd.Decompress(good, 1000, &plain).ok()) << "a refusal leaves the object usable";
}

}  // namespace
}  // namespace orgtrail
