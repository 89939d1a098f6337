// A ledger that its disk damaged is made whole again from a backup or another copy, on the real programs: only with what its own tree says
// was there, never by halves, and the log says what was done.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "aggregator/ledger/shard.h"
#include "common/base/bytes.h"
#include "common/lmdb/env.h"
#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

namespace stdfs = std::filesystem;
using ::testing::HasSubstr;

class Repair : public ::testing::Test {
 protected:
  static Organization::Options Shards() {
    Organization::Options options;
    options.replace = {{"  shard_period:", "  shard_period: 2s"}, {"  repack:", "  repack: false"}};
    return options;
  }
  // Shards with 50 records and more, stopped; a backup of all of them.
  void SetUp() override {
    agent_ = &organization.StartAgent({});
    ASSERT_TRUE(Eventually(kSoon, [&] {
      agent_->Record(CountRecord(told_++));
      return told_ >= 50 && organization.Metric("orgtrail_ledger_shards") >= 4;
    }));
    ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == static_cast<size_t>(told_); }));
    before_ = organization.Feed();
    ASSERT_EQ(agent_->Stop(), 0);
    ASSERT_EQ(organization.StopAggregator(), 0);
    ASSERT_EQ(RunOrgtrail({"backup", organization.state_dir(), "--to", backup()}).code, 0);
    for (numbers_ = 1; stdfs::exists(ShardDir(organization.ledger_dir(), numbers_ + 1)); ++numbers_) {
    }
  }
  std::string backup() const { return organization.Path("backup"); }
  std::string File(uint32_t shard) const { return ShardDir(organization.ledger_dir(), shard) + "/data.mdb"; }
  Ran RepairFrom(const std::vector<std::string>& sources, const std::vector<std::string>& flags = {}) const {
    std::vector<std::string> args = {"repair", organization.state_dir()};
    for (const std::string& s : sources) args.insert(args.end(), {"--from", s});
    args.insert(args.end(), flags.begin(), flags.end());
    return RunOrgtrail(args);
  }
  enum class In { kHeaders, kRecords };
  // One byte in every batch of a shard, or in every one with records; of those it holds now, whatever else its free pages remember.
  int Flip(uint32_t shard, In where) {
    std::vector<std::string> frames;
    {
      absl::StatusOr<Shard> open = Shard::Open(ShardDir(organization.ledger_dir(), shard), 1ull << 30, true);
      if (!open.ok()) return -1;
      const lmdb::ReadTxn txn(*open->env);
      lmdb::Cursor at(txn, open->leaves);
      for (bool more = at.Last(); more; more = at.Prev()) {
        const absl::StatusOr<StoredLeaf> leaf = ReadLeaf(0, at.value(), Crc::kSkip);
        if (leaf.ok() && IsBatch(leaf->bytes)) frames.emplace_back(leaf->bytes);
      }
    }
    std::string bytes = ReadWhole(File(shard));
    int flipped = 0;
    for (const std::string& frame : frames) {
      const size_t extension = 6 + GetU16(&frame[4]), rows = extension + 4 + 32, packed = rows + 4;
      if (where == In::kRecords && (GetU32(&frame[extension]) != 0 || GetU32(&frame[rows]) == 0)) continue;
      for (size_t at = 0; (at = bytes.find(frame, at)) != std::string::npos; ++at) {
        char& byte = bytes[at + (where == In::kHeaders ? 66 : packed + 10)];
        byte = static_cast<char>(byte ^ 0x20);
      }
      ++flipped;
    }
    WriteWhole(File(shard), bytes);
    return flipped;
  }
  // As somebody who may write a copy's files and knows their format does: one byte of every batch, with a CRC that fits.
  static int Forge(const std::string& shard_dir) {
    absl::StatusOr<Shard> shard = Shard::Open(shard_dir, 1ull << 30, false);
    if (!shard.ok()) return -1;
    absl::StatusOr<std::unique_ptr<lmdb::WriteTxn>> txn = lmdb::WriteTxn::Begin(*shard->env);
    if (!txn.ok()) return -1;
    std::vector<std::pair<std::string, std::string>> changed;
    {
      lmdb::Cursor at(**txn, shard->leaves);
      for (bool more = at.Last(); more; more = at.Prev()) {
        const std::string key(at.key());
        uint64_t index = 0;
        for (const char c : key) index = index << 8 | static_cast<unsigned char>(c);
        absl::StatusOr<StoredLeaf> leaf = ReadLeaf(index, at.value(), Crc::kCheck);
        if (!leaf.ok() || !IsBatch(leaf->bytes)) continue;
        std::string bytes(leaf->bytes);
        bytes[66] = static_cast<char>(bytes[66] ^ 0x20);
        leaf->bytes = bytes;
        std::string value(StoredSize(*leaf), '\0');
        WriteLeaf(index, *leaf, value.data());
        changed.emplace_back(key, value);
      }
    }
    for (const auto& [key, value] : changed) {
      if (!(*txn)->Put(shard->leaves, key, value).ok()) return -1;
    }
    return (*txn)->Commit().ok() ? static_cast<int>(changed.size()) : -1;
  }
  void ExpectWholeAgain() {
    EXPECT_EQ(organization.Fsck().code, 0);
    const Ran verified = organization.VerifyFiles();
    EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
    organization.StartAggregator();
    EXPECT_TRUE(Eventually(kSoon, [&] { return organization.Feed() == before_; }));
    EXPECT_TRUE(Eventually(kSoon, [&] { return organization.Alarmed("LEDGER_REPAIRED"); }));
    EXPECT_FALSE(stdfs::exists(organization.state_dir() + "/repaired"));
    agent_->Start();
    agent_->Record(CountRecord(told_));
    EXPECT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == before_.size() + 1; }));
    EXPECT_EQ(organization.Verify().code, 0);
  }

  Organization organization{Shards()};
  AgentProcess* agent_ = nullptr;
  int told_ = 0;
  uint32_t numbers_ = 0;
  std::vector<std::string> before_;
};

