// What people meet when something is not there, full, taken or wrong: nothing recorded is lost, and the words help.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdio>
#include <filesystem>
#include <optional>

#include "absl/time/clock.h"
#include "common/base/clock.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "tests/e2e/support/organization.h"
#include "tests/e2e/support/relay.h"

namespace orgtrail::e2e {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& l : lines) text += l + "\n";
  return text;
}

TEST(Failure, WithoutItsAggregatorAnAgentKeepsEverythingAndCatchesUpInOrder) {
  Organization organization;
  AgentProcess& agent = organization.StartAgent({});
  std::vector<std::string> told;
  const auto tell = [&](int n) {
    for (int i = 0; i < n; ++i) {
      told.push_back(PaddedRecord(static_cast<int>(told.size())));
      agent.Record(told.back());
    }
  };
  tell(20);
  ASSERT_EQ(organization.StopAggregator(), 0);
  ASSERT_TRUE(Eventually(kSoon, [&] { return !agent.Ready(); }));
  tell(200);  // each is answered 200: it is on the agent's disk
  // Even a restart of the agent in the dark: it comes up without the aggregator and goes on.
  const absl::Time begin = absl::Now();
  EXPECT_EQ(agent.Stop(), 0);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(15));  // 10 s it tries to send; then the spool waits
  agent.Launch();
  ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Post("").ok(); })) << agent.LogTail();
  tell(50);
  EXPECT_GT(agent.Metric("orgtrail_agent_spool_unacked_batches"), 0);
  organization.StartAggregator();
  ASSERT_TRUE(Eventually(kPatience, [&] { return organization.Feed().size() == told.size(); }));
  EXPECT_EQ(organization.Feed(), told);
  ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Metric("orgtrail_agent_spool_unacked_batches") == 0; }));
  EXPECT_EQ(organization.Verify().code, 0);
}

TEST(Failure, CutOffAnAgentIsMissedAndWhatItKeptComesLateInOrder) {
  Organization::Options options;
  options.replace = {{"  heartbeat_interval:", "  heartbeat_interval: 1s"}};
  Organization organization(options);
  Relay relay(organization.port());
  AgentProcess& agent = organization.StartAgent({.server = relay.address()});
  std::vector<std::string> told;
  const auto tell = [&](int n) {
    for (int i = 0; i < n; ++i) {
      told.push_back(PaddedRecord(static_cast<int>(told.size())));
      agent.Record(told.back());
    }
  };
  const auto is_silent = [&] { return organization.Alarms("").find("SILENT_AGENT") != std::string::npos; };
  tell(20);
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed() == told; }));
  EXPECT_FALSE(is_silent());
  relay.Cut();
  tell(100);   // each is answered 200: it is on the agent's disk
  ASSERT_TRUE(Eventually(kSoon, is_silent)) << organization.AggregatorLogTail();
  tell(100);
  EXPECT_GT(agent.Metric("orgtrail_agent_spool_unacked_batches"), 0);
  EXPECT_EQ(organization.Feed().size(), 20u);
  const absl::Time mended = absl::Now();
  relay.Mend();
  ASSERT_TRUE(Eventually(kPatience, [&] { return organization.Feed().size() == told.size(); })) << agent.LogTail();
  EXPECT_EQ(organization.Feed(), told);
  ASSERT_TRUE(Eventually(kSoon, [&] { return !is_silent(); })) << organization.Alarms("");
  EXPECT_THAT(organization.Alarms(), HasSubstr("SILENT_AGENT"));
  // How late it came stands beside each record: when it was captured, and when the log had it.
  const std::vector<std::string> envelopes = organization.Feed({"--envelope"});
  ASSERT_EQ(envelopes.size(), told.size());
  for (size_t i = 0; i < envelopes.size(); ++i) {
    absl::Time captured, logged;
    ASSERT_TRUE(ParseWhen(MemberOf(envelopes[i], "captured"), absl::Now(), &captured) && ParseWhen(MemberOf(envelopes[i], "logged"), absl::Now(), &logged));
    EXPECT_LT(captured, mended);
    EXPECT_EQ(logged > mended, i >= 20) << envelopes[i];
  }
  EXPECT_EQ(organization.Verify().code, 0);
}

