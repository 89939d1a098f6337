// Repair, step by step, of plain and repacked shards from plain and repacked copies.
#include "aggregator/ledger/repair.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/shard.h"
#include "common/base/status.h"
#include "common/format/frame.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

namespace stdfs = std::filesystem;
using ::testing::HasSubstr;

constexpr uint64_t kMap = 64 << 20;

std::vector<Finding> FsckOf(const std::string& dir, FsckOptions options = {}) {
  options.dir = dir;
  options.map_bytes = kMap;
  std::vector<Finding> findings;
  FsckTotals totals;
  EXPECT_EQ(Describe(Fsck(options, nullptr, &findings, &totals)), "ok");
  return findings;
}

class RepairTest : public testing::TestWithParam<std::tuple<bool, bool>> {
 protected:
  bool OwnPacked() const { return std::get<0>(GetParam()); }
  bool CopyPacked() const { return std::get<1>(GetParam()); }
  static void Repack(Ledger& ledger) {
    for (int i = 0; i < 200 && (i == 0 || ledger.stats().to_repack > 0); ++i) ledger.Background()->Step(Tick{1});
    ASSERT_EQ(ledger.stats().to_repack, 0u);
  }
  void SetUp() override {
    built.options.shard_period = absl::Seconds(5);
    ASSERT_EQ(Describe(built.Open()), "ok");
    TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a");
    while (built.ledger->stats().shards < 4) ASSERT_EQ(Describe(built.Fill(agent, 3)), "ok");
    for (uint64_t i = 0; i < built.ledger->head().size; ++i) {
      before.push_back(Rows(i));
      if (const auto raw = built.ledger->ReadRaw(i); IsBatch(raw->bytes)) frames[i] = raw->bytes;
    }
    built.Shut();
    stdfs::copy(built.options.dir, copy, stdfs::copy_options::recursive);
    if (OwnPacked()) {
      ASSERT_EQ(Describe(built.Open()), "ok");
      Repack(*built.ledger);
      built.Shut();
    }
    if (CopyPacked()) {
      StillClock clock2;
      LedgerOptions options = built.options;
      options.dir = copy;
      options.anchor_dir.clear();
      auto other = Ledger::Open(options, built.origin, &built.log_key, PosixFs(), clock2);
      ASSERT_EQ(Describe(other.status()), "ok");
      Repack(**other);
    }
    order.ledger_dir = built.options.dir;
    order.shard = 2;
    order.sources = {copy};
    order.map_bytes = kMap;
  }
  std::string Rows(uint64_t index) {
    const auto leaf = built.ledger->Read(index);
    if (!leaf.ok()) return Describe(leaf.status());
    std::string text((*leaf)->is_batch ? std::string((*leaf)->hash.view()) : (*leaf)->bytes);
    for (const Row& row : (*leaf)->events.rows) text += row.body;
    return text;
  }
  std::string File() const {
    const std::string shard = ShardDir(built.options.dir, 2);
    return (OwnPacked() ? shard + "/packed" : shard) + "/data.mdb";
  }
  // The last bytes of one leaf, or of the block that holds the rows of all.
  void DamageLeaf() {
    const std::string dir = stdfs::path(File()).parent_path().string();
    auto shard = OwnPacked() ? Shard::OpenPacking(dir, kMap) : Shard::Open(dir, kMap, false);
    ASSERT_EQ(Describe(shard.status()), "ok");
    auto txn = lmdb::WriteTxn::Begin(*shard->env);
    const lmdb::Table table = OwnPacked() ? *shard->blocks : shard->leaves;
    std::string key, value;
    {
      lmdb::Cursor cursor(**txn, table);   // gone before the transaction is
      ASSERT_TRUE(cursor.Last());
      key = cursor.key();
      value = cursor.value();
    }
    value.back() = static_cast<char>(value.back() ^ 1);
    ASSERT_TRUE((*txn)->Put(table, key, value).ok() && (*txn)->Commit().ok());
  }
  FsckOptions Candidate(bool packed, bool fix) const {
    FsckOptions options;
    options.from_shard = options.to_shard = 2;
    options.instead = ShardDir(built.options.dir, 2) + "/repairing";
    options.is_packed = packed;
    options.fix = fix;
    return options;
  }
  void ExpectWhole() {
    EXPECT_TRUE(FsckOf(built.options.dir).empty());
    EXPECT_FALSE(stdfs::exists(ShardDir(built.options.dir, 2) + "/repairing"));
    ASSERT_EQ(Describe(built.Open()), "ok");
    for (uint64_t i = 0; i < before.size(); ++i) ASSERT_EQ(Rows(i), before[i]) << i;
    Repack(*built.ledger);   // what was put back plainly may be repacked
    for (uint64_t i = 0; i < before.size(); ++i) ASSERT_EQ(Rows(i), before[i]) << i;
    built.Shut();
    EXPECT_TRUE(FsckOf(built.options.dir).empty());
  }

