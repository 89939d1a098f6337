#include "aggregator/ledger/committer.h"

#include <atomic>
#include <thread>

#include "aggregator/ledger/ledger.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/worker.h"
#include "gtest/gtest.h"
#include "tests/support/fullable_ledger.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

struct Listener final : Commits {
  void Committed(const Flush& flush) override { flushes.push_back(flush); }
  std::vector<Flush> flushes;
};

std::string Entry(uint64_t n) { return "OTT1 control entry " + std::to_string(n); }

class CommitterTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(Describe(built.Open()), "ok");
    disk = std::make_unique<FullableLedger>(*built.ledger);
  }
  TempDir dir;
  StillClock clock;
  LedgerBuilder built{dir.path(), clock};
  std::unique_ptr<FullableLedger> disk;
  Listener listener;
};

TEST_F(CommitterTest, WhatQueuedIsOneTransaction) {
  TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a");
  Committer committer(*disk, listener, 100, clock);
  int poked = 0;
  committer.Poked([&] { ++poked; });
  const Admitted batch = agent.Heartbeat();
  Admitted repeat;
  repeat.batch = batch.batch;
  repeat.repeats = batch.leaf->hash;
  std::vector<uint64_t> told;
  Admitted control = ControlItem(Entry(1));
  control.then = [&](const SignedHead& head, uint64_t leaf) {
    EXPECT_EQ(head.size, 4u);
    EXPECT_EQ(listener.flushes.size(), 1u);
    told.push_back(leaf);
  };
  EXPECT_EQ(Describe(committer.Submit(batch)), "ok");
  EXPECT_EQ(Describe(committer.Submit(control)), "ok");
  EXPECT_EQ(Describe(committer.Submit(repeat)), "ok");
  EXPECT_EQ(poked, 3);
  EXPECT_EQ(committer.queued(), 3u);
  committer.Step(clock.now);
  EXPECT_EQ(disk->groups, std::vector<size_t>{3});
  ASSERT_EQ(listener.flushes.size(), 1u);
  const Flush& flush = listener.flushes[0];
  EXPECT_EQ(flush.head.size, 4u);
  EXPECT_EQ(flush.head.note, built.ledger->head().note);
  ASSERT_EQ(flush.batches.size(), 2u);
  EXPECT_EQ(flush.batches[0].leaf_index, 2u);
  EXPECT_FALSE(flush.batches[0].duplicate);
  EXPECT_EQ(flush.batches[1].leaf_index, 2u);
  EXPECT_TRUE(flush.batches[1].duplicate);
  EXPECT_EQ(told, std::vector<uint64_t>{3});
}

TEST_F(CommitterTest, FlushesAreFiveMillisecondsApart) {
  Committer committer(*disk, listener, 100, clock);
  ASSERT_EQ(Describe(committer.Submit(ControlItem(Entry(1)))), "ok");
  committer.Step(clock.now);
  ASSERT_EQ(Describe(committer.Submit(ControlItem(Entry(2)))), "ok");
  const Tick due = clock.now + absl::Milliseconds(5);
  EXPECT_EQ(committer.Step(clock.now + absl::Milliseconds(1)), due);
  ASSERT_EQ(Describe(committer.Submit(ControlItem(Entry(3)))), "ok");
  EXPECT_EQ(listener.flushes.size(), 1u);
  committer.Step(due);
  EXPECT_EQ(disk->groups, (std::vector<size_t>{1, 2}));
}

TEST_F(CommitterTest, GroupsAreBounded) {
  Committer committer(*disk, listener, 2000, clock);
  for (uint64_t n = 0; n < 1100; ++n) ASSERT_EQ(Describe(committer.Submit(ControlItem(Entry(n)))), "ok");
  Tick next = committer.Step(clock.now);
  while (next != Tick::Never() && listener.flushes.size() < 10) next = committer.Step(next);
  EXPECT_EQ(disk->groups, (std::vector<size_t>{512, 512, 76}));
  EXPECT_EQ(built.ledger->head().size, 1100u);
  for (uint64_t n = 0; n < 1100; n += 99) EXPECT_EQ(*built.ledger->ReadEntry(n), Entry(n));  // in order
}

