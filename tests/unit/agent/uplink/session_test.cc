// Both ends of the stream, without a network: a real spool and sealer on one side, a real ledger on the other, and a transport in
// memory that cuts, repeats and lies.
#include "agent/uplink/session.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "agent/spool/values.h"
#include "agent/uplink/backoff.h"
#include "aggregator/ingest/pace.h"
#include "common/format/recovery.h"
#include "common/merkle/tree.h"
#include "tests/support/uplink_world.h"

namespace orgtrail {
namespace {

TEST_F(UplinkTest, WhatIsProvenIsAckedAndPinned) {
  Capture(20);
  Connect();
  ASSERT_TRUE(Receive().ok());          // welcome
  EXPECT_EQ(interval_, 20u);
  EXPECT_EQ(Send(), 21);
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), last_);
  EXPECT_EQ(size(), 22u);
  EXPECT_TRUE(agent_->Drained());
  EXPECT_EQ(spool_->pin()->size, size());
  EXPECT_EQ(spool_->pin()->root, world_.builder.ledger->head().root);
  // And on, on the same stream, from the head shown last.
  Capture(3);
  EXPECT_EQ(Send(), 3);
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), last_);
  const auto life = world_.sessions->Of(id_.uuid);
  ASSERT_TRUE(life);
  EXPECT_GT(life->connected_ns, 0);
  EXPECT_EQ(life->version, "test");
  EXPECT_TRUE(world_.findings.empty());
}

TEST_F(UplinkTest, ACutLosesNothingAndStoresNothingTwice) {
  Capture(10);
  Connect();
  ASSERT_TRUE(Receive().ok());
  Send(6);
  ASSERT_TRUE(Receive([](v1::PushResponse& r) { return !r.has_receipt(); }).ok());   // logged, but the agent never hears of it
  EXPECT_EQ(acked(), BatchKey());
  EXPECT_EQ(size(), 7u);
  Cut();
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(), 11);
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), last_);
  EXPECT_EQ(size(), 12u);               // 6 repeats were answered, not stored
  EXPECT_EQ(Evidence(), 0u);
}

TEST_F(UplinkTest, ACutWhileInFlightIsAnsweredWhenSentAgain) {
  Capture(5);
  Connect();
  ASSERT_TRUE(Receive().ok());
  Send();
  Cut();                                 // nothing was looked at yet
  Connect();
  ASSERT_TRUE(Receive().ok());           // welcome; what the old stream brought is in the log, and nobody was told
  EXPECT_EQ(acked(), BatchKey());
  Send();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), last_);
  EXPECT_EQ(size(), 7u);
}

// Two processes of one identity: what one sent is no news for the other, and no lie of the log.
TEST_F(UplinkTest, AnotherProcessOfThisIdentityNeverGetsItsReceipts) {
  Capture(2);
  Connect();
  ASSERT_TRUE(Receive().ok());
  Send();                                // not looked at yet
  const StreamId first = stream_;
  Resume();                              // the other process; it has captured the same
  Connect();
  world_.Pump();
  ASSERT_EQ(world_.streams.out[stream_].size(), 1u);   // its welcome
  v1::PushResponse receipt;
  ASSERT_TRUE(receipt.ParseFromString(world_.streams.out[first].back()) && receipt.has_receipt());
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), BatchKey());
}

TEST_F(UplinkTest, TheLogsExpectationRewinds) {
  Capture(8);
  Connect();
  ASSERT_TRUE(Receive().ok());
  // Two frames vanish: what follows is out of order.
  ASSERT_TRUE(agent_->Next().ok());
  ASSERT_TRUE(agent_->Next().ok());
  EXPECT_EQ(Send(), 7);
  ASSERT_TRUE(Receive().ok());           // CHAIN_EXPECT, once
  EXPECT_EQ(agent_->Facts().last_refusal, "CHAIN_EXPECT");
  world_.clock.Advance(absl::Seconds(2));
  EXPECT_EQ(Send(), 9);
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), last_);
  EXPECT_EQ(size(), 10u);
}

