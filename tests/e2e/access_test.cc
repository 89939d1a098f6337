// Who may see what: a member sees her own account, an auditor all, an operator no record at all, a revoked person nothing; and
// every read is itself on record.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

std::string Told(std::string_view id, std::string_view account) {
  return R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventName":"Login","eventID":")" + std::string(id) +
         R"(","recipientAccountId":")" + std::string(account) + "\"}";
}

class Access : public ::testing::Test {
 protected:
  Access() {
    organization.StartAgent({.account = kAlice}).Record(of_alice);
    organization.StartAgent({.account = kBob, .name = "web-2"}).Record(of_bob);
    alice = organization.CreateUser("alice", "user", kAlice);
    organization.CreateUser("bob", "user", kBob);
    organization.CreateUser("otto", "operator");
    if (!Eventually(kSoon, [&] { return organization.Feed().size() == 2; })) Fail("the two records are not logged");
  }
  Ran Lookup(std::string_view who, const std::vector<std::string>& flags = {}) {
    std::vector<std::string> args = {"events", "lookup", "-o", "jsonl"};
    args.insert(args.end(), flags.begin(), flags.end());
    return organization.Orgtrail(args, who);
  }
  std::vector<std::string> Found(std::string_view who, const std::vector<std::string>& flags = {}) { return LinesOf(Lookup(who, flags).out); }
  std::vector<std::string> OwnRecords(std::string_view who) {
    std::vector<std::string> records;
    for (const std::string& r : organization.Feed({"--own"}, who)) {
      if (r.find("\"eventSource\":\"orgtrail") != std::string::npos) records.push_back(r);
    }
    return records;
  }

  const std::string of_alice = Told("aaaaaaaa-0000-4000-8000-000000000001", kAlice);
  const std::string of_bob = Told("bbbbbbbb-0000-4000-8000-000000000002", kBob);
  Organization organization;
  std::string alice;
};

TEST_F(Access, AMemberSeesHerOwnAccountAnAuditorAllAnOperatorNone) {
  const struct {
    std::string_view who;
    std::vector<std::string> sees;
  } people[] = {{"alice", {of_alice}}, {"bob", {of_bob}}, {"auditor", {of_alice, of_bob}}, {"admin", {of_alice, of_bob}}};
  for (const auto& p : people) {
    EXPECT_THAT(Found(p.who), ::testing::UnorderedElementsAreArray(p.sees)) << p.who;
    EXPECT_THAT(organization.Feed({}, p.who), ::testing::UnorderedElementsAreArray(p.sees)) << p.who;
  }
  // What is not hers does not exist for her, whatever she names.
  const std::vector<std::string> of_the_other = {"events", "show", "bbbbbbbb-0000-4000-8000-000000000002", "-o", "jsonl"};
  for (const std::vector<std::string>& args :
       {of_the_other, {"events", "lookup", "-a", "EventId=bbbbbbbb-0000-4000-8000-000000000002", "-o", "jsonl"},
        {"events", "lookup", "--account", kBob, "-o", "jsonl"}, {"prove", "bbbbbbbb-0000-4000-8000-000000000002"},
        {"feed", "--from", "start", "--no-follow", "--account", kBob, "-o", "jsonl"}}) {
    const Ran ran = organization.Orgtrail(args, "alice");
    EXPECT_THAT(ran.out + ran.err, Not(HasSubstr("Login"))) << args[0] << " " << args[1];
  }
  // The operator runs it and reads nothing of it.
  EXPECT_EQ(organization.Orgtrail({"status"}, "otto").code, 0);
  EXPECT_EQ(organization.Orgtrail({"agents", "list"}, "otto").code, 0);
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"events", "lookup"}, of_the_other, {"prove", "bbbbbbbb-0000-4000-8000-000000000002"},
        {"feed", "--from", "start", "--no-follow"}}) {
    const Ran ran = organization.Orgtrail(args, "otto");
    EXPECT_EQ(ran.code, 1) << args[0];
    EXPECT_THAT(ran.out, IsEmpty());
    EXPECT_THAT(ran.err, HasSubstr("may not read records"));
  }
}

TEST_F(Access, OnlyGovernanceChangesAnything) {
  // A member may let agents into her own account, and into no other; nor one that speaks for others.
  EXPECT_EQ(organization.Orgtrail({"agent", "token", "--account", kAlice, "--region", "us-east-1"}, "alice").code, 0);
  for (const char* who : {"alice", "auditor", "otto"}) {
    for (const std::vector<std::string>& args :
         {std::vector<std::string>{"agent", "token", "--account", kBob, "--region", "us-east-1"},
          {"agent", "token", "--account", kAlice, "--region", "us-east-1", "--carries", "any"}, {"agents", "revoke", "web-2"},
          {"user", "create", "eve", "--kind", "auditor", "--out", organization.Path("eve")}, {"user", "revoke", alice}}) {
      const Ran ran = organization.Orgtrail(args, who);
      EXPECT_EQ(ran.code, 1) << who << " " << args[0] << " " << args[1];
      EXPECT_THAT(ran.out, IsEmpty());
    }
  }
  EXPECT_EQ(Lookup("alice").code, 0);
}

