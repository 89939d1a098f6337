#include "common/seal/sealer.h"

#include <gtest/gtest.h>

#include "common/base/limits.h"
#include "common/format/chain.h"
#include "common/merkle/tree.h"
#include "tests/support/fixed_world.h"

namespace orgtrail {
namespace {

EpochOpening Opening() {
  EpochOpening opening;
  opening.origin = "orgtrail.example/o-example";
  opening.cert_serial = "0a1b";
  opening.clock_source = "ntp";
  return opening;
}

// A reader that believes nothing: every batch is decoded, verified against the key list it saw, inflated, re-hashed and linked.
class Reader {
 public:
  explicit Reader(const PublicKey& identity) : identity_(identity) {}

  void Take(const SealedBatch& batch) {
    SCOPED_TRACE(absl::StrCat("epoch ", batch.header.epoch, " batch ", batch.header.batch_seq));
    absl::StatusOr<FrameView> view = FrameView::Decode(batch.frame);
    ASSERT_TRUE(view.ok()) << view.status();
    absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(view->entry);
    ASSERT_TRUE(entry.ok()) << entry.status();
    EXPECT_EQ(LeafHash(view->entry), batch.leaf);
    EXPECT_EQ(entry->header.Encode(), batch.header.Encode());
    EpochOpening opening;
    Hash new_root;
    absl::Status extension = CheckExtension(entry->header, view->extension, &opening, &new_root);
    ASSERT_TRUE(extension.ok()) << extension;
    absl::Status link = CheckLink(state, entry->header, &opening);
    ASSERT_TRUE(link.ok()) << link;
    if (entry->header.kind == BatchKind::kEpochOpen) keys_ = opening.keys;
    EXPECT_TRUE(VerifySignature(keys_.at(entry->header.key_slot), kBatchLabel, entry->header_bytes, entry->slot_signature).ok());
    if (entry->header.TwoSignatures()) {
      EXPECT_TRUE(VerifySignature(identity_, kEpochLabel, entry->header_bytes, entry->identity_signature).ok());
    }
    if (entry->header.kind == BatchKind::kKeytreeRoll) {
      absl::StatusOr<std::vector<PublicKey>> list = DecodeKeyList(view->extension);
      ASSERT_TRUE(list.ok());
      keys_ = *list;
      ++rolls;
    }
    absl::StatusOr<Events> events = InflateFrame(*view, zstd_);
    ASSERT_TRUE(events.ok()) << events.status();
    const RowHashes hashes = HashRows(view->batch_key, events->rows);
    absl::Status rows = CheckRows(entry->header, events->rows, hashes);
    ASSERT_TRUE(rows.ok()) << rows;
    for (const Row& row : events->rows) {
      EXPECT_GT(row.wall_ns, last_wall_ns);
      last_wall_ns = row.wall_ns;
      seqs.push_back(row.seq);
      bodies.emplace_back(row.body);
    }
    EXPECT_GT(entry->header.wall_close_ns, last_wall_ns);
    state = Advance(state, entry->header, batch.leaf, new_root);
    ++batches;
  }
  void Take(const absl::StatusOr<std::vector<SealedBatch>>& all) {
    ASSERT_TRUE(all.ok()) << all.status();
    for (const SealedBatch& batch : *all) Take(batch);
  }

  ChainState state;
  uint64_t last_wall_ns = 0;
  std::vector<uint64_t> seqs;
  std::vector<std::string> bodies;
  int batches = 0, rolls = 0;

 private:
  const PublicKey identity_;
  std::vector<PublicKey> keys_;
  ZstdDecompressor zstd_;
};

struct SealerTest : testing::Test {
  SealerTest() : sealer({Uuid::Random(rng), "o-example", "111122223333", "eu-west-1", "web-01"}, identity, clock, rng) {}
  FixedClock clock;
  RepeatingRng rng{"sealer"};
  SigningKey identity = SigningKey::FromSeed(Sha256("identity").view());
  Sealer sealer;
  Reader reader{identity.public_key()};

