// Joining and leaving: tokens, certificates, revocation, retirement, over the real programs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <thread>

#include "absl/time/clock.h"
#include "common/crypto/digest.h"
#include "common/crypto/x509.h"
#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Record(std::string_view id) {
  return R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventName":"Login","eventID":")" + std::string(id) +
         R"(","recipientAccountId":"222222222222"})";
}

class EnrolmentE2e : public ::testing::Test {
 protected:
  // Runs the agent until it ends by itself.
  static Ran Join(const AgentProcess& agent) { return RunProgram({Program("orgtrail-agent"), "--config", agent.config()}, {}, {}, kSoon); }
  bool Alarm(std::string_view code) {
    return Eventually(kSoon, [&] { return organization.Must({"alarms", "--all", "-o", "jsonl"}).find(code) != std::string::npos; });
  }
  std::string StateOf(const std::string& name) { return MemberOf(organization.Must({"agents", "show", name, "-o", "jsonl"}), "state"); }

  Organization organization;
};

TEST_F(EnrolmentE2e, AUsedTokenAdmitsNobodyElseAndSomebodyHearsOfIt) {
  organization.StartAgent({.name = "web-1"});
  AgentProcess& second = organization.AddAgent({.name = "web-2"});
  std::filesystem::copy_file(organization.Path("agents/222222222222-us-east-1-web-1/token"), second.token_file(),
                             std::filesystem::copy_options::overwrite_existing);
  const Ran refused = Join(second);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("TOKEN_USED"), HasSubstr("orgtrail agent token")));
  EXPECT_TRUE(Alarm("TOKEN_REUSE"));
}

TEST_F(EnrolmentE2e, OfTwoThatRaceWithOneTokenOneGetsIn) {
  std::vector<AgentProcess*> agents;
  for (const char* name : {"race-1", "race-2", "race-3", "race-4"}) agents.push_back(&organization.AddAgent({.name = name}));
  for (size_t i = 1; i < agents.size(); ++i) {
    std::filesystem::copy_file(agents[0]->token_file(), agents[i]->token_file(), std::filesystem::copy_options::overwrite_existing);
  }
  for (AgentProcess* a : agents) a->Launch();
  ASSERT_TRUE(Eventually(kPatience, [&] {
    return std::count_if(agents.begin(), agents.end(), [](AgentProcess* a) { return a->Running(); }) == 1;
  }));
  ASSERT_TRUE(Eventually(kSoon, [&] { return std::any_of(agents.begin(), agents.end(), [](AgentProcess* a) { return a->Ready(); }); }));
  EXPECT_EQ(LinesOf(organization.Must({"agents", "list", "-o", "jsonl"})).size(), 1u);
}

TEST_F(EnrolmentE2e, ATokenIsGoodForItsTimeItsAccountItsRegionAndItsName) {
  const struct {
    std::vector<std::string> flags;
    AgentSpec made_for, used_by;
    const char* says;
  } cases[] = {
      {{"--ttl", "1s"}, {.name = "late"}, {.name = "late"}, "TOKEN_EXPIRED"},
      {{}, {.account = kBob, .name = "a"}, {.account = kAlice, .name = "a"}, "TOKEN_ELSEWHERE"},
      {{}, {.region = "eu-west-1", .name = "b"}, {.region = "us-east-1", .name = "b"}, "TOKEN_ELSEWHERE"},
      {{"--name", "other"}, {.name = "c"}, {.name = "c"}, "TOKEN_ELSEWHERE"},
      {{"--cidr", "192.0.2.0/24"}, {.name = "d"}, {.name = "d"}, "TOKEN_ELSEWHERE"},
  };
  for (const auto& c : cases) {
    AgentProcess& agent = organization.AddAgent(c.used_by);
    organization.Token(c.made_for, agent.token_file(), c.flags);
    Ran refused;
    // (The first case's token expires while it is tried.)
    ASSERT_TRUE(Eventually(kSoon, [&] {
      if (std::string_view(c.says) == "TOKEN_EXPIRED") absl::SleepFor(absl::Milliseconds(1100));
      refused = Join(agent);
      return refused.code == 1;
    }));
    EXPECT_THAT(refused.err, HasSubstr(c.says));
    EXPECT_THAT(organization.Must({"agents", "list", "-o", "jsonl"}), Not(HasSubstr("\"name\":\"" + c.used_by.name + "\"")));
  }
  EXPECT_TRUE(Alarm("TOKEN_MISUSE"));
  AgentProcess& garbled = organization.AddAgent({.name = "e"});
  WriteWhole(garbled.token_file(), "ot1.not-a-token\n");
  EXPECT_THAT(Join(garbled).err, HasSubstr("token"));
}

