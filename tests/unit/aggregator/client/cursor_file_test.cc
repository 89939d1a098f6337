#include "aggregator/client/cursor_file.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/support/sized_fs.h"
#include "tests/support/temp_dir.h"

namespace orgtrail::client {
namespace {

// The n-th time a file takes its name the process dies.
class DyingFs final : public ForwardingFs {
 public:
  int renames = 1 << 30;
  absl::Status Rename(std::string_view from, std::string_view to, Fsync d) override {
    if (renames-- <= 0) return absl::UnavailableError("killed");
    return ForwardingFs::Rename(from, to, d);
  }
};

class CursorFileTest : public ::testing::Test {
 protected:
  absl::StatusOr<CursorFile> Open() { return CursorFile::Open(fs_, dir_ / "cursor", dir_ / "out"); }
  std::string Out() { return *ReadFile(fs_, dir_ / "out"); }
  TempDir dir_;
  DyingFs fs_;
};

TEST_F(CursorFileTest, ResumesWhereItWas) {
  auto c = Open();
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->cursor(), "");
  ASSERT_TRUE(c->Write("a\n", "c1").ok());
  ASSERT_TRUE(c->Write("b\nc\n", "c3").ok());
  ASSERT_TRUE(c->Write("", "c4").ok());   // a watermark moves the cursor alone
  c = Open();
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->cursor(), "c4");
  ASSERT_TRUE(c->Write("d\n", "c5").ok());
  EXPECT_EQ(Out(), "a\nb\nc\nd\n");
}

// Ten records; the process dies between a write and its cursor, at every possible place, and is started again.
TEST_F(CursorFileTest, NothingTwiceAndNothingLostHoweverItEnds) {
  for (int dies_after = 0; dies_after < 12; ++dies_after) {
    SCOPED_TRACE(dies_after);
    const std::string cursor = dir_ / ("cursor" + std::to_string(dies_after)), out = dir_ / ("out" + std::to_string(dies_after));
    fs_.renames = dies_after;
    for (int life = 0; life < 3; ++life) {
      auto c = CursorFile::Open(fs_, cursor, out);
      if (c.ok()) {
        for (int n = c->cursor().empty() ? 0 : std::stoi(c->cursor()); n < 10; ++n) {
          if (!c->Write("record " + std::to_string(n) + "\n", std::to_string(n + 1)).ok()) break;
        }
      }
      fs_.renames = life == 0 ? 3 : 1 << 30;
    }
    std::string all;
    for (int n = 0; n < 10; ++n) all += "record " + std::to_string(n) + "\n";
    EXPECT_EQ(*ReadFile(fs_, out), all);
  }
}

TEST_F(CursorFileTest, WhatWasThereBeforeStays) {
  ASSERT_TRUE(WriteFileAtomically(fs_, dir_ / "out", "mine\n").ok());
  auto c = Open();
  ASSERT_TRUE(c.ok());
  fs_.renames = 0;
  EXPECT_FALSE(c->Write("a\n", "c1").ok());
  EXPECT_EQ(Out(), "mine\na\n");
  fs_.renames = 1 << 30;
  c = Open();
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->cursor(), "");
  EXPECT_EQ(Out(), "mine\n");
}

TEST_F(CursorFileTest, AShorterOutputIsNotOurs) {
  ASSERT_TRUE(Open()->Write("abc\n", "c1").ok());
  ASSERT_TRUE(WriteFileAtomically(fs_, dir_ / "out", "a").ok());
  EXPECT_EQ(Open().status(), absl::FailedPreconditionError((dir_ / "out") + " is shorter than " + (dir_ / "cursor") +
                                                           " says (1 < 4 bytes): it was changed since; delete both to start anew"));
}

TEST_F(CursorFileTest, GarbageIsSaid) {
  for (const char* text : {"", "x", "x\n", "x\ny\n", "x\n1", "x\n-1\n"}) {
    ASSERT_TRUE(WriteFileAtomically(fs_, dir_ / "cursor", text).ok());
    EXPECT_TRUE(absl::IsDataLoss(Open().status())) << text;
  }
  ASSERT_TRUE(fs_.Remove(dir_ / "cursor").ok());
  EXPECT_TRUE(absl::IsDataLoss(Open()->Write("a\n", "two\nlines")));
}

TEST_F(CursorFileTest, WithoutACursorFileTheOutputGrows) {
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(CursorFile::Open(fs_, "", dir_ / "out")->Write("a\n", "c").ok());
  EXPECT_EQ(Out(), "a\na\n");
}

}  // namespace
}  // namespace orgtrail::client
