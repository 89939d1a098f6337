// What an agent abandoned when its chain went on past damage or past a gap, and streams that outlive their use.
#include <gtest/gtest.h>

#include "tests/support/uplink_world.h"

namespace orgtrail {
namespace {

class BranchTest : public UplinkTest {
 protected:
  // The spool has batches 0 to 3 of epoch 1; the log has 0 and 1, and the agent their receipts.
  void CaptureThreeAndLogTheFirst() {
    Capture(3);
    Connect();
    ASSERT_TRUE(Receive().ok());
    EXPECT_EQ(Send(2), 2);
    ASSERT_TRUE(Receive().ok());
  }
};

TEST_F(BranchTest, SkippedBatchesAreNotSent) {
  Capture(3);
  Connect();
  ASSERT_TRUE(Receive().ok());
  ASSERT_TRUE(agent_->Abandon({1, 0}, {1, 3}).ok());
  EXPECT_EQ(Send(), 2);
}

// The log has the epoch that goes on behind the branch; the run that abandoned it is over.
TEST_F(BranchTest, ALaterRunKnowsWhatAnEarlierOneAbandoned) {
  CaptureThreeAndLogTheFirst();
  ASSERT_EQ(acked(), (BatchKey{1, 1}));
  Cut();
  OpenEpochAfter(2, {1, 1}, LeafOf({1, 1}), 1);
  ASSERT_TRUE(agent_->Abandon({1, 1}, {2, 0}).ok());
  Capture(1);
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(1), 1);
  ASSERT_TRUE(Receive([](v1::PushResponse&) { return false; }).ok());   // logged, and the agent ends before it hears of it
  ASSERT_EQ(size(), 4u);
  Cut();
  Resume();
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(), 2);
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), (BatchKey{2, 1}));
  EXPECT_FALSE(agent_->Facts().quarantined);
  EXPECT_TRUE(reported_.empty()) << reported_.back();
}

// What the earlier run sent of the new epoch is under way while the log welcomes the next one: its head is still the old one.
TEST_F(BranchTest, ALaterRunSkipsTheBranchFromItsFirstFrame) {
  CaptureThreeAndLogTheFirst();
  Cut();
  OpenEpochAfter(2, {1, 1}, LeafOf({1, 1}), 1);
  ASSERT_TRUE(agent_->Abandon({1, 1}, {2, 0}).ok());
  Capture(1);
  Resume();
  Connect();
  ASSERT_TRUE(Receive().ok());
  ASSERT_EQ(agent_->Facts().log_head, (BatchKey{1, 1}));
  EXPECT_EQ(Send(), 2);
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), (BatchKey{2, 1}));
  EXPECT_TRUE(reported_.empty()) << reported_.back();
}

// Frames of the branch were under way when the new epoch was opened, and came first.
TEST_F(BranchTest, ABranchOfWhichTheLogTookMoreIsLeftAnewFurtherOn) {
  CaptureThreeAndLogTheFirst();
  const StreamId first = stream_;
  std::string late = [&] {
    v1::PushRequest request;
    request.set_frame(*spool_->Read({1, 2}));
    return request.SerializeAsString();
  }();
  OpenEpochAfter(2, {1, 1}, LeafOf({1, 1}), 1);
  ASSERT_TRUE(agent_->Abandon({1, 1}, {2, 0}).ok());
  ASSERT_TRUE(world_.sessions->Take(first, late));
  world_.Pump();
  Cut();
  Resume();
  Connect();
  EXPECT_TRUE(absl::IsFailedPrecondition(Receive()));
  EXPECT_EQ(reported_.back(), "SPOOL_TAMPER");
  Cut();
  const UplinkFacts facts = agent_->Facts();
  EXPECT_TRUE(facts.log_head_held);
  ASSERT_EQ(facts.log_head, (BatchKey{1, 2}));
  OpenEpochAfter(3, {1, 2}, LeafOf({1, 2}), 2);
  ASSERT_TRUE(agent_->Abandon(facts.log_has, {3, 0}).ok());
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(), 2);                          // 1.2 once more, whose receipt is not here, and the epoch behind it
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), (BatchKey{3, 0}));
  EXPECT_FALSE(agent_->Facts().quarantined);
}