TEST_F(EnrolmentE2e, AnotherCaIsFoundOutBeforeAnythingIsSent) {
  // Another organization's aggregator at the address: the token pins the CA it was made for.
  Organization other;
  AgentProcess& agent = organization.AddAgent({.name = "web-1"});
  const std::string token = ReadWhole(agent.token_file());
  AgentProcess& there = other.AddAgent({.name = "web-1"});
  WriteWhole(there.token_file(), token);
  const Ran refused = Join(there);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("Nothing was sent"));
  agent.Start();  // the token is still good: nobody heard it
}

TEST_F(EnrolmentE2e, AnAgentWhoseCertificateIsGoneGetsAnotherWithItsIdentityKey) {
  AgentProcess& agent = organization.StartAgent({.name = "web-1"});
  agent.Record(Record("before"));
  const auto agents = [&] { return organization.Must({"agents", "show", "web-1", "-o", "jsonl"}); };
  const std::string first = agents();
  ASSERT_EQ(agent.Stop(), 0);
  // From now on certificates are good for five minutes, and this agent's is missing: no token is asked for.
  organization.StopAggregator();
  organization.Reconfigure("  certificate_life: ", "  certificate_life: 5m");
  organization.StartAggregator();
  std::filesystem::remove(agent.state_dir() + "/identity/tls.pem");
  std::filesystem::remove(agent.token_file());
  agent.Start();
  EXPECT_LT(MemberOf(agents(), "certificateExpires"), MemberOf(first, "certificateExpires"));
  EXPECT_EQ(MemberOf(agents(), "uuid"), MemberOf(first, "uuid"));
  agent.Record(Record("after"));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == 2; }));
  EXPECT_THAT(organization.Must({"alarms", "--all", "-o", "jsonl"}), Not(HasSubstr("TOKEN")));
}

TEST_F(EnrolmentE2e, ARenewalMovesTheStreamAndNobodyNotices) {
  // Certificates count from five minutes before they were issued, so half of its time is over after twelve seconds: not sooner than the
  // aggregator makes another one (ten).
  organization.StopAggregator();
  organization.Reconfigure("  certificate_life: ", "  certificate_life: 324s");
  organization.StartAggregator();
  AgentProcess& agent = organization.StartAgent({.name = "web-1"});
  std::vector<std::string> told;
  ASSERT_TRUE(Eventually(kPatience, [&] {
    told.push_back(Record(std::to_string(told.size())));
    agent.Record(told.back());
    return agent.Logged("certificate renewed") && agent.Metric("orgtrail_uplink_streams_total") >= 2;
  })) << agent.LogTail();
  agent.Record(told.emplace_back(Record("last")));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == told.size(); })) << agent.LogTail();
  EXPECT_EQ(organization.Feed(), told);
  EXPECT_EQ(agent.Metric("orgtrail_uplink_failures_total"), 0);
  EXPECT_TRUE(agent.Logged("The stream goes on over a connection with the certificate on disk"));
  EXPECT_FALSE(agent.Logged("The stream to the aggregator ended"));
  // By hand as well.
  const double streams = agent.Metric("orgtrail_uplink_streams_total");
  agent.process().Signal(SIGHUP);
  ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Metric("orgtrail_uplink_streams_total") > streams; })) << agent.LogTail();
  EXPECT_EQ(agent.Metric("orgtrail_uplink_failures_total"), 0);
}

TEST_F(EnrolmentE2e, RevocationEndsALiveStreamWithinFiveSeconds) {
  AgentProcess& agent = organization.StartAgent({.name = "web-1"});
  AgentProcess& other = organization.StartAgent({.name = "web-2"});
  agent.Record(Record("acked"));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == 1; }));
  const absl::Time begin = absl::Now();
  organization.Must({"agents", "revoke", "web-1", "--reason", "stolen laptop"});
  ASSERT_TRUE(Eventually(kSoon, [&] { return !agent.Ready(); }));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
  // Nobody will ever take what it records, so it takes nothing: callers are told, and so is whoever looks at it.
  std::string refused;
  ASSERT_TRUE(Eventually(kSoon, [&] {
    const absl::StatusOr<HttpResponse> answer = agent.Post(Record("too late"));
    refused = answer.ok() && answer->status == 503 ? answer->body : "";
    return !refused.empty();
  })) << agent.LogTail();
  EXPECT_THAT(refused, AllOf(HasSubstr("agent was revoked"), HasSubstr("enrol it")));
  EXPECT_TRUE(agent.Logged("records nothing any more"));
  other.Record(Record("goes on"));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == 2; }));
  EXPECT_EQ(organization.Feed().at(1), Record("goes on"));
  EXPECT_EQ(StateOf("web-1"), "revoked");
  agent.Kill();
  agent.Launch();
  ASSERT_TRUE(Eventually(kSoon, [&] {
    const absl::StatusOr<HttpResponse> answer = agent.Post("");
    return answer.ok() && agent.Post(Record("later still"))->status == 503;
  })) << agent.LogTail();
  EXPECT_EQ(organization.Feed().size(), 2u);
  EXPECT_EQ(organization.Orgtrail({"verify", "ledger", "--strict"}, "auditor").code, 0);
}

