// The mark "set apart" of a ledger is not signed: `verify ledger` believes it only with the evidence that the log holds for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "aggregator/ledger/shard.h"
#include "common/lmdb/env.h"
#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

namespace stdfs = std::filesystem;
using ::testing::HasSubstr;

class QuarantineE2e : public ::testing::Test {
 protected:
  bool Logged(size_t n) {
    return Eventually(kSoon, [&] { return organization.Feed().size() == n; });
  }
  // Sets or clears the mark of the newest batch, as somebody who may write the ledger's files and knows their format does: with a CRC
  // that fits. The leaf it was.
  std::optional<uint64_t> Mark(bool apart) {
    for (const auto& entry : stdfs::recursive_directory_iterator(organization.ledger_dir())) {
      if (entry.path().filename() != "data.mdb") continue;
      absl::StatusOr<Shard> shard = Shard::Open(entry.path().parent_path().string(), 1ull << 30, false);
      if (!shard.ok()) return std::nullopt;
      absl::StatusOr<std::unique_ptr<lmdb::WriteTxn>> txn = lmdb::WriteTxn::Begin(*shard->env);
      if (!txn.ok()) return std::nullopt;
      std::string key, changed;
      uint64_t index = 0;
      {
        lmdb::Cursor at(**txn, shard->leaves);
        for (bool more = at.Last(); more && changed.empty(); more = at.Prev()) {
          key = std::string(at.key());
          index = 0;
          for (const char c : key) index = index << 8 | static_cast<unsigned char>(c);
          absl::StatusOr<StoredLeaf> leaf = ReadLeaf(index, at.value(), Crc::kCheck);
          if (!leaf.ok() || !IsBatch(leaf->bytes) || ((leaf->flags & kLeafQuarantined) != 0) == apart) continue;
          leaf->flags ^= kLeafQuarantined;
          changed.resize(StoredSize(*leaf));
          WriteLeaf(index, *leaf, changed.data());
        }
      }
      if (changed.empty() || !(*txn)->Put(shard->leaves, key, changed).ok() || !(*txn)->Commit().ok()) return std::nullopt;
      return index;
    }
    return std::nullopt;
  }

  Organization organization;
};

TEST_F(QuarantineE2e, AMarkThatSomebodySetIsTampering) {
  AgentProcess& agent = organization.StartAgent({.name = "web-1"});
  for (int n = 0; n < 5; ++n) agent.Record(CountRecord(n));
  ASSERT_TRUE(Logged(5));
  ASSERT_EQ(agent.Stop(), 0);
  ASSERT_EQ(organization.Verify().code, 0);
  ASSERT_EQ(organization.StopAggregator(), 0);
  ASSERT_EQ(organization.VerifyFiles().code, 0);
  const std::optional<uint64_t> leaf = Mark(true);
  ASSERT_TRUE(leaf.has_value());
  const Ran offline = organization.VerifyFiles();
  EXPECT_EQ(offline.code, 2) << offline.out << offline.err;
  EXPECT_THAT(offline.out, HasSubstr("no evidence leaf (OTV1)"));
  EXPECT_THAT(offline.out, HasSubstr("leaf " + std::to_string(*leaf)));
  organization.StartAggregator();
  EXPECT_EQ(organization.Verify().code, 2);
}

TEST_F(QuarantineE2e, ABranchSetApartNamesItsEvidence) {
  AgentProcess& agent = organization.StartAgent({.name = "web-1"});
  for (int n = 0; n < 5; ++n) agent.Record(CountRecord(n));
  ASSERT_TRUE(Logged(5));
  ASSERT_EQ(agent.Stop(), 0);
  AgentProcess& clone = organization.AddAgent({.name = "clone"});
  stdfs::copy(agent.state_dir(), clone.state_dir(), stdfs::copy_options::recursive);
  clone.mutable_spec().name = "web-1";
  clone.WriteConfig();
  agent.Start();
  for (int n = 5; n < 10; ++n) agent.Record(CountRecord(n));
  ASSERT_TRUE(Logged(10));
  ASSERT_EQ(agent.Stop(), 0);
  clone.Launch();
  ASSERT_TRUE(Eventually(kPatience, [&] { return clone.Logged("chain conflicts with what the log holds"); })) << clone.LogTail();
  clone.Kill();
  // Whoever writes as this agent from now on, nobody can tell which of the two it is: kept, and apart.
  agent.Start();
  agent.Record(CountRecord(10));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Verify({"-o", "json"}).out.find("\"quarantinedBatches\":0") == std::string::npos; })) << agent.LogTail();
  ASSERT_EQ(agent.Stop(), 0);
  const Ran verified = organization.Verify();
  EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
  EXPECT_THAT(verified.out, HasSubstr("is the evidence: E"));
  EXPECT_EQ(organization.Feed().size(), 10u);   // set apart: not in the feed
  ASSERT_EQ(organization.StopAggregator(), 0);
  EXPECT_EQ(organization.VerifyFiles().code, 0);
  ASSERT_TRUE(Mark(false).has_value());         // and taken away it does not hide the branch either
  EXPECT_EQ(organization.VerifyFiles().code, 2);
}

}  // namespace
}  // namespace orgtrail::e2e
