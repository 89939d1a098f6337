// Bodies that are taken before their time, or without anybody's word; and what is left of those that expired. The log of these programs is
// 450 days old: its beginning was made with the organization's own keys and the clock of then.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/format/control.h"
#include "common/format/retention.h"
#include "tests/e2e/support/organization.h"
#include "tests/redteam/table.h"
#include "tests/support/ledger_builder.h"

namespace orgtrail::e2e {
namespace {

namespace stdfs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class RedRetention : public ::testing::Test {
 protected:
  RedRetention() {
    // Orders take effect at once, so that the test need not wait for a day.
    std::string text = ReadWhole(policy());
    text.resize(text.find("\n\n") + 1);
    const size_t delay = text.find("weaken-delay 86400");
    CHECK(delay != std::string::npos);
    text.replace(delay, 18, "weaken-delay 0");
    WriteWhole(policy(), SignNote(text, "o-e2e/governance/demo", governance));

    clock.wall = absl::Now() - absl::Hours(24 * 450);
    built.log_key = *SigningKey::FromPem(ReadWhole(organization.Path("org/aggregator/log.key")));
    built.options.kek = ReadWhole(organization.Path("org/aggregator/kek.key"));
    built.options.shard_period = absl::Hours(1);
    CHECK_OK(built.Open());
    CHECK_OK(built.Append(ControlItem(PolicyLeaf{1, ReadWhole(policy()), ""}.Encode())));
    TestAgent& agent = built.Enrol(kAlice, "us-east-1", "old-1");
    CHECK_OK(built.Fill(agent, 5));
    clock.Advance(absl::Hours(2));
    const auto beat = [&] {
      Seen seen;
      seen.size = built.ledger->head().size;
      seen.root = built.ledger->head().root;
      CHECK_OK(built.Append(agent.Heartbeat(seen)));
    };
    beat();
    clock.wall = absl::Now() - absl::Hours(1);
    beat();
    CHECK_OK(built.Fill(agent, 2));
    beat();
    first_shard = built.ledger->Sealed().front();
    built.Shut();
  }
  std::string policy() const { return organization.Path("org/policy/policy-1.note"); }
  std::string governance_file() const { return organization.Path("org/governance/demo.key"); }
  Ran Order(int days) const {
    return RunProgram({Program("orgtrail"), "retention", "order", organization.state_dir(), "--keep", std::to_string(days), "--policy", policy(), "--governance-key-file", governance_file()});
  }
  void Put(uint32_t days, const SigningKey& key) {
    const int64_t now = absl::ToUnixNanos(absl::Now());
    WriteWhole(organization.state_dir() + "/retention.note", SignNote(RetentionOrder{built.origin, days, now}.Text(), "o-e2e/governance/demo", key));
  }
  bool Pruned() const { return stdfs::exists(organization.ledger_dir() + "/shard-000001/pruned/data.mdb"); }
  void KeepFor(const std::string& length) { organization.Reconfigure("  retention:", "  retention: " + length); }

