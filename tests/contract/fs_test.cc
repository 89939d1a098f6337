// The contract of Fs, for the real disk and for the simulator's: what holds in the world holds on a machine. Below, what only the
// simulated one can show: a power cut takes what was not synced, and nothing else.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>

#include "common/fs/file.h"
#include "common/lmdb/env.h"
#include "tests/sim/disk.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

class FsContract : public testing::TestWithParam<bool> {
 protected:
  FsContract() {
    std::filesystem::create_directories(dir_ / "disk");
    if (GetParam()) sim_ = std::make_unique<SimDisk>(dir_ / "disk", 1);
  }
  Fs& fs() { return sim_ ? static_cast<Fs&>(*sim_) : PosixFs(); }
  std::string At(const std::string& name) { return dir_ / ("disk/" + name); }
  std::string Text(const std::string& name) { return ReadFile(fs(), At(name)).value_or("?"); }
  absl::Status Put(const std::string& name, std::string_view text) {
    auto file = fs().Open(At(name), OpenMode::kAppend);
    return file.ok() ? (*file)->Append(text) : file.status();
  }

  TempDir dir_;
  std::unique_ptr<SimDisk> sim_;
};
INSTANTIATE_TEST_SUITE_P(Disks, FsContract, testing::Bool(), [](const auto& p) { return p.param ? "Simulated" : "Real"; });

TEST_P(FsContract, AFileReadsWhatWasAppended) {
  auto file = fs().Open(At("f"), OpenMode::kCreateNew);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*file)->Append("hello ").ok() && (*file)->Append("world").ok() && (*file)->Sync().ok());
  char text[32];
  EXPECT_EQ(*(*file)->ReadAt(6, text, sizeof text), 5u);
  EXPECT_EQ(*(*file)->ReadAt(100, text, sizeof text), 0u);
  ASSERT_TRUE((*file)->Truncate(3).ok());
  ASSERT_TRUE((*file)->Append("p").ok());
  EXPECT_EQ(Text("f"), "help");
  EXPECT_EQ((*file)->Facts()->size, 4u);
}

TEST_P(FsContract, ModesAndErrorsAreTold) {
  EXPECT_TRUE(absl::IsNotFound(fs().Open(At("f"), OpenMode::kRead).status()));
  ASSERT_TRUE(Put("f", "x").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(fs().Open(At("f"), OpenMode::kCreateNew).status()));
  EXPECT_TRUE(absl::IsNotFound(fs().Facts(At("none")).status()));
  EXPECT_TRUE(absl::IsNotFound(fs().List(At("none")).status()));
  EXPECT_TRUE(absl::IsNotFound(fs().Remove(At("none"))));
  EXPECT_TRUE(absl::IsNotFound(fs().Rename(At("none"), At("f"), Fsync::kYes)));
  EXPECT_EQ(Text("f"), "x");
}

TEST_P(FsContract, NamesMoveAndGo) {
  ASSERT_TRUE(fs().MakeDirs(At("a/b")).ok());
  ASSERT_TRUE(fs().MakeDirs(At("a/b")).ok()) << "again is fine";
  ASSERT_TRUE(Put("a/b/one", "1").ok() && Put("a/b/two", "2").ok());
  ASSERT_TRUE(fs().Rename(At("a/b/one"), At("a/b/two"), Fsync::kYes).ok());
  EXPECT_EQ(*fs().List(At("a/b")), std::vector<std::string>{"two"});
  EXPECT_EQ(Text("a/b/two"), "1");
  ASSERT_TRUE(fs().SyncDir(At("a/b")).ok());
  ASSERT_TRUE(WriteFileAtomically(fs(), At("a/b/two"), "3").ok());
  EXPECT_EQ(Text("a/b/two"), "3");
  ASSERT_TRUE(fs().Remove(At("a/b/two")).ok());
  EXPECT_TRUE(fs().List(At("a/b"))->empty());
  EXPECT_TRUE(fs().Facts(At("a"))->is_directory);
  EXPECT_GT(*fs().TotalBytes(At("")), *fs().FreeBytes(At("")) / 2);
}

// A hundred power cuts at the same place, each of another seed: the most and the least that was left of what `work` did.
struct Left {
  size_t most = 0, least = SIZE_MAX;
};
Left AfterPowerCuts(const std::function<void(SimDisk&, const std::string&)>& work, const std::function<size_t(SimDisk&, const std::string&)>& count) {
  Left left;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    TempDir dir;
    SimDisk disk(dir.path(), seed);
    work(disk, dir.path());
    disk.PowerCut();
    disk.Revive();
    const size_t n = count(disk, dir.path());
    left.most = std::max(left.most, n);
    left.least = std::min(left.least, n);
  }
  return left;
}

