// The contract of Fs, on the real disk.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "common/fs/errno.h"
#include "common/fs/file.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

absl::Status Write(const std::string& path, std::string_view text) {
  auto file = PosixFs().Open(path, OpenMode::kAppend);
  return file.ok() ? (*file)->Append(text) : file.status();
}

TEST(Posix, AppendsReadsTruncates) {
  TempDir dir;
  auto file = PosixFs().Open(dir / "f", OpenMode::kCreateNew, 0600);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)->Append("hello ").ok());
  ASSERT_TRUE((*file)->Append("world").ok());
  ASSERT_TRUE((*file)->Sync().ok());
  char text[32];
  EXPECT_EQ(*(*file)->ReadAt(6, text, sizeof text), 5u) << "short at the end";
  EXPECT_EQ(std::string_view(text, 5), "world");
  EXPECT_EQ(*(*file)->ReadAt(100, text, sizeof text), 0u);
  ASSERT_TRUE((*file)->Truncate(3).ok());
  EXPECT_EQ((*file)->Facts()->size, 3u);
  ASSERT_TRUE((*file)->Append("p").ok());
  EXPECT_EQ(*ReadFile(PosixFs(), dir / "f"), "help");
  EXPECT_EQ(PosixFs().Facts(dir / "f")->inode, (*file)->Facts()->inode);
  EXPECT_EQ(static_cast<int>(std::filesystem::status(dir / "f").permissions()), 0600);
}

TEST(Posix, OpenModes) {
  TempDir dir;
  EXPECT_EQ(PosixFs().Open(dir / "f", OpenMode::kRead).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(PosixFs().Open(dir / "f", OpenMode::kAppend).ok());
  EXPECT_EQ(PosixFs().Open(dir / "f", OpenMode::kCreateNew).status().code(), absl::StatusCode::kAlreadyExists);
  auto reader = PosixFs().Open(dir / "f", OpenMode::kRead);
  ASSERT_TRUE(reader.ok());
  EXPECT_FALSE((*reader)->Append("x").ok());
}

TEST(Posix, ListsAndGlobsInOrder) {
  TempDir dir;
  ASSERT_TRUE(PosixFs().MakeDirs(dir / "sub/deep").ok());
  ASSERT_TRUE(PosixFs().MakeDirs(dir / "sub/deep").ok()) << "again is fine";
  for (const char* name : {"b.jsonl", "a.jsonl", "c.txt", "sub/d.jsonl"}) ASSERT_TRUE(Write(dir / name, "x").ok());
  EXPECT_EQ(*PosixFs().List(dir.path()), (std::vector<std::string>{"a.jsonl", "b.jsonl", "c.txt", "sub"}));
  EXPECT_EQ(*PosixFs().Glob(dir / "*.jsonl"), (std::vector<std::string>{dir / "a.jsonl", dir / "b.jsonl"}));
  EXPECT_EQ(PosixFs().Glob(dir / "*/*.jsonl")->size(), 1u);
  EXPECT_TRUE(PosixFs().Glob(dir / "none*")->empty());
  EXPECT_TRUE(PosixFs().Facts(dir / "sub")->is_directory);
  EXPECT_EQ(PosixFs().List(dir / "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(PosixFs().MakeDirs(dir / "c.txt/x").code(), absl::StatusCode::kFailedPrecondition);
}

TEST(Posix, RenamesAndRemoves) {
  TempDir dir;
  ASSERT_TRUE(Write(dir / "a", "1").ok());
  ASSERT_TRUE(Write(dir / "b", "2").ok());
  ASSERT_TRUE(PosixFs().Rename(dir / "a", dir / "b", Fsync::kYes).ok());
  EXPECT_EQ(*ReadFile(PosixFs(), dir / "b"), "1");
  EXPECT_EQ(PosixFs().Facts(dir / "a").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(PosixFs().Remove(dir / "b").ok());
  EXPECT_EQ(PosixFs().Remove(dir / "b").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(PosixFs().Rename(dir / "b", dir / "c", Fsync::kNo).code(), absl::StatusCode::kNotFound);
}

TEST(Posix, KnowsTheDisk) {
  TempDir dir;
  EXPECT_GT(*PosixFs().TotalBytes(dir.path()), *PosixFs().FreeBytes(dir.path()));
  EXPECT_EQ(PosixFs().FreeBytes(dir / "none").status().code(), absl::StatusCode::kNotFound);
}

TEST(Posix, ErrorsSayPathOperationAndWhatToDo) {
  struct Case {
    int error;
    absl::StatusCode code;
    const char* says;
  };
  for (const Case& c :
       {Case{ENOENT, absl::StatusCode::kNotFound, "No such file"},
        Case{ENOSPC, absl::StatusCode::kResourceExhausted, "free space"},
        Case{EDQUOT, absl::StatusCode::kResourceExhausted, "quota"},
        Case{EACCES, absl::StatusCode::kPermissionDenied, "let user"},
        Case{EROFS, absl::StatusCode::kPermissionDenied, "remount"}, Case{EIO, absl::StatusCode::kDataLoss, "smartctl"},
        Case{EMFILE, absl::StatusCode::kResourceExhausted, "ulimit"},
        Case{EBADF, absl::StatusCode::kInternal, "Bad file"}}) {
    const absl::Status status = ErrnoStatus("write", "/some/file", c.error);
    EXPECT_EQ(status.code(), c.code) << status;
    EXPECT_NE(status.message().find("write /some/file: "), absl::string_view::npos) << status;
    EXPECT_NE(status.message().find(c.says), absl::string_view::npos) << status;
  }
}

TEST(Posix, AWriteThatDoesNotFitFails) {
  // A file size limit stands in for a full disk: write(2) stores a part, then fails.
  TempDir dir;
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 10'000;
  std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status direct = Write(dir / "f", std::string(20'000, 'x'));
  const absl::Status atomic = WriteFileAtomically(PosixFs(), dir / "g", std::string(20'000, 'x'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_FALSE(direct.ok());
  EXPECT_FALSE(atomic.ok());
  EXPECT_EQ(*PosixFs().List(dir.path()), std::vector<std::string>{"f"}) << "the atomic one left nothing behind";
}

}  // namespace
}  // namespace orgtrail
