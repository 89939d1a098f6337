#include "agent/spool/spool.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "agent/spool/values.h"
#include "common/base/status.h"
#include "common/compress/zstd.h"
#include "common/format/frame.h"
#include "tests/support/manual_clock.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

// The disk of the machine with its free space as the test says.
class SizedFs final : public Fs {
 public:
  uint64_t free_bytes = 1ull << 40, total_bytes = 2ull << 40;
  absl::StatusOr<std::unique_ptr<File>> Open(std::string_view p, OpenMode m, int perm) override {
    return PosixFs().Open(p, m, perm);
  }
  absl::StatusOr<FileFacts> Facts(std::string_view p) override { return PosixFs().Facts(p); }
  absl::StatusOr<std::vector<std::string>> List(std::string_view d) override { return PosixFs().List(d); }
  absl::StatusOr<std::vector<std::string>> Glob(std::string_view p) override { return PosixFs().Glob(p); }
  absl::Status Rename(std::string_view a, std::string_view b, Fsync f) override { return PosixFs().Rename(a, b, f); }
  absl::Status Remove(std::string_view p) override { return PosixFs().Remove(p); }
  absl::Status MakeDirs(std::string_view p, int perm) override { return PosixFs().MakeDirs(p, perm); }
  absl::Status SyncDir(std::string_view p) override { return PosixFs().SyncDir(p); }
  absl::StatusOr<uint64_t> FreeBytes(std::string_view) override { return free_bytes; }
  absl::StatusOr<uint64_t> TotalBytes(std::string_view) override { return total_bytes; }
};

constexpr uint64_t kMiB = 1 << 20;

SealedBatch Batch(uint64_t epoch, uint64_t batch_seq, size_t bytes = 500) {
  SealedBatch batch;
  batch.header.epoch = epoch;
  batch.header.batch_seq = batch_seq;
  batch.header.last_seq = batch_seq * 10;
  batch.frame = absl::StrCat("frame ", epoch, ".", batch_seq, " ");
  batch.frame.resize(std::max(batch.frame.size(), bytes), static_cast<char>('a' + batch_seq % 26));
  batch.leaf.bytes[0] = static_cast<char>(batch_seq);
  return batch;
}

class SpoolTest : public ::testing::Test {
 protected:
  void SetUp() override { Reopen(); }
  void Reopen() {
    spool_.reset();
    absl::StatusOr<std::unique_ptr<Spool>> spool = Spool::Open(dir_ / "spool", options_, fs_, clock_);
    ASSERT_TRUE(spool.ok()) << spool.status();
    spool_ = *std::move(spool);
  }
  absl::Status Append(const SealedBatch& batch) {
    return spool_->Append({.batches = {&batch}, .positions = {}, .replies = {}});
  }
  std::vector<BatchKey> Keys() {
    std::vector<BatchKey> keys;
    for (BatchKey at;;) {
      auto next = spool_->Next(at);
      EXPECT_TRUE(next.ok()) << next.status();
      if (!next.ok() || !*next) return keys;
      at = (*next)->first;
      EXPECT_EQ((*next)->second, Batch(at.epoch, at.batch_seq, (*next)->second.size()).frame);
      keys.push_back(at);
    }
  }

  TempDir dir_;
  SizedFs fs_;
  ManualClock clock_;
  SpoolOptions options_{.max_bytes = 16 * kMiB};
  std::unique_ptr<Spool> spool_;
};

