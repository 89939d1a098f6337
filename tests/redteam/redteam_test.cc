// Attacks on running programs and on their files: each is carried out, and has the outcome the threat model promises.
// ORGTRAIL_REDTEAM_README=FILE writes the table of what was run and how it ended (table.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <filesystem>
#include <thread>

#include "absl/time/clock.h"
#include "aggregator/ledger/ledger.h"
#include "common/crypto/digest.h"
#include "common/fs/file.h"
#include "tests/e2e/support/organization.h"
#include "tests/redteam/bare.h"
#include "tests/redteam/table.h"

namespace orgtrail::e2e {
namespace {

namespace stdfs = std::filesystem;
using ::testing::AnyOf;
using ::testing::HasSubstr;

// ---- the world

std::string Record(int n) {
  return R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventName":"Count","eventID":"id-)" + std::to_string(n) +
         R"(","recipientAccountId":"222222222222","n":)" + std::to_string(n) + "}";
}

class RedTeam : public ::testing::Test {
 protected:
  AgentProcess& Start(AgentSpec spec = {}) { return organization.StartAgent(std::move(spec)); }
  void Tell(AgentProcess& agent, int from, int to) {
    for (int n = from; n < to; ++n) agent.Record(Record(n));
  }
  bool Logged(size_t n) {
    return Eventually(kSoon, [&] { return organization.Feed().size() == n; });
  }
  std::string Alarms() { return organization.Must({"alarms", "--all", "-o", "jsonl"}); }
  bool Alarm(std::string_view code) {
    return Eventually(kSoon, [&] { return Alarms().find(code) != std::string::npos; });
  }
  // Whether the log holds record `n` apart from the feed.
  bool InQuarantine(int n) {
    const std::string id = "EventId=id-" + std::to_string(n);
    return Eventually(kSoon, [&] {
      const Ran found = organization.Orgtrail({"events", "lookup", "-a", id, "--quarantined", "--envelope", "-o", "jsonl"}, "auditor");
      return found.out.find("\"quarantined\":true") != std::string::npos;
    });
  }
  int Verify() { return organization.Orgtrail({"verify", "ledger", "--strict"}, "auditor").code; }
  // Flips a byte of every occurrence of `of` in a file; how many.
  static int FlipIn(const std::string& path, std::string_view of) {
    std::string bytes = ReadWhole(path);
    int flipped = 0;
    for (size_t at = 0; (at = bytes.find(of, at)) != std::string::npos; at += of.size(), ++flipped) bytes[at + of.size() / 2] ^= 0x20;
    if (flipped != 0) WriteWhole(path, bytes);
    return flipped;
  }

  Organization organization;
};

// ---- the agent's host

ATTACK(8, "delete the whole spool directory while the agent runs", "SPOOL_TAMPER within 5 s; the agent stops with 1. Started again it goes on from the log's head: UNCLEAN_EPOCH and a signed loss record; nothing is in quarantine");
TEST_F(RedTeam, TheSpoolDirectoryIsDeletedWhileTheAgentRuns) {
  AgentProcess& agent = Start();
  Tell(agent, 0, 10);
  ASSERT_TRUE(Logged(10));
  const absl::Time begin = absl::Now();
  stdfs::remove_all(agent.state_dir() + "/spool");
  const std::optional<int> code = agent.process().Wait(kSoon);
  EXPECT_EQ(code, 1);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
  EXPECT_TRUE(agent.Logged("the spool cannot be used any more"));
  EXPECT_TRUE(agent.Logged("SPOOL_TAMPER"));
  EXPECT_EQ(organization.Feed().size(), 10u);
  agent.Start();
  agent.Record(Record(10));
  EXPECT_TRUE(Logged(11)) << agent.LogTail();
  EXPECT_TRUE(Alarm("UNCLEAN_EPOCH")) << agent.LogTail();
  EXPECT_THAT(organization.Feed({"--own"}), ::testing::Contains(HasSubstr("\"cause\":\"spool_lost\"")));
  EXPECT_FALSE(agent.Logged("EQUIVOCATION"));
  EXPECT_EQ(Verify(), 0);
}