TEST_F(UplinkTest, ALyingLogGetsNoAckAndLeavesEvidence) {
  struct Lie {
    const char* name;
    std::function<void(v1::PushResponse&)> tell;
    const char* code;
  };
  SigningKey other = SigningKey::FromSeed(std::string(32, 'o'));
  const std::vector<Lie> table = {
      {"a head of another key",
       [&](v1::PushResponse& r) {
         r.mutable_receipt()->set_checkpoint(SignNote(Checkpoint{world_.builder.origin, 50, Hash{}}.Text(), world_.builder.origin, other));
       },
       "LOG_FORKED"},
      {"another root, truly signed",
       [&](v1::PushResponse& r) {
         Checkpoint c{world_.builder.origin, world_.builder.ledger->head().size, world_.builder.ledger->head().root};
         c.root.bytes[0] ^= 1;
         r.mutable_receipt()->set_checkpoint(SignNote(c.Text(), world_.builder.origin, world_.builder.log_key));
       },
       "LOG_FORKED"},
      {"a smaller log",
       [&](v1::PushResponse& r) {
         r.mutable_receipt()->set_checkpoint(SignNote(Checkpoint{world_.builder.origin, 1, Hash{}}.Text(), world_.builder.origin, world_.builder.log_key));
       },
       "LOG_FORKED"},
      {"a wrong path", [](v1::PushResponse& r) { (*r.mutable_receipt()->mutable_leaves(0)->mutable_path(0))[0] ^= 1; }, "LEAF_MISSING"},
      {"another index", [](v1::PushResponse& r) { r.mutable_receipt()->mutable_leaves(0)->set_leaf_index(0); }, "LEAF_MISSING"},
  };
  for (const Lie& lie : table) {
    SCOPED_TRACE(lie.name);
    reported_.clear();
    Capture(2);
    Connect();
    ASSERT_TRUE(Receive().ok());
    const BatchKey before = acked();
    const size_t evidence = Evidence();
    EXPECT_GT(Send(), 0);
    const absl::Status ended = Receive([&](v1::PushResponse& r) {
      if (r.has_receipt()) lie.tell(r);
      return true;
    });
    EXPECT_TRUE(absl::IsDataLoss(ended)) << ended;
    EXPECT_EQ(acked(), before);
    EXPECT_EQ(Evidence(), evidence + 1);
    ASSERT_FALSE(reported_.empty());
    EXPECT_EQ(reported_.back(), lie.code);
    Cut();
  }
  // The truth is taken afterwards.
  Connect();
  ASSERT_TRUE(Receive().ok());
  Send();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), last_);
}

TEST_F(UplinkTest, ASkippedLeafStopsTheAckAndIsEvidence) {
  Capture(4);
  Connect();
  ASSERT_TRUE(Receive().ok());
  Send();
  ASSERT_TRUE(Receive([](v1::PushResponse& r) {
                if (r.has_receipt()) {
                  auto* leaves = r.mutable_receipt()->mutable_leaves();
                  for (int i = 0; i < leaves->size(); ++i) {
                    if (leaves->Get(i).batch_seq() == 2) leaves->DeleteSubrange(i, 1);
                  }
                }
                return true;
              }).ok());
  EXPECT_EQ(acked(), (BatchKey{1, 1}));
  EXPECT_TRUE(agent_->CheckStalls().ok());
  world_.clock.Advance(absl::Seconds(31));
  EXPECT_TRUE(absl::IsDataLoss(agent_->CheckStalls()));
  EXPECT_EQ(Evidence(), 1u);
  EXPECT_EQ(reported_.back(), "LEAF_MISSING");
}

TEST_F(UplinkTest, AWelcomeThatHoldsAnotherBatchIsEvidence) {
  Capture(2);
  Connect();
  ASSERT_TRUE(Receive().ok());
  Send();
  ASSERT_TRUE(Receive().ok());
  Cut();
  Connect();
  const absl::Status s = Receive([](v1::PushResponse& r) {
    if (r.has_welcome()) (*r.mutable_welcome()->mutable_head_leaf())[0] ^= 1;
    return true;
  });
  EXPECT_TRUE(s.ok());   // the stream goes on: what this agent signed is sent, so that an honest log can tell
  EXPECT_EQ(reported_.back(), "EQUIVOCATION");
  EXPECT_EQ(Evidence(), 1u);
  const absl::StatusOr<std::optional<std::string>> again = agent_->Next();
  ASSERT_TRUE(again.ok() && again->has_value());
  const absl::StatusOr<FrameView> view = FrameView::Decode(**again);
  ASSERT_TRUE(view.ok());
  const absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(view->entry);
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ((BatchKey{entry->header.epoch, entry->header.batch_seq}), last_);
}