TEST(SimDisk, KeepsWhatWasSyncedAndAPrefixOfTheRest) {
  const auto append = [](SimDisk& disk, const std::string& dir) {
    auto file = disk.Open(dir + "/f", OpenMode::kCreateNew, 0600);
    ASSERT_TRUE((*file)->Append("synced").ok() && (*file)->Sync().ok() && disk.SyncDir(dir).ok());
    ASSERT_TRUE((*file)->Append(" not synced").ok());
  };
  const Left left = AfterPowerCuts(append, [](SimDisk& disk, const std::string& dir) {
    const std::string text = *ReadFile(disk, dir + "/f");
    EXPECT_EQ(text, std::string("synced not synced").substr(0, text.size()));
    return text.size();
  });
  EXPECT_EQ(left.least, 6u);
  EXPECT_EQ(left.most, 17u);
}

TEST(SimDisk, ANameWithoutASyncedDirectoryMayGo) {
  const auto exists = [](SimDisk& disk, const std::string& dir) { return static_cast<size_t>(disk.Facts(dir + "/f").ok()); };
  for (const bool synced : {false, true}) {
    const Left left = AfterPowerCuts(
        [&](SimDisk& disk, const std::string& dir) {
          auto file = disk.Open(dir + "/f", OpenMode::kCreateNew, 0600);
          ASSERT_TRUE((*file)->Append("x").ok() && (*file)->Sync().ok());
          if (synced) {
            ASSERT_TRUE(disk.SyncDir(dir).ok());
          }
        },
        exists);
    EXPECT_EQ(left.most, 1u);
    EXPECT_EQ(left.least, synced ? 1u : 0u);
  }
}

TEST(SimDisk, AnAtomicWriteIsOldOrNew) {
  for (const bool returned : {false, true}) {
    const Left left = AfterPowerCuts(
        [&](SimDisk& disk, const std::string& dir) {
          ASSERT_TRUE(WriteFileAtomically(disk, dir + "/f", "old").ok());
          if (!returned) disk.dies_after = static_cast<int>(dir.back() % 5);
          EXPECT_EQ(WriteFileAtomically(disk, dir + "/f", "newer").ok(), returned);
        },
        [](SimDisk& disk, const std::string& dir) {
          const std::string text = *ReadFile(disk, dir + "/f");
          EXPECT_TRUE(text == "old" || text == "newer") << text;
          return text.size();
        });
    EXPECT_EQ(left.least, returned ? 5u : 3u);
  }
}

TEST(SimDisk, ACommitIsWholeOrNothingAndSaysSo) {
  for (const bool full : {false, true}) {
    const Left left = AfterPowerCuts(
        [&](SimDisk& disk, const std::string& dir) {
          lmdb::EnvOptions options;
          options.map_bytes = 1 << 20;
          options.tables = {"t"};
          ASSERT_TRUE(disk.MakeDirs(dir + "/db", 0700).ok());
          auto env = lmdb::Env::Open(dir + "/db", options);
          ASSERT_TRUE(env.ok()) << env.status();
          ASSERT_TRUE(disk.SyncDir(dir + "/db").ok());
          disk.full = full;
          auto txn = lmdb::WriteTxn::Begin(**env);
          ASSERT_TRUE((*txn)->Put((*env)->table("t"), "a", "1").ok() && (*txn)->Put((*env)->table("t"), "b", "2").ok());
          const absl::Status committed = (*txn)->Commit();
          EXPECT_EQ(committed.ok(), !full);
          EXPECT_EQ(absl::IsResourceExhausted(committed), full);
        },
        [](SimDisk&, const std::string& dir) {
          lmdb::EnvOptions options;
          options.map_bytes = 1 << 20;
          options.tables = {"t"};
          auto env = lmdb::Env::Open(dir + "/db", options);
          EXPECT_TRUE(env.ok()) << env.status();
          const lmdb::ReadTxn txn(**env);
          const bool a = txn.Get((*env)->table("t"), "a").has_value(), b = txn.Get((*env)->table("t"), "b").has_value();
          EXPECT_EQ(a, b);
          return static_cast<size_t>(a) + b;
        });
    EXPECT_EQ(left.most, full ? 0u : 2u);
    EXPECT_EQ(left.least, full ? 0u : 2u);
  }
}

}  // namespace
}  // namespace orgtrail