  void Open(uint64_t epoch, EpochOpening opening = Opening()) {
    absl::StatusOr<SealedBatch> first = sealer.OpenEpoch(epoch, std::move(opening), {});
    ASSERT_TRUE(first.ok()) << first.status();
    reader.Take(*first);
    sealer.Committed();
  }
};

TEST_F(SealerTest, SealsEventsHeartbeatsLossesAndClosing) {
  Open(7);
  EXPECT_TRUE(sealer.empty());
  EXPECT_EQ(sealer.Add(EventClass::kManagement, 0, "{\"a\":1}"), 1u);
  EXPECT_EQ(sealer.Add(EventClass::kData, kFlagSync, ""), 2u);
  sealer.Lose(5);
  EXPECT_EQ(sealer.Add(EventClass::kLoss, 0, "{\"lost\":5}"), 8u);
  reader.Take(sealer.Close(kBatchDrained, {9, Hash{}, 3, Hash{}}));
  EXPECT_EQ(reader.state.cum_events, 3u);
  EXPECT_EQ(reader.state.cum_lost, 5u);
  EXPECT_EQ(reader.state.seen_size, 9u);
  reader.Take(sealer.Close(0, {4, Hash{}, 2, Hash{}}));  // an older head and policy are not quoted
  EXPECT_EQ(reader.state.seen_size, 9u);
  EXPECT_EQ(reader.state.policy_version, 3u);
  sealer.Lose(2);
  EXPECT_FALSE(sealer.empty());
  absl::StatusOr<std::vector<SealedBatch>> last = sealer.CloseEpoch(kBatchRetired, {});
  reader.Take(last);
  ASSERT_EQ(last->size(), 2u);
  EXPECT_EQ(last->at(0).header.kind, BatchKind::kHeartbeat);
  EXPECT_EQ(last->at(0).header.n_lost, 2u);
  EXPECT_EQ(last->at(1).header.kind, BatchKind::kEpochClose);
  EXPECT_EQ(last->at(1).header.flags, kBatchRetired);
  EXPECT_TRUE(reader.state.closed);
  EXPECT_EQ(reader.seqs, (std::vector<uint64_t>{1, 2, 8}));
  EXPECT_FALSE(sealer.Close(0, {}).ok());

  EpochOpening next = Opening();
  next.reason = EpochReason::kClean;
  next.previous_epoch = 7;
  next.previous_batch_seq = reader.state.batch_seq;
  next.previous_last_seq = reader.state.last_seq;
  next.previous_leaf = reader.state.leaf;
  Open(8, next);
  EXPECT_EQ(sealer.Add(EventClass::kManagement, 0, "{}"), 1u);
  reader.Take(sealer.Close(0, {}));
  EXPECT_EQ(reader.state.epoch, 8u);
  EXPECT_EQ(sealer.head(), reader.state.leaf);
}

TEST_F(SealerTest, WallClockGoingBackIsClamped) {
  Open(1);
  sealer.Add(EventClass::kManagement, 0, "{}");
  clock.wall_ns -= 86'400'000'000'000;  // a day back
  sealer.Add(EventClass::kManagement, 0, "{}");
  reader.Take(sealer.Close(0, {}));
  sealer.Add(EventClass::kManagement, 0, "{}");
  clock.wall_ns = -5;                   // before 1970
  sealer.Add(EventClass::kManagement, 0, "{}");
  reader.Take(sealer.Close(0, {}));
  EXPECT_EQ(reader.bodies.size(), 4u);
}

TEST_F(SealerTest, FullAtTheBoundsOfABatch) {
  Open(1);
  for (size_t i = 0; i < limits::kBatchEvents; ++i) {
    ASSERT_FALSE(sealer.full());
    sealer.Add(EventClass::kManagement, 0, "{}");
  }
  EXPECT_TRUE(sealer.full());
  reader.Take(sealer.Close(0, {}));
  EXPECT_FALSE(sealer.full());
  sealer.Add(EventClass::kManagement, 0, std::string(limits::kBatchBytes - 1, ' '));
  EXPECT_FALSE(sealer.full());
  sealer.Add(EventClass::kManagement, 0, std::string(limits::kRecordInlineBytes, 'x'));
  EXPECT_TRUE(sealer.full());
  reader.Take(sealer.Close(0, {}));
}

TEST_F(SealerTest, RollsItsKeysEvery1023Batches) {
  Open(3);
  for (int i = 0; i < 3000; ++i) {
    clock.Pass(absl::Milliseconds(20));
    if (i % 3 == 0) sealer.Add(EventClass::kManagement, 0, "{}");
    reader.Take(sealer.Close(0, {}));
    sealer.Committed();
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_EQ(reader.rolls, 2);
  EXPECT_EQ(reader.batches, 3003);
  EXPECT_EQ(reader.state.tree_base, 2048u);
  EXPECT_EQ(reader.seqs.size(), 1000u);
}

TEST_F(SealerTest, RefusesWhatOthersWouldRefuse) {
  EpochOpening opening = Opening();
  opening.cert_serial = "not hex";
  EXPECT_TRUE(absl::IsInvalidArgument(sealer.OpenEpoch(1, opening, {}).status()));
}

TEST(KeyTreeTest, GrowsKeyByKeyAndSignsOnce) {
  RepeatingRng rng("tree");
  KeyTree tree(rng);
  EXPECT_FALSE(tree.Grow(1));
  EXPECT_EQ(tree.keys().size(), 1u);
  EXPECT_FALSE(tree.Grow(1022));
  EXPECT_TRUE(tree.Grow(5));
  EXPECT_EQ(tree.root(), KeyTreeRoot(tree.keys()));
  const Signature signature = tree.SignOnce(3, kBatchLabel, "m");
  EXPECT_TRUE(VerifySignature(tree.keys()[3], kBatchLabel, "m", View(signature)).ok());
  EXPECT_DEATH(tree.SignOnce(3, kBatchLabel, "m"), "");
  tree.Erase(4);
  EXPECT_DEATH(tree.SignOnce(4, kBatchLabel, "m"), "");
}

}  // namespace
}  // namespace orgtrail