  Organization organization{{.start = false}};
  const SigningKey governance = *SigningKey::FromPem(ReadWhole(governance_file()));
  StillClock clock;
  LedgerBuilder built{organization.state_dir(), clock, 1, TrustPolicy::Decode(ReadWhole(organization.trust()))->logs.front().name};
  ShardFacts first_shard;
};

ATTACK(96, "ledger.retention below 400 days; orders of governance for less; orders that governance did not sign, or of another log",
       "refused by configuration, command line and aggregator, each with a message; alarm RETENTION_REFUSED; no body goes");
TEST_F(RedRetention, NothingIsPrunedBelowTheFloor) {
  KeepFor("399d");
  const Ran refused = RunProgram({Program("orgtrail-aggregator"), "--config", organization.config(), "--check"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("at least 400d"));
  KeepFor("400d");
  EXPECT_EQ(Order(399).code, 2);
  const std::vector<std::pair<const char*, std::function<void()>>> orders = {
      {"keeps 399 days", [&] { Put(399, governance); }},
      {"0 valid signatures", [&] { Put(400, SigningKey::Generate(SystemRng())); }},
      {"another", [&] {
         const int64_t now = absl::ToUnixNanos(absl::Now());
         WriteWhole(organization.state_dir() + "/retention.note", SignNote(RetentionOrder{"orgtrail.test/another", 400, now}.Text(), "o-e2e/governance/demo", governance));
       }},
  };
  for (const auto& [why, put] : orders) {
    put();
    organization.StartAggregator();
    EXPECT_TRUE(Eventually(kSoon, [&] { return organization.Must({"alarms", "--all", "-o", "jsonl"}).find(why) != std::string::npos; })) << why;
    EXPECT_TRUE(organization.AggregatorLogged("A retention order is refused"));
    EXPECT_EQ(MemberOf(organization.Must({"status", "-o", "json"}), "minimum"), "0");
    EXPECT_EQ(organization.StopAggregator(), 0);
  }
  EXPECT_FALSE(Pruned());
  EXPECT_EQ(organization.Fsck().code, 0);
}

ATTACK(96, "drop the bodies of a shard with the product's own code and keys, without an OTR2 leaf in the log",
       "`fsck` and `verify ledger` exit 2 and name the first leaf whose body is gone without cause");
TEST_F(RedRetention, BodiesAreTakenWithoutALeafThatSaysSo) {
  {
    RetentionHistory made_up(built.origin);
    const int64_t now = absl::ToUnixNanos(absl::Now());
    const std::string order = SignNote(RetentionOrder{built.origin, 400, now}.Text(), "o-e2e/governance/demo", governance);
    ASSERT_TRUE(made_up.Take(0, PolicyLeaf{1, ReadWhole(policy()), ""}.Encode()).ok());
    ASSERT_TRUE(made_up.Take(1, RetentionLeaf{static_cast<uint64_t>(now), 0, 0, order}.Encode()).ok());
    ASSERT_TRUE(made_up.Take(1'000'000, RetentionLeaf{static_cast<uint64_t>(now), first_shard.end, first_shard.last_logged_ns, order}.Encode()).ok());
    ASSERT_TRUE(built.Open().ok());
    for (int i = 0; i < 100 && !*built.ledger->DropBodies(made_up); ++i) {
    }
    built.Shut();
  }
  ASSERT_TRUE(Pruned());
  const Ran checked = organization.Fsck();
  EXPECT_EQ(checked.code, 2);
  EXPECT_THAT(checked.out, HasSubstr("no order in the log covers them"));
  organization.StartAggregator();
  const Ran verified = organization.Verify({"-o", "table"});
  EXPECT_EQ(verified.code, 2);
  EXPECT_THAT(verified.out, HasSubstr("no order in the log covers them"));
}

ATTACK(105, "prune a shard as governance ordered, then ask for what was in it",
       "a proof from before verifies; lookup, feed and a new proof say that the body expired and by which leaf; verify 0, fsck 0, backup and restore likewise");
TEST_F(RedRetention, WhatExpiredIsProvenByOldProofsAndNamedByEverybody) {
  organization.StartAggregator();
  const std::string at = "3:2", id = "00000002-0000-4000-8000-000000000002";
  const std::string body = organization.Must({"events", "show", id, "--at", at, "-o", "jsonl"}, "auditor");
  ASSERT_THAT(body, HasSubstr(id));
  WriteWhole(organization.Path("proof"), organization.Must({"prove", id, "--at", at}, "auditor"));
  WriteWhole(organization.Path("feed"), organization.Must({"feed", "--from", "start", "--no-follow", "--envelope", "-o", "jsonl"}, "auditor"));
  ASSERT_EQ(organization.StopAggregator(), 0);
  const std::string before = organization.Fsck().out;

  KeepFor("400d");
  const Ran ordered = Order(400);
  ASSERT_EQ(ordered.code, 0) << ordered.err;
  organization.StartAggregator();
  ASSERT_TRUE(Eventually(kPatience, [&] { return Pruned() && MemberOf(organization.Must({"status", "-o", "json"}), "minimum") != "0"; })) << organization.AggregatorLogTail();
  EXPECT_FALSE(stdfs::exists(organization.ledger_dir() + "/shard-000001/data.mdb"));
  const std::string by = MemberOf(organization.Must({"status", "-o", "json"}), "minimumLeaf");
  EXPECT_THAT(organization.Must({"alarms", "--all", "-o", "jsonl"}), HasSubstr("RETENTION_ORDERED"));
  EXPECT_THAT(organization.Must({"status", "-o", "table"}), HasSubstr("expired (leaf " + by + ")"));

  EXPECT_EQ(organization.Orgtrail({"verify", "proof", organization.Path("proof"), "--trust", organization.trust()}).code, 0);
  const Ran proof = organization.Orgtrail({"prove", id, "--at", at}, "auditor");
  EXPECT_EQ(proof.code, 1);
  EXPECT_THAT(proof.err, HasSubstr("expired by leaf " + by));
  const std::string shown = organization.Must({"events", "show", id, "--at", at, "-o", "table"}, "auditor");
  EXPECT_THAT(shown, HasSubstr("expired: governance ordered how long bodies are kept, and leaf " + by));
  EXPECT_THAT(shown, Not(HasSubstr("\"eventName\"")));
  const Ran looked = organization.Orgtrail({"events", "lookup", "--start", "2001-01-01T00:00:00Z", "-o", "table"}, "auditor");
  EXPECT_THAT(looked.out + looked.err, HasSubstr("expired (leaf " + by + ")"));
  const std::string feed = organization.Must({"feed", "--from", "start", "--no-follow", "--envelope", "-o", "jsonl"}, "auditor");
  EXPECT_THAT(feed, HasSubstr("EXPIRED_BY_LEAF_" + by));
  EXPECT_THAT(feed, HasSubstr("object-6"));        // what is younger is there
  const Ran saved = organization.Orgtrail({"verify", "feed", organization.Path("feed"), "--trust", organization.trust()}, "auditor");
  EXPECT_EQ(saved.code, 3) << saved.out << saved.err;
  EXPECT_THAT(saved.out, HasSubstr("expired by governance's order"));
  const Ran verified = organization.Verify({"-o", "table"});
  EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
  EXPECT_THAT(verified.out, HasSubstr("leaf " + by + ": bodies of leaves 0 to"));
  // An agent goes on, a restart changes nothing, a backup holds what is left.
  AgentProcess& agent = organization.StartAgent({});
  agent.Record(R"({"eventName":"After"})");
  ASSERT_EQ(organization.StopAggregator(), 0);
  const Ran checked = organization.Fsck();
  EXPECT_EQ(checked.code, 0) << checked.out;
  EXPECT_THAT(checked.out, HasSubstr("5 of these records expired"));
  EXPECT_EQ(RunProgram({Program("orgtrail"), "backup", organization.state_dir(), "--to", organization.Path("backup")}).code, 0);
  EXPECT_TRUE(stdfs::exists(organization.Path("backup/ledger/shard-000001/pruned/data.mdb")));
  const std::string elsewhere = organization.Path("elsewhere");
  stdfs::create_directories(elsewhere);
  EXPECT_EQ(RunProgram({Program("orgtrail"), "restore", organization.Path("backup"), "--to", elsewhere}).code, 0);
  EXPECT_EQ(organization.Orgtrail({"fsck", elsewhere + "/ledger", "--key-encryption-key", organization.Path("org/aggregator/kek.key")}).code, 0);
  stdfs::remove_all(organization.state_dir() + "/derived");
  organization.StartAggregator();      // the history is built anew over what is left
  EXPECT_EQ(organization.Verify({"-o", "table"}).code, 0);
}

}  // namespace
}  // namespace orgtrail::e2e