TEST_F(Repair, LeavesArePutBackFromABackupAndTheLogSaysSo) {
  ASSERT_GT(Flip(2, In::kHeaders), 0);
  Flip(numbers_, In::kHeaders);   // the shard that grows; there may be none in it yet
  ASSERT_EQ(organization.Fsck().code, 2);
  const std::string damaged = ReadWhole(File(2));
  const Ran nothing = RunOrgtrail({"repair", organization.state_dir(), "--dry-run"});
  EXPECT_EQ(nothing.code, 2) << nothing.out;
  const Ran could = RepairFrom({backup()}, {"--dry-run"});
  EXPECT_EQ(could.code, 0) << could.out << could.err;
  EXPECT_THAT(could.out, HasSubstr("would be repaired: shard 2: "));   // leaf by leaf; the whole file if an index would not come out right
  EXPECT_TRUE(ReadWhole(File(2)) == damaged);
  const Ran done = RepairFrom({backup()});
  EXPECT_EQ(done.code, 0) << done.out << done.err;
  EXPECT_THAT(done.out, HasSubstr("repaired: "));
  EXPECT_FALSE(stdfs::exists(ShardDir(organization.ledger_dir(), 2) + "/repairing"));
  EXPECT_THAT(RepairFrom({backup()}).out, HasSubstr("nothing is damaged"));
  ExpectWholeAgain();
}

TEST_F(Repair, WhatCannotBeReadIsReplacedWhole) {
  stdfs::resize_file(File(1), stdfs::file_size(File(1)) / 2);
  std::string noise = ReadWhole(File(2));
  for (size_t page = 2; page < noise.size() / 4096; ++page) noise.replace(page * 4096 + 8, 4, "\xff\xff\xff\xff");
  WriteWhole(File(2), noise);
  ASSERT_EQ(organization.Fsck().code, 2);
  const Ran done = RepairFrom({backup()});
  EXPECT_EQ(done.code, 0) << done.out << done.err;
  EXPECT_THAT(done.out, HasSubstr("shard 1: the whole file from"));
  ExpectWholeAgain();
}

TEST_F(Repair, TheNewestShardComesFromAMirrorThatHasAllThatWasSigned) {
  stdfs::copy(organization.state_dir(), organization.Path("mirror"), stdfs::copy_options::recursive);
  stdfs::resize_file(File(numbers_), stdfs::file_size(File(numbers_)) / 2);
  const Ran started = RunProgram({Program("orgtrail-aggregator"), "--config", organization.config()}, {}, {}, kSoon);
  EXPECT_EQ(started.code, 1);
  EXPECT_THAT(started.err, HasSubstr("cut short"));
  const Ran done = RepairFrom({organization.Path("mirror")});
  EXPECT_EQ(done.code, 0) << done.out << done.err;
  ExpectWholeAgain();
}

