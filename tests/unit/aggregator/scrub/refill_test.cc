// Refill with its real child over a ledger that is open: what it puts in place, what it leaves alone, and what a reader sees meanwhile.
#include "aggregator/scrub/refill.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "aggregator/ledger/fsck.h"
#include "aggregator/ledger/shard.h"
#include "common/base/guarded.h"
#include "common/base/status.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

namespace stdfs = std::filesystem;
using ::testing::HasSubstr;
using Why = MissingBodies::Why;

class RefillTest : public testing::Test {
 protected:
  void SetUp() override {
    built.options.shard_period = absl::Seconds(3);
    built.options.tail_bytes = 1;   // reads come from the disk
    ASSERT_EQ(Describe(built.Open()), "ok");
    agent = &built.Enrol("111111111111", "eu-central-1", "a");
    while (built.ledger->stats().shards < 4) ASSERT_EQ(Describe(built.Fill(*agent, 3)), "ok");
    for (uint64_t i = 0; i < built.ledger->head().size; ++i) frames.push_back(built.ledger->ReadRaw(i)->bytes);
    built.Shut();
  }
  void Start() {
    ASSERT_EQ(Describe(built.Open()), "ok");
    RefillOptions options;
    options.program = ORGTRAIL_BIN_DIR "/orgtrail-aggregator";
    options.ledger_dir = built.options.dir;
    options.marks_dir = dir / "derived";
    stdfs::create_directories(options.marks_dir);
    options.settle = absl::ZeroDuration();
    options.gone = [this](const Uuid& uuid) { return gone.contains(uuid); };
    refill = std::make_unique<Refill>(
        options, *built.ledger, missing, PosixFs(), SystemClock(), [this](const Refilled& done) { told.push_back(done); },
        [this](uint64_t leaf, std::function<void()> done) { late[leaf] = std::move(done); });
  }
  // Steps until something was put back or given back, at most a minute.
  void Until(const std::function<bool()>& done) {
    for (int i = 0; i < 1200 && !done(); ++i) {
      refill->Step(SystemClock().Now());
      a_moment.WhenFor(absl::Milliseconds(50), [](bool) { return false; }, [](bool, bool) {});
    }
    EXPECT_TRUE(done());
  }
  std::string Dir(uint32_t shard) const { return ShardDir(built.options.dir, shard); }
  uint64_t FirstOf(uint32_t shard) const {
    const auto opened = Shard::Open(Dir(shard), 64 << 20, true);
    const lmdb::ReadTxn txn(*opened->env);
    return TreeState::Decode(*txn.Get(opened->meta, kStateKey))->first;
  }
  // The last byte of a leaf. While nothing has the shard open.
  void Damage(uint32_t shard, uint64_t leaf) {
    auto opened = Shard::Open(Dir(shard), 64 << 20, false);
    auto txn = lmdb::WriteTxn::Begin(*opened->env);
    std::string value((*txn)->Get(opened->leaves, IndexKey(leaf)).value());
    value.back() = static_cast<char>(value.back() ^ 1);
    ASSERT_TRUE((*txn)->Put(opened->leaves, IndexKey(leaf), value).ok() && (*txn)->Commit().ok());
  }
  void Bring(uint64_t leaf, Why why = Why::kDamaged) {
    missing.Add({leaf, *built.ledger->IdentityOf(leaf), *built.ledger->LeafHashAt(leaf)}, why);
    missing.Came(leaf, frames[leaf], SystemClock().Now());
  }
  void Look(std::set<uint64_t> damaged, uint64_t findings) {
    refill->Looked({.shard = 2, .file = Dir(2) + "/data.mdb", .begun = SystemClock().Now(), .damaged = std::move(damaged), .bodiless = {}, .findings = findings});
  }
  std::vector<Finding> Fsck() const {
    FsckOptions options;
    options.dir = built.options.dir;
    options.map_bytes = 64 << 20;
    std::vector<Finding> findings;
    FsckTotals totals;
    EXPECT_EQ(Describe(orgtrail::Fsck(options, nullptr, &findings, &totals)), "ok");
    return findings;
  }