TEST_F(UplinkTest, ARestoredLogIsTakenOnlyWithConsent) {
  Capture(3);
  Connect();
  ASSERT_TRUE(Receive().ok());
  Send();
  ASSERT_TRUE(Receive().ok());
  const BatchKey before = acked();
  EXPECT_EQ(before, last_);
  Cut();
  // The aggregator comes back from a copy that knows the agent but none of its batches.
  world_.sessions.reset();
  world_.verifier.reset();
  world_.committer.reset();
  world_.builder.Shut();
  world_.builder.options.dir = world_.dir / "restored";
  world_.builder.options.anchor_dir.clear();
  CHECK_OK(world_.builder.Open());
  world_.Start();
  world_.Enrol(id_, key_);
  Connect();
  EXPECT_TRUE(absl::IsDataLoss(Receive()));
  EXPECT_EQ(Evidence(), 1u);
  Cut();
  Connect();
  EXPECT_TRUE(absl::IsDataLoss(Receive()));
  EXPECT_EQ(Evidence(), 1u);             // the same contradiction again: one file
  Cut();
  Resume({.uuid = {}, .version = {}, .run = {}, .accept_restored_log = true});
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(), 4);                  // all of it again, from the spool
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(size(), 5u);
}

// Governance's declaration in the log does without consent what is above; nobody else's does, and none does it twice.
TEST_F(UplinkTest, ADeclaredRecoveryIsTakenOnceAndOnlyFromGovernance) {
  const SigningKey governance = SigningKey::Generate(SystemRng()), mallory = SigningKey::Generate(SystemRng());
  const std::string name = "o-demo/governance/ann";
  const std::string policy = SignNote("orgtrail/policy/v1\norg o-demo\nadmins 1 " + NoteKey{name, 1, governance.public_key()}.Encode() + "\n", name, governance);
  const auto restart = [&] {
    world_.sessions.reset();
    world_.verifier.reset();
    world_.committer.reset();
    world_.options.policy = [policy] { return std::pair(policy, std::string()); };
  };
  // A log that goes on from one leaf, with a declaration of this time, signed by that key.
  int logs = 0;
  const auto restored = [&](const SigningKey& key, int64_t time_ns) {
    restart();
    world_.builder.Shut();
    world_.builder.options.dir = world_.dir / ("restored-" + std::to_string(++logs));
    world_.builder.options.anchor_dir.clear();
    CHECK_OK(world_.builder.Open());
    world_.registry = Registry();
    world_.Enrol(id_, key_);
    const SignedHead head = world_.builder.ledger->head();
    Recovery r{world_.builder.origin, head.size, head.root, head.size, head.root, time_ns};
    CHECK_OK(world_.builder.Append(ControlItem(RecoveryLeaf{1, SignNote(r.Text(), name, key)}.Encode())));
    CHECK_OK(world_.registry.Load(*world_.builder.ledger));
    world_.Start();
  };
  restart();
  world_.Start();
  Capture(3);
  Connect();
  ASSERT_TRUE(Receive().ok());               // the policy is pinned
  Send();
  ASSERT_TRUE(Receive().ok());
  Cut();
  const int64_t now = world_.clock.WallNanos();
  restored(mallory, now);
  Connect();
  EXPECT_TRUE(absl::IsDataLoss(Receive()));
  Cut();
  restored(governance, now);
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(), 4);                      // all of it again, from the spool
  ASSERT_TRUE(Receive().ok());
  Cut();
  restored(governance, now);                 // the same declaration, in front of another history
  Connect();
  EXPECT_TRUE(absl::IsDataLoss(Receive()));
  Cut();
  restored(governance, now + 1);
  Connect();
  EXPECT_TRUE(Receive().ok());
}