ATTACK(6, "change signed headers of batches that wait in the spool", "SPOOL_TAMPER; never logged; a signed loss record says what is gone, and the chain goes on in a new epoch");
TEST_F(RedTeam, SignedHeadersInTheSpoolAreChanged) {
  AgentProcess& agent = Start();
  Tell(agent, 0, 5);
  ASSERT_TRUE(Logged(5));
  organization.StopAggregator();
  Tell(agent, 5, 10);
  agent.Kill();
  ASSERT_GT(FlipIn(agent.state_dir() + "/spool/data.mdb", "OTB1"), 0);
  organization.StartAggregator();
  agent.Launch();
  ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Logged("SPOOL_TAMPER"); })) << agent.LogTail();
  ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Ready(); })) << agent.LogTail();
  Tell(agent, 10, 12);
  EXPECT_TRUE(Logged(7)) << agent.LogTail();
  const std::vector<std::string> feed = organization.Feed();
  ASSERT_EQ(feed.size(), 7u);
  for (int n = 0; n < 7; ++n) EXPECT_EQ(feed[static_cast<size_t>(n)], Record(n < 5 ? n : n + 5));
  EXPECT_THAT(organization.Feed({"--own"}), ::testing::Contains(HasSubstr("\"cause\":\"decode\"")));
  EXPECT_EQ(Verify(), 0);
}

ATTACK(9, "restore the agent's state from an older copy and start it",
       "EQUIVOCATION: evidence, a page; what it captures from then on is logged and receipted, in quarantine; nothing acknowledged changes");
TEST_F(RedTeam, TheSpoolIsRestoredFromACopy) {
  AgentProcess& agent = Start();
  Tell(agent, 0, 10);
  ASSERT_EQ(agent.Stop(), 0);
  const std::string copy = organization.Path("copy");
  stdfs::copy(agent.state_dir(), copy, stdfs::copy_options::recursive);
  agent.Start();
  Tell(agent, 10, 20);
  ASSERT_TRUE(Logged(20));
  ASSERT_EQ(agent.Stop(), 0);
  stdfs::remove_all(agent.state_dir());
  stdfs::copy(copy, agent.state_dir(), stdfs::copy_options::recursive);
  agent.Launch();
  ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Post(Record(99)).ok(); }));
  EXPECT_TRUE(Alarm("EQUIVOCATION")) << agent.LogTail();
  EXPECT_TRUE(InQuarantine(99)) << agent.LogTail();
  agent.Record(Record(100));
  EXPECT_TRUE(InQuarantine(100)) << agent.LogTail();
  EXPECT_TRUE(Eventually(kSoon, [&] { return agent.Metric("orgtrail_agent_spool_unacked_batches") == 0; }));
  EXPECT_TRUE(agent.Logged("in quarantine"));
  const std::vector<std::string> feed = organization.Feed();
  ASSERT_EQ(feed.size(), 20u);
  for (int n = 0; n < 20; ++n) EXPECT_EQ(feed[static_cast<size_t>(n)], Record(n));
  EXPECT_EQ(Verify(), 0);
  // The way out, as the alarm says: revoked, and enrolled anew under the same name.
  ASSERT_EQ(agent.Stop(), 0);
  organization.Must({"agents", "revoke", "web-1"});
  stdfs::remove_all(agent.state_dir());
  organization.Token(agent.spec(), agent.token_file());
  agent.Start();
  agent.Record(Record(101));
  EXPECT_TRUE(Logged(21));
  EXPECT_EQ(Verify(), 0);
}

ATTACK(10, "run a clone of the agent with the same identity beside it",
       "EQUIVOCATION at once, a page; both go on, in quarantine, and neither waits for the other");
TEST_F(RedTeam, TheAgentIsClonedToAnotherHost) {
  AgentProcess& agent = Start();
  Tell(agent, 0, 5);
  ASSERT_TRUE(Logged(5));
  ASSERT_EQ(agent.Stop(), 0);
  AgentProcess& clone = organization.AddAgent({.account = kAlice, .name = "clone"});
  stdfs::copy(agent.state_dir(), clone.state_dir(), stdfs::copy_options::recursive);
  clone.mutable_spec().name = "web-1";
  clone.WriteConfig();
  agent.Start();
  Tell(agent, 5, 10);
  ASSERT_TRUE(Logged(10));
  clone.Launch();
  ASSERT_TRUE(Eventually(kSoon, [&] { return clone.Post(Record(20)).ok(); }));
  EXPECT_TRUE(Alarm("EQUIVOCATION")) << Alarms() << clone.LogTail();
  for (int n = 21; n < 30; n += 3) {
    clone.Record(Record(n));
    agent.Record(Record(n + 1));
    EXPECT_TRUE(InQuarantine(n)) << clone.LogTail();
    EXPECT_TRUE(InQuarantine(n + 1)) << agent.LogTail();
  }
  for (AgentProcess* a : {&agent, &clone}) {
    EXPECT_TRUE(Eventually(kSoon, [&] { return a->Metric("orgtrail_agent_spool_unacked_batches") == 0; }));
    EXPECT_LE(a->Metric("orgtrail_uplink_streams_total"), 3) << "they make each other reconnect";
    EXPECT_FALSE(a->Logged("LEAF_MISSING"));
  }
  EXPECT_EQ(organization.Feed().size(), 10u);
  EXPECT_EQ(Verify(), 0);
}