TEST_F(CommitterTest, AFullDiskHoldsTheGroupAndRefusesWhatComes) {
  Committer committer(*disk, listener, 2, clock);
  disk->full = true;
  ASSERT_EQ(Describe(committer.Submit(ControlItem(Entry(0)))), "ok");
  Tick next = committer.Step(clock.now);
  EXPECT_EQ(next, clock.now + absl::Seconds(1));
  EXPECT_TRUE(committer.held());
  EXPECT_EQ(listener.flushes.size(), 0u);
  ASSERT_EQ(Describe(committer.Submit(ControlItem(Entry(1)))), "ok");
  ASSERT_EQ(Describe(committer.Submit(ControlItem(Entry(2)))), "ok");
  const absl::Status refused = committer.Submit(ControlItem(Entry(3)));
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(refused.message().find("full"), absl::string_view::npos) << refused;
  EXPECT_EQ(committer.Step(clock.now + absl::Milliseconds(300)), next);  // poked: not tried before its time
  next = committer.Step(next);
  EXPECT_TRUE(committer.held());

  disk->full = false;
  next = committer.Step(next);
  EXPECT_FALSE(committer.held());
  while (next != Tick::Never() && disk->groups.size() < 5) next = committer.Step(next);
  EXPECT_EQ(disk->groups, (std::vector<size_t>{1, 2}));
  for (uint64_t n = 0; n < 3; ++n) EXPECT_EQ(*built.ledger->ReadEntry(n), Entry(n));
  EXPECT_EQ(Describe(committer.Submit(ControlItem(Entry(3)))), "ok");
}

TEST_F(CommitterTest, RefusesWhatCannotBeALeaf) {
  Committer committer(*disk, listener, 2, clock);
  const struct { size_t size; bool ok; } cases[] = {{0, false}, {1, true}, {limits::kEntryBytes, true}, {limits::kEntryBytes + 1, false}};
  for (const auto& c : cases) {
    const absl::Status s = committer.Submit(ControlItem(std::string(c.size, 'x')));
    EXPECT_EQ(s.ok(), c.ok) << c.size;
    EXPECT_EQ(absl::IsInvalidArgument(s), !c.ok) << c.size;
  }
}

TEST_F(CommitterTest, WaitsForACommit) {
  Committer committer(*disk, listener, 10, SystemClock());
  EXPECT_EQ(committer.SubmitAndWait(ControlItem(Entry(0)), absl::ZeroDuration()).status().code(), absl::StatusCode::kDeadlineExceeded);
  Worker worker("committer", committer, SystemClock());
  committer.Poked([&] { worker.Poke(); });
  worker.Start();
  std::vector<std::thread> threads;
  std::atomic<uint64_t> sum{0};
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const auto index = committer.SubmitAndWait(ControlItem(Entry(10 + t)), absl::Minutes(1));
      ASSERT_EQ(Describe(index.status()), "ok");
      EXPECT_EQ(*built.ledger->ReadEntry(*index), Entry(10 + t));
      sum += *index;
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(sum, 1u + 2 + 3 + 4);
  worker.Stop();
}

TEST_F(CommitterTest, TheAnchorIsWrittenOnceASecondOffTheAckPath) {
  Committer committer(*disk, listener, 10, clock);
  const std::string file = built.options.anchor_dir + "/head";
  ASSERT_EQ(Describe(committer.Submit(ControlItem(Entry(0)))), "ok");
  EXPECT_EQ(committer.Step(clock.now), Tick::Never());
  const std::string first = *ReadFile(PosixFs(), file);
  EXPECT_EQ(first, built.ledger->head().note);

  const Tick second = clock.now + absl::Milliseconds(10);
  ASSERT_EQ(Describe(committer.Submit(ControlItem(Entry(1)))), "ok");
  const Tick due = committer.Step(second);
  EXPECT_EQ(due, clock.now + absl::Seconds(1));
  EXPECT_EQ(*ReadFile(PosixFs(), file), first);
  EXPECT_EQ(committer.Step(due), Tick::Never());
  EXPECT_EQ(*ReadFile(PosixFs(), file), built.ledger->head().note);
}

}  // namespace
}  // namespace orgtrail