  TempDir dir;
  StillClock clock;
  LedgerBuilder built{dir / "own", clock};
  const std::string copy = dir / "copy";
  RepairOrder order;
  std::vector<std::string> before;
  std::map<uint64_t, std::string> frames;   // as the agent sealed them
};

TEST_P(RepairTest, AgentsFramesArePutBackWithNoOtherCopy) {
  if (CopyPacked()) return;   // there is none
  DamageLeaf();
  order.sources.clear();
  for (const Finding& f : FsckOf(built.options.dir)) {
    if (f.leaf != UINT64_MAX) order.leaves.push_back(f.leaf), order.returned[f.leaf] = frames.at(f.leaf);
  }
  ASSERT_FALSE(order.leaves.empty());
  const absl::StatusOr<orgtrail::Candidate> made = CopyAndPatch(order, PosixFs(), clock);
  ASSERT_EQ(Describe(made.status()), "ok");
  EXPECT_TRUE(made->left.empty());
  FsckOf(built.options.dir, Candidate(made->is_packed, true));
  EXPECT_TRUE(FsckOf(built.options.dir, Candidate(made->is_packed, false)).empty());
  ASSERT_EQ(Describe(Install(built.options.dir, 2, made->is_packed, PosixFs())), "ok");
  ExpectWhole();
}

TEST_P(RepairTest, AnotherFrameThanTheAgentSealedIsNotTaken) {
  if (CopyPacked()) return;
  DamageLeaf();
  order.sources.clear();
  for (const Finding& f : FsckOf(built.options.dir)) {
    if (f.leaf == UINT64_MAX) continue;
    order.leaves.push_back(f.leaf);
    order.returned[f.leaf] = frames.at(f.leaf);
    order.returned[f.leaf].back() = static_cast<char>(order.returned[f.leaf].back() ^ 1);   // the last of its records
  }
  const uint64_t other = order.leaves.front();
  order.returned[other] = frames.at(other == frames.rbegin()->first ? frames.begin()->first : frames.rbegin()->first);
  const absl::StatusOr<orgtrail::Candidate> made = CopyAndPatch(order, PosixFs(), clock);
  ASSERT_EQ(Describe(made.status()), "ok");
  EXPECT_TRUE(made->repaired.empty());
  EXPECT_EQ(made->left, order.leaves);
}

