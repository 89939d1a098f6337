#include "common/lmdb/env.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "tests/support/temp_dir.h"

namespace orgtrail::lmdb {
namespace {

std::string Key(uint64_t n) {
  std::string key;
  PutU64(key, n);
  return key;
}

EnvOptions Small() { return {.map_bytes = 1 << 20, .tables = {"a", "b"}}; }

std::unique_ptr<Env> MustOpen(const std::string& dir, const EnvOptions& options = Small()) {
  absl::StatusOr<std::unique_ptr<Env>> env = Env::Open(dir, options);
  EXPECT_TRUE(env.ok()) << env.status();
  return env.ok() ? *std::move(env) : nullptr;
}

absl::Status PutOne(Env& env, const std::string& key, const std::string& value) {
  ASSIGN_OR_RETURN(std::unique_ptr<WriteTxn> txn, WriteTxn::Begin(env));
  RETURN_IF_ERROR(txn->Put(env.table("a"), key, value));
  return txn->Commit();
}

std::optional<std::string> Value(const Env& env, const std::string& key) {
  ReadTxn txn(env);
  std::optional<std::string_view> v = txn.Get(env.table("a"), key);
  return v ? std::optional<std::string>(*v) : std::nullopt;
}

TEST(Env, KeepsWhatWasCommittedAndForgetsTheRest) {
  TempDir dir;
  {
    std::unique_ptr<Env> env = MustOpen(dir.path());
    ASSERT_TRUE(PutOne(*env, "k", "v").ok());
    absl::StatusOr<std::unique_ptr<WriteTxn>> txn = WriteTxn::Begin(*env);
    ASSERT_TRUE((*txn)->Put(env->table("a"), "gone", "x").ok());
    EXPECT_EQ((*txn)->Get(env->table("a"), "gone"), "x") << "a write transaction reads its own writes";
  }
  std::unique_ptr<Env> env = MustOpen(dir.path());
  EXPECT_EQ(Value(*env, "k"), "v");
  EXPECT_EQ(Value(*env, "gone"), std::nullopt);
}

TEST(Env, WhatIsUnmappedIsStillThere) {
  TempDir dir;
  std::unique_ptr<Env> env = MustOpen(dir.path());
  const std::string large(50'000, 'l'), small = "s";
  {
    absl::StatusOr<std::unique_ptr<WriteTxn>> txn = WriteTxn::Begin(*env);
    for (const auto& [key, value] : {std::pair(Key(1), large), {Key(2), small}}) {
      ASSERT_TRUE((*txn)->Put(env->table("a"), key, value).ok());
      (*txn)->Unmap(*(*txn)->Get(env->table("a"), key));  // not in the file yet: nothing may be lost
      EXPECT_EQ((*txn)->Get(env->table("a"), key), value);
    }
    ASSERT_TRUE((*txn)->Commit().ok());
  }
  ReadTxn txn(*env);
  for (const auto& [key, value] : {std::pair(Key(1), large), {Key(2), small}}) {
    const std::string_view read = *txn.Get(env->table("a"), key);
    EXPECT_EQ(read, value);
    txn.Unmap(read);
    EXPECT_EQ(read, value);
    EXPECT_EQ(txn.Get(env->table("a"), key), value);
  }
}

TEST(Env, CursorsWalkInKeyOrder) {
  TempDir dir;
  std::unique_ptr<Env> env = MustOpen(dir.path());
  absl::StatusOr<std::unique_ptr<WriteTxn>> write = WriteTxn::Begin(*env);
  for (uint64_t n : {1, 2, 255, 256, 70000}) ASSERT_TRUE((*write)->Append(env->table("a"), Key(n), Key(n * 2)).ok());
  EXPECT_FALSE((*write)->Append(env->table("a"), Key(3), "late").ok()) << "Append takes only a key beyond the last";
  write->reset();

  write = WriteTxn::Begin(*env);
  for (uint64_t n : {1, 2, 255, 256, 70000}) ASSERT_TRUE((*write)->Append(env->table("a"), Key(n), Key(n * 2)).ok());
  ASSERT_TRUE((*write)->Commit().ok());
  ReadTxn txn(*env);
  Cursor cursor(txn, env->table("a"));
  std::vector<uint64_t> seen;
  for (bool more = cursor.First(); more; more = cursor.Next()) {
    seen.push_back(GetU64(cursor.key().data()));
    EXPECT_EQ(GetU64(cursor.value().data()), seen.back() * 2);
  }
  EXPECT_EQ(seen, (std::vector<uint64_t>{1, 2, 255, 256, 70000}));
  ASSERT_TRUE(cursor.Seek(Key(3)));
  EXPECT_EQ(GetU64(cursor.key().data()), 255u);
  ASSERT_TRUE(cursor.Prev());
  EXPECT_EQ(GetU64(cursor.key().data()), 2u);
  ASSERT_TRUE(cursor.Last());
  EXPECT_EQ(GetU64(cursor.key().data()), 70000u);
  EXPECT_FALSE(cursor.Next());
  EXPECT_FALSE(cursor.Seek(Key(70001)));
  Cursor empty(txn, env->table("b"));
  EXPECT_FALSE(empty.First());
  EXPECT_FALSE(empty.Last());
}

TEST(Env, ReserveFillsInPlaceAndDeleteOfNothingIsFine) {
  TempDir dir;
  std::unique_ptr<Env> env = MustOpen(dir.path());
  absl::StatusOr<std::unique_ptr<WriteTxn>> txn = WriteTxn::Begin(*env);
  absl::StatusOr<char*> room = (*txn)->Reserve(env->table("a"), "big", 100'000, false);
  ASSERT_TRUE(room.ok());
  std::memset(*room, 'x', 100'000);
  ASSERT_TRUE((*txn)->Delete(env->table("a"), "absent").ok());
  ASSERT_TRUE((*txn)->Commit().ok());
  EXPECT_EQ(Value(*env, "big"), std::string(100'000, 'x'));
}

TEST(Env, AFullMapRefusesAndStaysUsable) {
  TempDir dir;
  std::unique_ptr<Env> env = MustOpen(dir.path());
  ASSERT_TRUE(PutOne(*env, "first", "kept").ok());
  absl::Status status;
  uint64_t stored = 0;
  for (; stored < 100 && status.ok(); ++stored) status = PutOne(*env, Key(stored), std::string(50'000, 'x'));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_NE(status.message().find(dir.path()), absl::string_view::npos) << "says which store: " << status;
  EXPECT_EQ(Value(*env, "first"), "kept");
  EXPECT_EQ(Value(*env, Key(stored - 2)), std::string(50'000, 'x')) << "the last commit that was acknowledged is there";
  EXPECT_EQ(Value(*env, Key(stored - 1)), std::nullopt) << "nothing of the refused one is";
  EXPECT_TRUE(PutOne(*env, "small", "fits").ok()) << "refusing the large one leaves room for the small";
  env.reset();
  env = MustOpen(dir.path());
  EXPECT_EQ(Value(*env, "small"), "fits");
}

TEST(Env, ADirectoryOpensOnceInAProcess) {
  TempDir dir;
  std::unique_ptr<Env> env = MustOpen(dir.path());
  absl::StatusOr<std::unique_ptr<Env>> again = Env::Open(dir.path() + "/.", Small());
  EXPECT_EQ(again.status().code(), absl::StatusCode::kFailedPrecondition) << again.status();
  env.reset();
  EXPECT_TRUE(Env::Open(dir.path(), Small()).ok());
}

TEST(Env, ReadOnlySeesWhatIsThereAndMakesNothing) {
  TempDir dir;
  EnvOptions read_only = Small();
  read_only.read_only = true;
  read_only.map_bytes = 0;
  EXPECT_EQ(Env::Open(dir.path(), read_only).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Env::Open(dir / "absent", Small()).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(PutOne(*MustOpen(dir.path()), "k", "v").ok());
  std::unique_ptr<Env> env = MustOpen(dir.path(), read_only);
  EXPECT_EQ(Value(*env, "k"), "v");
  EXPECT_EQ(WriteTxn::Begin(*env).status().code(), absl::StatusCode::kPermissionDenied);
  env.reset();
  read_only.tables.push_back("other");
  EXPECT_EQ(Env::Open(dir.path(), read_only).status().code(), absl::StatusCode::kDataLoss);
}

TEST(Env, DamageIsDataLossAndNamesTheFile) {
  struct Case {
    const char* name;
    void (*harm)(const std::string& file);
  };
  const Case cases[] = {
      {"cut in half", [](const std::string& f) { std::filesystem::resize_file(f, std::filesystem::file_size(f) / 2); }},
      {"last page gone",
       [](const std::string& f) { std::filesystem::resize_file(f, std::filesystem::file_size(f) - 4096); }},
      {"cut into its second page", [](const std::string& f) { std::filesystem::resize_file(f, 5000); }},
      {"not LMDB", [](const std::string& f) { std::ofstream(f, std::ios::binary) << std::string(64 << 10, 'x'); }},
      {"another version",
       [](const std::string& f) {
         std::fstream file(f, std::ios::in | std::ios::out | std::ios::binary);
         for (int at : {20, 4096 + 20}) {
           file.seekp(at);
           file.write("\x63\0\0\0", 4);
         }
       }},
  };
  for (const Case& c : cases) {
    TempDir dir;
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(PutOne(*MustOpen(dir.path()), Key(i), std::string(9000, 'x')).ok());
    c.harm(dir / "data.mdb");
    absl::Status status = Env::Open(dir.path(), Small()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << c.name << ": " << status;
    EXPECT_NE(status.message().find("data.mdb"), absl::string_view::npos) << c.name << ": " << status;
  }
}

TEST(Env, AFileThatWasNeverMadeWholeIsMadeAnew) {
  for (const size_t left : {1u, 4096u, 8191u}) {
    TempDir dir;
    MustOpen(dir.path()).reset();
    std::filesystem::resize_file(dir / "data.mdb", left);   // power went while LMDB wrote its first two pages
    EnvOptions reads = Small();
    reads.read_only = true;
    EXPECT_FALSE(Env::Open(dir.path(), reads).ok()) << left;   // who only reads changes nothing
    EXPECT_EQ(std::filesystem::file_size(dir / "data.mdb"), left);
    const std::unique_ptr<Env> env = MustOpen(dir.path());
    ASSERT_NE(env, nullptr) << left;
    EXPECT_TRUE(PutOne(*env, "k", "v").ok());
    EXPECT_EQ(Value(*env, "k"), "v");
  }
}

TEST(Env, PagesLmdbNeverWroteAreNotDamage) {
  // Random churn leaves data.mdb shorter than its page count after some commits: pages taken and given back within one
  // transaction. Every such file must open, and every one cut by a page that is in use must not.
  uint64_t state = 42;
  const auto next = [&](uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  int shorter = 0;
  for (int round = 0; round < 12; ++round) {
    TempDir dir;
    for (int commits = 0; commits < 20; ++commits) {
      EnvOptions options = Small();
      options.map_bytes = 16 << 20;
      std::unique_ptr<Env> env = MustOpen(dir.path(), options);
      ASSERT_NE(env, nullptr) << "round " << round << " commit " << commits;
      absl::StatusOr<std::unique_ptr<WriteTxn>> txn = WriteTxn::Begin(*env);
      for (uint64_t ops = next(50); ops > 0; --ops) {
        const std::string key = Key(next(100));
        if (next(3) == 0) {
          ASSERT_TRUE((*txn)->Delete(env->table("a"), key).ok());
        } else {
          ASSERT_TRUE((*txn)->Put(env->table("a"), key, std::string(next(next(3) ? 2000 : 30000), 'x')).ok());
        }
      }
      ASSERT_TRUE((*txn)->Commit().ok());
      if (env->Stats().file_bytes < env->Stats().used_bytes) ++shorter;
    }
  }
  EXPECT_GT(shorter, 0) << "the churn no longer makes the case this test is about";
}

TEST(Env, StatsSayWhoPinsOldPages) {
  TempDir dir;
  std::unique_ptr<Env> env = MustOpen(dir.path());
  ASSERT_TRUE(PutOne(*env, "k", "0").ok());
  EXPECT_EQ(env->Stats().readers, 0u);
  ReadTxn pinned(*env);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(PutOne(*env, "k", std::to_string(i)).ok());
  EXPECT_EQ(env->Stats().readers, 1u);
  EXPECT_EQ(env->Stats().oldest_reader_txns, 5u);
  EXPECT_EQ(env->Stats().map_bytes, 1u << 20);
  EXPECT_GT(env->Stats().used_bytes, 0u);
  EXPECT_EQ(pinned.Get(env->table("a"), "k"), "0") << "a snapshot does not move";
}

TEST(Env, AReaderThatDiesIsForgottenWhileTheStoreIsOpen) {
  TempDir dir;
  ASSERT_TRUE(PutOne(*MustOpen(dir.path()), "k", "0").ok());
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    absl::StatusOr<std::unique_ptr<Env>> env = Env::Open(dir.path(), Small());
    const ReadTxn held(**env);
    if (::write(pipe_fds[1], "r", 1) != 1) ::_exit(1);
    ::pause();
  }
  char ready;
  ASSERT_EQ(::read(pipe_fds[0], &ready, 1), 1);
  std::unique_ptr<Env> env = MustOpen(dir.path());
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(PutOne(*env, "k", std::to_string(i)).ok());
  EXPECT_EQ(env->Stats().oldest_reader_txns, 5u);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  int status;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
  EXPECT_EQ(env->Stats().oldest_reader_txns, 0u);
  EXPECT_EQ(env->Stats().readers, 0u);
}

TEST(Env, AKilledWriterLosesOnlyWhatItHadNotCommitted) {
  TempDir dir;
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    absl::StatusOr<std::unique_ptr<Env>> env = Env::Open(dir.path(), Small());
    for (uint64_t i = 0; i < 50; ++i) {
      if (!PutOne(**env, Key(i), "v").ok()) ::_exit(1);
    }
    absl::StatusOr<std::unique_ptr<WriteTxn>> open = WriteTxn::Begin(**env);
    if (!(*open)->Put((*env)->table("a"), Key(50), "v").ok()) ::_exit(1);
    ReadTxn* forgotten = new ReadTxn(**env);
    (void)forgotten;
    if (::write(pipe_fds[1], "r", 1) != 1) ::_exit(1);
    ::pause();
  }
  char ready;
  ASSERT_EQ(::read(pipe_fds[0], &ready, 1), 1);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  int status;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
  std::unique_ptr<Env> env = MustOpen(dir.path());
  EXPECT_EQ(env->Stats().readers, 0u) << "the dead reader's slot was cleared";
  EXPECT_EQ(Value(*env, Key(49)), "v");
  EXPECT_EQ(Value(*env, Key(50)), std::nullopt);
  EXPECT_TRUE(PutOne(*env, Key(50), "v").ok()) << "the dead writer's lock was recovered";
}

}  // namespace
}  // namespace orgtrail::lmdb
