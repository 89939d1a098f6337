// The disk under a running aggregator: what changes on it is found by itself and said to people, what was damaged is never served, and a
// file that is cut short ends the process with its name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "aggregator/ledger/shard.h"
#include "tests/e2e/support/ledger_file.h"
#include "tests/e2e/support/organization.h"
#include "tests/e2e/support/read_ledger.h"

namespace orgtrail::e2e {
namespace {

namespace stdfs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class Scrub : public ::testing::Test {
 protected:
  static Organization::Options Quick() {
    Organization::Options options;
    options.replace = {{"  shard_period:", "  shard_period: 2s"}, {"  repack:", "  repack: false"}, {"    pause:", "    pause: 1s"}, {"    rate:", "    rate: 64MiB"}};
    return options;
  }
  bool Round() {   // one that begins from now on and ends
    const double before = organization.Metric("orgtrail_scrub_last_round_timestamp_seconds");
    return Eventually(kSoon, [&] { return organization.Metric("orgtrail_scrub_last_round_timestamp_seconds") > before; }) &&
           Eventually(kSoon, [&, after = organization.Metric("orgtrail_scrub_last_round_timestamp_seconds")] {
             return organization.Metric("orgtrail_scrub_last_round_timestamp_seconds") > after;
           });
  }
  std::string Alarms(const std::string& which = "") { return organization.Alarms(which); }
  // One bit wherever the file had these bytes, old copies of its page included; in place, as a disk does it under a mapping.
  static void Flip(const std::string& path, const std::string& was, const std::string& bytes) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    for (size_t at = 0; (at = was.find(bytes, at)) != std::string::npos; ++at) {
      const auto where = static_cast<std::streamoff>(at + bytes.size() / 2);
      char byte = 0;
      file.seekg(where).get(byte);
      byte = static_cast<char>(byte ^ 1);
      file.seekp(where).put(byte);
    }
    ASSERT_TRUE(file.flush());
  }
  Organization organization{Quick()};
};

TEST_F(Scrub, DamageIsAnAlarmItIsNeverReadAndItsRepairClearsIt) {
  AgentProcess& agent = organization.StartAgent({});
  const std::string first = organization.ledger_dir() + "/shard-000001/data.mdb";
  int told = 0;
  ASSERT_TRUE(Eventually(kSoon, [&] {
    agent.Record(CountRecord(told++));
    return organization.Metric("orgtrail_ledger_shards") >= 3;
  }));
  ASSERT_TRUE(Round()) << organization.AggregatorLogTail();
  EXPECT_THAT(Alarms(), Not(HasSubstr("STORE_DAMAGED")));
  EXPECT_GT(organization.Metric("orgtrail_scrub_last_round_bytes"), 0);
  EXPECT_EQ(organization.Metric("orgtrail_scrub_damaged_files"), 0);

  ASSERT_EQ(agent.Stop(), 0);   // it would send again what is lost now
  const std::string whole = ReadWhole(first);
  size_t at = whole.rfind("OTF1");
  while (at != std::string::npos && at > 0 && !IsLeaf(whole, at)) at = whole.rfind("OTF1", at - 1);
  ASSERT_TRUE(at != std::string::npos && at > 0);
  const std::string entry = whole.substr(at + 6, 64);
  Flip(first, whole, entry);
  ASSERT_TRUE(Eventually(kSoon, [&] { return Alarms().find("STORE_DAMAGED") != std::string::npos; })) << organization.AggregatorLogTail();
  EXPECT_THAT(Alarms(), HasSubstr(first));
  EXPECT_THAT(Alarms(), HasSubstr("leaf "));
  EXPECT_THAT(Alarms(), HasSubstr("CRC differs"));
  EXPECT_THAT(Alarms(), HasSubstr("restore"));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Metric("orgtrail_scrub_damaged_files") == 1; }));

  Flip(first, whole, entry);
  EXPECT_TRUE(Eventually(kSoon, [&] { return Alarms().find("STORE_DAMAGED") == std::string::npos; })) << Alarms();
  EXPECT_THAT(Alarms("--all"), HasSubstr("STORE_DAMAGED"));
  agent.Start();
  agent.Record(CountRecord(told));   // nobody else noticed
}

// The index: a lookup shows nothing that is not in the log, whatever the index says; it is made again from the ledger.
TEST_F(Scrub, ADamagedIndexIsFoundAndMadeAgainFromTheLedger) {
  AgentProcess& agent = organization.StartAgent({});
  for (int n = 0; n < 200; ++n) agent.Record(CountRecord(n));
  const auto found = [&] {
    return organization.Orgtrail({"events", "lookup", "--attribute", "EventName=Count", "--max", "1000", "-o", "jsonl"}, "auditor");
  };
  ASSERT_TRUE(Eventually(kSoon, [&] { return LinesOf(found().out).size() == 200; }));
  const std::string rows = found().out;
  ASSERT_EQ(agent.Stop(), 0);
  ASSERT_EQ(organization.StopAggregator(), 0);   // what it had in memory is a run now
  organization.StartAggregator();
  const std::string history = organization.state_dir() + "/derived/history";
  std::string run;
  for (const auto& file : stdfs::directory_iterator(history)) {
    if (file.path().extension() == ".run") run = file.path();
  }
  ASSERT_NE(run, "");
  const std::string whole = ReadWhole(run);
  for (const size_t at : {whole.size() / 4, whole.size() / 2, whole.size() - 200}) Flip(run, whole, whole.substr(at, 16));
  ASSERT_TRUE(Eventually(kSoon, [&] { return Alarms().find("STORE_DAMAGED") != std::string::npos; })) << organization.AggregatorLogTail();
  EXPECT_THAT(Alarms(), HasSubstr(run));
  EXPECT_THAT(Alarms(), HasSubstr("remove derived/history"));
  const std::vector<std::string> true_rows = LinesOf(rows), shown = LinesOf(found().out);
  for (const std::string& row : shown) EXPECT_NE(std::find(true_rows.begin(), true_rows.end(), row), true_rows.end()) << row;
  EXPECT_EQ(organization.Feed().size(), 200u);   // what does not go by the index notices nothing
  EXPECT_EQ(organization.Verify().code, 0);
  ASSERT_EQ(organization.StopAggregator(), 0);
  stdfs::remove_all(history);
  organization.StartAggregator();
  EXPECT_TRUE(Eventually(kSoon, [&] { return found().out == rows; })) << organization.AggregatorLogTail();
  EXPECT_TRUE(Eventually(kSoon, [&] { return Alarms().find("STORE_DAMAGED") == std::string::npos; })) << Alarms();
}