TEST_F(Access, ARevokedPersonIsRefusedAtOnceAndHerOpenFeedEnds) {
  auto feed = Process::Start(organization.OrgtrailArgs({"feed", "--from", "start", "-o", "jsonl"}, "alice"), organization.Path("feed"));
  ASSERT_TRUE(Eventually(kSoon, [&] { return ReadWhole(organization.Path("feed")).find(of_alice) != std::string::npos; }));
  organization.Must({"user", "revoke", alice, "--reason", "left the company"});
  const Ran refused = Lookup("alice");
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.out, IsEmpty());
  EXPECT_TRUE(feed->Wait(absl::Seconds(10)).has_value()) << "a revoked person's feed goes on";
  EXPECT_EQ(Lookup("bob").code, 0);
}

TEST_F(Access, EveryReadIsOnRecordAndTheRecordSaysWhoReadWhat) {
  Found("alice", {"-a", "EventName=Login"});
  organization.Must({"events", "show", "aaaaaaaa-0000-4000-8000-000000000001"}, "alice");
  organization.Must({"prove", "aaaaaaaa-0000-4000-8000-000000000001"}, "alice");
  const std::vector<std::string> own = OwnRecords("auditor");
  const auto by_alice = [&](std::string_view name) {
    return Contains(AllOf(HasSubstr("\"eventName\":\"" + std::string(name) + "\""), HasSubstr(alice)));
  };
  EXPECT_THAT(own, by_alice("LookupEvents"));
  EXPECT_THAT(own, Contains(AllOf(HasSubstr("LookupEvents"), HasSubstr(alice), HasSubstr("Login"))));
  EXPECT_THAT(own, by_alice("GetEvent"));
  EXPECT_THAT(own, Contains(AllOf(HasSubstr(alice), HasSubstr("Proof"))));
  // A read makes one record, and reading that record makes one of its own, not two.
  const size_t before = OwnRecords("auditor").size();
  const size_t after = OwnRecords("auditor").size();
  EXPECT_LE(after - before, 2u);  // the feed's open and close
  // Without --own they stay out of the way.
  EXPECT_THAT(organization.Feed(), UnorderedElementsAre(of_alice, of_bob));
}

TEST_F(Access, ACursorIsGoodForItsOwnerOnly) {
  const std::string cursor_file = organization.Path("cursor");
  organization.Must({"feed", "--from", "start", "--no-follow", "--cursor-file", cursor_file, "-o", "jsonl"}, "auditor");
  const std::string cursor = LinesOf(ReadWhole(cursor_file)).at(0);
  EXPECT_EQ(organization.Orgtrail({"feed", "--from", cursor, "--no-follow"}, "auditor").code, 0);
  const Ran stolen = organization.Orgtrail({"feed", "--from", cursor, "--no-follow"}, "alice");
  EXPECT_EQ(stolen.code, 1);
  EXPECT_THAT(stolen.err, HasSubstr("was not given to " + alice));
  std::string forged = cursor;
  forged[5] = forged[5] == 'A' ? 'B' : 'A';
  EXPECT_EQ(organization.Orgtrail({"feed", "--from", forged, "--no-follow"}, "auditor").code, 1);
}

TEST_F(Access, WhatAdministratorsLookAtIsOnRecordOnceAMinute) {
  for (int i = 0; i < 3; ++i) {
    organization.Must({"status"});
    organization.Must({"alarms", "--all"});
    organization.Must({"agents", "list"});
  }
  const std::string own = organization.Must({"feed", "--from", "start", "--no-follow", "--own", "-o", "jsonl"}, "auditor");
  for (const char* name : {"\"eventName\":\"GetStatus\"", "\"eventName\":\"ListAlarms\"", "\"eventName\":\"ListAgents\""}) {
    size_t n = 0;
    for (size_t at = 0; (at = own.find(name, at)) != std::string::npos; ++at) ++n;
    EXPECT_EQ(n, 1u) << name << "\n" << own;
  }
  EXPECT_EQ(organization.StopAggregator(), 0);
  organization.StartAggregator();                 // what was counted is recorded before the log closes
  const std::string after = organization.Must({"feed", "--from", "start", "--no-follow", "--own", "-o", "jsonl"}, "auditor");
  EXPECT_NE(after.find("\"reads\":2,"), std::string::npos) << after;
}

}  // namespace
}  // namespace orgtrail::e2e
