#include "common/format/note.h"

#include <gtest/gtest.h>

#include "common/base/bytes.h"
#include "common/base/text.h"
#include "common/format/note_text.h"

namespace orgtrail {
namespace {

struct NoteTest : testing::Test {
  NoteTest() {
    vkey.name = "log.example/one";
    vkey.key = key.public_key();
  }
  std::string Sign(std::string_view text) const { return SignNote(text, vkey.name, key); }
  SigningKey key = SigningKey::FromSeed(Sha256("log").view());
  SigningKey other = SigningKey::FromSeed(Sha256("other").view());
  NoteKey vkey;
};

TEST_F(NoteTest, EveryFlippedByteFails) {
  const std::string note = Sign("log.example/one\n7\n" + Base64(Sha256("root").view()) + "\n");
  ASSERT_TRUE(OpenCheckpoint(note, vkey).ok());
  for (size_t i = 0; i < note.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = note;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      EXPECT_FALSE(OpenNote(damaged, vkey).ok()) << i;
    }
    EXPECT_FALSE(OpenNote(note.substr(0, i), vkey).ok());
  }
}

TEST_F(NoteTest, SeveralSignatures) {
  const std::string both = SignNote(Sign("text\n\nwith a gap\n"), "witness.example", other);
  EXPECT_EQ(*OpenNote(both, vkey), "text\n\nwith a gap\n");
  NoteKey witness;
  witness.name = "witness.example";
  witness.key = other.public_key();
  EXPECT_EQ(*OpenNote(both, witness), "text\n\nwith a gap\n");
  witness.name = "somebody.else";
  EXPECT_TRUE(absl::IsDataLoss(OpenNote(both, witness).status()));
}

TEST_F(NoteTest, ASignatureMadeElsewhere) {
  for (const std::string& text : {std::string("text\n"), std::string("text\n\nwith a gap\n")}) {
    EXPECT_EQ(NoteText(text), text);
    const Signature mine = key.Sign("", text);
    EXPECT_EQ(*AttachSignature(text, vkey, View(mine)), Sign(text));
    const NoteKey witness{"witness.example", 1, other.public_key()};
    const std::string both = *AttachSignature(Sign(text), witness, View(other.Sign("", text)));
    EXPECT_EQ(both, SignNote(Sign(text), witness.name, other));
    EXPECT_EQ(NoteText(both), text);
    EXPECT_TRUE(absl::IsDataLoss(AttachSignature(text, witness, View(mine)).status()));
    EXPECT_TRUE(absl::IsDataLoss(AttachSignature(text + "more\n", vkey, View(mine)).status()));
  }
  for (const char* text : {"", "no line end", "a\ttab\n"}) EXPECT_TRUE(absl::IsInvalidArgument(AttachSignature(text, vkey, View(key.Sign("", text))).status()));
}

TEST_F(NoteTest, TimestampedCosignature) {
  NoteKey cosigner;
  cosigner.name = "log.example/one";
  cosigner.type = 4;
  cosigner.key = other.public_key();
  const std::string text = "log.example/one\n0\n" + Base64(Sha256("").view()) + "\n";
  std::string bytes;
  PutU32(bytes, cosigner.Id());
  PutU64(bytes, 1763712000);
  bytes += View(other.Sign("", "cosignature/v1\ntime 1763712000\n" + text));
  std::string note = Sign(text) + "\xE2\x80\x94 log.example/one " + Base64(bytes) + "\n";
  EXPECT_TRUE(OpenNote(note, cosigner).ok());
  EXPECT_TRUE(OpenNote(note, vkey).ok());
  bytes[11] = static_cast<char>(bytes[11] ^ 1);  // another second
  note = Sign(text) + "\xE2\x80\x94 log.example/one " + Base64(bytes) + "\n";
  EXPECT_TRUE(absl::IsDataLoss(OpenNote(note, cosigner).status()));
}

TEST_F(NoteTest, CheckpointText) {
  const std::string root = Base64(Sha256("root").view());
  EXPECT_EQ(Checkpoint::Decode("o\n0\n" + root + "\n")->Text(), "o\n0\n" + root + "\n");
  const std::string bad[] = {
      "", "o\n", "o\n7\n", "\n7\n" + root + "\n", "o\n07\n" + root + "\n", "o\n-7\n" + root + "\n", "o\n7\n" + root, "o\n7\nAAAA\n",
      "o\n18446744073709551616\n" + root + "\n", "o\n7\n" + root + "\nextension\n", "a b\n7\n" + root + "\n", "o\n7 \n" + root + "\n",
  };
  for (const std::string& text : bad) EXPECT_TRUE(absl::IsInvalidArgument(Checkpoint::Decode(text).status())) << text;
  EXPECT_TRUE(absl::IsDataLoss(OpenCheckpoint(Sign("o\n7\n" + root + "\n"), vkey).status()));  // of another log
}

TEST_F(NoteTest, VerificationKeys) {
  const std::string text = vkey.Encode();
  EXPECT_EQ(NoteKey::Decode(text)->Encode(), text);
  for (size_t i = 0; i < text.size(); ++i) {
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_TRUE(absl::IsInvalidArgument(NoteKey::Decode(damaged).status())) << damaged;
  }
  NoteKey unknown = vkey;
  unknown.type = 6;
  EXPECT_FALSE(NoteKey::Decode(unknown.Encode()).ok());
}

TEST_F(NoteTest, TrustPolicies) {
  const std::string line = "log " + vkey.Encode();
  absl::StatusOr<TrustPolicy> policy = TrustPolicy::Decode("# ours\n\n \t" + line + " https://log.example\t\nquorum none\n");
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_EQ(policy->Encode(), line + "\nquorum none\n");
  EXPECT_TRUE(TrustPolicy::Decode("quorum none").ok());
  const std::string bad[] = {
      "", line + "\n", line + "\n" + line + "\nquorum none\n", "quorum none\nquorum none\n", "quorum X\n", "log\nquorum none\n",
      line + " a b\nquorum none\n", "log nonsense\nquorum none\n", "witness w " + vkey.Encode() + "\nquorum none\n", "quorum none none\n",
  };
  for (const std::string& text : bad) EXPECT_TRUE(absl::IsInvalidArgument(TrustPolicy::Decode(text).status())) << text;
  EXPECT_NE(TrustPolicy::Decode("quorum none\nlog x\n").status().message().find("line 2"), absl::string_view::npos);
}

}  // namespace
}  // namespace orgtrail