// Nodes of the tree are derived from the leaves; proofs are made of them.
TEST_F(Scrub, ADamagedTileIsFoundProvesNothingAndIsMadeAgain) {
  AgentProcess& agent = organization.StartAgent({});
  int told = 0;
  ASSERT_TRUE(Eventually(kSoon, [&] {
    agent.Record(CountRecord(told++));
    return organization.Metric("orgtrail_ledger_shards") >= 3;
  }));
  ASSERT_EQ(agent.Stop(), 0);
  const std::string first = organization.ledger_dir() + "/shard-000001/data.mdb", proof = organization.Path("proof");
  const std::string id = MemberOf(CountRecord(0), "eventID");
  WriteWhole(proof, organization.Must({"prove", id}, "auditor"));
  ASSERT_EQ(RunOrgtrail({"verify", "proof", proof, "--trust", organization.trust()}).code, 0);
  const uint64_t leaf = std::stoull(MemberOf(organization.Feed({"--envelope"}).front(), "leaf"));
  const std::string whole = ReadWhole(first);
  std::string node;   // of its path, in this shard, behind its key: the same hash may lie elsewhere, as a root that an agent quotes
  {
    const std::unique_ptr<Ledger> ledger = OpenLedger(organization);
    const absl::StatusOr<std::vector<Hash>> path = ledger->Inclusion(leaf, ledger->head().size);
    ASSERT_TRUE(path.ok()) << path.status();
    for (size_t level = 0; level < path->size(); ++level) {
      const std::string stored = std::string(NodeKey(static_cast<int>(level), (leaf >> level) ^ 1)) + std::string((*path)[level].view());
      if (whole.find(stored) != std::string::npos) node = stored;
    }
  }
  ASSERT_NE(node, "");
  Flip(first, whole, node);
  ASSERT_TRUE(Eventually(kSoon, [&] { return Alarms().find("STORE_DAMAGED") != std::string::npos && Alarms().find(first) != std::string::npos; })) << Alarms();
  WriteWhole(proof, organization.Orgtrail({"prove", id}, "auditor").out);
  EXPECT_EQ(RunOrgtrail({"verify", "proof", proof, "--trust", organization.trust()}).code, 2);   // whatever is made of it
  EXPECT_EQ(organization.Feed().size(), static_cast<size_t>(told));   // the leaves are what they were
  ASSERT_EQ(organization.StopAggregator(), 0);
  EXPECT_EQ(organization.Fsck().code, 2);
  EXPECT_EQ(organization.VerifyFiles().code, 0);   // it believes no node: the leaves lead to what was signed
  const Ran repaired = RunOrgtrail({"repair", organization.state_dir()});   // from the leaves: it takes no copy
  EXPECT_EQ(repaired.code, 0) << repaired.out << repaired.err;
  EXPECT_EQ(organization.Fsck().code, 0);
  EXPECT_EQ(organization.VerifyFiles().code, 0);
  organization.StartAggregator();
  EXPECT_TRUE(Eventually(kSoon, [&] { return Alarms().find("STORE_DAMAGED") == std::string::npos; })) << Alarms();
  WriteWhole(proof, organization.Must({"prove", id}, "auditor"));
  EXPECT_EQ(RunOrgtrail({"verify", "proof", proof, "--trust", organization.trust()}).code, 0);
}

TEST_F(Scrub, AFileCutShortUnderTheAggregatorEndsItWithItsName) {
  AgentProcess& agent = organization.StartAgent({});
  agent.Record(CountRecord(0));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Metric("orgtrail_ledger_shards") >= 2 && !organization.Feed().empty(); }));
  std::string newest;
  for (const auto& shard : stdfs::directory_iterator(organization.ledger_dir())) {
    if (shard.is_directory()) newest = std::max(newest, shard.path().string());
  }
  stdfs::resize_file(newest + "/data.mdb", 8192);
  for (int n = 1; n < 50 && organization.aggregator().Running(); ++n) (void)agent.Post(CountRecord(n), {}, "/records", absl::Seconds(1)).status();
  ASSERT_EQ(organization.aggregator().Wait(kSoon), 134);
  EXPECT_TRUE(organization.AggregatorLogged("FATAL /")) << organization.AggregatorLogTail();
  EXPECT_TRUE(organization.AggregatorLogged("/data.mdb: a page of it cannot be read")) << organization.AggregatorLogTail();
  EXPECT_TRUE(organization.AggregatorLogged("orgtrail fsck")) << organization.AggregatorLogTail();
}

}  // namespace
}  // namespace orgtrail::e2e
