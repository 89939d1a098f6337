#include "common/fs/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "common/base/status.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

TEST(Paths, Split) {
  struct Case {
    const char *path, *dir, *base;
  };
  for (const Case& c : {Case{"/a/b", "/a", "b"}, Case{"a", ".", "a"}, Case{"/a", "/", "a"}, Case{"/", "/", "/"},
                        Case{"a/b/", "a", "b"}, Case{"a/b/c.txt", "a/b", "c.txt"}}) {
    EXPECT_EQ(DirName(c.path), c.dir) << c.path;
    EXPECT_EQ(BaseName(c.path), c.base) << c.path;
  }
  EXPECT_EQ(JoinPath("/a", "b"), "/a/b");
  EXPECT_EQ(JoinPath("/a/", "b"), "/a/b");
  EXPECT_EQ(JoinPath("", "b"), "b");
}

TEST(ReadFile, ReadsAllWithinItsCap) {
  TempDir dir;
  const std::string text(100'000, 'x');
  std::ofstream(dir / "f") << text;
  EXPECT_EQ(*ReadFile(PosixFs(), dir / "f"), text);
  EXPECT_EQ(*ReadFile(PosixFs(), dir / "f", 100'000), text);
  EXPECT_EQ(ReadFile(PosixFs(), dir / "f", 99'999).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReadFile(PosixFs(), dir / "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(ReadFile(PosixFs(), dir.path()).ok());
  EXPECT_FALSE(ReadFile(PosixFs(), "/proc/self/stat")->empty()) << "a file whose size says 0";
}

TEST(WriteFileAtomically, ReplacesWhole) {
  TempDir dir;
  ASSERT_TRUE(WriteFileAtomically(PosixFs(), dir / "f", "one", 0600).ok());
  std::ofstream(dir / "f.tmp") << "left by a crash";
  ASSERT_TRUE(WriteFileAtomically(PosixFs(), dir / "f", "two", 0600).ok());
  EXPECT_EQ(*ReadFile(PosixFs(), dir / "f"), "two");
  EXPECT_EQ(*PosixFs().List(dir.path()), std::vector<std::string>{"f"});
}

TEST(DirLock, OneHolderAtATime) {
  TempDir dir;
  absl::StatusOr<std::unique_ptr<DirLock>> lock = DirLock::Take(dir.path());
  ASSERT_TRUE(lock.ok()) << lock.status();
  absl::StatusOr<std::unique_ptr<DirLock>> second = DirLock::Take(dir.path());
  ASSERT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(second.status().message().find(absl::StrCat(::getpid())), absl::string_view::npos) << second.status();
  lock->reset();
  EXPECT_TRUE(DirLock::Take(dir.path()).ok());
  EXPECT_EQ(DirLock::Take(dir / "none").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace orgtrail