// What the ledger keeps beside a leaf is under no hash: it comes back when the CRC proves it, and else not at all.
TEST_P(RepairTest, TimeAndFlagsComeBackOnlyAsTheyWere) {
  if (CopyPacked() || OwnPacked()) return;
  order.sources.clear();
  const auto own = [&] { return Shard::Open(ShardDir(built.options.dir, 2), kMap, false); };
  std::vector<std::pair<uint64_t, size_t>> bytes;   // leaf, byte of its header
  std::map<uint64_t, std::string> was;
  {
    auto shard = own();
    const lmdb::ReadTxn txn(*shard->env);
    const TreeState state = *TreeState::Decode(*txn.Get(shard->meta, kStateKey));
    uint64_t leaf = state.first;
    for (const size_t byte : {3, 11, 5, 13}) {      // flags, time, time, CRC
      while (!frames.contains(leaf)) ++leaf;
      ASSERT_LT(leaf, state.size);
      was[leaf] = std::string(*txn.Get(shard->leaves, IndexKey(leaf)));
      bytes.emplace_back(leaf++, byte);
    }
  }
  {
    auto shard = own();
    auto txn = lmdb::WriteTxn::Begin(*shard->env);
    for (const auto& [leaf, byte] : bytes) {
      std::string value = was[leaf];
      value[byte] = static_cast<char>(value[byte] ^ 2);
      ASSERT_TRUE((*txn)->Put(shard->leaves, IndexKey(leaf), value).ok());
      order.leaves.push_back(leaf);
      order.returned[leaf] = frames.at(leaf);
    }
    ASSERT_TRUE((*txn)->Commit().ok());
  }
  const absl::StatusOr<orgtrail::Candidate> made = CopyAndPatch(order, PosixFs(), clock);
  ASSERT_EQ(Describe(made.status()), "ok");
  EXPECT_EQ(made->left, std::vector<uint64_t>{bytes.back().first});   // nothing proves it
  auto candidate = Shard::Open(ShardDir(built.options.dir, 2) + "/repairing", kMap, false);
  const lmdb::ReadTxn txn(*candidate->env);
  for (const RepairedLeaf& r : made->repaired) {
    EXPECT_EQ(r.source, kFromAgent);
    EXPECT_TRUE(txn.Get(candidate->leaves, IndexKey(r.leaf)) == std::optional<std::string_view>(was[r.leaf])) << r.leaf;
  }
}

TEST_P(RepairTest, LeavesArePutBack) {
  DamageLeaf();
  for (const Finding& f : FsckOf(built.options.dir)) {
    if (f.leaf != UINT64_MAX) order.leaves.push_back(f.leaf);
  }
  ASSERT_FALSE(order.leaves.empty());
  const absl::StatusOr<orgtrail::Candidate> made = CopyAndPatch(order, PosixFs(), clock);
  ASSERT_EQ(Describe(made.status()), "ok");
  EXPECT_TRUE(made->left.empty());
  EXPECT_EQ(made->is_packed, OwnPacked());
  FsckOf(built.options.dir, Candidate(made->is_packed, true));
  EXPECT_TRUE(FsckOf(built.options.dir, Candidate(made->is_packed, false)).empty());
  EXPECT_FALSE(FsckOf(built.options.dir).empty());   // nothing is in place yet
  ASSERT_EQ(Describe(Install(built.options.dir, 2, made->is_packed, PosixFs())), "ok");
  ExpectWhole();
}

TEST_P(RepairTest, AWholeFileTakesThePlaceOfOneThatCannotBeRead) {
  stdfs::resize_file(File(), stdfs::file_size(File()) / 2);
  const absl::StatusOr<orgtrail::Candidate> made = CopyWhole(order, copy, built.options.anchor_dir, PosixFs(), clock);
  ASSERT_EQ(Describe(made.status()), "ok");
  ASSERT_EQ(Describe(Install(built.options.dir, 2, made->is_packed, PosixFs())), "ok");
  ExpectWhole();
}