TEST_F(UplinkTest, OneDamagedByteCostsNoMoreThanTheBodiesOfItsBatch) {   // 5, 6
  Capture(6);
  const auto frame = [&](uint64_t n) { return *spool_->Read({1, n}); };
  const size_t entry = FrameView::Decode(frame(1))->entry.size();
  std::vector<std::string> frames;
  for (uint64_t n = 0; n <= 6; ++n) frames.push_back(frame(n));
  const auto flip = [](std::string text, size_t at) { return text.replace(at, 1, 1, static_cast<char>(text[at] ^ 0x10)); };
  // In the file: what a value holds now → what the disk makes of it.
  const auto copy = [&](uint64_t n) { return EncodeEntry(EncodeKey({1, n}), *spool_->ReadEntry({1, n})); };
  const std::vector<std::pair<std::string, std::string>> changes = {
      {frames[1], flip(frames[1], 6 + entry + 40 + 20)},           // packed rows: the bodies are lost
      {frames[2], flip(frames[2], 6 + entry / 2)},                 // signed header: whole again
      {frames[3], flip(frames[3], 6 + entry + 4 + 3)},             // batch key: the bodies are lost
      {frames[4], flip(frames[4], 5)},                             // length of the entry: whole again
      {copy(5), flip(copy(5), 300)},                               // a copy nobody needs
      {frames[0], flip(frames[0], 20'000)},                        // the epoch's keys: whole again
  };
  Damage(changes);
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(), 7);
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), last_);
  EXPECT_EQ(agent_->Facts().repaired, 3u);
  EXPECT_EQ(agent_->Facts().bodiless, 2u);
  EXPECT_EQ(lost_, (std::vector<uint64_t>{1, 3}));
  EXPECT_EQ(Evidence(), 2u);                                       // what the disk made of them
  EXPECT_TRUE(reported_.empty());
  EXPECT_EQ(world_.builder.ledger->HeadOf(id_.uuid)->bodies_missing, 2u);
  for (uint64_t n = 1; n <= 6; ++n) {
    const auto leaf = world_.builder.ledger->Read(*world_.builder.ledger->Find({id_.uuid, 1, n}));
    ASSERT_TRUE(leaf.ok());
    EXPECT_EQ((*leaf)->events.rows[0].tombstone, n == 1 || n == 3) << n;
  }
}

TEST_F(UplinkTest, WithoutEitherEntryWhatFollowsMayVouchForIt) {
  Capture(3);
  const size_t entry = FrameView::Decode(*spool_->Read({1, 1}))->entry.size();
  const auto flip = [](std::string text, size_t at) { return text.replace(at, 1, 1, static_cast<char>(text[at] ^ 0x10)); };
  const auto copy = [&](uint64_t n) { return EncodeEntry(EncodeKey({1, n}), *spool_->ReadEntry({1, n})); };
  const std::string one = *spool_->Read({1, 1}), two = *spool_->Read({1, 2});
  Damage({{one, flip(one, 6 + entry + 60)}, {copy(1), flip(copy(1), 300)}, {two, flip(two, 6 + entry / 2)}, {copy(2), flip(copy(2), 300)}});
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(1), 1);
  // Batch 1's entry is sound in its frame, but batch 2's copy, which would say so, is not. The chain goes on from what was sent, so its receipt is
  // waited for.
  EXPECT_EQ(Send(), 0);
  EXPECT_TRUE(reported_.empty());
  ASSERT_TRUE(Receive().ok());
  EXPECT_TRUE(absl::IsDataLoss(agent_->Next().status()));
  EXPECT_EQ(reported_.back(), "SPOOL_TAMPER");
}

