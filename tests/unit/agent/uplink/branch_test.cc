// What an agent abandoned when its chain went on past damage or past a gap, and streams that outlive their use.
#include <gtest/gtest.h>

#include "tests/support/uplink_world.h"

namespace orgtrail {
namespace {

TEST_F(UplinkTest, SkippedBatchesAreNotSent) {
  Capture(3);
  Connect();
  ASSERT_TRUE(Receive().ok());
  agent_->Abandon({1, 0}, {1, 3});
  EXPECT_EQ(Send(), 2);
}

// The log has the epoch that goes on behind the branch; the run that abandoned it is over.
TEST_F(UplinkTest, ALaterRunReadsFromTheSpoolWhatAnEarlierOneAbandoned) {
  Capture(3);
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(2), 2);
  ASSERT_TRUE(Receive().ok());
  ASSERT_EQ(acked(), (BatchKey{1, 1}));
  Cut();
  OpenEpochAfter(2, {1, 1}, LeafOf({1, 1}), 1);
  agent_->Abandon({1, 1}, {2, 0});
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

// The log was restored, an epoch that goes on from its head was opened, and the agent ended before it had recorded what lay between.
TEST_F(UplinkTest, AnEpochIsHeldUntilTheBranchBehindItIsAccountedFor) {
  agent_.reset();
  spool_ = nullptr;
  spool_ = *Spool::Open(world_.dir / "spool", {.max_bytes = 64 << 20, .min_free = 0, .keep_acked = absl::ZeroDuration()}, PosixFs(), world_.clock);
  Resume();
  Capture(3);
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(2), 2);
  ASSERT_TRUE(Receive().ok());
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
  agent_->Abandon({1, 1}, {2, 0});
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(), 1);
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), (BatchKey{2, 0}));
}

// A connection that its agent gave up may deliver what is under way long after the next one is open.
TEST_F(UplinkTest, AStreamGivesWayToANewerOneOfItsProcessOnly) {
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
