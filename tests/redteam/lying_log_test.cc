// An aggregator with the real certificate and the real log key that lies to one agent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include <grpcpp/grpcpp.h>

#include "aggregator/ledger/ledger.h"
#include "common/format/frame.h"
#include "common/fs/file.h"
#include "common/merkle/tree.h"
#include "common/rpc/credentials.h"
#include "orgtrail/v1/ingest.grpc.pb.h"
#include "tests/e2e/support/organization.h"
#include "tests/e2e/support/read_ledger.h"
#include "tests/redteam/table.h"

namespace orgtrail::e2e {
namespace {

namespace stdfs = std::filesystem;
using ::testing::HasSubstr;

enum class Lie { kFork, kDrop };

// Answers one agent's streams: with a fork of the log at once, or truthfully, until a receipt is due for what it dropped.
class LyingIngest final : public v1::Ingest::Service {
 public:
  LyingIngest(Lie lie, Organization& organization) : lie_(lie) {
    ledger_ = OpenLedger(organization);
    absl::StatusOr<SigningKey> key = SigningKey::FromPem(ReadWhole(organization.Path("org/aggregator/log.key")));
    if (!key.ok()) Fail("the log's key: " + std::string(key.status().message()));
    key_ = *std::move(key);
  }

  grpc::Status Push(grpc::ServerContext*, grpc::ServerReaderWriter<v1::PushResponse, v1::PushRequest>* stream) override {
    const std::string origin = ledger_->origin();
    const uint64_t size = ledger_->head().size;
    const Hash root = *ledger_->Root(size);
    const std::string honest = SignNote(Checkpoint{origin, size, root}.Text(), origin, key_);
    v1::PushRequest request;
    if (!stream->Read(&request) || !request.has_hello()) return grpc::Status::CANCELLED;
    const uint64_t seen = request.hello().seen_size();
    v1::PushResponse response;
    v1::Welcome& welcome = *response.mutable_welcome();
    welcome.set_origin(origin);
    welcome.set_log_vkey(NoteKey{origin, 1, key_.public_key()}.Encode());
    if (const std::optional<AgentHead> head = ledger_->HeadOf(Uuid::FromBytes(request.hello().agent_uuid()))) {
      welcome.set_head_epoch(head->epoch);
      welcome.set_head_batch_seq(head->batch_seq);
      welcome.set_head_leaf(std::string(head->leaf.view()));
    }
    if (lie_ == Lie::kFork) {
      welcome.set_checkpoint(SignNote(Checkpoint{origin, size + 5, Sha256("another history")}.Text(), origin, key_));
    } else {
      welcome.set_checkpoint(honest);
    }
    if (seen > 0 && seen < size) {
      const std::vector<Hash> proof = ledger_->Consistency(seen, size).value();
      for (const Hash& h : proof) welcome.add_consistency(std::string(h.view()));
    }
    stream->Write(response);
    while (stream->Read(&request)) {
      if (!request.has_frame()) continue;
      const absl::StatusOr<FrameView> view = FrameView::Decode(request.frame());
      const absl::StatusOr<BatchEntry> entry = view.ok() ? BatchEntry::Decode(view->entry) : view.status();
      if (!entry.ok()) continue;
      // Nothing is logged; the receipt proves some other leaf.
      v1::PushResponse answer;
      v1::Receipt& receipt = *answer.mutable_receipt();
      receipt.set_checkpoint(honest);
      receipt.set_consistency_from(size);
      v1::LeafReceipt& leaf = *receipt.add_leaves();
      leaf.set_epoch(entry->header.epoch);
      leaf.set_batch_seq(entry->header.batch_seq);
      leaf.set_leaf_index(0);
      const std::vector<Hash> path = ledger_->Inclusion(0, size).value();
      for (const Hash& h : path) leaf.add_path(std::string(h.view()));
      stream->Write(answer);
    }
    return grpc::Status::OK;
  }

 private:
  const Lie lie_;
  std::unique_ptr<Ledger> ledger_;
  SigningKey key_;
};

class LyingLog : public ::testing::Test {
 protected:
  // The agent meets the liar where its aggregator was, and afterwards the honest one again.
  void MeetLiar(Lie lie, const std::string& code) {
    AgentProcess& agent = organization.StartAgent({});
    for (int n = 0; n < 5; ++n) agent.Record(CountRecord(n));
    ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == 5; }));
    ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Metric("orgtrail_agent_spool_unacked_batches") == 0; }));
    ASSERT_EQ(organization.StopAggregator(), 0);
    {
      LyingIngest liar(lie, organization);
      grpc::ServerBuilder builder;
      const TlsFiles files{organization.Path("org/aggregator/tls.crt"), organization.Path("org/aggregator/tls.key"), organization.Path("org/ca/ca.crt")};
      builder.AddListeningPort(organization.server(), MutualServerCredentials(files, "o-e2e", [](const Identity&) { return true; }));
      builder.RegisterService(&liar);
      const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
      ASSERT_NE(server, nullptr);
      agent.Record(CountRecord(5));
      EXPECT_TRUE(Eventually(kPatience, [&] { return agent.Logged(code); })) << agent.LogTail();
      server->Shutdown(std::chrono::system_clock::now());
    }
    std::string evidence;
    for (const auto& file : stdfs::directory_iterator(agent.state_dir() + "/spool/evidence")) evidence += ReadWhole(file.path());
    EXPECT_NE(evidence.find("code " + code), std::string::npos) << evidence;
    EXPECT_NE(evidence.find("pinned head:"), std::string::npos);
    EXPECT_GT(agent.Metric("orgtrail_agent_spool_unacked_batches"), 0) << "it believed the liar";
    organization.StartAggregator();
    EXPECT_TRUE(Eventually(kPatience, [&] { return organization.Feed().size() == 6; })) << agent.LogTail();
    EXPECT_EQ(organization.Orgtrail({"verify", "ledger", "--strict", "--trust", organization.trust()}, "auditor").code, 0);
  }

  Organization organization;
};

