// The aggregator's disk is lost, on the real programs: a backup is put back, governance declares that the log goes on from it, agents check
// that and send again what they still have. Nothing they kept is missing or there twice, and nobody is told otherwise.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class Recovery : public ::testing::Test {
 protected:
  void Tell(AgentProcess& agent, std::vector<std::string>& told, int n) {
    for (int i = 0; i < n; ++i) {
      told.push_back(CountRecord(next_++));
      agent.Record(told.back());
    }
  }
  static bool Acked(const AgentProcess& agent) { return agent.Metric("orgtrail_agent_spool_unacked_batches") == 0; }
  std::string policy() const { return organization_.Path("org/policy/policy-1.note"); }
  std::string governance() const { return organization_.Path("org/governance/demo.key"); }
  std::string backup() const { return organization_.Path("backup"); }
  std::string kek() const { return organization_.Path("org/aggregator/kek.key"); }   // kept apart from the backup
  Organization organization_;
  int next_ = 0;
};

TEST_F(Recovery, ADeclaredRestoreGoesOnByItselfAndLosesNothingAgentsKept) {
  AgentProcess& agent = organization_.StartAgent({});
  AgentProcess& second = organization_.StartAgent({.name = "web-2"});
  std::vector<std::string> told, other;
  Tell(agent, told, 40);
  Tell(second, other, 10);
  ASSERT_TRUE(Eventually(kSoon, [&] { return Acked(agent) && Acked(second); }));

  // Two readers: one stands in front of the backup, the other will have got further.
  const std::string out = organization_.Path("feed.jsonl"), cursor = organization_.Path("feed.cursor");
  const std::vector<std::string> read = {"feed", "--from", "start", "--no-follow", "--cursor-file", cursor, "--output", out, "-o", "jsonl"};
  ASSERT_EQ(organization_.Orgtrail(read, "auditor").code, 0);
  const std::string early = ReadWhole(cursor);

  const Ran first = RunOrgtrail({"backup", organization_.state_dir(), "--to", backup()});   // of a running aggregator
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr("checked"));
  EXPECT_EQ(RunOrgtrail({"fsck", backup() + "/ledger", "--key-encryption-key", kek()}).code, 0);
  const Ran without = RunOrgtrail({"fsck", backup() + "/ledger"});
  EXPECT_EQ(without.code, 3);   // the records cannot be checked, all else is
  EXPECT_THAT(without.out, HasSubstr("--key-encryption-key"));
  EXPECT_EQ(RunOrgtrail({"verify", "ledger", backup() + "/ledger", "--trust", organization_.trust()}).code, 64);
  EXPECT_EQ(RunOrgtrail({"verify", "ledger", backup() + "/ledger", "--key-encryption-key", kek(), "--trust", organization_.trust(), "--strict"}).code, 0);
  Tell(agent, told, 60);
  ASSERT_TRUE(Eventually(kSoon, [&] { return Acked(agent); }));
  ASSERT_EQ(organization_.Orgtrail(read, "auditor").code, 0);
  const std::string size = MemberOf(organization_.Must({"status", "-o", "json"}), "treeSize");
  organization_.KillAggregator();
  const std::string lost = organization_.Path("lost-state");
  fs::rename(organization_.state_dir(), lost);   // the disk; its anchor was found

  // Nothing is overwritten, nothing that changed is put back, and without a declaration nothing is signed.
  fs::create_directories(organization_.state_dir());
  const std::string data = backup() + "/ledger/shard-000001/data.mdb";
  const std::string whole = ReadWhole(data);
  std::string damaged = whole;
  damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 1);
  WriteWhole(data, damaged);
  EXPECT_EQ(RunOrgtrail({"restore", backup(), "--to", organization_.state_dir()}).code, 1);
  fs::remove_all(organization_.state_dir());
  fs::create_directories(organization_.state_dir());
  WriteWhole(data, whole);
  ASSERT_EQ(RunOrgtrail({"restore", backup(), "--to", organization_.state_dir()}).code, 0);
  EXPECT_EQ(RunOrgtrail({"restore", backup(), "--to", organization_.state_dir()}).code, 1);
  const Ran silent = RunProgram({Program("orgtrail-aggregator"), "--config", organization_.config()});
  EXPECT_EQ(silent.code, 1);
  EXPECT_THAT(silent.err, HasSubstr("ANCHOR_MISSING"));
  WriteWhole(organization_.Path("mallory.key"), ReadWhole(organization_.Path("org/aggregator/log.key")));
  EXPECT_EQ(RunOrgtrail({"recovery", "declare", organization_.state_dir(), "--policy", policy(), "--governance-key-file", organization_.Path("mallory.key")}).code, 1);
  const Ran declared = RunOrgtrail({"recovery", "declare", organization_.state_dir(), "--policy", policy(), "--governance-key-file", governance(), "--lost", lost + "/anchor/head"});
  ASSERT_EQ(declared.code, 0) << declared.err;
  EXPECT_THAT(declared.out, HasSubstr("1 of 1 signatures"));

  organization_.StartAggregator();
  Tell(agent, told, 5);
  ASSERT_TRUE(Eventually(kPatience, [&] { return Acked(agent) && organization_.Feed({"--account", kAlice}).size() == told.size() + other.size(); }))
      << organization_.Feed().size() << "\n" << agent.LogTail() << organization_.AggregatorLogTail();
  std::vector<std::string> feed = organization_.Feed({"--account", kAlice});
  std::vector<std::string> mine;
  for (const std::string& r : feed) {
    if (std::find(told.begin(), told.end(), r) != told.end()) mine.push_back(r);
  }
  EXPECT_EQ(mine, told);
  EXPECT_TRUE(Eventually(kSoon, [&] { return agent.Logged("LOG_RESTORED"); })) << agent.LogTail();   // said once a second
  EXPECT_FALSE(fs::is_empty(agent.state_dir() + "/spool/evidence"));
  EXPECT_TRUE(agent.Ready());
  // Said in words to whoever verifies; the log that goes on is whole.
  const Ran verified = organization_.Orgtrail({"verify", "ledger", "--strict", "-o", "table"}, "auditor");
  EXPECT_EQ(verified.code, 0) << verified.err;
  EXPECT_THAT(verified.out, HasSubstr("governance declared a recovery"));
  // A cursor of before the backup still fits; one behind it is told where to go on.
  const Ran behind = organization_.Orgtrail(read, "auditor");
  EXPECT_EQ(behind.code, 1);
  EXPECT_THAT(behind.err, HasSubstr("resume from there"));
  WriteWhole(cursor, early);
  const Ran fits = organization_.Orgtrail({"feed", "--no-follow", "--cursor-file", cursor, "-o", "jsonl"}, "auditor");
  EXPECT_EQ(fits.code, 0) << fits.err;
  EXPECT_EQ(LinesOf(fits.out).size(), told.size() + other.size() - 50);
  // Everybody goes on: restarts need nothing more, and the next backup copies on.
  EXPECT_EQ(organization_.StopAggregator(), 0);
  organization_.StartAggregator();
  Tell(second, other, 3);
  ASSERT_TRUE(Eventually(kSoon, [&] { return Acked(second) && organization_.Ready(); }));
  const Ran next = RunOrgtrail({"backup", organization_.state_dir(), "--to", backup()});
  EXPECT_EQ(next.code, 0) << next.err;
  EXPECT_EQ(RunOrgtrail({"fsck", backup() + "/ledger", "--key-encryption-key", kek()}).code, 0);
}