TEST(Failure, AFullSpoolRefusesCallersHoldsFilesAndDrainsLater) {
  Organization organization;
  const std::string dir = MakeDirs(organization.Path("events"));
  AgentProcess& agent = organization.StartAgent({.files = dir + "/*.jsonl", .yaml = "spool: {max_bytes: 16MiB, min_free: 0%}\n"});
  organization.StopAggregator();
  // Callers are answered 200 until the spool is full, then 503 and when to come back. Noise, which does not compress. The one
  // whose record found no room is told that it may still be stored; from then on nothing is taken.
  std::vector<std::string> told, perhaps;
  std::optional<HttpResponse> refused;
  for (int n = 0; n < 2000 && !refused; ++n) {
    const std::string record = PaddedRecord(n, Base64(SystemRng().Bytes(60'000)));
    const absl::Time begin = absl::Now();
    absl::StatusOr<HttpResponse> answer = agent.Post(record, {}, "/records", kPatience);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_LT(absl::Now() - begin, absl::Seconds(20)) << "nobody waits for room";
    if (answer->status == 200) {
      told.push_back(record);
    } else if (answer->body.find("it may still") != std::string::npos) {
      perhaps.push_back(record);
    } else {
      refused = *answer;
    }
  }
  ASSERT_TRUE(refused.has_value());
  // Whoever asks now is told at once, with the key of the one that is held as well.
  const absl::Time asked = absl::Now();
  EXPECT_EQ(agent.Post(PaddedRecord(4000), {{"Idempotency-Key", "held"}}, "/records", kPatience)->status, 503);
  EXPECT_EQ(agent.Post(PaddedRecord(4000), {{"Idempotency-Key", "held"}}, "/records", kPatience)->status, 503);
  EXPECT_LT(absl::Now() - asked, absl::Seconds(10));
  EXPECT_EQ(refused->status, 503);
  EXPECT_NE(refused->Header("retry-after"), "");
  EXPECT_THAT(refused->body, HasSubstr("spool is full"));
  EXPECT_LE(perhaps.size(), 1u);
  EXPECT_GT(told.size(), 20u);
  const Ran by_hand = organization.Orgtrail({"record", "--agent", agent.url(), PaddedRecord(5000)});
  EXPECT_EQ(by_hand.code, 1);
  EXPECT_THAT(by_hand.err, HasSubstr("503"));
  // A file source waits: what it could not store it reads again.
  std::vector<std::string> lines;
  for (int n = 0; n < 100; ++n) lines.push_back(PaddedRecord(10'000 + n, Base64(SystemRng().Bytes(6'000))));
  AppendTo(dir + "/a.jsonl", Join(lines));
  // A restart in this state is no trouble either.
  EXPECT_EQ(agent.Stop(absl::Seconds(40)), 0);
  agent.Launch();
  ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Post("").ok(); })) << agent.LogTail();

  organization.StartAggregator();
  std::vector<std::string> feed;
  ASSERT_TRUE(Eventually(kPatience, [&] {
    feed = organization.Feed();
    return feed.size() >= told.size() + lines.size() && feed.back() == lines.back();
  })) << feed.size() << " of " << told.size() + lines.size() << "\n" << agent.LogTail();
  std::erase_if(feed, [&](const std::string& r) { return !perhaps.empty() && r == perhaps[0]; });
  std::vector<std::string> expected = told;
  expected.insert(expected.end(), lines.begin(), lines.end());
  EXPECT_TRUE(feed == expected) << feed.size() << " of " << expected.size();
  ASSERT_TRUE(Eventually(kSoon, [&] {
    absl::StatusOr<HttpResponse> answer = agent.Post(PaddedRecord(6000));
    return answer.ok() && answer->status == 200;
  }));
}

TEST(Failure, SigtermDrainsAndBothDaemonsExitWithZero) {
  Organization organization;
  const std::string dir = MakeDirs(organization.Path("events"));
  AgentProcess& agent = organization.StartAgent({.files = dir + "/*.jsonl"});
  std::vector<std::string> told;
  for (int n = 0; n < 500; ++n) told.push_back(PaddedRecord(n));
  for (int n = 0; n < 500; n += 50) agent.Record(Join({told.begin() + n, told.begin() + n + 50}));
  EXPECT_EQ(agent.Stop(), 0);
  EXPECT_TRUE(agent.Logged("stopped"));
  EXPECT_EQ(organization.Feed(), told);  // sent before it went: nobody waits for its return
  EXPECT_EQ(organization.StopAggregator(), 0);
  organization.StartAggregator();
  EXPECT_EQ(organization.Feed(), told);
  // A clean end is told apart from a crash: no alarm, and the next epoch says so.
  agent.Start();
  EXPECT_EQ(organization.Alarms().find("UNCLEAN"), std::string::npos);
  agent.Kill();
  agent.Start();
  EXPECT_TRUE(Eventually(kSoon, [&] { return organization.Alarms().find("UNCLEAN_EPOCH") != std::string::npos; }));
}

