#include "agent/capture/content.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/gzip.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

std::string Text(size_t bytes) {
  std::string text;
  for (uint64_t n = 1; text.size() < bytes; n = n * 6364136223846793005u + 1) text += std::to_string(n) + "\n";
  text.resize(bytes);
  return text;
}

class GzipTest : public ::testing::Test {
 protected:
  void Write(const std::string& bytes) {
    std::ofstream(dir_ / "f.gz", std::ios::binary) << bytes;
    file_ = *PosixFs().Open(dir_ / "f.gz", OpenMode::kRead);
    content_ = GzipContent(*file_);
  }
  std::string Read(uint64_t offset, size_t n) {
    std::string out(n, '\0');
    absl::StatusOr<size_t> got = content_->ReadAt(offset, out.data(), n);
    EXPECT_TRUE(got.ok()) << got.status();
    out.resize(got.ok() ? *got : 0);
    return out;
  }
  TempDir dir_;
  std::unique_ptr<File> file_;
  std::unique_ptr<Content> content_;
};

TEST_F(GzipTest, ReadsAnyOffsetForwardAndBack) {
  const std::string text = Text(9 << 20);
  Write(Gzip(text.substr(0, 5 << 20)) + Gzip(text.substr(5 << 20)));
  for (const size_t offset : {size_t{0}, size_t{1} << 20, size_t{8} << 20, (size_t{8} << 20) - 500, size_t{100},
                              text.size() - 7, text.size()}) {
    EXPECT_TRUE(Read(offset, 2 << 20) == text.substr(offset, 2 << 20)) << offset;
  }
}

TEST_F(GzipTest, PaddingAfterTheLastMemberIsFine) {
  Write(Gzip("hello") + std::string(512, '\0'));
  EXPECT_EQ(Read(0, 100), "hello");
  EXPECT_EQ(Read(5, 1), "");
}

// gzip(1) takes it for something after the end, and says nothing.
TEST_F(GzipTest, ADamagedHeaderOfALaterMemberIsDamage) {
  std::string second = Gzip("second");
  second[1] = 'x';
  for (const std::string& between : {std::string(), std::string(70'000, '\0')}) {
    Write(Gzip("first") + between + second);
    EXPECT_EQ(Read(0, 5), "first");
    char one = 0;
    EXPECT_EQ(content_->ReadAt(5, &one, 1).status().code(), absl::StatusCode::kDataLoss);
  }
}

TEST_F(GzipTest, MembersMayBePaddedApart) {
  Write(Gzip("first ") + std::string(70'000, '\0') + Gzip("second"));
  EXPECT_EQ(Read(0, 100), "first second");
}

TEST_F(GzipTest, ADamagedOneGivesWhatCameBefore) {
  const std::string text = Text(3 << 20);
  const std::string whole = Gzip(text);
  for (const bool cut : {true, false}) {
    std::string bad = whole;
    if (cut) {
      bad.resize(bad.size() / 2);
    } else {
      bad.replace(bad.size() / 2, 64, std::string(64, '\xff'));
    }
    Write(bad);
    std::string got(2 * text.size(), '\0');  // garbage may inflate to more than there was, and fail only its checksum
    absl::StatusOr<size_t> n = content_->ReadAt(0, got.data(), got.size());
    ASSERT_TRUE(n.ok()) << n.status();
    ASSERT_LT(*n, got.size());
    ASSERT_GT(*n, text.size() / 4);
    if (cut) {
      EXPECT_LT(*n, text.size());
      EXPECT_TRUE(got.substr(0, *n) == text.substr(0, *n));
    }
    EXPECT_EQ(content_->ReadAt(*n, got.data(), 1).status().code(), absl::StatusCode::kDataLoss);
  }
}

}  // namespace
}  // namespace orgtrail