TEST_F(Recovery, WhatCannotHaveChangedIsCopiedOnce) {
  organization_.StopAggregator();
  organization_.Reconfigure("  shard_period:", "  shard_period: 1s");
  organization_.StartAggregator();
  AgentProcess& agent = organization_.StartAgent({});
  std::vector<std::string> told;
  ASSERT_TRUE(Eventually(kPatience, [&] {   // several shards, the first of them repacked
    Tell(agent, told, 1);
    return fs::exists(organization_.ledger_dir() + "/shard-000001/packed/data.mdb") && fs::exists(organization_.ledger_dir() + "/shard-000003");
  }));
  // It rolls all the time: a backup that met a roll says so, and the next one goes on.
  Ran rolling;
  EXPECT_TRUE(Eventually(kPatience, [&] {
    rolling = RunOrgtrail({"backup", organization_.state_dir(), "--to", organization_.Path("rolling")});
    return rolling.code == 0;
  })) << rolling.err;
  EXPECT_EQ(RunOrgtrail({"fsck", organization_.Path("rolling") + "/ledger", "--key-encryption-key", kek()}).code, 0);
  // What is copied in one go, and what in the next, can be told when it does not.
  ASSERT_EQ(organization_.StopAggregator(), 0);
  organization_.Reconfigure("  shard_period:", "  shard_period: 720h");
  organization_.StartAggregator();
  const auto copied = [&]() -> std::string {
    const Ran ran = RunOrgtrail({"backup", organization_.state_dir(), "--to", backup()});
    EXPECT_EQ(ran.code, 0) << ran.err;
    return ran.out;
  };
  EXPECT_THAT(copied(), HasSubstr(" 0 B as it was"));
  Tell(agent, told, 1);
  ASSERT_TRUE(Eventually(kSoon, [&] { return Acked(agent); }));
  EXPECT_THAT(copied(), ::testing::Not(HasSubstr(" 0 B as it was")));
  ASSERT_EQ(organization_.StopAggregator(), 0);
  copied();
  EXPECT_EQ(RunOrgtrail({"fsck", backup() + "/ledger", "--key-encryption-key", kek()}).code, 0);
  EXPECT_EQ(RunOrgtrail({"verify", "ledger", backup() + "/ledger", "--key-encryption-key", kek(), "--trust", organization_.trust(), "--strict"}).code, 0);
  const std::string place = organization_.Path("elsewhere");
  fs::create_directories(place);
  ASSERT_EQ(RunOrgtrail({"restore", backup(), "--to", place}).code, 0);
  EXPECT_EQ(RunOrgtrail({"verify", "ledger", place + "/ledger", "--key-encryption-key", kek(), "--trust", organization_.trust(), "--strict"}).code, 0);
}

