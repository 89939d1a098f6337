// A spool's disk that changes bytes under a real agent: what it costs is one batch's bodies at most, and everybody is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "agent/spool/spool.h"
#include "agent/spool/values.h"
#include "common/base/status.h"
#include "common/format/frame.h"
#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Waiting {                       // a data batch of a spool that is not acknowledged
  BatchKey key;
  std::string frame, entry, copy;      // as they lie in the file
};

class Damage : public ::testing::Test {
 protected:
  Damage() : agent(organization.StartAgent({})) {}

  void Tell(int n) {
    for (int i = 0; i < n; ++i) {
      told.push_back(CountRecord(static_cast<int>(told.size())));
      agent.Record(told.back());
    }
  }
  // 5 records are logged; 10 more, a batch each, wait in the spool of an agent that is down, its aggregator as well.
  std::vector<Waiting> WithTenWaiting() {
    Tell(5);
    EXPECT_TRUE(Eventually(kSoon, [&] { return agent.Metric("orgtrail_agent_spool_unacked_batches") == 0; }));
    EXPECT_EQ(organization.StopAggregator(), 0);
    Tell(10);
    agent.Kill();
    const absl::StatusOr<std::unique_ptr<Spool>> spool = Spool::Open(agent.state_dir() + "/spool", {.max_bytes = 1 << 30}, PosixFs(), SystemClock());
    CHECK_OK(spool.status());
    std::vector<Waiting> waiting;
    BatchKey at = (*spool)->Facts().acked_through;
    for (auto next = (*spool)->Next(at); next.ok() && next->has_value(); next = (*spool)->Next(at)) {
      at = (*next)->first;
      const FrameView view = *FrameView::Decode((*next)->second);
      if (view.n_rows == 0) continue;
      waiting.push_back({at, (*next)->second, std::string(view.entry), EncodeEntry(EncodeKey(at), *(*spool)->ReadEntry(at))});
    }
    EXPECT_EQ(waiting.size(), 10u);
    return waiting;
  }
  // The disk changes one byte of `is`, wherever the file has it.
  void Flip(const std::string& is, size_t byte) {
    const std::string path = agent.state_dir() + "/spool/data.mdb";
    std::string file = ReadWhole(path);
    int found = 0;
    for (size_t at = 0; (at = file.find(is, at)) != std::string::npos; ++at, ++found) file[at + byte] = static_cast<char>(file[at + byte] ^ 0x10);
    ASSERT_GT(found, 0);
    WriteWhole(path, file);
  }
  void GoOn() {
    organization.StartAggregator();
    agent.Start();
    Tell(5);
    ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Metric("orgtrail_agent_spool_unacked_batches") == 0; })) << agent.LogTail();
  }

  Organization organization;
  AgentProcess& agent;
  std::vector<std::string> told;
};