TEST_F(UplinkTest, AFrameOfWhichOnlyTheRowsAreLostIsVouchedForByItsSuccessor) {
  Capture(3);
  const size_t entry = FrameView::Decode(*spool_->Read({1, 1}))->entry.size();
  const auto flip = [](std::string text, size_t at) { return text.replace(at, 1, 1, static_cast<char>(text[at] ^ 0x10)); };
  const std::string copy = EncodeEntry(EncodeKey({1, 1}), *spool_->ReadEntry({1, 1})), one = *spool_->Read({1, 1});
  Damage({{one, flip(one, 6 + entry + 60)}, {copy, flip(copy, 300)}});
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(), 4);
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(acked(), last_);
  EXPECT_EQ(agent_->Facts().bodiless, 1u);
}

TEST_F(UplinkTest, WhatTheLogLostIsSentOnceMoreOrSaidToBeGone) {
  MissingBodies missing;
  world_.Start({.missing = &missing});
  world_.sessions->Attach(missing);
  Capture(5);
  Connect();
  ASSERT_TRUE(Receive().ok());
  Send();
  ASSERT_TRUE(Receive().ok());
  ASSERT_TRUE(agent_->Drained());
  const uint64_t size = world_.builder.ledger->head().size;
  const auto lost = [&](BatchKey key, bool other = false) {
    const uint64_t leaf = world_.builder.ledger->Find({id_.uuid, key.epoch, key.batch_seq}).value_or(1000 + key.batch_seq);
    Hash hash = leaf < size ? *world_.builder.ledger->LeafHashAt(leaf) : Hash{};
    if (other) hash.bytes[0] ^= 1;
    missing.Add({leaf, {id_.uuid, key.epoch, key.batch_seq}, hash}, MissingBodies::Why::kDamaged);
    return leaf;
  };
  const uint64_t two = lost({1, 2});
  lost({1, 3}, /*other=*/true);   // not the leaf that this spool sealed: to send it would be a contradiction nobody asked for
  lost({1, 77});                  // never sealed here
  world_.clock.Advance(absl::Seconds(2));
  ASSERT_TRUE(Receive().ok());
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(), 1);
  EXPECT_EQ(agent_->Facts().returned, 1u);
  std::optional<std::string> gone = agent_->Answer();
  ASSERT_TRUE(gone);
  EXPECT_FALSE(agent_->Answer());
  ASSERT_TRUE(world_.sessions->Take(stream_, *gone));
  ASSERT_TRUE(Receive().ok());
  ASSERT_EQ(missing.Came().size(), 1u);
  EXPECT_EQ(missing.Came()[0].leaf.index, two);
  EXPECT_EQ(*missing.Came()[0].frame, *spool_->Read({1, 2}));
  EXPECT_EQ(missing.facts().given_up, 2u);
  EXPECT_EQ(missing.facts().lacking, 2u);
  EXPECT_EQ(world_.builder.ledger->head().size, size);
  EXPECT_TRUE(world_.findings.empty());
  EXPECT_TRUE(world_.streams.closed.empty());
  // Asked again, a question has its limit, and what was asked on one stream is forgotten on the next.
  v1::PushResponse flood;
  for (uint64_t i = 0; i < 500; ++i) flood.mutable_wanted()->add_batches()->set_batch_seq(1000 + i);
  ASSERT_TRUE(agent_->OnMessage(flood.SerializeAsString()).ok());
  EXPECT_EQ(Send(), 0);
  v1::PushRequest said;
  ASSERT_TRUE(said.ParseFromString(*agent_->Answer()));
  EXPECT_EQ(said.lacking().batches_size(), 64);
  ASSERT_TRUE(agent_->OnMessage(flood.SerializeAsString()).ok());
  Cut();
  Connect();
  ASSERT_TRUE(Receive().ok());
  EXPECT_EQ(Send(), 0);
  EXPECT_FALSE(agent_->Answer());
  Capture(1);                     // and the chain goes on
  EXPECT_EQ(Send(), 1);
  ASSERT_TRUE(Receive().ok());
  EXPECT_TRUE(agent_->Drained());
}

TEST_F(UplinkTest, TheWindowIsBounded) {
  Resume({.uuid = {}, .version = {}, .run = {}, .window_bytes = 1500});
  Capture(30);
  Connect();
  ASSERT_TRUE(Receive().ok());
  const int first = Send();
  EXPECT_LT(first, 31);
  for (int i = 0; i < 40 && !agent_->Drained(); ++i) {
    ASSERT_TRUE(Receive().ok());
    Send();
  }
  EXPECT_EQ(acked(), last_);
}

