// The merged feed as its readers meet it: exactly once whatever is killed, filters, slow readers, restarts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>

#include "absl/time/clock.h"
#include "common/base/random.h"
#include "common/crypto/digest.h"
#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

std::string Record(int n, std::string_view region = "us-east-1", std::string_view name = "Count", size_t padding = 0) {
  char id[40];
  std::snprintf(id, sizeof id, "00000000-0000-4000-8000-%012d", n);
  return R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":")" + std::string(region) + R"(","eventName":")" + std::string(name) +
         R"(","eventID":")" + id + R"(","recipientAccountId":"222222222222","requestParameters":{"n":)" + std::to_string(n) +
         ",\"padding\":\"" + std::string(padding, 'x') + "\"}}";
}

std::vector<std::string> Records(int from, int to) {
  std::vector<std::string> records;
  for (int n = from; n < to; ++n) records.push_back(Record(n));
  return records;
}

std::string Join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& l : lines) text += l + "\n";
  return text;
}

size_t CountLines(const std::string& path) {
  const std::string text = ReadWhole(path);
  return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
}

TEST(Feed, AFileAndItsCursorAreExactlyOnceWhateverIsKilled) {
  Organization organization;
  AgentProcess& agent = organization.StartAgent({});
  const std::string output = organization.Path("out.jsonl"), cursor = organization.Path("cursor");
  const std::vector<std::string> command =
      organization.OrgtrailArgs({"feed", "--from", "start", "--cursor-file", cursor, "--output", output, "-o", "jsonl"}, "auditor");
  constexpr int kRecords = 6000, kPost = 100;
  int posted = 0, kills = 0;
  while (posted < kRecords) {
    auto feed = Process::Start(command, organization.Path("feed.log"));
    // Killed at another moment each time: after so many more lines.
    const size_t until = CountLines(output) + 1 + SystemRng().Below(250);
    for (int i = 0; i < 4 && posted < kRecords; ++i, posted += kPost) agent.Record(Join(Records(posted, posted + kPost)));
    ASSERT_TRUE(Eventually(kSoon, [&] { return CountLines(output) >= std::min<size_t>(until, kRecords); })) << ReadWhole(organization.Path("feed.log"));
    EXPECT_EQ(feed->Kill(), 128 + SIGKILL);
    ++kills;
  }
  EXPECT_GE(kills, 15);
  ASSERT_EQ(organization.Orgtrail({"feed", "--cursor-file", cursor, "--output", output, "-o", "jsonl", "--no-follow"}, "auditor").code, 0);
  EXPECT_TRUE(ReadWhole(output) == Join(Records(0, kRecords))) << CountLines(output) << " lines of " << kRecords;
}

TEST(Feed, TheCursorFileIsThereBeforeTheFirstRecordSoThatAnEarlyKillIsCutToo) {
  Organization organization;
  AgentProcess& agent = organization.StartAgent({});
  const std::string output = organization.Path("out.jsonl"), cursor = organization.Path("cursor");
  const std::vector<std::string> flags = {"feed", "--from", "start", "--cursor-file", cursor, "--output", output, "-o", "jsonl"};
  auto feed = Process::Start(organization.OrgtrailArgs(flags, "auditor"), organization.Path("feed.log"));
  ASSERT_TRUE(Eventually(kSoon, [&] { return !ReadWhole(cursor).empty(); }));
  EXPECT_THAT(LinesOf(ReadWhole(cursor)).at(1), "0");
  feed->Kill();
  WriteWhole(cursor, "\n0\n");
  AppendTo(output, Record(0) + "\n" + Record(1).substr(0, 30));  // as a kill between the two writes leaves it
  agent.Record(Join(Records(0, 3)));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == 3; }));
  std::vector<std::string> again = flags;
  again.push_back("--no-follow");
  EXPECT_EQ(organization.Orgtrail(again, "auditor").code, 0);
  EXPECT_EQ(ReadWhole(output), Join(Records(0, 3)));
}

TEST(Feed, SigtermEndsItBetweenRecordsWithItsCursorSaved) {
  Organization organization;
  AgentProcess& agent = organization.StartAgent({});
  agent.Record(Join(Records(0, 50)));
  const std::string output = organization.Path("out.jsonl"), cursor = organization.Path("cursor");
  const std::vector<std::string> flags = {"feed", "--from", "start", "--cursor-file", cursor, "--output", output, "-o", "jsonl"};
  auto feed = Process::Start(organization.OrgtrailArgs(flags, "auditor"), organization.Path("feed.log"));
  ASSERT_TRUE(Eventually(kSoon, [&] { return CountLines(output) == 50; }));
  feed->Signal(SIGTERM);
  EXPECT_EQ(feed->Wait(kSoon), 0);
  agent.Record(Join(Records(50, 60)));
  feed = Process::Start(organization.OrgtrailArgs(flags, "auditor"), organization.Path("feed.log"));
  ASSERT_TRUE(Eventually(kSoon, [&] { return CountLines(output) == 60; }));
  EXPECT_EQ(ReadWhole(output), Join(Records(0, 60)));
}

