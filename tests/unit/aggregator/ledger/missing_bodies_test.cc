#include "aggregator/ledger/missing_bodies.h"

#include <gtest/gtest.h>

namespace orgtrail {
namespace {

using Why = MissingBodies::Why;

const Uuid kOne = Uuid::FromBytes("one-one-one-one-"), kTwo = Uuid::FromBytes("two-two-two-two-");

MissingBodies::Leaf Of(const Uuid& uuid, uint64_t index) { return {index, {uuid, 1, index}, Hash{}}; }

Tick At(absl::Duration d) { return Tick{1'000'000'000} + d; }

std::vector<uint64_t> Asked(MissingBodies& m, const Uuid& uuid, absl::Duration at) {
  std::vector<uint64_t> leaves;
  for (const MissingBodies::Leaf& l : m.AskOf(uuid, At(at))) leaves.push_back(l.index);
  return leaves;
}

using Leaves = std::vector<uint64_t>;

TEST(MissingBodies, AnAgentIsAskedForItsOwnThreeTimesAtMost) {
  MissingBodies m;
  EXPECT_EQ(Asked(m, kOne, absl::ZeroDuration()), Leaves{});
  EXPECT_FALSE(m.Wants(7));
  m.Add(Of(kOne, 7), Why::kDamaged);
  m.Add(Of(kTwo, 8), Why::kDamaged);
  EXPECT_TRUE(m.Wants(7));
  EXPECT_EQ(Asked(m, kOne, absl::Seconds(1)), Leaves{7});
  EXPECT_EQ(Asked(m, kOne, absl::Minutes(9)), Leaves{});
  m.Add(Of(kOne, 7), Why::kDamaged);   // another round found it as well
  EXPECT_EQ(Asked(m, kOne, absl::Minutes(11)), Leaves{7});
  EXPECT_EQ(Asked(m, kOne, absl::Minutes(22)), Leaves{7});
  for (int more = 33; more < 1000; more += 11) EXPECT_EQ(Asked(m, kOne, absl::Minutes(more)), Leaves{});
  m.Add(Of(kOne, 7), Why::kDamaged);
  EXPECT_EQ(Asked(m, kOne, absl::Hours(100)), Leaves{});
  EXPECT_EQ(m.facts().given_up, 1u);
  EXPECT_EQ(m.facts().asked, 3u);
  EXPECT_EQ(Asked(m, kTwo, absl::Hours(100)), Leaves{8});
}

TEST(MissingBodies, AQuestionIsSmallAndNotFollowedAtOnceByTheNext) {
  MissingBodies m;
  for (uint64_t i = 0; i < 40; ++i) m.Add(Of(kOne, i), Why::kDamaged);
  EXPECT_EQ(Asked(m, kOne, absl::Seconds(1)).size(), 16u);
  EXPECT_EQ(Asked(m, kOne, absl::Seconds(10)).size(), 0u);
  EXPECT_EQ(Asked(m, kOne, absl::Seconds(11)).size(), 16u);
  EXPECT_EQ(Asked(m, kOne, absl::Seconds(21)).size(), 8u);
}

TEST(MissingBodies, WhoHasItNoMoreIsNotAskedAgain) {
  MissingBodies m;
  m.Add(Of(kOne, 7), Why::kDamaged);
  m.HasNot(BatchId{kOne, 1, 7});   // nobody asked
  EXPECT_EQ(Asked(m, kOne, absl::Seconds(1)), Leaves{7});
  m.HasNot(BatchId{kTwo, 1, 7});   // somebody else's word
  EXPECT_EQ(m.facts().given_up, 0u);
  m.HasNot(BatchId{kOne, 1, 7});
  EXPECT_EQ(m.facts().given_up, 1u);
  m.Add(Of(kOne, 7), Why::kDamaged);
  EXPECT_EQ(Asked(m, kOne, absl::Hours(1)), Leaves{});
  EXPECT_TRUE(m.Wants(7));         // but when it comes by itself
  EXPECT_TRUE(m.Came(7, "frame", At(absl::Hours(1))));
  EXPECT_EQ(m.Came().size(), 1u);
}

TEST(MissingBodies, WhatAnAgentHadThatIsGoneForGoodIsGivenUp) {
  MissingBodies m;
  m.Add(Of(kOne, 7), Why::kDamaged);
  m.Add(Of(kOne, 8), Why::kBodiless);
  m.Add(Of(kTwo, 9), Why::kDamaged);
  EXPECT_TRUE(m.Came(8, "frame", At(absl::Seconds(1))));   // it was there a moment ago
  m.GiveUpOn([](const Uuid& uuid) { return uuid == kOne; });
  EXPECT_EQ(m.facts().given_up, 1u);
  EXPECT_EQ(m.facts().wanted, 1u);
  EXPECT_EQ(m.Came().size(), 1u);
  EXPECT_EQ(Asked(m, kOne, absl::Hours(1)), Leaves{});
  EXPECT_EQ(Asked(m, kTwo, absl::Hours(1)), Leaves{9});
}

TEST(MissingBodies, WhatCameWaitsUntilItIsInItsPlace) {
  MissingBodies m;
  m.Add(Of(kOne, 9), Why::kDamaged);
  m.Add(Of(kOne, 7), Why::kBodiless);
  EXPECT_EQ(Asked(m, kOne, absl::Seconds(1)), (Leaves{7, 9}));
  EXPECT_TRUE(m.Came(9, "nine", At(absl::Seconds(2))));
  EXPECT_FALSE(m.Wants(9));
  EXPECT_TRUE(m.Came(9, "another", At(absl::Seconds(3))));   // the first stays
  EXPECT_TRUE(m.Came(5, "nobody wants it", At(absl::Seconds(3))));
  EXPECT_TRUE(m.Came(7, "seven", At(absl::Seconds(4))));
  ASSERT_EQ(m.Came().size(), 2u);
  EXPECT_EQ(*m.Came()[0].frame, "seven");
  EXPECT_EQ(m.Came()[0].why, Why::kBodiless);
  EXPECT_EQ(*m.Came()[1].frame, "nine");
  m.Done(7);
  EXPECT_EQ(m.LeftOf(kOne), 1u);
  m.Failed(9);                                               // asked once more, when it is time
  EXPECT_EQ(m.Came().size(), 0u);
  EXPECT_EQ(Asked(m, kOne, absl::Seconds(12)), Leaves{});
  EXPECT_EQ(Asked(m, kOne, absl::Minutes(11)), Leaves{9});
  m.Came(9, "nine", At(absl::Minutes(12)));
  m.Done(9);
  EXPECT_EQ(m.LeftOf(kOne), 0u);
  EXPECT_EQ(m.facts().done, 2u);
  EXPECT_FALSE(m.Wants(9));
}

TEST(MissingBodies, LeavesAndFramesAreBounded) {
  MissingBodies m({.leaves = 2, .frame_bytes = 10});
  EXPECT_TRUE(m.Add(Of(kOne, 1), Why::kDamaged));
  EXPECT_TRUE(m.Add(Of(kOne, 2), Why::kDamaged));
  EXPECT_FALSE(m.Add(Of(kOne, 3), Why::kDamaged));
  EXPECT_EQ(Asked(m, kOne, absl::Seconds(1)), (Leaves{1, 2}));
  EXPECT_TRUE(m.Came(1, "12345678", At(absl::Seconds(2))));
  EXPECT_FALSE(m.Came(2, "12345678", At(absl::Seconds(2))));   // no room: it is asked for again
  m.Done(1);
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(Asked(m, kOne, absl::Minutes(20 * i)), Leaves{2}) << i;   // an answer without room costs no turn
  EXPECT_EQ(Asked(m, kOne, absl::Minutes(90)), Leaves{});
  EXPECT_TRUE(m.Add(Of(kOne, 3), Why::kDamaged));
  EXPECT_TRUE(m.Add(Of(kOne, 4), Why::kDamaged));   // what nobody has makes room
}

}  // namespace
}  // namespace orgtrail
