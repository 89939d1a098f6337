// The life of a record: one event from the moment somebody reports it to the day a stranger checks it, through the programs
// that people run. Read this test first; every other one is a variation on it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(LifeOfARecord, FromACommandLineToAProofThatNeedsNobody) {
  // An organization of two member accounts: `orgtrail org init` wrote its keys, its policy and the aggregator's configuration,
  // and the aggregator runs.
  Organization organization;

  // Alice's account gets an agent. Governance makes a join token, good once; the agent uses it and is connected.
  AgentProcess& agent = organization.StartAgent({.account = kAlice, .region = "eu-west-1", .name = "web-1"});

  // Something happens in her account, and a script says so. Exit 0 means: fsynced at the agent.
  const std::string told = R"({"eventVersion":"1.11","eventName":"DeleteBucket","eventSource":"s3.example",)"
                           R"("userIdentity":{"type":"IAMUser","userName":"ivy"},"requestParameters":{"bucketName":"payroll"}})";
  const Ran recorded = organization.Orgtrail({"record", "--agent", agent.url(), told});
  ASSERT_EQ(recorded.code, 0) << recorded.err;
  EXPECT_THAT(recorded.out, HasSubstr(R"("accepted":1)"));

  // It appears in the merged feed: the bytes that were told, and after them what they lacked and the agent knew. Nobody
  // re-prints a record: up to its last brace it is the text of the script.
  std::vector<std::string> feed;
  ASSERT_TRUE(Eventually(kSoon, [&] { return !(feed = organization.Feed()).empty(); })) << agent.LogTail();
  ASSERT_EQ(feed.size(), 1u);
  const std::string& record = feed[0];
  EXPECT_THAT(record, StartsWith(told.substr(0, told.size() - 1) + R"(,"eventTime":")"));
  EXPECT_THAT(record, HasSubstr(R"(","awsRegion":"eu-west-1","eventID":")"));
  EXPECT_THAT(record, EndsWith(R"(","recipientAccountId":"222222222222"})"));
  const std::string id = MemberOf(record, "eventID");

  // "Who deleted that bucket?" An auditor asks by name, by person, by resource: the same bytes again.
  for (const std::vector<std::string>& question : std::vector<std::vector<std::string>>{
           {"-a", "EventId=" + id}, {"-a", "EventName=DeleteBucket"}, {"--principal", "ivy"}, {"--account", kAlice, "--last", "1h"}}) {
    std::vector<std::string> args = {"events", "lookup", "-o", "jsonl"};
    args.insert(args.end(), question.begin(), question.end());
    EXPECT_THAT(LinesOf(organization.Must(args, "auditor")), ElementsAre(record)) << question[0] << " " << question[1];
  }

  // She wants it in writing: a proof, which is a file.
  const std::string proof_file = organization.Path("proof");
  WriteWhole(proof_file, organization.Must({"prove", id}, "auditor"));
  const std::string record_file = organization.Path("record.json");
  WriteWhole(record_file, record);

  // Years later the organization is gone: no server, no network, no profile. A stranger has three files: the record, its proof,
  // and the trust policy with the log's public key.
  ASSERT_EQ(agent.Stop(), 0);
  ASSERT_EQ(organization.StopAggregator(), 0);
  const std::vector<std::string> check = {Program("orgtrail"), "verify", "proof", proof_file, "--record", record_file,
                                          "--trust", organization.trust(), "-o", "json"};
  const Ran proven = RunProgram(check);
  EXPECT_EQ(proven.code, 0) << proven.err;
  EXPECT_THAT(proven.out, HasSubstr(R"("account":"222222222222","region":"eu-west-1","agent":"web-1")"));

  // And had anybody changed one letter of it, the stranger would know.
  std::string forged = record;
  forged.replace(forged.find("payroll"), 7, "pay-off");
  WriteWhole(record_file, forged);
  const Ran refused = RunProgram(check);
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("NOT PROVEN"));
}

TEST(LifeOfARecord, FromALineInAFile) {
  // The same life, begun by a program that writes its audit events to a file and knows nothing of us.
  Organization organization;
  const std::string dir = MakeDirs(organization.Path("events"));
  organization.StartAgent({.account = kBob, .region = "us-east-1", .name = "batch-7", .files = dir + "/*.jsonl", .http = false});
  const std::string line = R"({"eventVersion":"1.11","eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventName":"RunJob",)"
                           R"("eventID":"00000000-0000-4000-8000-000000000001","recipientAccountId":"333333333333"})";
  AppendTo(dir + "/jobs.jsonl", line + "\n");
  std::vector<std::string> feed;
  ASSERT_TRUE(Eventually(kSoon, [&] { return !(feed = organization.Feed()).empty(); }));
  EXPECT_THAT(feed, ElementsAre(line));  // it lacked nothing: not a byte was added
  EXPECT_THAT(LinesOf(organization.Must({"events", "show", "00000000-0000-4000-8000-000000000001", "-o", "jsonl"}, "auditor")),
              ElementsAre(line));
  // The whole log is what it says it is.
  const Ran verified = organization.Orgtrail({"verify", "ledger", "--strict"}, "auditor");
  EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
}

}  // namespace
}  // namespace orgtrail::e2e