// ---- enrolment, identity

ATTACK(11, "SIGSTOP the agent", "SILENT_AGENT within 30 s; on SIGCONT it goes on where it was, and the alarm is over");
TEST_F(RedTeam, AnAgentStoppedWithSigstopIsMissed) {
  organization.StopAggregator();
  organization.Reconfigure("  heartbeat_interval: ", "  heartbeat_interval: 1s");
  organization.StartAggregator();
  AgentProcess& agent = Start();
  Tell(agent, 0, 5);
  ASSERT_TRUE(Logged(5));
  agent.process().Signal(SIGSTOP);
  EXPECT_TRUE(Eventually(absl::Seconds(30), [&] { return Alarms().find("SILENT_AGENT") != std::string::npos; }));
  agent.process().Signal(SIGCONT);
  EXPECT_TRUE(Eventually(kSoon, [&] { return organization.Must({"alarms", "-o", "jsonl"}).find("SILENT_AGENT") == std::string::npos; }));
  Tell(agent, 5, 10);
  EXPECT_TRUE(Logged(10));
  EXPECT_EQ(Verify(), 0);
}

ATTACK(25, "connect with a certificate of another CA, and with none", "no connection");
ATTACK(27, "connect with the CA's own certificate, or the server's", "refused");
TEST_F(RedTeam, CertificatesThatAreNotOfThisOrganization) {
  Organization other({.start = false});
  const auto with = [&](const std::string& certificate, const std::string& key) {
    return organization.Orgtrail({"--certificate", certificate, "--key", key, "status"}).code;
  };
  EXPECT_EQ(with(organization.Path("org/people/admin.crt"), organization.Path("org/people/admin.key")), 0);
  EXPECT_EQ(with(other.Path("org/people/admin.crt"), other.Path("org/people/admin.key")), 1);
  EXPECT_EQ(with(organization.Path("org/ca/ca.crt"), organization.Path("org/ca/ca.key")), 1);
  EXPECT_EQ(with(organization.Path("org/aggregator/tls.crt"), organization.Path("org/aggregator/tls.key")), 1);
  // With TLS 1.3 a client is through before the server has seen its certificate: that nothing is answered is what counts.
  const auto answered = [&](const std::string& certificate, const std::string& key) {
    BareTls tls(organization.port(), certificate, key, organization.Path("org/ca/ca.crt"));
    return tls.Write(std::string(h2::kPreface) + h2::Settings({})) && !tls.Read(absl::Seconds(5)).empty();
  };
  EXPECT_TRUE(answered(organization.Path("org/people/admin.crt"), organization.Path("org/people/admin.key")));
  EXPECT_FALSE(answered(other.Path("org/people/admin.crt"), other.Path("org/people/admin.key")));
  EXPECT_FALSE(answered("", ""));
  EXPECT_EQ(Verify(), 0);
}

ATTACK(30, "go on with a stream after the agent was revoked", "the stream ends within 5 s; what was acknowledged stays");
TEST_F(RedTeam, RevokedDuringAnOpenStream) {
  AgentProcess& agent = Start();
  Tell(agent, 0, 5);
  ASSERT_TRUE(Logged(5));
  organization.Must({"agents", "revoke", "web-1"});
  EXPECT_TRUE(Eventually(absl::Seconds(5), [&] { return !agent.Ready(); }));
  // Either it has not heard of it yet and keeps the record, or it says that it records nothing any more.
  const absl::StatusOr<HttpResponse> answer = agent.Post(Record(5));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(answer->status, AnyOf(200, 503)) << answer->body;
  EXPECT_TRUE(Alarm("REVOKED") || agent.Logged("AUTH_REVOKED"));
  EXPECT_EQ(organization.Feed().size(), 5u);
  EXPECT_EQ(Verify(), 0);
}

// ---- log, storage