TEST_F(Repair, NeitherAnOlderCopyNorAForgedOneIsTaken) {
  // The log has grown since the backup: for the newest shard it is too old.
  organization.StartAggregator();
  agent_->Start();
  agent_->Record(CountRecord(told_++));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == static_cast<size_t>(told_); }));
  ASSERT_EQ(agent_->Stop(), 0);
  ASSERT_EQ(organization.StopAggregator(), 0);
  uint32_t newest = numbers_;
  while (stdfs::exists(ShardDir(organization.ledger_dir(), newest + 1))) ++newest;
  const std::string whole = ReadWhole(File(newest));
  stdfs::resize_file(File(newest), 8192);
  const Ran older = RepairFrom({backup()});
  EXPECT_EQ(older.code, 2) << older.out << older.err;
  WriteWhole(File(newest), whole);
  ASSERT_EQ(organization.Fsck().code, 0);
  // A copy with a changed header is sound to itself only if its tree is changed as well; then it is no copy of this log.
  Organization other(Shards());
  AgentProcess& agent = other.StartAgent({});
  agent.Record(CountRecord(0));
  ASSERT_TRUE(Eventually(kSoon, [&] { return other.Metric("orgtrail_ledger_shards") >= 3; }));
  ASSERT_EQ(other.StopAggregator(), 0);
  Flip(2, In::kHeaders);
  const std::string damaged = ReadWhole(File(2));
  const Ran forged = RepairFrom({stdfs::path(other.ledger_dir()).parent_path().string()});
  EXPECT_NE(forged.code, 0) << forged.out << forged.err;
  EXPECT_TRUE(ReadWhole(File(2)) == damaged);
}

TEST_F(Repair, ACopyOfThisLogWithOtherLeavesInItIsNotTaken) {
  stdfs::copy(organization.state_dir(), organization.Path("mirror"), stdfs::copy_options::recursive);
  ASSERT_GT(Forge(ShardDir(backup() + "/ledger", 2)), 0);
  ASSERT_GT(Flip(2, In::kHeaders), 0);
  const Ran forged = RepairFrom({backup()});
  EXPECT_EQ(forged.code, 2) << forged.out << forged.err;
  EXPECT_THAT(forged.out + forged.err, HasSubstr("STILL DAMAGED"));
  EXPECT_EQ(organization.Fsck().code, 2);
  // Nor does it stand in the way of a true one behind it.
  const Ran done = RepairFrom({backup(), organization.Path("mirror")});
  EXPECT_EQ(done.code, 0) << done.out << done.err;
  ExpectWholeAgain();
}

TEST_F(Repair, WhatNoCopyHasStaysWithoutItsBodiesWhenAsked) {
  ASSERT_GT(Flip(2, In::kRecords), 0);
  EXPECT_EQ(RunOrgtrail({"repair", organization.state_dir()}).code, 2);
  const Ran done = RunOrgtrail({"repair", organization.state_dir(), "--without-bodies"});
  EXPECT_EQ(done.code, 3) << done.out << done.err;
  EXPECT_THAT(done.out, HasSubstr("without bodies"));
  const Ran fsck = organization.Fsck();
  EXPECT_EQ(fsck.code, 0) << fsck.out;
  EXPECT_EQ(RunOrgtrail({"verify", "ledger", organization.ledger_dir(), "--trust", organization.trust()}).code, 3);
  organization.StartAggregator();   // reads go on around it
  EXPECT_TRUE(Eventually(kSoon, [&] { return !organization.Feed().empty() && organization.Feed().size() < before_.size(); }));
}

TEST_F(Repair, KilledAtAnyMomentItIsRunAgain) {
  ASSERT_GT(Flip(1, In::kRecords), 0);
  ASSERT_GT(Flip(2, In::kHeaders), 0);
  for (int ms = 1; ms < 400; ms = ms * 3 / 2 + 5) {
    const auto run = Process::Start({Program("orgtrail"), "repair", organization.state_dir(), "--from", backup()}, organization.Path("log"));
    run->Wait(absl::Milliseconds(ms));
    run->Signal(SIGKILL);
    run->Wait(kSoon);
  }
  Ran done;
  // The process that looks ends with the one that started it, a moment later.
  EXPECT_TRUE(Eventually(kSoon, [&] { return (done = RepairFrom({backup()})).err.find("in use by") == std::string::npos; }));
  EXPECT_EQ(done.code, 0) << done.out << done.err;
  ExpectWholeAgain();
}

TEST_F(Repair, NotWhileAnAggregatorRuns) {
  organization.StartAggregator();
  const Ran refused = RepairFrom({backup()});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("stop the aggregator"));
}

}  // namespace
}  // namespace orgtrail::e2e
