#include "aggregator/verify/slot_keys.h"
#include "aggregator/verify/verifier.h"

#include <gtest/gtest.h>

#include "common/base/bytes.h"
#include "common/format/control.h"
#include "tests/support/ingest_world.h"

namespace orgtrail {
namespace {

// A stage's verdicts, for one agent's frames given straight to the verifier.
class VerifierTest : public ::testing::Test, public Verdicts, public Commits {
 protected:
  VerifierTest() : builder_(dir_ / "ledger", clock_) {
    CHECK_OK(builder_.Open());
    Rebuild({});
    forger_ = std::make_unique<Forger>(id_, 7, clock_);
    Enrol(*forger_);
    const std::string open = forger_->Open();
    EXPECT_EQ(Give(open), "") << last_.detail;
    EXPECT_EQ(Give(forger_->Batch({Record(1), Record(2)})), "") << last_.detail;
  }
  void Rebuild(VerifierOptions options) {
    options_ = options;
    committer_ = std::make_unique<Committer>(*builder_.ledger, *this, 1024, clock_);
    verifier_ = std::make_unique<Verifier>(
        options, *builder_.ledger, registry_, *committer_, *this,
        [this](std::string_view code, Severity s, std::string_view, std::string_view d) { findings_.push_back({std::string(code), s, std::string(d)}); },
        clock_, metrics_);
  }
  void Enrol(const Forger& f) {
    IdentityLeaf leaf;
    leaf.wall_ns = 1;
    leaf.uuid = f.id.uuid;
    leaf.uri = Identity{Identity::Kind::kAgent, f.id.org, f.id.account, f.id.region, f.id.name}.ToUri();
    leaf.identity_key = std::string(View(f.key.public_key()));
    leaf.serial = "0a";
    leaf.not_after_ns = 1ull << 62;
    CHECK_OK(builder_.Append(ControlItem(leaf.Encode())));
    registry_.Apply(leaf, builder_.ledger->head().size - 1);
  }
  static std::string Record(int n) { return TestRecord(static_cast<uint64_t>(n), "111111111111", "eu-west-1", absl::FromUnixSeconds(1'790'000'000)); }

  // The code of the refusal, or "" when the frame was taken.
  std::string Give(std::string frame, Identity who = kWho, StreamId stream = 1) {
    last_ = Refused{};
    Submission s{stream, std::make_shared<const Caller>(Caller{std::move(who), "0a", "127.0.0.1:1"}), id_.uuid, std::move(frame)};
    CHECK(verifier_->TryEnter(s));
    clock_.Advance(absl::Milliseconds(6));
    verifier_->Step(clock_.now);
    committer_->Step(clock_.now);
    return last_.code;
  }
  void Refuse(Refused r) override { last_ = std::move(r); }
  void Room(StreamId) override {}
  void Committed(const Flush& flush) override {
    verifier_->Committed(flush);
    committed_.insert(committed_.end(), flush.batches.begin(), flush.batches.end());
  }
  bool Found(std::string_view code) const {
    return std::any_of(findings_.begin(), findings_.end(), [&](const Told& f) { return f.code == code; });
  }
  std::vector<std::string> Evidence() {
    std::vector<std::string> codes;
    for (uint64_t i : builder_.ledger->ControlLeaves(0, 1000)) {
      auto entry = builder_.ledger->ReadEntry(i);
      CHECK_OK(entry.status());
      if (LeafMagic(*entry) != "OTV1") continue;
      auto e = EvidenceLeaf::Decode(*entry);
      CHECK_OK(e.status());
      codes.push_back(e->code);
    }
    return codes;
  }
  uint64_t size() const { return builder_.ledger->head().size; }

  static inline const Identity kWho{Identity::Kind::kAgent, "o-demo", "111111111111", "eu-west-1", "web-1"};
  TempDir dir_;
  StillClock clock_;
  LedgerBuilder builder_;
  Registry registry_;
  Metrics metrics_;
  VerifierOptions options_;
  AgentIdentity id_{Uuid::FromBytes("0123456789abcdef"), "o-demo", "111111111111", "eu-west-1", "web-1"};
  std::unique_ptr<Committer> committer_;
  std::unique_ptr<Verifier> verifier_;
  std::unique_ptr<Forger> forger_;
  Refused last_;
  struct Told {
    std::string code;
    Severity severity;
    std::string detail;
  };
  std::vector<Told> findings_;
  std::vector<CommittedLeaf> committed_;
};

TEST_F(VerifierTest, WhatIsSignedAndInOrderIsLogged) {
  EXPECT_EQ(size(), 3u);   // enrolment, epoch_open, data
  ASSERT_EQ(committed_.size(), 2u);
  EXPECT_EQ(committed_[1].batch, (BatchId{id_.uuid, 1, 1}));
  const auto head = builder_.ledger->HeadOf(id_.uuid);
  ASSERT_TRUE(head);
  EXPECT_EQ(head->cum_events, 2u);
  EXPECT_EQ(head->leaf, forger_->state.leaf);
  EXPECT_TRUE(findings_.empty());
}

TEST_F(VerifierTest, ARepeatBringsBackWhatTheLedgerLost) {
  MissingBodies missing;
  Rebuild({.missing = &missing});
  const std::string frame = forger_->Batch({Record(3)});
  ASSERT_EQ(Give(frame), "");
  const uint64_t leaf = size() - 1;
  ASSERT_EQ(Give(frame), "");
  EXPECT_EQ(missing.Came().size(), 0u);             // nobody misses it
  const MissingBodies::Leaf named{leaf, {id_.uuid, 1, 2}, *builder_.ledger->LeafHashAt(leaf)};
  // The entry is the agent's, what lies behind it is not what it signed.
  missing.Add(named, MissingBodies::Why::kDamaged);
  std::string other = forger_->Batch({Record(4)});
  const auto rows = [](const std::string& f) { return f.substr(6 + GetU16(f.data() + 4)); };
  EXPECT_EQ(Give(frame.substr(0, frame.size() - rows(frame).size()) + rows(other)), "");
  EXPECT_TRUE(Found("ROOT_MISMATCH"));
  EXPECT_EQ(missing.Came().size(), 0u);
  EXPECT_EQ(missing.facts().given_up, 1u);
  const std::string without = [&] {
    const FrameView view = *FrameView::Decode(frame);
    return BodilessFrame(view.entry, view.extension, TombstoneReason::kCorrupt);
  }();
  EXPECT_EQ(Give(without), "");
  EXPECT_EQ(missing.Came().size(), 0u);
  EXPECT_EQ(Give(frame), "");
  ASSERT_EQ(missing.Came().size(), 1u);             // also unasked
  EXPECT_EQ(*missing.Came()[0].frame, frame);
  EXPECT_EQ(committed_.back().leaf_index, leaf);
  EXPECT_TRUE(committed_.back().duplicate);
}

TEST_F(VerifierTest, ARepeatOfABatchThatCameWithoutBodiesFillsIt) {
  MissingBodies missing;
  Rebuild({.missing = &missing});
  const std::string frame = forger_->Batch({Record(3)});
  const FrameView view = *FrameView::Decode(frame);
  ASSERT_EQ(Give(BodilessFrame(view.entry, view.extension, TombstoneReason::kCorrupt)), "");
  const uint64_t leaf = size() - 1;
  ASSERT_EQ(Give(BodilessFrame(view.entry, view.extension, TombstoneReason::kCorrupt)), "");
  EXPECT_EQ(missing.facts().wanted, 0u);
  ASSERT_EQ(Give(frame), "");
  ASSERT_EQ(missing.Came().size(), 1u);
  EXPECT_EQ(missing.Came()[0].leaf.index, leaf);
  EXPECT_EQ(missing.Came()[0].why, MissingBodies::Why::kBodiless);
  EXPECT_EQ(size(), leaf + 1);
}

struct Forgery {
  std::string name, code;
  Forger::Odd odd;
  bool evidence = false;
  std::function<void(std::string& frame)> frame;
};

TEST_F(VerifierTest, ForgedBatchesAreRefusedByTheirCode) {
  const auto wrong = [](auto f) { return Forger::Odd{.header = f, .opening = {}, .entry = {}, .seen = {}}; };
  const std::vector<Forgery> table = {
      {"28 other account", "IDENTITY_MISMATCH", wrong([](BatchHeader& h) { h.account = "222222222222"; }), false, {}},
      {"28 other region", "IDENTITY_MISMATCH", wrong([](BatchHeader& h) { h.region = "us-east-1"; }), false, {}},
      {"28 other name", "IDENTITY_MISMATCH", wrong([](BatchHeader& h) { h.agent = "web-2"; }), false, {}},
      {"28 other uuid", "IDENTITY_MISMATCH", wrong([](BatchHeader& h) { h.agent_uuid.bytes[0] = 'x'; }), false, {}},
      {"35 ahead", "CHAIN_EXPECT", wrong([](BatchHeader& h) { h.batch_seq += 1; }), false, {}},
      {"35 far ahead", "CHAIN_EXPECT", wrong([](BatchHeader& h) { h.batch_seq = UINT64_MAX; }), false, {}},
      {"36 prev_hash wrong", "CHAIN_EXPECT", wrong([](BatchHeader& h) { h.prev_hash.bytes[3] ^= 1; }), false, {}},
      {"36 prev_hash zero", "CHAIN_EXPECT", wrong([](BatchHeader& h) { h.prev_hash = Hash{}; }), false, {}},
      {"37 one event more", "COUNT_MISMATCH", wrong([](BatchHeader& h) { ++h.n_events; ++h.last_seq; ++h.cum_events; }), true, {}},
      {"37 n_events 2^32-1", "BOUNDS", wrong([](BatchHeader& h) { h.n_events = UINT32_MAX; }), false, {}},
      {"38 first beyond last", "BOUNDS", wrong([](BatchHeader& h) { h.first_seq = h.last_seq + 3; }), false, {}},
      {"38 counters overflow", "BOUNDS", wrong([](BatchHeader& h) { h.first_seq = UINT64_MAX; h.last_seq = 1; }), false, {}},
      {"38 totals wrong", "COUNT_MISMATCH", wrong([](BatchHeader& h) { h.cum_events += 5; }), true, {}},
      {"events_root wrong", "ROOT_MISMATCH", wrong([](BatchHeader& h) { h.events_root.bytes[0] ^= 1; }), true, {}},
      {"42 all-zero signature", "SIG_INVALID", {.header = {}, .opening = {}, .entry = {}, .zero_signature = true, .seen = {}}, true, {}},
      {"42 S plus L", "SIG_INVALID",
       {.header = {}, .opening = {}, .entry = [](std::string& e) {
          // L = 2^252 + 27742317777372353535851937790883648493, little-endian, added to S.
          static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
                                            0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0x10};
          char* s = e.data() + e.size() - 32;
          int carry = 0;
          for (int i = 0; i < 32; ++i) {
            carry += static_cast<uint8_t>(s[i]) + order[i];
            s[i] = static_cast<char>(carry);
            carry >>= 8;
          }
        }, .seen = {}}, true, {}},
      {"42 another slot", "SLOT_UNKNOWN", wrong([](BatchHeader& h) { h.key_slot = 1000; }), true, {}},
      {"no such slot", "BOUNDS", wrong([](BatchHeader& h) { h.key_slot = 9999; }), false, {}},
      {"slot of another batch", "SLOT_UNKNOWN", wrong([](BatchHeader& h) { h.key_slot = 0; }), true, {}},
      {"another tree", "SLOT_UNKNOWN", wrong([](BatchHeader& h) { h.keytree_root.bytes[0] ^= 1; }), true, {}},
      {"43 epoch label", "SIG_INVALID", {.header = {}, .opening = {}, .entry = {}, .label = kEpochLabel, .seen = {}}, true, {}},
      {"44 version 2", "VERSION_UNKNOWN", {.header = {}, .opening = {}, .entry = [](std::string& e) { e[4] = 2; }, .seen = {}}, false, {}},
      {"44 kind 200", "VERSION_UNKNOWN", {.header = {}, .opening = {}, .entry = [](std::string& e) { e[5] = static_cast<char>(200); }, .seen = {}}, false, {}},
      {"45 wrong magic", "FRAME_MALFORMED", {.header = {}, .opening = {}, .entry = [](std::string& e) { e[2] = 'E'; }, .seen = {}}, false, {}},
      {"45 truncated", "FRAME_MALFORMED", {}, false, [](std::string& f) { f.resize(100); }},
      {"45 not a frame", "FRAME_MALFORMED", {}, false, [](std::string& f) { f = "hello"; }},
      {"45 trailing bytes", "DECOMP_LIMIT", {}, false, [](std::string& f) { f += "xx"; }},
      {"47 no zstd frame", "DECOMP_LIMIT", {}, false, [](std::string& f) { f.resize(f.size() - 12); f.append(12, '\xff'); }},
      {"49 length prefix of 4 GiB", "FRAME_MALFORMED", {}, false, [](std::string& f) {
         const size_t at = 4 + 2 + GetU16(f.data() + 4);
         f.replace(at, 4, "\xff\xff\xff\xff");
       }},
  };
  for (const Forgery& row : table) {
    SCOPED_TRACE(row.name);
    // A forger with the same keys, at the same place, that has not used this slot.
    Forger f(id_, 7, clock_);
    f.state = forger_->state;
    const uint64_t before = size();
    const size_t evidence = Evidence().size();
    clock_.Advance(absl::Hours(2));   // past the limits on findings, evidence and repeated refusals
    Forger::Odd odd = row.odd;
    std::string frame = f.Batch({Record(3)}, odd);
    if (row.frame) row.frame(frame);
    const std::string code = Give(std::move(frame));
    if (row.name.starts_with("47") || row.name == "45 trailing bytes") {
      EXPECT_TRUE(code == "DECOMP_LIMIT" || code == "FRAME_MALFORMED" || code == "DATA_LOSS" || code == "COUNT_MISMATCH") << code;
    } else {
      EXPECT_EQ(code, row.code) << last_.detail;
    }
    EXPECT_EQ(Evidence().size() - evidence, row.evidence ? 1u : 0u);
    EXPECT_EQ(size() - before, row.evidence ? 1u : 0u);   // nothing else was logged
  }
  // The chain is where it was: the next true batch enters.
  clock_.Advance(absl::Seconds(2));
  EXPECT_EQ(Give(forger_->Batch({Record(3)})), "") << last_.detail;
}

TEST_F(VerifierTest, AReplayIsAnsweredNotStored) {                       // 32
  Forger f(id_, 7, clock_);
  f.state.uuid = id_.uuid;
  const auto raw = builder_.ledger->ReadRaw(2);
  ASSERT_TRUE(raw.ok());
  EXPECT_EQ(Give(raw->bytes), "");
  EXPECT_EQ(size(), 3u);
  ASSERT_EQ(committed_.size(), 3u);
  EXPECT_TRUE(committed_[2].duplicate);
  EXPECT_EQ(committed_[2].leaf_index, 2u);
}

TEST_F(VerifierTest, AReplayByAnotherIdentityIsRefused) {                // 33
  const auto raw = builder_.ledger->ReadRaw(2);
  ASSERT_TRUE(raw.ok());
  Identity other = kWho;
  other.name = "web-2";
  EXPECT_EQ(Give(raw->bytes, other), "IDENTITY_MISMATCH");
  EXPECT_TRUE(last_.closes);
  EXPECT_TRUE(Found("IDENTITY_MISMATCH"));
}

TEST_F(VerifierTest, TwoBatchesAtOnePlaceAreEvidenceAndQuarantine) {      // 34
  Forger twin(id_, 7, clock_);
  twin.state = forger_->state;
  ASSERT_EQ(Give(forger_->Batch({Record(3)})), "");
  const std::string contradiction = twin.Batch({Record(4)});
  EXPECT_EQ(Give(contradiction), "EQUIVOCATION");
  EXPECT_TRUE(Found("EQUIVOCATION"));
  EXPECT_EQ(Evidence(), std::vector<std::string>{"EQUIVOCATION"});
  // Sent again it is kept, apart, and so is what follows.
  EXPECT_EQ(Give(contradiction), "") << last_.detail;
  EXPECT_EQ(Give(twin.Batch({Record(5)})), "") << last_.detail;
  const auto kept = builder_.ledger->ReadRaw(size() - 1);
  ASSERT_TRUE(kept.ok());
  EXPECT_EQ(kept->flags & kLeafQuarantined, kLeafQuarantined);
  EXPECT_TRUE(builder_.ledger->HeadOf(id_.uuid)->quarantined);
  // And remembered after a restart.
  Rebuild({});
  EXPECT_EQ(Give(twin.Batch({Record(6)})), "") << last_.detail;
  EXPECT_EQ(builder_.ledger->ReadRaw(size() - 1)->flags & kLeafQuarantined, kLeafQuarantined);
}

// The mark alone is not signed: the evidence for it is kept even when this hour's allowance is used up by what was not authentic.
TEST_F(VerifierTest, WhatSetsABranchApartIsAlwaysKept) {
  Rebuild({.evidence_per_hour = 1});
  Forger twin(id_, 7, clock_);
  twin.state = forger_->state;
  const OddBatch forged{.header = {}, .opening = {}, .entry = {}, .zero_signature = true, .dry = true, .seen = {}};
  EXPECT_EQ(Give(twin.Batch({Record(4)}, forged)), "SIG_INVALID");
  EXPECT_EQ(Give(twin.Batch({Record(4)}, forged)), "SIG_INVALID");
  ASSERT_EQ(Give(forger_->Batch({Record(3)})), "");
  EXPECT_EQ(Give(twin.Batch({Record(4)})), "EQUIVOCATION");
  EXPECT_EQ(Evidence(), (std::vector<std::string>{"SIG_INVALID", "EQUIVOCATION"}));
}

// Of a tree in the log only the next keys are held: those behind and beyond them come from the log again.
TEST_F(VerifierTest, KeysThatAreNotHeldAreReadAgain) {
  Forger twin(id_, 7, clock_);
  twin.state = forger_->state;
  for (uint32_t n = 0; n < 2 * SlotKeys::kHeld + 3; ++n) {
    ASSERT_EQ(Give(forger_->Batch({Record(static_cast<int>(n) + 3)})), "") << n << " " << last_.detail;
    if (n == SlotKeys::kHeld / 2) Rebuild({});   // in the middle of them
  }
  EXPECT_TRUE(findings_.empty());
  EXPECT_EQ(Give(twin.Batch({Record(2000)})), "EQUIVOCATION");   // signed with slot 2, long gone by
  EXPECT_EQ(Evidence(), std::vector<std::string>{"EQUIVOCATION"});
}

TEST_F(VerifierTest, EvidenceOfAnOpeningIsItsWholeFrame) {
  Forger copy(id_, 11, clock_);
  copy.key = SigningKey::FromSeed(SeededRng(7).Bytes(32));
  EXPECT_EQ(Give(copy.Open()), "EQUIVOCATION");
  const auto raw = builder_.ledger->ReadRaw(size() - 1);
  ASSERT_TRUE(raw.ok());
  const absl::StatusOr<EvidenceLeaf> evidence = EvidenceLeaf::Decode(raw->bytes);
  ASSERT_TRUE(evidence.ok());
  EXPECT_TRUE(FrameView::Decode(evidence->object).ok());   // with what it claims to continue
}

// A copy of the spool was started: both opened epoch 2, both go on, and neither waits for the other.
TEST_F(VerifierTest, BothBranchesOfASplitChainAreLogged) {                // 9, 10
  Forger copy(id_, 7, clock_);
  SeededRng other(8);
  copy.tree = std::make_unique<KeyTree>(other);
  while (!copy.tree->Grow(1024)) {
  }
  copy.state = forger_->state;
  forger_->tree = std::make_unique<KeyTree>(other);
  while (!forger_->tree->Grow(1024)) {
  }
  ASSERT_EQ(Give(forger_->Open()), "");
  ASSERT_EQ(Give(forger_->Batch({Record(3)})), "");
  const AgentHead before = *builder_.ledger->HeadOf(id_.uuid);
  const std::string opening = copy.Open(), first = copy.Batch({Record(4)});
  EXPECT_EQ(Give(first), "CHAIN_EXPECT");       // its beginning says more
  EXPECT_EQ(last_.batch_seq, 0u);
  EXPECT_EQ(Give(opening), "EQUIVOCATION");
  clock_.Advance(absl::Seconds(2));
  EXPECT_EQ(Give(opening), "") << last_.detail;   // the agent sends it again on its next stream
  EXPECT_EQ(Give(first), "") << last_.detail;
  EXPECT_EQ(Give(copy.Batch({Record(5)})), "") << last_.detail;
  EXPECT_EQ(Give(forger_->Batch({Record(6)})), "") << last_.detail;
  EXPECT_EQ(Give(copy.Batch({Record(7)})), "") << last_.detail;
  for (uint64_t leaf = size() - 5; leaf < size(); ++leaf) EXPECT_EQ(builder_.ledger->ReadRaw(leaf)->flags & kLeafQuarantined, kLeafQuarantined);
  // What follows what lies in the log, not in memory.
  Rebuild({});
  EXPECT_EQ(Give(copy.Batch({Record(8)})), "") << last_.detail;
  EXPECT_EQ(Give(forger_->Batch({Record(9)})), "") << last_.detail;
  EXPECT_EQ(Give(copy.Batch({Record(10)})), "") << last_.detail;
  // Repeats are answered with their own leaf, not with that of the same number.
  EXPECT_EQ(Give(opening), "");
  EXPECT_TRUE(committed_.back().duplicate);
  EXPECT_EQ(builder_.ledger->ReadRaw(committed_.back().leaf_index)->bytes, opening);
  // A batch whose predecessor is missing is asked for it.
  const std::string skipped = copy.Batch({Record(11)});
  clock_.Advance(absl::Seconds(2));
  EXPECT_EQ(Give(copy.Batch({Record(12)})), "CHAIN_EXPECT");
  EXPECT_EQ(last_.epoch, 2u);
  EXPECT_EQ(last_.batch_seq, copy.last.batch_seq - 1);
  // The head stays where the contradiction found it.
  const AgentHead after = *builder_.ledger->HeadOf(id_.uuid);
  EXPECT_TRUE(after.quarantined);
  EXPECT_EQ(after.leaf, before.leaf);
  EXPECT_EQ(after.leaf_index, before.leaf_index);
  EXPECT_EQ(Evidence(), std::vector<std::string>{"EQUIVOCATION"});
}

// The copy's batch happens to have the number that comes next: it is asked for the beginning of its branch, once, and not accused.
TEST_F(VerifierTest, ABatchOfAnUnseenBranchIsAskedForItsBeginning) {
  Forger copy(id_, 7, clock_);
  SeededRng other(8);
  copy.tree = std::make_unique<KeyTree>(other);
  while (!copy.tree->Grow(1024)) {
  }
  copy.state = forger_->state;
  forger_->tree = std::make_unique<KeyTree>(other);
  while (!forger_->tree->Grow(1024)) {
  }
  ASSERT_EQ(Give(forger_->Open()), "");
  ASSERT_EQ(Give(forger_->Batch({Record(3)})), "");
  const std::string opening = copy.Open(), first = copy.Batch({Record(4)}), second = copy.Batch({Record(5)}), third = copy.Batch({Record(6)});
  EXPECT_EQ(Give(second), "CHAIN_EXPECT");
  EXPECT_EQ(last_.epoch, 2u);
  EXPECT_EQ(last_.batch_seq, 0u);
  for (const std::string& on_its_way : {first, second, third}) EXPECT_EQ(Give(on_its_way), "") << last_.detail;   // told already
  EXPECT_EQ(size(), 5u);
  EXPECT_FALSE(Found("SLOT_UNKNOWN"));
  EXPECT_TRUE(Evidence().empty());
  EXPECT_EQ(Give(opening), "EQUIVOCATION");
  EXPECT_EQ(Evidence(), std::vector<std::string>{"EQUIVOCATION"});
}

TEST_F(VerifierTest, AForgedTwinIsNotTheAgentsFault) {
  Forger twin(id_, 7, clock_);
  twin.state = forger_->state;
  ASSERT_EQ(Give(forger_->Batch({Record(3)})), "");
  EXPECT_EQ(Give(twin.Batch({Record(4)}, {.header = {}, .opening = {}, .entry = {}, .zero_signature = true, .seen = {}})), "SIG_INVALID");
  EXPECT_EQ(Give(forger_->Batch({Record(5)})), "");
  EXPECT_FALSE(builder_.ledger->HeadOf(id_.uuid)->quarantined);
}

TEST_F(VerifierTest, AHoleWithoutALossRecordIsStoredAndFound) {           // 39
  ASSERT_EQ(Give(forger_->Batch({Record(3)}, {.header = [](BatchHeader& h) {
                                  h.n_lost = 7;
                                  h.last_seq += 7;
                                  h.cum_lost += 7;
                                }, .opening = {}, .entry = {}, .seen = {}})), "") << last_.detail;
  EXPECT_FALSE(Found("UNEXPLAINED_GAP"));   // the loss record may come in the next batch
  ASSERT_EQ(Give(forger_->Batch({Record(4)})), "") << last_.detail;
  EXPECT_TRUE(Found("UNEXPLAINED_GAP"));
  // With one it is explained.
  findings_.clear();
  clock_.Advance(absl::Minutes(2));
  ASSERT_EQ(Give(forger_->Batch({Record(5)}, {.header = [](BatchHeader& h) {
                                  h.n_lost = 1;
                                  h.last_seq += 1;
                                  h.cum_lost += 1;
                                }, .opening = {}, .entry = {}, .event_class = EventClass::kLoss, .seen = {}})), "");
  ASSERT_EQ(Give(forger_->Batch({Record(6)})), "");
  EXPECT_FALSE(Found("UNEXPLAINED_GAP"));
}

TEST_F(VerifierTest, ABatchWithoutItsBodiesTakesItsPlaceAndIsFound) {     // 5
  const auto without = [](const std::string& frame) {
    const FrameView view = *FrameView::Decode(frame);
    return BodilessFrame(view.entry, view.extension, TombstoneReason::kCorrupt);
  };
  const std::string whole = forger_->Batch({Record(3), Record(4)}, {.header = [](BatchHeader& h) {
                                             h.n_lost = 2;    // the record that explained it may be among what is gone
                                             h.last_seq += 2;
                                             h.cum_lost += 2;
                                           }, .opening = {}, .entry = {}, .seen = {}});
  std::string forged = without(whole);
  forged[forged.size() - 40 - 32] ^= 1;   // in the slot signature
  EXPECT_EQ(Give(forged), "SIG_INVALID");
  for (const TombstoneReason reason : {TombstoneReason::kExpired, TombstoneReason::kRedacted}) {   // the log's to say, with a leaf
    const FrameView view = *FrameView::Decode(whole);
    EXPECT_EQ(Give(BodilessFrame(view.entry, view.extension, reason)), "FRAME_MALFORMED");
  }
  ASSERT_EQ(Give(without(whole)), "") << last_.detail;
  EXPECT_TRUE(Found("BODIES_MISSING"));
  const uint64_t at = size() - 1;
  const auto leaf = builder_.ledger->Read(at);
  ASSERT_TRUE(leaf.ok()) << leaf.status();
  ASSERT_EQ((*leaf)->events.rows.size(), 2u);
  EXPECT_TRUE((*leaf)->events.rows[1].tombstone);
  EXPECT_EQ((*leaf)->facts[1].notes, kNoteTombstone);
  EXPECT_EQ((*leaf)->facts[1].account, "111111111111");
  EXPECT_EQ(builder_.ledger->HeadOf(id_.uuid)->bodies_missing, 2u);
  EXPECT_EQ(Give(whole), "");             // it comes again, with its bodies: the same leaf
  EXPECT_EQ(size(), at + 1);
  EXPECT_EQ(committed_.back().leaf_index, at);
  ASSERT_EQ(Give(forger_->Batch({Record(5)})), "") << last_.detail;   // the chain goes on
  EXPECT_FALSE(Found("UNEXPLAINED_GAP"));
  EXPECT_EQ(builder_.ledger->HeadOf(id_.uuid)->bodies_missing, 2u);
  EXPECT_EQ(Give(without(forger_->Batch({}, {.header = [](BatchHeader& h) { h.kind = BatchKind::kHeartbeat; }, .opening = {}, .entry = {}, .seen = {}}))),
            "FRAME_MALFORMED");
}

TEST_F(VerifierTest, WhatABatchQuotesOfTheLogIsCompared) {                // 41
  const SignedHead head = builder_.ledger->head();
  ASSERT_EQ(Give(forger_->Batch({Record(3)}, {.header = {}, .opening = {}, .entry = {}, .seen = {head.size, head.root, 0, {}}})), "");
  EXPECT_FALSE(Found("SPLIT_VIEW_SUSPECT"));
  Hash wrong = builder_.ledger->head().root;
  wrong.bytes[0] ^= 1;
  ASSERT_EQ(Give(forger_->Batch({Record(4)}, {.header = {}, .opening = {}, .entry = {}, .seen = {builder_.ledger->head().size, wrong, 0, {}}})), "");
  EXPECT_TRUE(Found("SPLIT_VIEW_SUSPECT"));
  findings_.clear();
  clock_.Advance(absl::Minutes(2));
  ASSERT_EQ(Give(forger_->Batch({Record(5)}, {.header = {}, .opening = {}, .entry = {}, .seen = {1000, wrong, 0, {}}})), "");
  EXPECT_TRUE(Found("SPLIT_VIEW_SUSPECT"));
}

TEST_F(VerifierTest, AStaleHeartbeatIsStoredButIsNoSignOfLife) {          // 40
  clock_.Advance(absl::Seconds(1));
  const std::string beat = forger_->Batch({});
  clock_.Advance(absl::Hours(24));
  ASSERT_EQ(Give(beat), "") << last_.detail;
  EXPECT_TRUE(Found("STALE_HEARTBEAT"));
  EXPECT_EQ(builder_.ledger->ReadRaw(size() - 1)->flags & kLeafLate, kLeafLate);
}

TEST_F(VerifierTest, ClocksOffAreFoundNeverRefused) {                     // 12
  ASSERT_EQ(Give(forger_->Batch({Record(3)}, {.header = [](BatchHeader& h) { h.wall_close_ns += 10'000'000'000ull * 31'536'000; },
                                              .opening = {}, .entry = {}, .seen = {}})), "") << last_.detail;
  EXPECT_TRUE(Found("CLOCK_SKEW"));
}

TEST_F(VerifierTest, AWorseFindingIsToldAtOnceAndTheSameOnceAMinute) {
  const auto off = [this](uint64_t seconds) {
    ASSERT_EQ(Give(forger_->Batch({Record(3)}, {.header = [=](BatchHeader& h) { h.wall_close_ns += seconds * 1'000'000'000; }, .opening = {}, .entry = {}, .seen = {}})), "");
  };
  for (const uint64_t seconds : {20, 20, 3600, 3600, 20}) off(seconds);
  clock_.Advance(absl::Minutes(1));
  off(20);
  std::vector<Severity> told;
  for (const Told& f : findings_) {
    if (f.code == "CLOCK_SKEW") told.push_back(f.severity);
  }
  EXPECT_EQ(told, (std::vector{Severity::kWarn, Severity::kPage, Severity::kWarn}));
}

TEST_F(VerifierTest, EachEpochAfterAnEndWithoutLastWordsIsFound) {        // 1
  ChainState state = forger_->state;
  for (uint64_t seed = 20; seed < 24; ++seed) {
    Forger next(id_, seed, clock_);
    next.key = SigningKey::FromSeed(SeededRng(7).Bytes(32));
    next.state = state;
    ASSERT_EQ(Give(next.Open({.header = {}, .opening = [](EpochOpening& o) { o.reason = EpochReason::kUnclean; }, .entry = {}, .seen = {}})), "") << last_.detail;
    state = next.state;
  }
  ASSERT_EQ(findings_.size(), 4u);
  for (size_t i = 0; i < findings_.size(); ++i) {
    EXPECT_EQ(findings_[i].code, "UNCLEAN_EPOCH");
    EXPECT_EQ(findings_[i].severity, i < 2 ? Severity::kWarn : Severity::kPage);
    EXPECT_EQ(findings_[i].detail.find("epoch " + std::to_string(i + 2)), 0u) << findings_[i].detail;
  }
}

TEST_F(VerifierTest, BootTimeCannotGoBack) {                              // 13
  Forger f(id_, 7, clock_);
  f.state = forger_->state;
  const std::string back = f.Batch({Record(3)}, {.header = [](BatchHeader& h) { h.boot_close_ns = 5; }, .opening = {}, .entry = {}, .seen = {}});
  EXPECT_EQ(Give(back), "MONO_ROLLBACK") << last_.detail;
  EXPECT_EQ(Evidence(), std::vector<std::string>{"MONO_ROLLBACK"});
  EXPECT_EQ(Give(back), "") << "kept in quarantine when it comes again: " << last_.detail;
}

TEST_F(VerifierTest, EpochsFollowTheirHead) {
  // A clean successor.
  ASSERT_EQ(Give(forger_->Batch({}, {.header = [](BatchHeader& h) { h.kind = BatchKind::kEpochClose; }, .opening = {}, .entry = {}, .seen = {}})), "")
      << last_.detail;
  Forger next(id_, 8, clock_);
  next.key = SigningKey::FromSeed(SeededRng(7).Bytes(32));
  next.state = forger_->state;
  ASSERT_EQ(Give(next.Open()), "") << last_.detail;
  EXPECT_FALSE(Found("UNCLEAN_EPOCH"));
  ASSERT_EQ(Give(next.Batch({Record(9)})), "") << last_.detail;

  // One that knows more than we do: send that first.
  Forger ahead(id_, 9, clock_);
  ahead.key = SigningKey::FromSeed(SeededRng(7).Bytes(32));
  ahead.state = next.state;
  clock_.Advance(absl::Seconds(2));
  EXPECT_EQ(Give(ahead.Open({.header = {}, .opening = [](EpochOpening& o) { o.previous_batch_seq += 1; }, .entry = {}, .seen = {}})), "CHAIN_EXPECT");
  EXPECT_EQ(last_.epoch, 2u);
  EXPECT_EQ(last_.batch_seq, 2u);

  // One of another log.
  Forger moved(id_, 10, clock_);
  moved.key = SigningKey::FromSeed(SeededRng(7).Bytes(32));
  moved.state = next.state;
  EXPECT_EQ(Give(moved.Open({.header = {}, .opening = [](EpochOpening& o) { o.origin = "orgtrail.other/o-x"; }, .entry = {}, .seen = {}})),
            "ORIGIN_MISMATCH");

  // A copy started from an older state: epoch 3 from the middle of epoch 1.
  Forger copy(id_, 11, clock_);
  copy.key = SigningKey::FromSeed(SeededRng(7).Bytes(32));
  copy.state = forger_->state;
  copy.state.epoch = 2;
  EXPECT_EQ(Give(copy.Open({.header = {}, .opening = [](EpochOpening& o) { o.previous_epoch = 1; }, .entry = {}, .seen = {}})), "EPOCH_CONFLICT")
      << last_.detail;
  EXPECT_TRUE(Found("EPOCH_CONFLICT"));
}

TEST_F(VerifierTest, OneSignatureOfAnEpochIsNotEnough) {
  Forger thief(id_, 12, clock_);   // holds another identity key
  thief.state = forger_->state;
  EXPECT_EQ(Give(thief.Open()), "SIG_INVALID");
}

TEST_F(VerifierTest, TooManyBatchesASecondAreHeldOff) {                   // 55
  Rebuild({.checks_per_second = 3});
  for (int i = 0; i < 3; ++i) ASSERT_EQ(Give(forger_->Batch({})), "");
  EXPECT_EQ(Give(forger_->Batch({}, {.header = {}, .opening = {}, .entry = {}, .dry = true, .seen = {}})), "RATE_LIMIT");
  EXPECT_GT(last_.retry_ms, 0u);
  EXPECT_EQ(last_.batch_seq, forger_->state.batch_seq + 1);
}

TEST_F(VerifierTest, AChangedProgrammeIsFound) {                          // 20
  ASSERT_EQ(Give(forger_->Batch({}, {.header = [](BatchHeader& h) { h.kind = BatchKind::kEpochClose; }, .opening = {}, .entry = {}, .seen = {}})), "");
  Forger second(id_, 8, clock_), third(id_, 9, clock_);
  second.key = SigningKey::FromSeed(SeededRng(7).Bytes(32));
  third.key = SigningKey::FromSeed(SeededRng(7).Bytes(32));
  second.state = forger_->state;
  ASSERT_EQ(Give(second.Open({.header = {}, .opening = [](EpochOpening& o) { o.executable.bytes[0] = 1; }, .entry = {}, .seen = {}})), "");
  EXPECT_FALSE(Found("AGENT_CHANGED"));   // the first epoch did not say
  third.state = second.state;
  ASSERT_EQ(Give(third.Open({.header = {}, .opening = [](EpochOpening& o) {
                                o.reason = EpochReason::kUnclean;
                                o.executable.bytes[0] = 2;
                              }, .entry = {}, .seen = {}})), "") << last_.detail;
  EXPECT_TRUE(Found("AGENT_CHANGED"));
  EXPECT_TRUE(Found("UNCLEAN_EPOCH"));
}

TEST_F(VerifierTest, FullQueuesPushBack) {
  Rebuild({.agent_bytes = 4096});
  std::vector<std::string> frames;
  for (int i = 0; i < 10; ++i) frames.push_back(forger_->Batch({std::string(2000, ' ') + Record(i)}));
  int entered = 0;
  for (std::string& f : frames) {
    Submission s{1, std::make_shared<const Caller>(Caller{kWho, "0a", ""}), id_.uuid, f};
    if (!verifier_->TryEnter(s)) {
      EXPECT_FALSE(s.frame.empty());   // untouched: it can be offered again
      break;
    }
    ++entered;
  }
  EXPECT_GT(entered, 1);
  EXPECT_LT(entered, 10);
}

}  // namespace
}  // namespace orgtrail