ATTACK(87, "edit bytes in the ledger's file", "found, never read as good: fsck and verify exit 2 (tampered)");
TEST_F(RedTeam, OneByteOfTheLedgerIsChanged) {
  AgentProcess& agent = Start();
  Tell(agent, 0, 50);
  ASSERT_TRUE(Logged(50));
  ASSERT_EQ(agent.Stop(), 0);
  ASSERT_EQ(organization.StopAggregator(), 0);
  ASSERT_EQ(organization.Orgtrail({"fsck", organization.ledger_dir()}).code, 0);
  int changed = 0;
  for (const auto& file : stdfs::recursive_directory_iterator(organization.ledger_dir())) {
    if (file.path().filename() == "data.mdb") changed += FlipIn(file.path(), "OTB1");
  }
  ASSERT_GT(changed, 0);
  const Ran checked = organization.Orgtrail({"fsck", organization.ledger_dir()});
  EXPECT_EQ(checked.code, 2) << checked.out << checked.err;
  EXPECT_THAT(checked.out, HasSubstr("remedy"));
  const Ran verified = organization.Orgtrail({"verify", "ledger", organization.ledger_dir(), "--trust", organization.trust(), "--strict"});
  EXPECT_EQ(verified.code, 2) << verified.out << verified.err;
}

ATTACK(88, "restore an older backup of the ledger and start", "LOG_ROLLBACK: refused at the start, the anchor knows a newer head; nothing is signed");
TEST_F(RedTeam, YesterdaysBackupIsPutBack) {
  AgentProcess& agent = Start();
  Tell(agent, 0, 10);
  ASSERT_TRUE(Logged(10));
  ASSERT_EQ(organization.StopAggregator(), 0);
  const std::string backup = organization.Path("backup");
  stdfs::copy(organization.ledger_dir(), backup, stdfs::copy_options::recursive);
  organization.StartAggregator();
  Tell(agent, 10, 20);
  ASSERT_TRUE(Logged(20));
  ASSERT_EQ(organization.StopAggregator(), 0);
  stdfs::remove_all(organization.ledger_dir());
  stdfs::copy(backup, organization.ledger_dir(), stdfs::copy_options::recursive);
  const Ran refused = RunProgram({Program("orgtrail-aggregator"), "--config", organization.config()}, {}, {}, kSoon);
  EXPECT_EQ(refused.code, 1) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("LOG_ROLLBACK"));
  // What is there is whole, and older than what was signed: only who knows a newer head can tell.
  EXPECT_EQ(organization.Orgtrail({"verify", "ledger", organization.ledger_dir(), "--trust", organization.trust(), "--strict"}).code, 0);
}

ATTACK(89, "start a second aggregator on the same state", "it does not start; the first goes on");
TEST_F(RedTeam, TwoAggregatorsOnOneLog) {
  const Ran second = RunProgram({Program("orgtrail-aggregator"), "--config", organization.config()}, {}, {}, kSoon);
  EXPECT_EQ(second.code, 1);
  AgentProcess& agent = Start();
  Tell(agent, 0, 5);
  EXPECT_TRUE(Logged(5));
  EXPECT_EQ(Verify(), 0);
}

ATTACK(94, "truncate the ledger's file at every byte offset of the newest page it needs and of the next, and in its middle",
       "each is refused before anything is read, or everything acknowledged is there; `fsck` says 2, the aggregator does not start");