TEST_P(RepairTest, IndexesAndTreeNodesAreWrittenAnew) {
  {
    const std::string at = stdfs::path(File()).parent_path().string();
    auto shard = OwnPacked() ? Shard::OpenPacking(at, kMap) : Shard::Open(at, kMap, false);
    auto txn = lmdb::WriteTxn::Begin(*shard->env);
    const TreeState state = *TreeState::Decode(*(*txn)->Get(shard->meta, kStateKey));
    ASSERT_TRUE((*txn)->Put(shard->nodes, NodeKey(0, state.first + 1), std::string(32, 'x')).ok());
    ASSERT_TRUE((*txn)->Put(shard->times, IndexKey(static_cast<uint64_t>(state.last_logged_ns)), IndexKey(7)).ok());
    ASSERT_TRUE((*txn)->Commit().ok());
  }
  ASSERT_FALSE(FsckOf(built.options.dir).empty());
  const absl::StatusOr<orgtrail::Candidate> made = CopyAndPatch(order, PosixFs(), clock);
  ASSERT_EQ(Describe(made.status()), "ok");
  FsckOf(built.options.dir, Candidate(made->is_packed, true));
  EXPECT_TRUE(FsckOf(built.options.dir, Candidate(made->is_packed, false)).empty());
  ASSERT_EQ(Describe(Install(built.options.dir, 2, made->is_packed, PosixFs())), "ok");
  ExpectWhole();
}

TEST_P(RepairTest, WhatAnotherTreeHoldsIsNotTaken) {
  StillClock clock2;
  LedgerBuilder forged(dir / "forged", clock2, /*seed=*/2);
  forged.options.shard_period = absl::Seconds(5);
  ASSERT_EQ(Describe(forged.Open()), "ok");
  TestAgent& agent = forged.Enrol("111111111111", "eu-central-1", "a");
  while (forged.ledger->stats().shards < 4) ASSERT_EQ(Describe(forged.Fill(agent, 3)), "ok");
  forged.Shut();
  DamageLeaf();
  for (const Finding& f : FsckOf(built.options.dir)) {
    if (f.leaf != UINT64_MAX) order.leaves.push_back(f.leaf);
  }
  order.sources = {forged.options.dir};
  const absl::StatusOr<orgtrail::Candidate> made = CopyAndPatch(order, PosixFs(), clock);
  ASSERT_EQ(Describe(made.status()), "ok");
  EXPECT_TRUE(made->repaired.empty());
  EXPECT_FALSE(made->left.empty());
  const absl::Status whole = CopyWhole(order, forged.options.dir, built.options.anchor_dir, PosixFs(), clock).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(whole)) << whole;
}

INSTANTIATE_TEST_SUITE_P(Copies, RepairTest, testing::Combine(testing::Bool(), testing::Bool()), [](const auto& info) {
  return std::string(std::get<0>(info.param) ? "Packed" : "Plain") + "From" + (std::get<1>(info.param) ? "Packed" : "Plain");
});

// Going on behind, or beginning with, any shard says the same as reading all.
TEST(FsckFrom, AnyShardIsWhatAllOfThemAre) {
  TempDir dir;
  StillClock clock;
  LedgerBuilder built(dir / "own", clock);
  built.options.shard_period = absl::Seconds(5);
  ASSERT_EQ(Describe(built.Open()), "ok");
  TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a");
  while (built.ledger->stats().shards < 5) ASSERT_EQ(Describe(built.Fill(agent, 3)), "ok");
  built.Shut();
  for (uint32_t from = 1; from <= 6; ++from) {
    FsckOptions options;
    options.from_shard = from;
    std::vector<uint32_t> entered;
    options.entering = [&](uint32_t shard, const std::string&) { entered.push_back(shard); };
    EXPECT_TRUE(FsckOf(built.options.dir, options).empty()) << from;
    EXPECT_EQ(entered.size(), 6 - from);
  }
  stdfs::resize_file(ShardDir(built.options.dir, 2) + "/data.mdb", 12'288);
  const std::vector<Finding> findings = FsckOf(built.options.dir);
  ASSERT_EQ(findings.size(), 1u) << findings.size();
  EXPECT_THAT(findings[0].what, HasSubstr("cut short"));
}

}  // namespace
}  // namespace orgtrail