TEST_F(EnrolmentE2e, RetiringFreesTheNameForAnotherMachine) {
  AgentProcess& agent = organization.StartAgent({.name = "web-1"});
  agent.Record(Record("old"));
  ASSERT_EQ(agent.Stop(), 0);
  const Ran retired = RunProgram({Program("orgtrail-agent"), "--config", agent.config(), "retire"});
  ASSERT_EQ(retired.code, 0) << retired.err;
  EXPECT_THAT(retired.err, HasSubstr("retired"));
  EXPECT_EQ(StateOf("web-1"), "retired");
  // The old machine is out; a new one with an empty state directory takes the name.
  agent.Launch();
  EXPECT_EQ(agent.process().Wait(kSoon), 1);
  EXPECT_TRUE(agent.Logged("was retired: its identity has ended")) << agent.LogTail();
  // Whoever is not sure that it worked says it again.
  const Ran again = RunProgram({Program("orgtrail-agent"), "--config", agent.config(), "retire"});
  EXPECT_EQ(again.code, 0) << again.err;
  std::filesystem::remove_all(agent.state_dir());
  organization.Token(agent.spec(), agent.token_file());
  agent.Start();
  agent.Record(Record("new"));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == 2; }));
  EXPECT_EQ(LinesOf(organization.Must({"agents", "show", "web-1", "-o", "jsonl"})).size(), 2u);
  EXPECT_EQ(organization.Must({"alarms", "-o", "jsonl"}).find("SILENT"), std::string::npos);
}

TEST_F(EnrolmentE2e, AMachineThatLostItsStateComesBackWhenTheOldIdentityIsRevoked) {
  AgentProcess& agent = organization.StartAgent({.name = "web-1"});
  agent.Record(Record("before"));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == 1; }));
  agent.Kill();
  std::filesystem::remove_all(agent.state_dir());
  organization.Token(agent.spec(), agent.token_file());
  const Ran taken = Join(agent);
  EXPECT_EQ(taken.code, 1);
  EXPECT_THAT(taken.err, AllOf(HasSubstr("is enrolled"), HasSubstr("revoke")));
  organization.Must({"agents", "revoke", "web-1", "--reason", "disk lost"});
  std::filesystem::remove_all(agent.state_dir());
  organization.Token(agent.spec(), agent.token_file());
  agent.Start();
  agent.Record(Record("after"));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == 2; }));
}

TEST_F(EnrolmentE2e, TheAggregatorGetsANewNameAndKeyWhileAgentsStay) {
  AgentProcess& agent = organization.StartAgent({.name = "web-1"});
  const auto shown = [&] { return ReadCertificate(FetchServerChain(organization.server(), absl::Seconds(5)).value().front()).value(); };
  const CertificateFacts before = shown();
  const std::string said = organization.Must({"org", "certificate", "--dir", organization.Path("org"), "--host", "trail.example.org"});
  EXPECT_THAT(said, HasSubstr("trail.example.org, "));
  ASSERT_TRUE(Eventually(kSoon, [&] { return shown().serial_hex != before.serial_hex; }));
  const CertificateFacts after = shown();
  EXPECT_THAT(after.dns, ::testing::Contains("trail.example.org"));
  EXPECT_THAT(after.dns, ::testing::IsSupersetOf(before.dns));
  EXPECT_NE(after.spki_hash, before.spki_hash);
  agent.Record(Record("on"));
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == 1; }));   // the feed comes over the new certificate
  EXPECT_FALSE(agent.Logged("The stream to the aggregator ended"));

  const Ran refused = organization.Orgtrail({"org", "certificate", "--dir", organization.Path("org"), "--host", "a/b"});
  EXPECT_EQ(refused.code, 2) << refused.err;
  EXPECT_EQ(shown().serial_hex, after.serial_hex);
}

TEST_F(EnrolmentE2e, TheAggregatorRenewsACertificateThatIsAboutToRunOut) {
  organization.Must({"org", "certificate", "--dir", organization.Path("org"), "--days", "2"});
  EXPECT_EQ(organization.StopAggregator(), 0);
  organization.StartAggregator();
  EXPECT_TRUE(organization.AggregatorLogged("certificate is renewed"));
  const CertificateFacts shown = ReadCertificate(FetchServerChain(organization.server(), absl::Seconds(5)).value().front()).value();
  EXPECT_GT(shown.not_after, absl::Now() + absl::Hours(24 * 800));
  EXPECT_GT(organization.Metric("orgtrail_server_certificate_expiry_timestamp_seconds"), 1e9);
}

}  // namespace
}  // namespace orgtrail::e2e