TEST_F(Damage, ABodyCostsItsBatchAndNoMore) {
  const std::vector<Waiting> waiting = WithTenWaiting();
  Flip(waiting[3].frame, waiting[3].frame.size() - 20);   // the fourth of ten: record 8
  GoOn();
  std::vector<std::string> left = told;
  left.erase(left.begin() + 8);
  EXPECT_EQ(organization.Feed(), left);                   // in order, before and after it

  // Whoever reads is told, each in its own words.
  const std::vector<std::string> envelopes = organization.Feed({"--envelope"});
  ASSERT_EQ(envelopes.size(), told.size() + 1);           // the batch held who posted it as well, and nobody can tell which was which
  EXPECT_THAT(envelopes[8], HasSubstr("\"notes\":[\"TOMBSTONE\",\"BODIES_MISSING\""));
  EXPECT_THAT(envelopes[8], HasSubstr("\"record\":null"));
  EXPECT_THAT(organization.Alarms(), HasSubstr("BODIES_MISSING"));
  EXPECT_THAT(organization.Orgtrail({"events", "lookup", "--account", kAlice, "-o", "json", "--envelope"}, "auditor").out, HasSubstr("BODIES_MISSING"));
  EXPECT_THAT(organization.Orgtrail({"events", "lookup", "--account", kAlice, "-o", "table"}, "auditor").err, HasSubstr("2 events, decode (bodies missing)"));
  std::string loss;
  for (const std::string& r : organization.Feed({"--own"})) {
    if (r.find("\"Loss\"") != std::string::npos) loss = r;
  }
  EXPECT_THAT(loss, HasSubstr("\"cause\":\"decode\",\"count\":2,\"epoch\":" + std::to_string(waiting[3].key.epoch) + ",\"batch\":" +
                              std::to_string(waiting[3].key.batch_seq)));
  const Ran verify = organization.Orgtrail({"verify", "ledger"}, "auditor");
  EXPECT_EQ(verify.code, 3) << verify.out << verify.err;  // incomplete, not tampered
  EXPECT_THAT(verify.out, HasSubstr("2 records came without their bodies"));
  const std::string where = MemberOf(envelopes[8], "leaf") + ":0";
  EXPECT_THAT(organization.Orgtrail({"events", "show", "x", "--at", where, "-o", "table"}, "auditor").out, HasSubstr("body of this record is gone"));
  EXPECT_THAT(organization.Orgtrail({"prove", "x", "--at", where}, "auditor").err, HasSubstr("bodies of this batch are gone (corrupt)"));
  EXPECT_THAT(organization.Alarms(), Not(HasSubstr("UNEXPLAINED_GAP")));
  // What the disk made of it is kept for whoever wants to try.
  EXPECT_NE(ReadWhole(agent.state_dir() + "/spool/evidence/damaged-" + std::to_string(waiting[3].key.epoch) + "-" +
                      std::to_string(waiting[3].key.batch_seq) + ".otf1"), "");
  EXPECT_EQ(organization.StopAggregator(), 0);
  const Ran fsck = organization.Fsck();
  EXPECT_EQ(fsck.code, 0) << fsck.out;                    // the ledger is as it should be
  EXPECT_THAT(fsck.out, HasSubstr("2 of these records came without their bodies"));
}

TEST_F(Damage, ASignedHeaderIsMadeWholeFromItsCopy) {
  const std::vector<Waiting> waiting = WithTenWaiting();
  Flip(waiting[3].frame, 6 + waiting[3].entry.size() / 2);
  Flip(waiting[5].copy, waiting[5].copy.size() / 2);
  GoOn();
  EXPECT_EQ(organization.Feed(), told);
  EXPECT_EQ(organization.Verify().code, 0);
  EXPECT_THAT(organization.Alarms(), Not(HasSubstr("BODIES_MISSING")));
}

TEST_F(Damage, WhenBothEntriesAreGoneTheChainGoesOnInANewEpoch) {
  const std::vector<Waiting> waiting = WithTenWaiting();
  Flip(waiting[3].entry, waiting[3].entry.size() / 2);    // in the frame and in the copy
  organization.StartAggregator();
  agent.Start();
  ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Logged("SPOOL_TAMPER"); })) << agent.LogTail();
  Tell(5);
  std::vector<std::string> left = told;
  // Only what was damaged is missing; what followed it in the same epoch was recorded once more.
  left.erase(left.begin() + 8);
  ASSERT_TRUE(Eventually(kPatience, [&] { return organization.Feed().size() >= left.size(); })) << agent.LogTail();
  std::vector<std::string> feed = organization.Feed();
  std::sort(feed.begin(), feed.end());   // what was told after the restart may come before it
  EXPECT_EQ(feed, left);
  // The loss is said when all is looked through: behind what was recorded once more.
  const auto on_record = [&](std::string_view one, std::string_view other) {
    return Eventually(kSoon, [&] {
      const std::vector<std::string> own = organization.Feed({"--own"});
      return std::any_of(own.begin(), own.end(), [&](const std::string& r) { return r.find(one) != std::string::npos && r.find(other) != std::string::npos; });
    });
  };
  EXPECT_TRUE(on_record("\"cause\":\"decode\"", "\"batchesLost\":1,\"batchesRecovered\":")) << agent.LogTail();
  EXPECT_TRUE(on_record("\"eventName\":\"Recovered\"",
                        "\"epoch\":" + std::to_string(waiting[4].key.epoch) + ",\"batch\":" + std::to_string(waiting[4].key.batch_seq) + ","));
  EXPECT_EQ(organization.Verify().code, 0);
}

}  // namespace
}  // namespace orgtrail::e2e