TEST(Failure, ATakenPortIsSaidWithItsNumber) {
  Organization organization;
  // A second aggregator on the same state: the lock says who has it.
  const Ran twin = RunProgram({Program("orgtrail-aggregator"), "--config", organization.config()});
  EXPECT_EQ(twin.code, 1);
  EXPECT_THAT(twin.err, HasSubstr("cannot start"));
  EXPECT_THAT(twin.err, HasSubstr("state"));
  // … and with a state of its own on the same ports.
  const std::string port = std::to_string(organization.port());
  Organization other({.accounts = {kAlice}, .start = false});
  other.Reconfigure("listen: ", "listen: 127.0.0.1:" + port);
  const Ran taken = RunProgram({Program("orgtrail-aggregator"), "--config", other.config()});
  EXPECT_EQ(taken.code, 1);
  EXPECT_THAT(taken.err, AllOf(HasSubstr("cannot start"), HasSubstr(port))) << taken.err;
  // A policy that governance has not signed yet.
  Organization early({.accounts = {kAlice}, .start = false});
  std::filesystem::rename(early.Path("org/policy/policy-1.note"), early.Path("org/policy/policy-1.unsigned"));
  const Ran waits = RunProgram({Program("orgtrail-aggregator"), "--config", early.config()});
  EXPECT_EQ(waits.code, 1);
  EXPECT_THAT(waits.err, AllOf(HasSubstr("orgtrail policy sign"), HasSubstr("policy-1.note"))) << waits.err;
  // An agent whose http port is taken.
  AgentProcess& agent = organization.StartAgent({});
  AgentProcess& second = organization.AddAgent({.name = "web-2"});
  std::string config = ReadWhole(second.config());
  const std::string mine = second.url().substr(second.url().rfind(':') + 1), hers = agent.url().substr(agent.url().rfind(':') + 1);
  config.replace(config.rfind(mine), mine.size(), hers);
  WriteWhole(second.config(), config);
  const Ran refused = RunProgram({Program("orgtrail-agent"), "--config", second.config()});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("cannot start"), HasSubstr(hers))) << refused.err;
}

TEST(Failure, MistakesInAConfigurationAreNamedByFileLineAndKey) {
  Organization organization({.start = false});
  const std::string path = organization.Path("agent.yaml");
  const struct {
    const char* yaml;
    std::vector<const char*> says;
  } mistakes[] = {
      {"account: \"22\"\nregion: us-east-1\nname: web\naggregators: [a:1]\nsources:\n  - http: {listen: 127.0.0.1:1}\n", {"agent.yaml:1", "account", "12-digit"}},
      {"account: \"222222222222\"\nregion: us-east-1\nname: web\naggregators: [a:1]\nsuorces: []\n", {"agent.yaml:5", "suorces"}},
      {"account: \"222222222222\"\nregion: us-east-1\nname: web\naggregators: [a]\nbatch_interval_ms: 7000\nsources:\n  - http: {listen: 0.0.0.0:1}\n",
       {"aggregators", "batch_interval_ms", "agent.yaml:5", "listen", "token_file"}},
      {"account: [\n", {"agent.yaml"}},
  };
  for (const auto& m : mistakes) {
    WriteWhole(path, m.yaml);
    for (bool check : {true, false}) {
      std::vector<std::string> args = {Program("orgtrail-agent"), "--config", path};
      if (check) args.push_back("--check");
      const Ran ran = RunProgram(args);
      EXPECT_EQ(ran.code, 2) << m.yaml;
      for (const char* word : m.says) EXPECT_THAT(ran.err, HasSubstr(word)) << m.yaml;
    }
  }
  for (const auto& [program, what_to_do] : {std::pair{"orgtrail-agent", "--help"}, std::pair{"orgtrail-aggregator", "orgtrail org init"}}) {
    const Ran none = RunProgram({Program(program), "--config", organization.Path("none.yaml")});
    EXPECT_EQ(none.code, 2);
    EXPECT_THAT(none.err, AllOf(HasSubstr(program), HasSubstr("none.yaml: there is no such file"), HasSubstr(what_to_do)));
  }
  EXPECT_EQ(RunProgram({Program("orgtrail-agent"), "--no-such-flag"}).code, 2);
  EXPECT_EQ(RunProgram({Program("orgtrail-aggregator"), "--config", organization.config(), "--check"}).code, 0);
  organization.Reconfigure("region: ", "region: \"US EAST\"\nspeed: fast");
  const Ran ran = RunProgram({Program("orgtrail-aggregator"), "--config", organization.config(), "--check"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("aggregator.yaml:"), HasSubstr("region"), HasSubstr("speed")));
  EXPECT_EQ(RunProgram({Program("orgtrail"), "no-such-command"}).code, 2);
  EXPECT_EQ(RunProgram({Program("orgtrail"), "verify", "--no-such-flag"}).code, 64);
}