TEST_F(UplinkTest, ARefusedStreamEndsWithItsReason) {
  world_.registry.Apply([&] {
    IdentityLeaf leaf;
    leaf.act = IdentityLeaf::Act::kRevoked;
    leaf.uuid = id_.uuid;
    leaf.uri = world_.CallerOf(id_).identity.ToUri();
    return leaf;
  }(), 5);
  EXPECT_TRUE(absl::IsUnauthenticated(world_.sessions->Open(world_.CallerOf(id_)).status()));
}

TEST_F(UplinkTest, RevocationEndsALiveStream) {
  Connect();
  ASSERT_TRUE(Receive().ok());
  IdentityLeaf leaf;
  leaf.act = IdentityLeaf::Act::kRevoked;
  leaf.uuid = id_.uuid;
  leaf.uri = world_.CallerOf(id_).identity.ToUri();
  world_.registry.Apply(leaf, 5);
  world_.clock.Advance(absl::Seconds(2));
  const absl::Status s = Receive();
  EXPECT_FALSE(s.ok());
  EXPECT_EQ(reported_.back(), "AUTH_REVOKED");
  ASSERT_TRUE(world_.streams.closed.contains(stream_));
  EXPECT_TRUE(absl::IsUnauthenticated(world_.streams.closed[stream_]));
}

TEST_F(UplinkTest, StreamsPerIdentityAndSilenceAreBounded) {
  auto a = world_.sessions->Open(world_.CallerOf(id_)), b = world_.sessions->Open(world_.CallerOf(id_));
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(world_.sessions->Open(world_.CallerOf(id_)).status()));
  world_.sessions->Closed(*a);
  EXPECT_TRUE(world_.sessions->Open(world_.CallerOf(id_)).ok());
  // Nobody said hello.
  world_.clock.Advance(absl::Seconds(11));
  world_.Pump();
  EXPECT_TRUE(world_.streams.closed.contains(*b));
}

TEST_F(UplinkTest, UnreadReceiptsEndTheStream) {                          // 54
  Connect();
  ASSERT_TRUE(Receive().ok());
  Capture(1);
  Send();
  for (int i = 0; i < 4; ++i) {
    world_.verifier->Step(world_.clock.now);
    world_.clock.Advance(absl::Milliseconds(6));
    world_.committer->Step(world_.clock.now);
    world_.sessions->Step(world_.clock.now);   // sent, and never written
  }
  world_.clock.Advance(absl::Seconds(32));
  world_.sessions->Step(world_.clock.now);
  EXPECT_TRUE(world_.streams.closed.contains(stream_));
}