TEST(Feed, FiltersLetThroughWhatTheyNameInOrder) {
  Organization organization;
  AgentProcess& here = organization.StartAgent({.name = "here"});
  AgentProcess& there = organization.StartAgent({.account = kBob, .region = "eu-west-1", .name = "there"});
  std::vector<std::string> east, west, stops;
  for (int n = 0; n < 40; ++n) {
    const bool stop = n % 10 == 3;
    east.push_back(Record(n, "us-east-1", stop ? "Stop" : "Go"));
    if (stop) stops.push_back(east.back());
    here.Record(east.back());
    std::string r = Record(1000 + n, "eu-west-1", "Go");
    r.replace(r.find("222222222222"), 12, kBob);
    west.push_back(r);
    there.Record(r);
  }
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == 80; }));
  EXPECT_THAT(organization.Feed({"--account", kAlice}), ElementsAreArray(east));
  EXPECT_THAT(organization.Feed({"--region", "eu-west-1"}), ElementsAreArray(west));
  EXPECT_THAT(organization.Feed({"-a", "EventName=Stop"}), ElementsAreArray(stops));
  EXPECT_THAT(organization.Feed({"--account", kAlice, "-a", "EventName=Stop", "--region", "eu-west-1"}), ElementsAreArray(std::vector<std::string>{}));
  EXPECT_EQ(organization.Feed({"--account", kAlice, "--account", kBob}).size(), 80u);
  EXPECT_EQ(organization.Feed({"--max", "7"}).size(), 7u);
  // Same ledger, same feed, byte for byte, whoever asks and however often.
  EXPECT_EQ(organization.Feed(), organization.Feed({}, "admin"));
}

TEST(Feed, AReaderThatDoesNotReadDelaysNobody) {
  Organization organization;
  AgentProcess& agent = organization.StartAgent({});
  // One subscriber stops reading for good; 48 MB go by, far more than any socket buffers.
  auto slow = Process::Start(organization.OrgtrailArgs({"feed", "--from", "start", "-o", "jsonl"}, "auditor"), organization.Path("slow"));
  agent.Record(Record(0));
  ASSERT_TRUE(Eventually(kSoon, [&] { return CountLines(organization.Path("slow")) == 1; }));
  slow->Signal(SIGSTOP);
  auto fast = Process::Start(organization.OrgtrailArgs({"feed", "--from", "start", "-o", "jsonl"}, "admin"), organization.Path("fast"));
  constexpr int kPosts = 240, kPost = 20;
  size_t expected = 1;
  for (int p = 0; p < kPosts; ++p) {
    std::string body;
    for (int i = 0; i < kPost; ++i) body += Record(1 + p * kPost + i, "us-east-1", "Bulk", 10'000) + "\n";
    agent.Record(body);
    expected += kPost;
  }
  EXPECT_TRUE(Eventually(kPatience, [&] { return CountLines(organization.Path("fast")) == expected; })) << CountLines(organization.Path("fast"));
  EXPECT_LT(CountLines(organization.Path("slow")), expected);
  // The aggregator keeps no copy of all that for the slow one.
  EXPECT_LT(organization.aggregator().ResidentBytes(), int64_t{400} << 20);
  slow->Signal(SIGCONT);  // it gets the rest, or is told to come back with its cursor; either way it is not lost on the log
  EXPECT_EQ(organization.Feed({"--max", std::to_string(expected)}).size(), expected);
}

TEST(Feed, ASubscriptionResumesAfterTheAggregatorRestarted) {
  Organization organization;
  AgentProcess& agent = organization.StartAgent({});
  const std::string output = organization.Path("out.jsonl"), cursor = organization.Path("cursor");
  const std::vector<std::string> flags = {"feed", "--from", "start", "--cursor-file", cursor, "--output", output, "-o", "jsonl"};
  for (int round = 0; round < 3; ++round) {
    auto feed = Process::Start(organization.OrgtrailArgs(flags, "auditor"), organization.Path("feed.log"));
    agent.Record(Join(Records(round * 20, round * 20 + 20)));
    ASSERT_TRUE(Eventually(kPatience, [&] { return CountLines(output) == static_cast<size_t>(round * 20 + 20); }));
    if (round == 1) {
      organization.KillAggregator();
    } else {
      EXPECT_EQ(organization.StopAggregator(), 0);
    }
    const std::optional<int> code = feed->Wait(kSoon);
    ASSERT_TRUE(code.has_value()) << "the feed does not notice that the aggregator is gone";
    EXPECT_EQ(*code, 1);
    organization.StartAggregator();
  }
  EXPECT_EQ(ReadWhole(output), Join(Records(0, 60)));
  EXPECT_EQ(organization.Feed().size(), 60u);
}

TEST(Feed, AFollowerSeesARecordSoonAfterItWasTold) {
  Organization organization;
  AgentProcess& agent = organization.StartAgent({});
  auto feed = Process::Start(organization.OrgtrailArgs({"feed", "--from", "now", "-o", "jsonl"}, "auditor"), organization.Path("live"));
  agent.Record(Record(0));  // the subscription may open before or after it
  int n = 1;
  ASSERT_TRUE(Eventually(kSoon, [&] {
    agent.Record(Record(n++));
    return CountLines(organization.Path("live")) > 0;
  }));
  std::vector<double> ms;
  for (int i = 0; i < 30; ++i, ++n) {
    const absl::Time begin = absl::Now();
    agent.Record(Record(n));
    const std::string id = MemberOf(Record(n), "eventID");
    ASSERT_TRUE(Eventually(kSoon, [&] { return ReadWhole(organization.Path("live")).find(id) != std::string::npos; }));
    ms.push_back(absl::ToDoubleMilliseconds(absl::Now() - begin));
  }
  std::sort(ms.begin(), ms.end());
  std::printf("told → in another connection's feed: median %.0f ms, worst of 30 %.0f ms\n", ms[15], ms.back());
  EXPECT_LT(ms[15], 2000);
}

}  // namespace
}  // namespace orgtrail::e2e