TEST(Failure, TheDaemonsManualPagesSayWhatHelpSays) {
  for (const std::string name : {"orgtrail-agent", "orgtrail-aggregator"}) {
    const Ran man = RunProgram({Program(name), "--man"}), help = RunProgram({Program(name), "--help"});
    EXPECT_EQ(man.code, 0) << man.err;
    EXPECT_THAT(man.out, AllOf(HasSubstr(".TH " + name + " 8"), HasSubstr("SIGTERM"), HasSubstr(".SH OPTIONS")));
    size_t options = 0;
    for (size_t at = 0; (at = help.out.find("\n  --", at)) != std::string::npos; ++at, ++options) {
      std::string option = help.out.substr(at + 3, help.out.find_first_of(" ,\n", at + 3) - at - 3);
      for (size_t dash = 0; (dash = option.find('-', dash)) != std::string::npos; dash += 2) option.insert(dash, "\\");
      EXPECT_THAT(man.out, HasSubstr(".B " + option)) << help.out;
    }
    EXPECT_GE(options, 5u) << help.out;
  }
  EXPECT_EQ(RunProgram({Program("orgtrail-agent")}).code, 2);   // --config is missed
}

TEST(Failure, ACommandWithoutAServerSaysWhatToDo) {
  Organization organization({.start = false});
  const Ran nobody = organization.Orgtrail({"status"});
  EXPECT_EQ(nobody.code, 1);
  EXPECT_THAT(nobody.err, HasSubstr(organization.server()));
  const Ran no_profile = RunProgram({Program("orgtrail"), "--profile", organization.Path("none.yaml"), "status"});
  EXPECT_EQ(no_profile.code, 1);
  EXPECT_THAT(no_profile.err, HasSubstr("none.yaml"));
  const Ran no_agent = organization.Orgtrail({"record", "--agent", "http://127.0.0.1:1", "{}"});
  EXPECT_EQ(no_agent.code, 1);
  EXPECT_THAT(no_agent.err, HasSubstr("127.0.0.1:1"));
  const Ran no_trust = RunProgram({Program("orgtrail"), "verify", "proof", organization.config(), "--trust", organization.Path("none")});
  EXPECT_EQ(no_trust.code, 5);
}

TEST(Failure, TheHttpSourcesTokenIsAskedForAndAPageInABrowserIsRefused) {
  Organization organization;
  AgentProcess& agent = organization.AddAgent({});
  const std::string token(32, 't');
  WriteWhole(organization.Path("http-token"), token + "\n");
  std::string config = ReadWhole(agent.config());
  const size_t at = config.rfind("\"}");
  config.insert(at + 1, ", token_file: " + organization.Path("http-token"));
  WriteWhole(agent.config(), config);
  agent.Start();
  const auto status = [&](const std::vector<std::pair<std::string, std::string>>& headers) {
    absl::StatusOr<HttpResponse> answer = agent.Post(PaddedRecord(1), headers);
    return answer.ok() ? answer->status : -1;
  };
  EXPECT_EQ(status({}), 401);
  EXPECT_EQ(status({{"authorization", "Bearer " + std::string(32, 'x')}}), 401);
  EXPECT_EQ(status({{"authorization", "Bearer " + token}, {"origin", "https://evil.example"}}), 403);
  EXPECT_EQ(status({{"authorization", "Bearer " + token}}), 200);
  ASSERT_TRUE(Eventually(kSoon, [&] { return !organization.Feed().empty(); }));
  EXPECT_EQ(organization.Feed().size(), 1u);
}

}  // namespace
}  // namespace orgtrail::e2e