ATTACK(90, "an aggregator with the real keys shows one agent a fork of the log", "LOG_FORKED: both heads in spool/evidence/, nothing is pruned, what it holds goes to the honest log. Witnesses are a later release's");
TEST_F(LyingLog, AForkIsKeptAsEvidence) {
  MeetLiar(Lie::kFork, "LOG_FORKED");
}

ATTACK(91, "an aggregator with the real keys acknowledges a batch and does not log it", "LEAF_MISSING: the receipt does not prove its leaf; evidence, nothing is pruned, the batch goes to the honest log");
TEST_F(LyingLog, AReceiptThatDoesNotProveTheBatchIsKeptAsEvidence) {
  MeetLiar(Lie::kDrop, "LEAF_MISSING");
}

ATTACK(91, "an aggregator acknowledges batches, then goes on from a state without them, under its own log key and with an anchor to match, until it is longer than what it had signed",
       "LOG_FORKED at the agent's next hello: both heads in spool/evidence/, nothing is pruned; SPLIT_VIEW_SUSPECT; `verify feed` of what an auditor saved before exits 2. `verify ledger` exits 0: what is left is a log of its own, and only who saw the other knows");
TEST_F(LyingLog, WhatWasAcknowledgedAndThenLeftOutIsKnownByWhoSawIt) {
  const auto acked = [](const AgentProcess& a) { return a.Metric("orgtrail_agent_spool_unacked_batches") == 0; };
  const auto size = [&] { return std::stoull(MemberOf(organization.Must({"status", "-o", "json"}), "treeSize")); };
  AgentProcess& agent = organization.StartAgent({});
  AgentProcess& other = organization.StartAgent({.name = "web-2"});
  for (int n = 0; n < 5; ++n) agent.Record(CountRecord(n));
  ASSERT_TRUE(Eventually(kSoon, [&] { return acked(agent) && organization.Feed().size() == 5; }));
  ASSERT_EQ(other.Stop(), 0);
  ASSERT_EQ(organization.StopAggregator(), 0);
  const std::string early = organization.Path("early"), saved = organization.Path("saved");
  stdfs::copy(organization.state_dir(), early, stdfs::copy_options::recursive);
  organization.StartAggregator();
  ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Ready(); }));
  for (int n = 5; n < 10; ++n) agent.Record(CountRecord(n));
  ASSERT_TRUE(Eventually(kSoon, [&] { return acked(agent) && organization.Feed().size() == 10; }));
  WriteWhole(saved, organization.Must({"feed", "--from", "start", "--no-follow", "--envelope", "-o", "jsonl"}, "auditor"));
  const auto verify_saved = [&] { return organization.Orgtrail({"verify", "feed", saved, "--trust", organization.trust()}, "auditor"); };
  EXPECT_EQ(verify_saved().code, 0) << verify_saved().out;
  ASSERT_EQ(agent.Stop(), 0);
  const uint64_t signed_size = size();
  ASSERT_EQ(organization.StopAggregator(), 0);

  stdfs::remove_all(organization.state_dir());
  stdfs::rename(early, organization.state_dir());
  organization.StartAggregator();
  other.Start();
  int told = 100;
  ASSERT_TRUE(Eventually(kPatience, [&] {
    other.Record(CountRecord(told++));
    return acked(other) && size() > signed_size + 5;
  }));
  agent.Launch();
  ASSERT_TRUE(Eventually(kPatience, [&] { return agent.Logged("LOG_FORKED"); })) << agent.LogTail();
  EXPECT_EQ(agent.Post(CountRecord(10))->status, 200);   // captured, and kept from this log
  std::string evidence;
  for (const auto& file : stdfs::directory_iterator(agent.state_dir() + "/spool/evidence")) evidence += ReadWhole(file.path());
  EXPECT_THAT(evidence, HasSubstr("code LOG_FORKED"));
  EXPECT_THAT(evidence, HasSubstr("pinned head:"));
  EXPECT_GT(agent.Metric("orgtrail_agent_spool_unacked_batches"), 0);
  EXPECT_TRUE(Eventually(kSoon, [&] { return organization.Alarmed("SPLIT_VIEW_SUSPECT"); })) << organization.Alarms();
  const Ran verified = verify_saved();
  EXPECT_EQ(verified.code, 2) << verified.out << verified.err;
  EXPECT_EQ(organization.Verify().code, 0);
}

}  // namespace
}  // namespace orgtrail::e2e