  TempDir dir;
  StillClock clock;
  LedgerBuilder built{dir / "ledger", clock};
  TestAgent* agent = nullptr;
  std::vector<std::string> frames;
  MissingBodies missing;
  std::unique_ptr<Refill> refill;
  std::vector<Refilled> told;
  std::set<Uuid> gone;
  Guarded<bool> a_moment;
  std::map<uint64_t, std::function<void()>> late;
};

TEST_F(RefillTest, LeavesAreInTheirPlaceBeneathWhoReads) {
  const uint64_t two = FirstOf(2) + 1;
  Damage(2, two);
  Damage(2, two + 1);
  const uint64_t findings = Fsck().size();
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_FALSE(built.ledger->Read(two).ok());   // the file as it was is open
  Look({two, two + 1}, findings);
  Bring(two);
  Until([&] { return told.size() == 1; });
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].leaves, std::vector<uint64_t>{two});
  EXPECT_FALSE(told[0].is_whole);
  EXPECT_EQ(built.ledger->ReadRaw(two)->bytes, frames[two]);
  EXPECT_FALSE(built.ledger->Read(two + 1).ok());
  EXPECT_TRUE(missing.Wants(two + 1));           // the look said so
  Bring(two + 1);
  Until([&] { return told.size() == 2; });
  ASSERT_EQ(told.size(), 2u);
  EXPECT_TRUE(told[1].is_whole);
  EXPECT_EQ(told[1].file, Dir(2) + "/data.mdb");
  EXPECT_THAT(told[1].words, HasSubstr("shard 2: leaf " + std::to_string(two + 1) + " from its agent"));
  for (uint64_t i = 0; i < frames.size(); ++i) EXPECT_EQ(built.ledger->ReadRaw(i)->bytes, frames[i]) << i;
  EXPECT_EQ(missing.facts().done, 2u);
  EXPECT_TRUE(late.empty());                     // they had their bodies when they were indexed
  EXPECT_FALSE(stdfs::exists(Dir(2) + "/repairing"));
  built.Shut();
  EXPECT_TRUE(Fsck().empty());
}

TEST_F(RefillTest, WhatWasPutBackIsToldByTheNextProcessWhenThisOneEndsBehindTheRename) {
  const uint64_t two = FirstOf(2) + 1;
  Damage(2, two);
  const uint64_t findings = Fsck().size();
  for (const bool is_renamed : {false, true}) {
    ASSERT_NO_FATAL_FAILURE(Start());
    Look({two}, findings);
    Bring(two);
    const auto intended = [&] { return stdfs::exists(dir / "derived/refill-2"); };
    if (is_renamed) {
      Until(intended);   // the rename is behind it in the same step
    } else {
      WriteFileAtomically(PosixFs(), dir / "derived/refill-2", std::to_string(two) + " leaf " + agent->identity().uuid.ToString() + "\n").IgnoreError();
    }
    ASSERT_TRUE(intended());
    refill.reset();
    built.Shut();
    missing.Done(two);
    ASSERT_NO_FATAL_FAILURE(Start());
    refill->Step(SystemClock().Now());
    EXPECT_FALSE(intended());
    ASSERT_EQ(told.size(), is_renamed ? 1u : 0u);
    refill.reset();
    built.Shut();
  }
  EXPECT_EQ(told[0].leaves, std::vector<uint64_t>{two});
  EXPECT_EQ(told[0].words, "shard 2: leaf " + std::to_string(two) + " from its agent " + agent->identity().uuid.ToString());
}

TEST_F(RefillTest, WhatIsWantedOfAnAgentThatIsGoneIsGivenUpAtOnce) {
  const uint64_t two = FirstOf(2) + 1;
  Damage(2, two);
  const uint64_t findings = Fsck().size();
  ASSERT_NO_FATAL_FAILURE(Start());
  Look({two}, findings);
  refill->Step(SystemClock().Now());
  EXPECT_EQ(missing.facts().wanted, 1u);
  gone.insert(agent->identity().uuid);
  refill->Step(SystemClock().Now());
  EXPECT_EQ(missing.facts().wanted, 0u);
  EXPECT_EQ(missing.facts().given_up, 1u);
}