// Somebody deleted the spool, or another process of this identity used one that is not here.
TEST_F(BranchTest, ASpoolThatKnowsNothingOfItsPastGoesOnFromTheLogsHead) {
  Capture(3);
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(), 4);
  ASSERT_TRUE(Receive().ok());
  const Hash leaf = LeafOf({1, 3});
  Cut();
  agent_.reset();
  spool_.reset();
  std::filesystem::remove_all(world_.dir / "spool");
  spool_ = *Spool::Open(world_.dir / "spool", {.max_bytes = 64 << 20, .min_free = 0}, PosixFs(), world_.clock);
  OpenEpochAfter(1, {}, Hash{}, 0);
  Capture(4);                                    // as far as the one before it, and further
  for (int run = 0; run < 2; ++run) {            // a run that ended before it went on says so again
    Resume();
    Connect();
    EXPECT_TRUE(absl::IsFailedPrecondition(Receive()));
    ASSERT_EQ(reported_.size(), static_cast<size_t>(run + 1));
    EXPECT_EQ(reported_.back(), "SPOOL_LOST");
    EXPECT_FALSE(*agent_->Next());
    Cut();
  }
  const UplinkFacts facts = agent_->Facts();
  ASSERT_EQ(facts.log_head, (BatchKey{1, 3}));
  ASSERT_EQ(facts.log_head_leaf, leaf);
  OpenEpochAfter(2, facts.log_head, leaf, facts.log_head_next_seq - 1);
  ASSERT_TRUE(agent_->Abandon({}, {2, 0}).ok());
  for (int run = 0; run < 2; ++run) {
    Resume();
    Connect();
    ASSERT_TRUE(Receive().ok());
    Capture(1);
    EXPECT_EQ(Send(), 2 - run);
    ASSERT_TRUE(Receive().ok());
    EXPECT_EQ(acked(), (BatchKey{2, 1 + static_cast<uint64_t>(run)}));
    Cut();
  }
  EXPECT_EQ(reported_.size(), 2u);
}

// The log was restored, an epoch that goes on from its head was opened, and the agent ended before it had recorded what lay between.
TEST_F(BranchTest, AnEpochIsHeldUntilTheBranchBehindItIsAccountedFor) {
  agent_.reset();
  spool_ = nullptr;
  spool_ = *Spool::Open(world_.dir / "spool", {.max_bytes = 64 << 20, .min_free = 0, .keep_acked = absl::ZeroDuration()}, PosixFs(), world_.clock);
  Resume();
  CaptureThreeAndLogTheFirst();
  Cut();
  const Hash leaf = LeafOf({1, 1});
  CHECK_OK(spool_->Acked({1, 3}, *spool_->pin()));   // as the log acknowledged before it was restored
  world_.clock.Advance(absl::Seconds(1));
  OpenEpochAfter(2, {1, 1}, leaf, 1);
  ASSERT_EQ(spool_->KeyAfter({}), (BatchKey{2, 0}));
  Resume();
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(agent_->Next().status()));
  EXPECT_EQ(reported_.back(), "RECORDS_MISSING");
  EXPECT_EQ(agent_->Facts().gone_after, (BatchKey{1, 1}));
  Cut();
  ASSERT_TRUE(agent_->Abandon({1, 1}, {2, 0}).ok());
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(), 1);
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), (BatchKey{2, 0}));
}

// A connection that its agent gave up may deliver what is under way long after the next one is open.
TEST_F(BranchTest, AStreamGivesWayToANewerOneOfItsProcessOnly) {
  Resume({.uuid = {}, .version = {}, .run = "one process"});
  Connect();
  ASSERT_TRUE(Receive().ok());
  const StreamId first = stream_;
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_TRUE(world_.streams.closed.contains(first));
  const StreamId second = stream_;
  Resume({.uuid = {}, .version = {}, .run = "another process"});
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_FALSE(world_.streams.closed.contains(second));
}

}  // namespace
}  // namespace orgtrail
