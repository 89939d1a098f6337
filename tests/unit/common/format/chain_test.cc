#include "common/format/chain.h"

#include <gtest/gtest.h>

#include "tests/support/sealed_log.h"

namespace orgtrail {
namespace {

struct ChainTest : testing::Test {
  ChainTest() {
    log.Add("{}");
    log.Add("{}");
    log.sealer.Lose(3);
    log.Close();
    log.Add("{}");
    log.Close();
    const BatchHeader& open = log.batches[0].header;
    opening = *EpochOpening::Decode(FrameView::Decode(log.batches[0].frame)->extension);
    after_open = Advance({}, open, log.batches[0].leaf);
    after_first = Advance(after_open, log.batches[1].header, log.batches[1].leaf);
  }
  static std::string CodeOf(const absl::Status& status) {
    const std::string message(status.message());
    return message.substr(0, message.find(' '));
  }
  SealedLog log;
  EpochOpening opening;
  ChainState after_open, after_first;
};

TEST_F(ChainTest, LinksWhatTheSealerMade) {
  EXPECT_TRUE(CheckLink({}, log.batches[0].header, &opening).ok());
  EXPECT_TRUE(CheckLink(after_open, log.batches[1].header).ok());
  EXPECT_TRUE(CheckLink(after_first, log.batches[2].header).ok());
  EXPECT_EQ(CodeOf(CheckLink({}, log.batches[0].header)), "FRAME_MALFORMED");
}

TEST_F(ChainTest, EachInvariantHasItsCode) {
  struct Case {
    const char* code;
    absl::StatusCode status;
    void (*change)(BatchHeader&);
  };
  using absl::StatusCode;
  const Case cases[] = {
      {"CHAIN_EXPECT", StatusCode::kFailedPrecondition, [](BatchHeader& h) { h.batch_seq = 3; }},
      {"CHAIN_EXPECT", StatusCode::kFailedPrecondition, [](BatchHeader& h) { h.batch_seq = UINT64_MAX; }},
      {"CHAIN_EXPECT", StatusCode::kFailedPrecondition, [](BatchHeader& h) { h.batch_seq = 1; }},
      {"CHAIN_EXPECT", StatusCode::kFailedPrecondition, [](BatchHeader& h) { h.epoch = 2; }},
      {"CHAIN_EXPECT", StatusCode::kFailedPrecondition, [](BatchHeader& h) { h.prev_hash = Hash{}; }},
      {"EPOCH_STALE", StatusCode::kFailedPrecondition, [](BatchHeader& h) { h.epoch = 0; }},
      {"BOUNDS", StatusCode::kInvalidArgument, [](BatchHeader& h) { h.agent_uuid = Uuid{}; }},
      {"BOUNDS", StatusCode::kInvalidArgument, [](BatchHeader& h) { h.key_slot = 3; }},
      {"BOUNDS", StatusCode::kInvalidArgument, [](BatchHeader& h) { h.keytree_root = Hash{}; }},
      {"BOUNDS", StatusCode::kInvalidArgument, [](BatchHeader& h) { h.boot_id[0] = 1; }},
      {"COUNT_MISMATCH", StatusCode::kInvalidArgument, [](BatchHeader& h) { ++h.first_seq, ++h.last_seq; }},
      {"COUNT_MISMATCH", StatusCode::kInvalidArgument, [](BatchHeader& h) { ++h.cum_events; }},
      {"COUNT_MISMATCH", StatusCode::kInvalidArgument, [](BatchHeader& h) { --h.cum_lost; }},
      {"MONO_ROLLBACK", StatusCode::kAborted, [](BatchHeader& h) { h.boot_close_ns -= 20'000'000 + 3'000; }},
      {"MONO_ROLLBACK", StatusCode::kAborted, [](BatchHeader& h) { h.seen_size = 4; }},
      {"MONO_ROLLBACK", StatusCode::kAborted, [](BatchHeader& h) { h.policy_version = 6; }},
  };
  ChainState state = after_first;
  state.seen_size = 5;
  state.policy_version = 7;
  BatchHeader good = log.batches[2].header;
  good.seen_size = 5;
  good.policy_version = 7;
  ASSERT_TRUE(CheckLink(state, good).ok());
  for (const Case& c : cases) {
    BatchHeader h = good;
    c.change(h);
    const absl::Status status = CheckLink(state, h);
    EXPECT_EQ(CodeOf(status), c.code) << &c - cases;
    EXPECT_EQ(status.code(), c.status) << status;
  }
  state.closed = true;
  EXPECT_EQ(CodeOf(CheckLink(state, good)), "CHAIN_EXPECT");
  EXPECT_EQ(CodeOf(CheckLink({}, good)), "CHAIN_EXPECT");
}

TEST_F(ChainTest, EpochsContinueOurHead) {
  BatchHeader open = log.batches[0].header;
  open.epoch = 5;
  open.prev_hash = after_first.leaf;
  EpochOpening next = opening;
  next.reason = EpochReason::kUnclean;
  next.previous_epoch = 1;
  next.previous_batch_seq = after_first.batch_seq;
  next.previous_last_seq = after_first.last_seq;
  next.previous_leaf = after_first.leaf;
  EXPECT_TRUE(CheckLink(after_first, open, &next).ok());

  BatchHeader same = open;
  same.epoch = 1;
  EXPECT_EQ(CodeOf(CheckLink(after_first, same, &next)), "EPOCH_CONFLICT");
  ChainState later = after_first;
  later.epoch = 6;
  EXPECT_EQ(CodeOf(CheckLink(later, open, &next)), "EPOCH_STALE");
  // Our head is one batch further than what the opening knows: somebody else wrote it.
  ChainState further = Advance(after_first, log.batches[2].header, log.batches[2].leaf);
  EXPECT_EQ(CodeOf(CheckLink(further, open, &next)), "EPOCH_CONFLICT");
  // The opening is further than our head: batches are still to come.
  EXPECT_EQ(CodeOf(CheckLink(after_open, open, &next)), "CHAIN_EXPECT");
  EXPECT_EQ(CodeOf(CheckLink({}, open, &next)), "CHAIN_EXPECT");
  // Same place, other leaf: a fork.
  ChainState fork = after_first;
  fork.leaf = Sha256("fork");
  EXPECT_EQ(CodeOf(CheckLink(fork, open, &next)), "EPOCH_CONFLICT");
  // prev_hash and boot id must say what the object says; sequence starts over.
  BatchHeader odd = open;
  odd.prev_hash = Hash{};
  EXPECT_EQ(CodeOf(CheckLink(after_first, odd, &next)), "BOUNDS");
  odd = open;
  odd.boot_id[3] = 0;
  EXPECT_EQ(CodeOf(CheckLink(after_first, odd, &next)), "BOUNDS");
  odd = open;
  odd.first_seq = 4;
  EXPECT_EQ(CodeOf(CheckLink(after_first, odd, &next)), "COUNT_MISMATCH");
  next.previous_epoch = 5;
  EXPECT_EQ(CodeOf(CheckLink(after_first, open, &next)), "BOUNDS");
}

TEST_F(ChainTest, HandoverComesFromAnotherLog) {
  BatchHeader open = log.batches[0].header;
  open.epoch = 9;
  open.prev_hash = Sha256("in the other log");
  EpochOpening next = opening;
  next.reason = EpochReason::kHandover;
  next.previous_epoch = 8;
  next.previous_batch_seq = 44;
  next.previous_leaf = open.prev_hash;
  EXPECT_TRUE(CheckLink({}, open, &next).ok());
  EXPECT_TRUE(CheckLink(after_first, open, &next).ok());
  next.reason = EpochReason::kClean;
  EXPECT_EQ(CodeOf(CheckLink({}, open, &next)), "CHAIN_EXPECT");
}

TEST_F(ChainTest, ExtensionsAndRows) {
  const BatchHeader& open = log.batches[0].header;
  const std::string object(FrameView::Decode(log.batches[0].frame)->extension);
  EXPECT_TRUE(CheckExtension(open, object, nullptr, nullptr).ok());
  EXPECT_EQ(CodeOf(CheckExtension(open, object.substr(1), nullptr, nullptr)), "ROOT_MISMATCH");
  BatchHeader other_tree = open;
  other_tree.keytree_root = Hash{};
  EXPECT_EQ(CodeOf(CheckExtension(other_tree, object, nullptr, nullptr)), "ROOT_MISMATCH");
  EXPECT_EQ(CodeOf(CheckExtension(log.batches[1].header, object, nullptr, nullptr)), "FRAME_MALFORMED");
  EXPECT_TRUE(CheckExtension(log.batches[1].header, "", nullptr, nullptr).ok());

  const FrameView view = *FrameView::Decode(log.batches[1].frame);
  ZstdDecompressor zstd;
  Events events = *InflateFrame(view, zstd);
  const RowHashes hashes = HashRows(view.batch_key, events.rows);
  const BatchHeader& header = log.batches[1].header;
  EXPECT_TRUE(CheckRows(header, events.rows, hashes).ok());
  BatchHeader h = header;
  h.events_root = Hash{};
  EXPECT_EQ(CodeOf(CheckRows(h, events.rows, hashes)), "ROOT_MISMATCH");
  h = header;
  ++h.body_bytes;
  EXPECT_EQ(CodeOf(CheckRows(h, events.rows, hashes)), "COUNT_MISMATCH");
  h = header;
  --h.n_events;
  EXPECT_EQ(CodeOf(CheckRows(h, events.rows, hashes)), "COUNT_MISMATCH");
  h = header;
  h.last_seq = 1;
  EXPECT_EQ(CodeOf(CheckRows(h, events.rows, hashes)), "COUNT_MISMATCH");
}

}  // namespace
}  // namespace orgtrail