TEST_F(Recovery, AnUndeclaredRollbackIsRefusedByAggregatorAndAgents) {
  AgentProcess& agent = organization_.StartAgent({});
  std::vector<std::string> told;
  Tell(agent, told, 10);
  ASSERT_TRUE(Eventually(kSoon, [&] { return Acked(agent); }));
  ASSERT_EQ(organization_.StopAggregator(), 0);
  ASSERT_EQ(RunOrgtrail({"backup", organization_.state_dir(), "--to", backup()}).code, 0);   // of a stopped one
  const std::string old_anchor = ReadWhole(organization_.state_dir() + "/anchor/head");
  organization_.StartAggregator();
  Tell(agent, told, 10);
  ASSERT_TRUE(Eventually(kSoon, [&] { return Acked(agent); }));
  const auto size_of = [](const std::string& note) { return note.empty() ? 0 : std::stoull(LinesOf(note).at(1)); };
  std::string anchor;
  ASSERT_TRUE(Eventually(kSoon, [&] {   // at most a second behind
    anchor = ReadWhole(organization_.state_dir() + "/anchor/head");
    return size_of(anchor) >= size_of(old_anchor) + 10;
  }));
  organization_.KillAggregator();
  fs::remove_all(organization_.state_dir());
  fs::create_directories(organization_.state_dir());
  ASSERT_EQ(RunOrgtrail({"restore", backup(), "--to", organization_.state_dir()}).code, 0);
  fs::create_directories(organization_.state_dir() + "/anchor");
  WriteWhole(organization_.state_dir() + "/anchor/head", anchor);
  const Ran rolled = RunProgram({Program("orgtrail-aggregator"), "--config", organization_.config()});
  EXPECT_EQ(rolled.code, 1);
  EXPECT_THAT(rolled.err, HasSubstr("LOG_ROLLBACK"));
  // An operator who forges the anchor gets it started; the agent does not go along.
  WriteWhole(organization_.state_dir() + "/anchor/head", old_anchor);
  organization_.StartAggregator();
  ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Logged("LOG_FORKED"); })) << agent.LogTail();
  EXPECT_FALSE(agent.Logged("LOG_RESTORED"));
}