TEST_F(RefillTest, AShardThatGrowsIsSealedByTheNextAppend) {
  const uint64_t leaf = FirstOf(4);
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_EQ(Describe(built.Fill(*agent, 3)), "ok");
  frames.push_back(built.ledger->ReadRaw(leaf)->bytes);
  Bring(leaf, Why::kBodiless);
  refill->Step(SystemClock().Now());
  EXPECT_EQ(built.ledger->stats().shards, 4u);
  ASSERT_EQ(Describe(built.Fill(*agent, 1)), "ok");
  EXPECT_EQ(built.ledger->stats().shards, 5u);
  ASSERT_EQ(Describe(built.Fill(*agent, 1)), "ok");
  EXPECT_EQ(built.ledger->stats().shards, 5u);   // once
  Until([&] { return told.size() == 1; });
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].shard, 4u);
  ASSERT_TRUE(late.contains(leaf));              // who indexed it without bodies reads it again …
  EXPECT_TRUE(stdfs::exists(dir / "derived/late-" + std::to_string(leaf)));
  late.clear();
  refill.reset();                                // … also when the process ends before
  built.Shut();
  ASSERT_NO_FATAL_FAILURE(Start());
  refill->Step(SystemClock().Now());
  ASSERT_TRUE(late.contains(leaf));
  late[leaf]();
  EXPECT_FALSE(stdfs::exists(dir / "derived/late-" + std::to_string(leaf)));
}

TEST_F(RefillTest, WhatWouldNotBeBetterIsNotInstalled) {
  const uint64_t two = FirstOf(2) + 1;
  Damage(2, two);
  Damage(2, two + 1);                            // nobody found this one yet: the look is older
  const uint64_t findings = Fsck().size();
  ASSERT_NO_FATAL_FAILURE(Start());
  Look({two}, 1);
  Bring(two);
  bool is_begun = false;
  Until([&] {
    is_begun |= stdfs::exists(Dir(2) + "/repairing");
    return is_begun && !stdfs::exists(Dir(2) + "/repairing");
  });
  EXPECT_TRUE(told.empty());
  EXPECT_FALSE(built.ledger->Read(two).ok());
  for (int i = 0; i < 5; ++i) refill->Step(SystemClock().Now());
  EXPECT_FALSE(stdfs::exists(Dir(2) + "/repairing"));   // not before the next look
  Look({two, two + 1}, findings);
  Until([&] { return told.size() == 1; });
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].leaves, std::vector<uint64_t>{two});
  EXPECT_TRUE(built.ledger->Read(two).ok());
}

TEST_F(RefillTest, OneRewritesAShardAtATime) {
  const uint64_t two = FirstOf(2) + 1;
  Damage(2, two);
  ASSERT_NO_FATAL_FAILURE(Start());
  Look({two}, 1);
  Bring(two);
  stdfs::create_directories(Dir(2) + "/packing");
  for (int i = 0; i < 5; ++i) refill->Step(SystemClock().Now());
  EXPECT_FALSE(stdfs::exists(Dir(2) + "/repairing"));
  stdfs::remove(Dir(2) + "/packing");
  refill->Step(SystemClock().Now());
  ASSERT_TRUE(stdfs::exists(Dir(2) + "/repairing"));
  refill.reset();                                // ended in the middle: a start removes what was begun
  ASSERT_TRUE(stdfs::exists(Dir(2) + "/repairing"));
  built.Shut();
  ASSERT_NO_FATAL_FAILURE(Start());
  EXPECT_FALSE(stdfs::exists(Dir(2) + "/repairing"));
  Until([&] { return told.size() == 1; });
  ASSERT_EQ(told.size(), 1u);
  EXPECT_TRUE(told[0].is_whole || !told[0].leaves.empty());
}

}  // namespace
}  // namespace orgtrail