// A message that does not end is not seen before it does: what counts is that none ends on either side.              // 50
TEST_F(UplinkTest, AStreamWithoutAWholeMessageIsEnded) {
  Connect();
  ASSERT_TRUE(Receive().ok());
  const auto wait = [&](absl::Duration most) {
    for (absl::Duration gone = absl::ZeroDuration(); gone < most; gone += absl::Seconds(1)) {
      world_.clock.Advance(absl::Seconds(1));
      world_.sessions->Step(world_.clock.now);
    }
    return world_.streams.closed.contains(stream_);
  };
  EXPECT_FALSE(wait(absl::Seconds(25)));
  Capture(1);
  EXPECT_EQ(Send(), 2);                     // a heartbeat would do
  EXPECT_FALSE(wait(absl::Seconds(25)));    // the receipt does, too
  world_.Pump();
  EXPECT_FALSE(wait(absl::Seconds(25)));
  ASSERT_TRUE(wait(absl::Seconds(10)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(world_.streams.closed[stream_]));
  EXPECT_EQ(world_.streams.closed[stream_].message(), "no whole message within 30s: reconnect");
}

TEST_F(UplinkTest, AMessageThatWaitsForRoomIsWhole) {
  world_.Start({.agent_bytes = 1});
  Connect();
  world_.Pump();
  Capture(2);
  v1::PushRequest request;
  for (BatchKey key{}; const auto next = *spool_->Next(key);) {
    key = next->first;
    request.set_frame(next->second);
    std::string bytes = request.SerializeAsString();
    if (!world_.sessions->Take(stream_, bytes)) break;
  }
  for (int i = 0; i < 100; ++i) {           // the verifier has not come to it
    world_.clock.Advance(absl::Seconds(1));
    world_.sessions->Step(world_.clock.now);
  }
  EXPECT_FALSE(world_.streams.closed.contains(stream_));
}

TEST_F(UplinkTest, FirstWordsMustBeHello) {
  struct Case {
    const char* name;
    std::string message;
    const char* code;
  };
  v1::PushRequest stranger;
  stranger.mutable_hello()->set_agent_uuid("0000000000000000");
  const std::vector<Case> table = {
      {"nothing", "", "FRAME_MALFORMED"},
      {"noise", "\xff\xff\xff", "FRAME_MALFORMED"},
      {"a frame", std::string("\x12\x03" "abc"), "FRAME_MALFORMED"},
      {"another uuid", stranger.SerializeAsString(), "IDENTITY_MISMATCH"},
      {"a megabyte of unknown fields", std::string(1 << 20, '\x08'), "FRAME_MALFORMED"},
      {"too large", std::string((4 << 20) + 65, 'x'), "SIZE_LIMIT"},
  };
  for (const Case& c : table) {
    SCOPED_TRACE(c.name);
    auto id = world_.sessions->Open(world_.CallerOf(id_));
    ASSERT_TRUE(id.ok());
    std::string message = c.message;
    EXPECT_TRUE(world_.sessions->Take(*id, message));
    world_.Pump();
    ASSERT_FALSE(world_.streams.out[*id].empty());
    v1::PushResponse r;
    ASSERT_TRUE(r.ParseFromString(world_.streams.out[*id].front()));
    EXPECT_EQ(r.refusal().code(), c.code);
    EXPECT_TRUE(world_.streams.closed.contains(*id));
    world_.sessions->Closed(*id);
  }
}

TEST(Backoff, GrowsWithJitterAndStartsOverAfterHealth) {
  SeededRng rng(1);
  Backoff backoff(rng);
  for (int i = 0; i < 12; ++i) {
    const absl::Duration ceiling = backoff.ceiling();
    EXPECT_LE(ceiling, Backoff::kMost);
    const absl::Duration wait = backoff.Next(absl::ZeroDuration());
    EXPECT_GE(wait, absl::ZeroDuration());
    EXPECT_LE(wait, ceiling);
  }
  EXPECT_EQ(backoff.ceiling(), Backoff::kMost);
  backoff.Next(absl::Minutes(2));
  EXPECT_EQ(backoff.ceiling(), Backoff::kFirst * 2);
}

TEST(Pace, FollowsVerification) {
  const auto busy = [](double share) { return Verifier::Strain{share, absl::ZeroDuration()}; };
  EXPECT_EQ(NextBatchInterval(20, 20, busy(0.1)), 20u);
  EXPECT_EQ(NextBatchInterval(20, 20, busy(0.6)), 30u);
  EXPECT_EQ(NextBatchInterval(900, 20, busy(0.9)), 1000u);
  EXPECT_EQ(NextBatchInterval(30, 20, busy(0.1)), 24u);
  EXPECT_EQ(NextBatchInterval(100, 20, busy(0.4)), 100u);
  // Frames that wait say that something behind the checks cannot keep up, however little those cost.
  const auto waited = [](int ms) { return Verifier::Strain{0.1, absl::Milliseconds(ms)}; };
  EXPECT_EQ(NextBatchInterval(20, 20, waited(150)), 20u);    // a burst
  EXPECT_EQ(NextBatchInterval(20, 20, waited(250)), 30u);
  EXPECT_EQ(NextBatchInterval(600, 20, waited(250)), 480u);
  EXPECT_EQ(NextBatchInterval(600, 20, waited(400)), 600u);
  EXPECT_EQ(NextBatchInterval(600, 20, waited(700)), 900u);
}

}  // namespace
}  // namespace orgtrail