// An agent whose spool had to forget what the restored log does not have either: it goes on by itself, and says what is gone.
TEST_F(Recovery, AnAgentThatKeptTooLittleGoesOnInANewEpochAndTheLossIsOnRecord) {
  AgentProcess& agent = organization_.StartAgent({.yaml = "spool: {max_bytes: 16MiB, min_free: 0%}\n"});
  AgentProcess& silent = organization_.StartAgent({.name = "web-2"});
  std::vector<std::string> told, other, gone;
  Tell(agent, told, 5);
  Tell(silent, other, 5);
  ASSERT_TRUE(Eventually(kSoon, [&] { return Acked(agent) && Acked(silent); }));
  ASSERT_EQ(RunOrgtrail({"backup", organization_.state_dir(), "--to", backup()}).code, 0);
  for (int i = 0; i < 40; ++i) {   // more than the spool may keep, of what does not compress
    std::string noise;
    for (int n = 0; noise.size() < 700'000; ++n) noise += Base64(Sha256(std::to_string(i * 100'000 + n)).view());
    std::string big = CountRecord(next_++);
    big.replace(big.size() - 1, 1, ",\"requestParameters\":{\"noise\":\"" + noise + "\"}}");
    gone.push_back(big);
    agent.Record(big);
    if (i % 10 == 9) { ASSERT_TRUE(Eventually(kSoon, [&] { return Acked(agent); })); }
  }
  Tell(agent, told, 5);
  Tell(silent, other, 1);
  ASSERT_TRUE(Eventually(kSoon, [&] { return Acked(agent) && Acked(silent); }));
  ASSERT_EQ(silent.Stop(), 0);
  organization_.KillAggregator();
  fs::rename(organization_.state_dir(), organization_.Path("lost-state"));
  fs::create_directories(organization_.state_dir());
  ASSERT_EQ(RunOrgtrail({"restore", backup(), "--to", organization_.state_dir(), "--policy", policy(), "--governance-key-file", governance()}).code, 0);
  organization_.StartAggregator();
  Tell(agent, told, 5);
  const auto mine = [&] {   // of those that were told, in the feed's order
    std::vector<std::string> found;
    for (const std::string& r : organization_.Feed({"--account", kAlice})) {
      if (std::find(told.begin(), told.end(), r) != told.end()) found.push_back(r);
    }
    return found;
  };
  ASSERT_TRUE(Eventually(kPatience, [&] { return Acked(agent) && mine().size() == told.size(); })) << mine().size() << "\n" << agent.LogTail();
  std::vector<std::string> sorted = mine();   // what was recorded anew comes behind what was told meanwhile
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, told);
  EXPECT_TRUE(agent.Logged("RECORDS_MISSING"));
  EXPECT_FALSE(agent.Logged("CHAIN_STUCK"));
  // On record: once, by the agent, signed; an alarm; and in what every answer says of itself.
  const std::vector<std::string> own = organization_.Feed({"--own"});
  EXPECT_EQ(std::count_if(own.begin(), own.end(), [](const std::string& r) { return r.find("\"cause\":\"restore\"") != std::string::npos; }), 1);
  EXPECT_THAT(organization_.Alarms(), HasSubstr("RECORDS_MISSING"));
  ASSERT_TRUE(Eventually(kSoon, [&] {   // what is known to be missing is looked up every five seconds
    return organization_.Orgtrail({"events", "lookup", "--account", kAlice, "-o", "table"}, "auditor").err.find("RECORDS_MISSING") != std::string::npos;
  }));
  const std::string answer = organization_.Orgtrail({"events", "lookup", "--account", kAlice, "-o", "table"}, "auditor").err;
  EXPECT_THAT(answer, HasSubstr("222222222222/us-east-1/web-1: RECORDS_MISSING"));
  EXPECT_THAT(answer, HasSubstr("222222222222/us-east-1/web-2: has sent nothing since"));
  EXPECT_EQ(organization_.Verify().code, 0);
  // It goes on after a restart as well, and the one that was away is named no more once it is back.
  ASSERT_EQ(agent.Stop(), 0);
  agent.Start();
  Tell(agent, told, 2);
  silent.Start();
  Tell(silent, other, 1);
  ASSERT_TRUE(Eventually(kSoon, [&] { return Acked(agent) && Acked(silent); }));
  EXPECT_EQ(mine().size(), told.size());
  EXPECT_TRUE(Eventually(kSoon, [&] {
    return organization_.Orgtrail({"events", "lookup", "--account", kAlice, "-o", "table"}, "auditor").err.find("web-2: has sent nothing") == std::string::npos;
  }));
}

}  // namespace
}  // namespace orgtrail::e2e