TEST_F(SpoolTest, AFreshOneIsEmpty) {
  EXPECT_EQ(spool_->tail().epoch, 0u);
  EXPECT_TRUE(Keys().empty());
  EXPECT_EQ(spool_->pin()->origin, "");
  EXPECT_EQ(spool_->Facts().oldest_unacked, absl::InfiniteFuture());
  EXPECT_TRUE(spool_->CheckAlive().ok());
  EXPECT_EQ(spool_->Read({1, 1}).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SpoolTest, KeepsOrderTailAndPositionsOverReopening) {
  ASSERT_TRUE(Append(Batch(1, 0)).ok());
  ASSERT_TRUE(Append(Batch(1, 1, 100'000)).ok());
  SealedBatch last = Batch(2, 0), close = Batch(2, 1);
  close.header.kind = BatchKind::kEpochClose;
  close.header.flags = kBatchRetired;
  FilePosition position{
      .key = "k1", .path = "/var/log/x", .offset = 77, .finished = true, .mark = "12345678", .forget = false};
  FilePosition gone = position;
  gone.key = "k2";
  ASSERT_TRUE(spool_->Append({.batches = {&last, &close}, .positions = {position, gone}, .replies = {}}).ok());
  gone.forget = true;
  ASSERT_TRUE(spool_->Append({.batches = {}, .positions = {gone}, .replies = {}}).ok());
  Reopen();
  EXPECT_EQ(Keys(), (std::vector<BatchKey>{{1, 0}, {1, 1}, {2, 0}, {2, 1}}));
  const SpoolTail tail = spool_->tail();
  EXPECT_EQ(tail.epoch, 2u);
  EXPECT_EQ(tail.batch_seq, 1u);
  EXPECT_EQ(tail.last_seq, 10u);
  EXPECT_EQ(tail.leaf, close.leaf);
  EXPECT_TRUE(tail.closed);
  EXPECT_TRUE(tail.retired);
  auto positions = spool_->Positions();
  ASSERT_TRUE(positions.ok());
  ASSERT_EQ(positions->size(), 1u);
  EXPECT_EQ((*positions)[0].key, "k1");
  EXPECT_EQ((*positions)[0].path, "/var/log/x");
  EXPECT_EQ((*positions)[0].offset, 77u);
  EXPECT_TRUE((*positions)[0].finished);
  EXPECT_EQ((*positions)[0].mark, "12345678");
}

TEST_F(SpoolTest, KnowsOverReopeningWhatIsNeverSent) {
  for (uint64_t n = 0; n < 4; ++n) ASSERT_TRUE(Append(Batch(1, n)).ok());
  for (uint64_t n = 0; n < 2; ++n) ASSERT_TRUE(Append(Batch(2, n)).ok());
  const std::vector<Branch> both = {{{1, 1}, {2, 0}}, {{2, 1}, {4, 0}}};
  ASSERT_TRUE(spool_->SetBranches(both).ok());
  EXPECT_EQ(spool_->branches(), both);
  Reopen();
  EXPECT_EQ(spool_->branches(), both);
  // Once nothing of the first one is left, it is forgotten at the next change.
  ASSERT_TRUE(spool_->Acked({1, 3}, {}).ok());
  clock_.Advance(absl::Hours(25));
  ASSERT_TRUE(Append(Batch(4, 0)).ok());
  ASSERT_EQ(Keys().front(), (BatchKey{2, 0}));
  ASSERT_TRUE(spool_->SetBranches(both).ok());
  EXPECT_EQ(spool_->branches(), std::vector<Branch>{both[1]});
}

TEST_F(SpoolTest, RefusesWhatDoesNotFollow) {
  ASSERT_TRUE(Append(Batch(3, 5)).ok());
  for (const BatchKey key : {BatchKey{3, 5}, BatchKey{3, 4}, BatchKey{2, 9}}) {
    EXPECT_EQ(Append(Batch(key.epoch, key.batch_seq)).code(), absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_EQ(Keys(), (std::vector<BatchKey>{{3, 5}}));
}

TEST_F(SpoolTest, CountsWhatIsUnacked) {
  for (uint64_t n = 0; n < 5; ++n) {
    ASSERT_TRUE(Append(Batch(1, n, 10'000)).ok());
    clock_.Advance(absl::Seconds(1));
  }
  const absl::Time start = clock_.Wall() - absl::Seconds(5);
  SpoolFacts facts = spool_->Facts();
  EXPECT_EQ(facts.unacked_batches, 5u);
  EXPECT_GE(facts.unacked_bytes, 50'000u);
  EXPECT_EQ(facts.oldest_unacked, start);
  Pin pin{.origin = "o",
          .log_vkey = "v",
          .note = "n",
          .size = 9,
          .root = {},
          .policy = "p",
          .policy_body = "b",
          .policy_version = 4,
          .policy_hash = {}};
  pin.root.bytes[3] = 7;
  ASSERT_TRUE(spool_->Acked({1, 2}, pin).ok());
  EXPECT_EQ(spool_->Acked({1, 5}, pin).code(), absl::StatusCode::kInvalidArgument);
  Reopen();
  facts = spool_->Facts();
  EXPECT_EQ(facts.unacked_batches, 2u);
  EXPECT_EQ(facts.oldest_unacked, start + absl::Seconds(3));
  EXPECT_EQ(facts.acked_through, (BatchKey{1, 2}));
  EXPECT_EQ(spool_->pin()->size, 9u);
  EXPECT_EQ(spool_->pin()->policy_version, 4u);
  EXPECT_EQ(spool_->pin()->root, pin.root);
  EXPECT_EQ(Keys().size(), 5u) << "acknowledged batches stay until space is needed";
  ASSERT_TRUE(spool_->Acked({1, 1}, pin).ok()) << "an older receipt moves nothing back";
  EXPECT_EQ(spool_->Facts().unacked_batches, 2u);
  ASSERT_TRUE(spool_->Acked({1, 4}, pin).ok());
  EXPECT_EQ(spool_->Facts().unacked_bytes, 0u);
}

TEST_F(SpoolTest, AcknowledgedBatchesGoAfterADayUnackedNever) {
  for (uint64_t n = 0; n < 10; ++n) ASSERT_TRUE(Append(Batch(1, n)).ok());
  ASSERT_TRUE(spool_->Acked({1, 6}, {}).ok());
  clock_.Advance(absl::Hours(23));
  ASSERT_TRUE(Append(Batch(1, 10)).ok());
  EXPECT_EQ(Keys().size(), 11u);
  clock_.Advance(absl::Hours(24));
  ASSERT_TRUE(Append(Batch(1, 11)).ok());
  EXPECT_EQ(Keys(), (std::vector<BatchKey>{{1, 7}, {1, 8}, {1, 9}, {1, 10}, {1, 11}}));
}

TEST_F(SpoolTest, FullRefusesKeepsEverythingUnackedAndRecovers) {
  uint64_t n = 0;
  absl::Status status;
  while (status.ok() && n < 1000) status = Append(Batch(1, n++, 200'000));
  --n;
  ASSERT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("spool.max_bytes"), absl::string_view::npos) << status;
  EXPECT_NE(status.message().find(dir_ / "spool"), absl::string_view::npos) << status;
  EXPECT_GT(n, 75u) << "16 MiB hold about 80 of 200 KB";
  EXPECT_TRUE(spool_->Facts().pressure);
  EXPECT_EQ(Keys().size(), n);
  ASSERT_TRUE(spool_->Acked({1, 4}, {}).ok());
  for (uint64_t more = 0; more < 5; ++more) ASSERT_TRUE(Append(Batch(1, n + more, 200'000)).ok()) << more;
  EXPECT_EQ(Append(Batch(1, n + 5, 200'000)).code(), absl::StatusCode::kResourceExhausted);
  std::vector<BatchKey> keys = Keys();
  EXPECT_EQ(keys.front(), (BatchKey{1, 5})) << "exactly the acknowledged made room";
  EXPECT_EQ(keys.back(), (BatchKey{1, n + 4}));
  EXPECT_EQ(keys.size(), n);
}

TEST_F(SpoolTest, RunsForLongInAFullFile) {
  // The file stays within its map while batches of changing sizes come and go at the limit.
  uint64_t acked = 0;
  for (uint64_t n = 0; n < 250; ++n) {
    absl::Status status = Append(Batch(1, n, 1000 + n * 7919 % 300'000));
    ASSERT_TRUE(status.ok()) << n << ": " << status;
    if (n - acked < 30) continue;
    acked = n - 10;
    ASSERT_TRUE(spool_->Acked({1, acked}, {}).ok());
  }
  EXPECT_LE(spool_->Facts().used_bytes, 16 * kMiB);
  EXPECT_LE(std::filesystem::file_size(dir_ / "spool/data.mdb"), 16 * kMiB * 5 / 4 + 64 * kMiB);
  Reopen();
  EXPECT_FALSE(Keys().empty());
}

TEST_F(SpoolTest, AFullDiskRefusesUnlessAcknowledgedBatchesMakeRoomInside) {
  for (uint64_t n = 0; n < 20; ++n) ASSERT_TRUE(Append(Batch(1, n, 100'000)).ok());
  fs_.free_bytes = fs_.total_bytes / 20;
  absl::Status status = Append(Batch(1, 20, 100'000));
  ASSERT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("min_free"), absl::string_view::npos) << status;
  EXPECT_EQ(Keys().size(), 20u);
  ASSERT_TRUE(spool_->Acked({1, 9}, {}).ok());
  EXPECT_TRUE(Append(Batch(1, 20, 100'000)).ok());
  fs_.free_bytes = fs_.total_bytes;
  EXPECT_TRUE(Append(Batch(1, 21, 100'000)).ok());
  EXPECT_EQ(Keys().back(), (BatchKey{1, 21}));
}

TEST_F(SpoolTest, RepliesAreRememberedForADay) {
  const SealedBatch batch = Batch(1, 0);
  ASSERT_TRUE(
      spool_->Append({.batches = {&batch}, .positions = {}, .replies = {{"key-1", "reply one"}, {"", "empty"}}}).ok());
  ASSERT_TRUE(spool_->Append({.batches = {}, .positions = {}, .replies = {{"key-1", "reply two"}}}).ok());
  Reopen();
  EXPECT_EQ(*spool_->Reply("key-1"), "reply two");
  EXPECT_EQ(*spool_->Reply(""), "empty");
  EXPECT_EQ(spool_->Reply("key-2").status().code(), absl::StatusCode::kNotFound);
  clock_.Advance(absl::Hours(25));
  EXPECT_EQ(spool_->Reply("key-1").status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(spool_->Append({.batches = {}, .positions = {}, .replies = {{"key-3", "three"}}}).ok());
  EXPECT_EQ(*spool_->Reply("key-3"), "three");
}

TEST_F(SpoolTest, ABatchTheDiskChangedIsNamedAndRepaired) {
  for (uint64_t n = 0; n < 3; ++n) ASSERT_TRUE(Append(Batch(1, n, 10'000)).ok());
  spool_.reset();
  std::string file;
  {
    std::ifstream in(dir_ / "spool/data.mdb", std::ios::binary);
    file.assign(std::istreambuf_iterator<char>(in), {});
  }
  const size_t at = file.find("frame 1.1 ");
  ASSERT_NE(at, std::string::npos);
  {
    std::fstream out(dir_ / "spool/data.mdb", std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(at + 5000));
    out.put('!');
  }
  Reopen();
  EXPECT_TRUE(spool_->Next({0, 0}).ok());
  auto bad = spool_->Next({1, 0});
  ASSERT_EQ(bad.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(bad.status().message().find("(1, 1)"), absl::string_view::npos) << bad.status();
  EXPECT_EQ(spool_->Read({1, 1}).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(spool_->KeyAfter({1, 0}), (BatchKey{1, 1}));
  std::string damaged = *spool_->ReadUnchecked({1, 1});
  EXPECT_EQ(damaged.size(), 10'000u);
  EXPECT_EQ(damaged[5000], '!');
  ASSERT_TRUE(spool_->Repair({1, 1}, Batch(1, 1, 9'000).frame).ok());
  EXPECT_EQ(Keys().size(), 3u);
  EXPECT_EQ(spool_->Repair({1, 7}, "x").code(), absl::StatusCode::kNotFound);
}

// A batch that is a frame has its entry a second time, with a sum of its own.
TEST_F(SpoolTest, TheSignedEntryIsKeptApart) {
  ZstdCompressor zstd(1);
  const auto frame_of = [&](uint64_t n) {
    FramePacker packer;
    packer.Add(0, 1, 1, 1, 1, std::string(20'000, static_cast<char>('a' + n)));
    SealedBatch batch = Batch(1, n);
    batch.frame = packer.Finish("entry " + std::to_string(n), n == 0 ? "extension" : "", std::string(32, 'k'), zstd);
    return batch;
  };
  for (uint64_t n = 0; n < 3; ++n) ASSERT_TRUE(Append(frame_of(n)).ok());
  const uint64_t used = spool_->Facts().used_bytes;
  EXPECT_EQ(spool_->ReadEntry({1, 0})->entry, "entry 0");
  EXPECT_EQ(spool_->ReadEntry({1, 0})->extension, "extension");
  EXPECT_EQ(spool_->ReadEntry({1, 2})->extension, "");
  EXPECT_TRUE(absl::IsNotFound(spool_->ReadEntry({1, 3}).status()));

  spool_.reset();
  std::string file;
  {
    std::ifstream in(dir_ / "spool/data.mdb", std::ios::binary);
    file.assign(std::istreambuf_iterator<char>(in), {});
  }
  int flipped = 0;
  for (size_t at = 0; (at = file.find(EncodeEntry(EncodeKey({1, 1}), {"entry 1", ""}), at)) != std::string::npos; ++at, ++flipped) {
    std::fstream out(dir_ / "spool/data.mdb", std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(at + 9));
    out.put('!');
  }
  ASSERT_GT(flipped, 0);
  Reopen();
  EXPECT_TRUE(absl::IsDataLoss(spool_->ReadEntry({1, 1}).status()));
  EXPECT_TRUE(spool_->Read({1, 1}).ok());
  EXPECT_TRUE(spool_->ReadEntry({1, 2}).ok());

  // It goes with its batch, and the room it took is free again.
  ASSERT_TRUE(spool_->Acked({1, 1}, Pin{}).ok());
  clock_.Advance(absl::Hours(25));
  ASSERT_TRUE(spool_->Acked({1, 2}, Pin{}).ok());
  EXPECT_EQ(spool_->Facts().unacked_bytes, 0u);
  ASSERT_TRUE(Append(Batch(1, 3, 5'000)).ok());
  EXPECT_TRUE(absl::IsNotFound(spool_->ReadEntry({1, 0}).status()));
  EXPECT_TRUE(absl::IsNotFound(spool_->ReadEntry({1, 2}).status()));
  EXPECT_EQ(spool_->Facts().used_bytes, spool_->Facts().unacked_bytes) << "of " << used;
}

TEST_F(SpoolTest, AChangedVersionByteIsDamageNotANewerRelease) {
  ASSERT_TRUE(Append(Batch(1, 1, 10'000)).ok());
  const std::string key = EncodeKey({1, 1});
  std::string value(kBatchValueHead + 5, '\0');
  FillBatchValue(value.data(), key, clock_.Wall(), "frame");
  ASSERT_TRUE(CheckBatchValue(key, value).ok());
  value[0] = 2;
  EXPECT_TRUE(absl::IsDataLoss(CheckBatchValue(key, value).status()));
  value.back() ^= 1;   // a newer release's sums may be over something else
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckBatchValue(key, value).status()));
}

TEST_F(SpoolTest, WaitersSeeAppendsAndWakes) {
  EXPECT_FALSE(spool_->WaitBeyond({0, 0}, absl::ZeroDuration()));
  std::atomic<int> stage = 0;
  std::thread waiter([&] {
    EXPECT_TRUE(spool_->WaitBeyond({0, 0}, absl::Seconds(60)));
    stage = 1;
    EXPECT_FALSE(spool_->WaitBeyond({1, 1}, absl::Seconds(60)));
  });
  ASSERT_TRUE(Append(Batch(1, 1)).ok());
  while (stage == 0) std::this_thread::yield();
  spool_->Wake();
  waiter.join();
}

TEST_F(SpoolTest, NoticesThatItsDirectoryWentAway) {
  ASSERT_TRUE(Append(Batch(1, 1)).ok());
  ASSERT_TRUE(spool_->CheckAlive().ok());
  std::filesystem::rename(dir_ / "spool", dir_ / "aside");
  EXPECT_EQ(spool_->CheckAlive().code(), absl::StatusCode::kDataLoss);
  std::filesystem::create_directory(dir_ / "spool");
  EXPECT_EQ(spool_->CheckAlive().code(), absl::StatusCode::kDataLoss) << "another directory of the same name is not it";
  std::filesystem::remove(dir_ / "spool");
  std::filesystem::rename(dir_ / "aside", dir_ / "spool");
  EXPECT_TRUE(spool_->CheckAlive().ok());
  std::filesystem::remove(dir_ / "spool/data.mdb");
  EXPECT_EQ(spool_->CheckAlive().code(), absl::StatusCode::kDataLoss);
}

TEST_F(SpoolTest, EvidenceIsKeptUnderItsNameAndNeverOverwritten) {
  absl::StatusOr<std::string> first = spool_->KeepEvidence("../fork 1.txt", "one");
  absl::StatusOr<std::string> second = spool_->KeepEvidence("../fork 1.txt", "two");
  ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
  EXPECT_EQ(DirName(*first), dir_ / "spool/evidence");
  EXPECT_NE(*first, *second);
  EXPECT_EQ(*ReadFile(fs_, *first), "one");
  EXPECT_EQ(*ReadFile(fs_, *second), "two");
}

TEST_F(SpoolTest, AKilledAgentKeepsEveryBatchThatWasAcknowledgedToIt) {
  spool_.reset();
  int fds[2];
  ASSERT_EQ(::pipe(fds), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto spool = Spool::Open(dir_ / "spool", options_, fs_, clock_);
    if (!spool.ok()) ::_exit(1);
    for (uint64_t n = 0;; ++n) {
      const SealedBatch batch = Batch(1, n, 20'000);
      const std::string at = std::to_string(n);
      FilePosition position{.key = "file", .path = "/f", .offset = n, .finished = false, .mark = "", .forget = false};
      if (!(*spool)->Append({.batches = {&batch}, .positions = {position}, .replies = {}}).ok()) ::_exit(1);
      if (::write(fds[1], &n, sizeof n) != sizeof n) ::_exit(1);
    }
  }
  uint64_t told = 0;
  while (told < 40) ASSERT_EQ(::read(fds[0], &told, sizeof told), static_cast<ssize_t>(sizeof told));
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  int status;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ::close(fds[1]);
  for (uint64_t more; ::read(fds[0], &more, sizeof more) == sizeof more;) told = more;
  ::close(fds[0]);
  Reopen();
  const std::vector<BatchKey> keys = Keys();
  ASSERT_GE(keys.size(), told + 1);
  EXPECT_LE(keys.size(), told + 2) << "at most the one whose return was cut off";
  for (uint64_t n = 0; n < keys.size(); ++n) EXPECT_EQ(keys[n], (BatchKey{1, n}));
  EXPECT_EQ((*spool_->Positions())[0].offset, keys.back().batch_seq) << "position and batch moved together";
  EXPECT_EQ(spool_->tail().batch_seq, keys.back().batch_seq);
}

TEST_F(SpoolTest, TenThousandBatchesInOrder) {
  options_.max_bytes = 64 * kMiB;
  Reopen();
  std::vector<SealedBatch> all;
  for (uint64_t n = 0; n < 10'000; ++n) all.push_back(Batch(1, n, 400));
  for (size_t at = 0; at < all.size(); at += 500) {
    Spool::Commit commit;
    for (size_t i = at; i < at + 500; ++i) commit.batches.push_back(&all[i]);
    ASSERT_TRUE(spool_->Append(commit).ok());
  }
  EXPECT_EQ(Keys().size(), 10'000u);
  ASSERT_TRUE(spool_->Acked({1, 9'998}, {}).ok());
  EXPECT_EQ(spool_->Facts().unacked_batches, 1u);
}

}  // namespace
}  // namespace orgtrail
