#include "aggregator/admin/epochs.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

TEST(Epochs, CountWhatEndedEpochsHeld) {
  TempDir dir;
  StillClock clock;
  LedgerBuilder built(dir / "ledger", clock);
  ASSERT_EQ(Describe(built.Open()), "ok");
  TestAgent& one = built.Enrol("111111111111", "eu-west-1", "one");
  TestAgent& other = built.Enrol("222222222222", "eu-west-1", "other");
  Epochs epochs(*built.ledger);
  Epochs late(*built.ledger);   // asked at the end only
  const auto before = [&](Epochs& asked, TestAgent& agent) { return asked.Before(*built.ledger->HeadOf(agent.identity().uuid)); };
  EXPECT_EQ(before(epochs, one).events, 0u);

  uint64_t want = 0;
  for (int epoch = 1; epoch <= 5; ++epoch) {
    ASSERT_EQ(Describe(built.Fill(one, 10 * static_cast<size_t>(epoch))), "ok");
    one.Lose(3);
    ASSERT_EQ(Describe(built.Fill(one, 2)), "ok");
    ASSERT_EQ(Describe(built.Fill(other, 7)), "ok");
    if (epoch % 2 == 0) {   // otherwise it ended uncleanly
      ASSERT_EQ(Describe(built.Append(one.Close())), "ok");
    }
    EXPECT_EQ(before(epochs, one).events, want) << "in epoch " << epoch;         // the one it is in does not count yet
    EXPECT_EQ(before(epochs, one).lost, 3u * static_cast<uint64_t>(epoch - 1));
    want += built.ledger->HeadOf(one.identity().uuid)->cum_events;
    EXPECT_GT(want, 10u * static_cast<uint64_t>(epoch));
    ASSERT_EQ(Describe(built.Append(one.Open())), "ok");
  }
  EXPECT_EQ(before(epochs, one).events, want);
  EXPECT_EQ(before(late, one).events, want);     // all epochs in one go
  EXPECT_EQ(before(late, one).events, want);     // and from memory
  EXPECT_EQ(before(late, one).lost, 15u);
  EXPECT_EQ(before(late, other).events, 0u);
}

}  // namespace
}  // namespace orgtrail
