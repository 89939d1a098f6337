#include "aggregator/ledger/reader.h"
#include "aggregator/ledger/tail.h"
#include "common/base/bytes.h"
#include "common/base/status.h"
#include "gtest/gtest.h"

namespace orgtrail {
namespace {

AgentHead Sample() {
  AgentHead h;
  h.uuid = Uuid::FromBytes("0123456789abcdef");
  h.epoch = 3;
  h.batch_seq = 77;
  h.last_seq = 7'000;
  h.leaf = Sha256("leaf");
  h.leaf_index = 1ull << 40;
  h.cum_events = 6'990;
  h.cum_lost = 10;
  h.boot_id.fill('b');
  h.boot_close_ns = 5;
  h.wall_close_ns = 6;
  h.seen_size = 99;
  h.policy_version = 4;
  h.keytree_root = Sha256("tree");
  h.tree_base = 50;
  h.tree_leaf = 12;
  h.epoch_leaf = 11;
  h.closed = true;
  h.quarantined = true;
  h.unclean_epochs = 2;
  h.logged_ns = 1'790'000'000'000'000'000;
  h.bodies_missing = 31;
  return h;
}

TEST(AgentHeadTest, DecodesWhatItEncodes) {
  const AgentHead h = Sample();
  const auto back = AgentHead::Decode(h.Encode());
  ASSERT_EQ(Describe(back.status()), "ok");
  EXPECT_EQ(back->Encode(), h.Encode());
  EXPECT_EQ(back->uuid, h.uuid);
  EXPECT_EQ(back->leaf_index, h.leaf_index);
  EXPECT_EQ(back->tree_leaf, h.tree_leaf);
  EXPECT_EQ(back->logged_ns, h.logged_ns);
  EXPECT_TRUE(back->closed);
  EXPECT_FALSE(back->retired);
  EXPECT_TRUE(back->quarantined);
  EXPECT_EQ(back->bodies_missing, 31u);
}

TEST(AgentHeadTest, ReadsWhatTheReleaseBeforeWrote) {
  const std::string now = Sample().Encode();
  std::string before = "\x01" + now.substr(1, now.size() - 1 - 8 - 4);   // without bodies_missing and the sum
  PutU32(before, Crc32c(before));
  const auto back = AgentHead::Decode(before);
  ASSERT_EQ(Describe(back.status()), "ok");
  EXPECT_EQ(back->logged_ns, Sample().logged_ns);
  EXPECT_EQ(back->bodies_missing, 0u);
}

TEST(AgentHeadTest, AnyFlippedOrMissingByteIsDataLoss) {
  const std::string good = Sample().Encode();
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    EXPECT_EQ(AgentHead::Decode(bad).status().code(), absl::StatusCode::kDataLoss) << i;
    EXPECT_EQ(AgentHead::Decode(good.substr(0, i)).status().code(), absl::StatusCode::kDataLoss) << i;
  }
  EXPECT_EQ(AgentHead::Decode(good + "x").status().code(), absl::StatusCode::kDataLoss);
}

std::shared_ptr<const Leaf> LeafOf(uint64_t index, size_t bytes) {
  auto leaf = std::make_shared<Leaf>();
  leaf->index = index;
  leaf->bytes = std::string(bytes, 'x');
  return leaf;
}

TEST(TailTest, KeepsTheNewestByBytes) {
  Tail tail(200'000);              // half of it for leaves
  for (uint64_t i = 10; i < 20; ++i) tail.Push(LeafOf(i, 30'000));
  EXPECT_EQ(tail.leaves(), 3u);
  EXPECT_LE(tail.bytes(), 100'000u);
  EXPECT_EQ(tail.Get(16), nullptr);
  ASSERT_NE(tail.Get(17), nullptr);
  EXPECT_EQ(tail.Get(19)->index, 19u);
  EXPECT_EQ(tail.Get(20), nullptr);
  tail.Push(LeafOf(20, 500'000));  // larger than all of it: alone
  EXPECT_EQ(tail.leaves(), 1u);
  EXPECT_NE(tail.Get(20), nullptr);
  tail.Push(LeafOf(30, 1));        // not the next: a new ring
  EXPECT_EQ(tail.leaves(), 1u);
  EXPECT_EQ(tail.Get(20), nullptr);
  EXPECT_NE(tail.Get(30), nullptr);
}

}  // namespace
}  // namespace orgtrail
