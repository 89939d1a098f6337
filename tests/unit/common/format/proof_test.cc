#include "common/format/proof.h"

#include <gtest/gtest.h>

#include "common/base/text.h"
#include "tests/support/sealed_log.h"

namespace orgtrail {
namespace {

struct ProofTest : testing::Test {
  ProofTest() {
    for (int i = 0; i < 5; ++i) log.Add("{\"eventName\":\"CreateUser\",\"n\":" + std::to_string(i) + "}");
    log.Close();
    log.Close();
    proof = log.Prove(1, 3);
  }
  // Ok, or the message.
  std::string Verify(const EventProof& p) const {
    absl::StatusOr<ProofFacts> facts = VerifyProof(p, log.trust());
    if (facts.ok()) return "";
    EXPECT_TRUE(absl::IsDataLoss(facts.status()) || absl::IsFailedPrecondition(facts.status())) << facts.status();
    return std::string(facts.status().message());
  }
  SealedLog log;
  EventProof proof;
};

TEST_F(ProofTest, VerifiesAndSaysWhat) {
  absl::StatusOr<ProofFacts> facts = VerifyProof(proof, log.trust());
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->checkpoint.size, 4u);
  EXPECT_EQ(facts->header.batch_seq, 1u);
  EXPECT_EQ(facts->enrolment.uuid, log.uuid);
  EXPECT_EQ(facts->epoch.origin, SealedLog::kOrigin);
  EXPECT_EQ(facts->steps.size(), 9u);
  for (const std::string& step : facts->steps) EXPECT_NE(step.find(':'), std::string::npos) << step;
}

TEST_F(ProofTest, TextDecodesToTheSame) {
  const std::string text = proof.Encode();
  absl::StatusOr<EventProof> decoded = EventProof::Decode(text);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->Encode(), text);
  EXPECT_EQ(Verify(*decoded), "");
  EXPECT_TRUE(text.starts_with("c2sp.org/tlog-proof@v1\nextra "));
  for (size_t n = 0; n + 200 < text.size(); n += n < 100 ? 1 : 997) {
    EXPECT_TRUE(absl::IsInvalidArgument(EventProof::Decode(text.substr(0, n)).status())) << n;
  }
}

TEST_F(ProofTest, EveryFlippedByteFails) {
  const std::string text = proof.Encode();
  // The key list is 32 KiB under one hash: every byte around it, some in it.
  size_t list_begin = 0, list_end = 0;
  {
    // Offsets in base64 of where the 1,024 keys begin and end.
    const size_t extra = text.find("extra ") + 6;
    const std::string binary = *Unbase64(std::string_view(text).substr(extra, text.find('\n', extra) - extra));
    const size_t keys = binary.find("OTK1");
    list_begin = extra + keys / 3 * 4 + 16;
    list_end = extra + (keys + 8 + 1024 * 32) / 3 * 4 - 8;
  }
  int flips = 0;
  for (size_t i = 0; i < text.size(); i += i > list_begin && i + 401 < list_end ? 401 : 1) {
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    absl::StatusOr<EventProof> decoded = EventProof::Decode(damaged);
    ++flips;
    if (!decoded.ok()) {
      EXPECT_TRUE(absl::IsInvalidArgument(decoded.status()));
      continue;
    }
    EXPECT_NE(Verify(*decoded), "") << "byte " << i << " of " << text.size();
  }
  EXPECT_GT(flips, 3000);
}