TEST_F(RedTeam, TheLedgersFileIsTorn) {
  AgentProcess& agent = Start();
  Tell(agent, 0, 50);
  ASSERT_TRUE(Logged(50));
  ASSERT_EQ(organization.StopAggregator(), 0);
  std::string file;
  for (const auto& entry : stdfs::recursive_directory_iterator(organization.ledger_dir())) {
    if (entry.path().filename() == "data.mdb") file = entry.path();
  }
  const std::string copy = organization.Path("copy");
  stdfs::copy(organization.ledger_dir(), copy, stdfs::copy_options::recursive);
  const std::string torn = copy + file.substr(organization.ledger_dir().size());
  const uint64_t whole = stdfs::file_size(file);
  LedgerOptions options;
  options.dir = copy;
  options.read_only = true;
  options.kek = ReadWhole(organization.Path("org/aggregator/kek.key"));
  uint64_t leaves = 0;
  {
    const auto intact = Ledger::Open(options, "", nullptr, PosixFs(), SystemClock());
    ASSERT_TRUE(intact.ok()) << intact.status();
    leaves = (*intact)->head().size;
  }
  constexpr uint64_t kPage = 4096;
  const auto open = [&](uint64_t size) {
    stdfs::resize_file(torn, 0);
    stdfs::copy_file(file, torn, stdfs::copy_options::overwrite_existing);
    stdfs::resize_file(torn, size);
    return Ledger::Open(options, "", nullptr, PosixFs(), SystemClock());
  };
  // What LMDB reserved behind the newest page is no part of it.
  uint64_t needed = whole;
  while (needed > kPage && open(needed - kPage).ok()) needed -= kPage;
  ASSERT_GT(needed, 2 * kPage);
  int refused = 0;
  stdfs::copy_file(file, torn, stdfs::copy_options::overwrite_existing);
  for (uint64_t size = needed + kPage; size > needed - 2 * kPage; --size) {
    stdfs::resize_file(torn, std::min(size, whole));
    const auto opened = Ledger::Open(options, "", nullptr, PosixFs(), SystemClock());
    if (!opened.ok()) {
      ++refused;
      continue;
    }
    // Pages that one transaction took and gave back were never written: the file is whole without them.
    ASSERT_EQ((*opened)->head().size, leaves) << size;
    for (uint64_t leaf = 0; leaf < leaves; ++leaf) ASSERT_TRUE((*opened)->ReadRaw(leaf).ok()) << size << " leaf " << leaf;
  }
  EXPECT_GE(refused, static_cast<int>(kPage));
  stdfs::resize_file(file, whole / 2 + 1234);
  EXPECT_EQ(organization.Orgtrail({"fsck", organization.ledger_dir()}).code, 2);
  EXPECT_EQ(organization.Orgtrail({"verify", "ledger", organization.ledger_dir(), "--trust", organization.trust(), "--strict"}).code, 2);
  const Ran started = RunProgram({Program("orgtrail-aggregator"), "--config", organization.config()}, {}, {}, kSoon);
  EXPECT_EQ(started.code, 1) << started.err;
}

// ---- reading

ATTACK(101, "use somebody else's cursor, or a forged one", "refused; cursors are bound to the identity");
TEST_F(RedTeam, CursorsOfOthersForgedOrFromTheFuture) {
  AgentProcess& agent = Start();
  Tell(agent, 0, 3);
  ASSERT_TRUE(Logged(3));
  organization.CreateUser("alice", "user", kAlice);
  const std::string file = organization.Path("cursor");
  organization.Must({"feed", "--from", "start", "--no-follow", "--cursor-file", file, "-o", "jsonl"}, "auditor");
  const std::string cursor = LinesOf(ReadWhole(file)).at(0);
  EXPECT_EQ(organization.Orgtrail({"feed", "--from", cursor, "--no-follow"}, "alice").code, 1);
  for (size_t i = 0; i < cursor.size(); i += 5) {
    std::string forged = cursor;
    forged[i] = forged[i] == 'A' ? 'B' : 'A';
    EXPECT_NE(organization.Orgtrail({"feed", "--from", forged, "--no-follow"}, "auditor").code, 0) << i;
  }
  EXPECT_EQ(Verify(), 0);
}

ATTACK(106, "filters of 100,000 bytes, and such as make regular expressions explode", "refused beyond 4,096 bytes, INVALID_ARGUMENT; the others matched literally, at once");
TEST_F(RedTeam, FiltersThatAreMeantToHurt) {
  const std::string exploding = "EventName=" + std::string(60, 'a') + "(a+)+$";
  EXPECT_EQ(organization.Orgtrail({"events", "lookup", "-a", exploding, "-o", "jsonl"}, "auditor").code, 0);
  const Ran huge = organization.Orgtrail({"events", "lookup", "-a", "EventName=" + std::string(100'000, 'x'), "-o", "jsonl"}, "auditor");
  EXPECT_EQ(huge.code, 2) << huge.out;
  EXPECT_THAT(huge.err, HasSubstr("at most 4096"));
  EXPECT_EQ(organization.Orgtrail({"status"}).code, 0);
  EXPECT_EQ(Verify(), 0);
}

ATTACK(107, "an administrator reads audit data", "the read is a record of the log, with who and what");
TEST_F(RedTeam, AReadIsOnRecordBeforeItsRowsAreShown) {
  AgentProcess& agent = Start();
  Tell(agent, 0, 1);
  ASSERT_TRUE(Logged(1));
  organization.Must({"events", "lookup", "-a", "EventName=Count", "-o", "jsonl"}, "admin");
  const std::string own = organization.Must({"feed", "--from", "start", "--no-follow", "--own", "-o", "jsonl"}, "auditor");
  EXPECT_THAT(own, HasSubstr("LookupEvents"));
  EXPECT_THAT(own, HasSubstr("role/governance/admin"));
  EXPECT_EQ(Verify(), 0);
}

}  // namespace
}  // namespace orgtrail::e2e
