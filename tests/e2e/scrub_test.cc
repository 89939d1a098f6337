// The disk under a running aggregator: what changes on it is found by itself and said to people, what was damaged is never served, and a
// file that is cut short ends the process with its name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/e2e/support/ledger_file.h"
#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

namespace stdfs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Record(int n) {
  return R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventName":"Count","eventID":"id-)" + std::to_string(n) +
         R"(","recipientAccountId":"222222222222"})";
}

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
  std::string Alarms(const std::string& which = "") {
    return organization.Must(which.empty() ? std::vector<std::string>{"alarms", "-o", "jsonl"} : std::vector<std::string>{"alarms", which, "-o", "jsonl"});
  }
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
    agent.Record(Record(told++));
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
  agent.Record(Record(told));   // nobody else noticed
}

TEST_F(Scrub, AFileCutShortUnderTheAggregatorEndsItWithItsName) {
  AgentProcess& agent = organization.StartAgent({});
  agent.Record(Record(0));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Metric("orgtrail_ledger_shards") >= 2 && !organization.Feed().empty(); }));
  std::string newest;
  for (const auto& shard : stdfs::directory_iterator(organization.ledger_dir())) {
    if (shard.is_directory()) newest = std::max(newest, shard.path().string());
  }
  stdfs::resize_file(newest + "/data.mdb", 8192);
  for (int n = 1; n < 50 && organization.aggregator().Running(); ++n) (void)agent.Post(Record(n), {}, "/records", absl::Seconds(1)).status();
  ASSERT_EQ(organization.aggregator().Wait(kSoon), 134);
  EXPECT_TRUE(organization.AggregatorLogged("FATAL /")) << organization.AggregatorLogTail();
  EXPECT_TRUE(organization.AggregatorLogged("/data.mdb: a page of it cannot be read")) << organization.AggregatorLogTail();
  EXPECT_TRUE(organization.AggregatorLogged("orgtrail fsck")) << organization.AggregatorLogTail();
}

}  // namespace
}  // namespace orgtrail::e2e