TEST_F(ProofTest, EachStepIsNamed) {
  struct Case {
    const char* says;
    void (*damage)(EventProof&, SealedLog&);
  };
  const Case cases[] = {
      {"event in batch: ", [](EventProof& p, SealedLog&) { p.body[0] = '['; }},
      {"event: ", [](EventProof& p, SealedLog&) { p.body += ' '; }},
      {"event: sequence 9 ", [](EventProof& p, SealedLog&) { p.prefix.seq = 9; }},
      {"event in batch: ", [](EventProof& p, SealedLog&) { p.prefix.flags = kFlagSync; }},
      {"event in batch: ", [](EventProof& p, SealedLog&) { p.prefix.salt[0] = static_cast<char>(p.prefix.salt[0] ^ 1); }},
      {"event in batch: ", [](EventProof& p, SealedLog&) { p.event_index = 2; }},
      {"slot key: ", [](EventProof& p, SealedLog& l) { p.slot_key = l.log_key.public_key(); }},
      {"batch signature: ", [](EventProof& p, SealedLog&) { p.batch.entry.back() = static_cast<char>(p.batch.entry.back() ^ 1); }},
      {"batch inclusion: ", [](EventProof& p, SealedLog&) { p.batch.index = 3; }},
      {"batch: ", [](EventProof& p, SealedLog& l) { p.batch = l.Proven(3); }},
      {"enrolment: ", [](EventProof& p, SealedLog&) { p.enrolment = {}; }},
      {"enrolment: ", [](EventProof& p, SealedLog& l) { p.enrolment = l.Proven(1); }},
      {"epoch_open: ", [](EventProof& p, SealedLog& l) { p.epoch_open = l.Proven(3); }},
      {"epoch_open extension: ", [](EventProof& p, SealedLog&) { p.epoch_object.back() = static_cast<char>(p.epoch_object.back() ^ 1); }},
      {"epoch_open inclusion: ", [](EventProof& p, SealedLog&) { p.epoch_open.path.pop_back(); }},
      {"enrolment inclusion: ", [](EventProof& p, SealedLog&) { p.enrolment.path.pop_back(); }},
      {"keytree_roll: ", [](EventProof& p, SealedLog&) { p.roll_object = "x"; }},
      {"checkpoint: ", [](EventProof& p, SealedLog&) { p.checkpoint.pop_back(); }},
      {"checkpoint: no trusted key for log 'else'", [](EventProof& p, SealedLog& l) {
         p.checkpoint = SignNote("else\n4\n" + Base64(RootOf(l.Leaves()).view()) + "\n", "else", l.log_key);
       }},
      {"batch inclusion: ", [](EventProof& p, SealedLog& l) {
         p.checkpoint = SignNote(Checkpoint{SealedLog::kOrigin, 4, LeafHash("fork")}.Text(), SealedLog::kOrigin, l.log_key);
       }},
  };
  for (const Case& c : cases) {
    EventProof damaged = proof;
    c.damage(damaged, log);
    const std::string message = Verify(damaged);
    EXPECT_TRUE(message.starts_with(c.says)) << "expected " << c.says << " got " << message;
  }
}

TEST_F(ProofTest, IdentityOfAnotherAgentDoesNotHelp) {
  // The aggregator enrols a second agent with a key of its own and claims the record for it.
  SealedLog other("other");
  other.Add("{}");
  other.Close();
  EventProof mixed = other.Prove(1, 0);
  mixed.enrolment = log.Proven(0);
  EXPECT_TRUE(Verify(mixed).starts_with("checkpoint: ")) << Verify(mixed);
  mixed.checkpoint = SignNote(Checkpoint{SealedLog::kOrigin, 3, RootOf(other.Leaves())}.Text(), SealedLog::kOrigin, log.log_key);
  EXPECT_TRUE(Verify(mixed).starts_with("enrolment: is of agent")) << Verify(mixed);
}

TEST(ProofAfterRoll, VerifiesInTheSecondAndThirdTree) {
  SealedLog log;
  for (int i = 0; i < 1021; ++i) log.Close();
  log.Add("{\"in\":\"first\"}");
  log.Close();  // slot 1022, then the roll
  ASSERT_EQ(log.batches.back().header.kind, BatchKind::kKeytreeRoll);
  log.Add("{\"in\":\"second\"}");
  log.Close();
  const size_t second = log.batches.size() - 1;
  for (int i = 0; i < 1022; ++i) log.Close();
  ASSERT_EQ(log.batches.back().header.kind, BatchKind::kKeytreeRoll);
  log.Add("{\"in\":\"third\"}");
  log.Close();
  const size_t third = log.batches.size() - 1;
  for (const auto& [position, slot] : {std::pair<size_t, uint32_t>{second - 2, 1022}, {second, 0}, {third, 0}}) {
    EventProof proof = log.Prove(position, 0);
    EXPECT_EQ(log.batches[position].header.key_slot, slot);
    absl::StatusOr<ProofFacts> facts = VerifyProof(proof, log.trust());
    EXPECT_TRUE(facts.ok()) << facts.status();
    absl::StatusOr<EventProof> again = EventProof::Decode(proof.Encode());
    ASSERT_TRUE(again.ok());
    EXPECT_TRUE(VerifyProof(*again, log.trust()).ok());
  }
  // Without its roll, or with another's, a tree is nobody's.
  EventProof proof = log.Prove(third, 0);
  const EventProof earlier = log.Prove(second, 0);
  EventProof wrong = proof;
  wrong.roll = earlier.roll;
  EXPECT_TRUE(absl::IsDataLoss(VerifyProof(wrong, log.trust()).status()));
  wrong.roll_object = earlier.roll_object;
  EXPECT_TRUE(absl::IsDataLoss(VerifyProof(wrong, log.trust()).status()));
  wrong = proof;
  wrong.roll = {};
  wrong.roll_object.clear();
  EXPECT_TRUE(absl::IsDataLoss(VerifyProof(wrong, log.trust()).status()));
  wrong = proof;
  wrong.roll_object[100] = static_cast<char>(wrong.roll_object[100] ^ 1);
  EXPECT_TRUE(ToStd(VerifyProof(wrong, log.trust()).status().message()).starts_with("keytree_roll extension: "));
}

}  // namespace
}  // namespace orgtrail
