#include "common/format/control.h"

#include <gtest/gtest.h>

#include "common/base/limits.h"
#include "common/format/own_record.h"
#include "common/format/token.h"
#include "tests/support/fixed_world.h"

namespace orgtrail {
namespace {

std::string CodeOf(const absl::Status& status) {
  EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << status;
  const std::string message(status.message());
  return message.substr(0, message.find(' '));
}

IdentityLeaf Enrolled() {
  IdentityLeaf leaf;
  RepeatingRng rng("control");
  leaf.wall_ns = 1763712000'000'000'000;
  leaf.uuid = Uuid::Random(rng);
  leaf.uri = "spiffe://o-example/account/111122223333/region/eu-west-1/agent/web-01";
  leaf.certificate = Sha256("certificate");
  leaf.identity_key = std::string(View(SigningKey::Generate(rng).public_key()));
  leaf.token_id = "0123456789abcdef";
  leaf.approver = "spiffe://o-example/role/governance/ada";
  leaf.carries = "111122223333,444455556666";
  leaf.not_after_ns = 1763798400'000'000'000;
  leaf.serial = "0a1b2c";
  leaf.reason = "f\xC3\xBCr die Webserver";
  return leaf;
}

TEST(Control, IdentityLeaf) {
  const std::string bytes = Enrolled().Encode();
  absl::StatusOr<IdentityLeaf> leaf = IdentityLeaf::Decode(bytes);
  ASSERT_TRUE(leaf.ok()) << leaf.status();
  EXPECT_EQ(leaf->Encode(), bytes);
  EXPECT_EQ(LeafMagic(bytes), "OTN1");
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_EQ(CodeOf(IdentityLeaf::Decode(bytes.substr(0, n)).status()), "FRAME_MALFORMED");
  EXPECT_EQ(CodeOf(IdentityLeaf::Decode(bytes + "x").status()), "FRAME_MALFORMED");
  struct Case {
    const char* code;
    void (*change)(IdentityLeaf&);
  };
  const Case cases[] = {
      {"BOUNDS", [](IdentityLeaf& l) { l.uri = "two words"; }},
      {"BOUNDS", [](IdentityLeaf& l) { l.uri = std::string(limits::kSpiffeBytes + 1, 'a'); }},
      {"BOUNDS", [](IdentityLeaf& l) { l.approver = "a\n"; }},
      {"BOUNDS", [](IdentityLeaf& l) { l.identity_key = std::string(32, '\0'); }},
      {"BOUNDS", [](IdentityLeaf& l) { l.token_id = "xyz"; }},
      {"BOUNDS", [](IdentityLeaf& l) { l.carries = "all"; }},
      {"BOUNDS", [](IdentityLeaf& l) { l.carries = "111122223333,"; }},
      {"BOUNDS", [](IdentityLeaf& l) { l.serial = "A0"; }},
      {"VERSION_UNKNOWN", [](IdentityLeaf& l) { l.act = static_cast<IdentityLeaf::Act>(0); }},
      {"VERSION_UNKNOWN", [](IdentityLeaf& l) { l.act = static_cast<IdentityLeaf::Act>(8); }},
      {"", [](IdentityLeaf& l) { l.carries = "any"; }},
      {"", [](IdentityLeaf& l) { l.reason = std::string(2000, 'r'); }},  // cut to 512
      {"", [](IdentityLeaf& l) { l = IdentityLeaf(); }},
  };
  for (const Case& c : cases) {
    IdentityLeaf changed = Enrolled();
    c.change(changed);
    EXPECT_EQ(CodeOf(IdentityLeaf::Decode(changed.Encode()).status()), c.code) << &c - cases;
  }
  std::string newer = bytes;
  newer[4] = 2;
  EXPECT_EQ(CodeOf(IdentityLeaf::Decode(newer).status()), "VERSION_UNKNOWN");
  for (int i = 1; i <= 7; ++i) EXPECT_NE(ActName(static_cast<IdentityLeaf::Act>(i)), "?");
}

TEST(Control, EvidenceAndPolicyFitALeaf) {
  EvidenceLeaf evidence;
  evidence.code = "EQUIVOCATION";
  evidence.uri = std::string(5000, 'u');
  evidence.related_leaf = 12;
  evidence.detail = std::string(5000, 'd');
  evidence.object = std::string(300'000, 'o');
  std::string bytes = evidence.Encode();
  EXPECT_LE(bytes.size(), limits::kEntryBytes);
  absl::StatusOr<EvidenceLeaf> back = EvidenceLeaf::Decode(bytes);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->object.size(), 60u << 10);
  EXPECT_EQ(back->related_leaf, 12u);
  EXPECT_EQ(back->Encode(), bytes);
  EXPECT_EQ(LeafMagic(bytes), "OTV1");
  evidence.code = "not a code";
  EXPECT_EQ(CodeOf(EvidenceLeaf::Decode(evidence.Encode()).status()), "BOUNDS");
  for (size_t n = 0; n < 100; ++n) EXPECT_FALSE(EvidenceLeaf::Decode(bytes.substr(0, n)).ok());

  PolicyLeaf policy;
  policy.note = "text\n\n\xE2\x80\x94 key sig\n";
  policy.body = std::string(60 << 10, 'b');
  bytes = policy.Encode();
  EXPECT_LE(bytes.size(), limits::kEntryBytes);
  EXPECT_EQ(PolicyLeaf::Decode(bytes)->body.size(), 60u << 10);
  EXPECT_EQ(PolicyLeaf::Decode(bytes)->Encode(), bytes);
  policy.body += "x";  // too large: only the hash in the note stands for it
  EXPECT_EQ(PolicyLeaf::Decode(policy.Encode())->body, "");
  EXPECT_FALSE(PolicyLeaf::Decode(bytes.substr(0, bytes.size() - 1)).ok());
  EXPECT_EQ(LeafMagic(bytes), "OTP1");
  EXPECT_EQ(LeafMagic("OTE1"), "");
  EXPECT_EQ(LeafMagic("OT"), "");
}

TEST(Token, EveryFlippedByteFails) {
  JoinToken token;
  RepeatingRng rng("token");
  token.secret = rng.Bytes(32);
  token.ca_spki = Sha256("spki");
  const std::string text = token.Encode();
  absl::StatusOr<JoinToken> back = JoinToken::Decode(text + "\n");
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->Encode(), text);
  EXPECT_EQ(back->Id(), token.Id());
  EXPECT_EQ(token.Id().size(), 16u);
  EXPECT_EQ(text.find(token.Id()), std::string::npos);
  for (size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = text;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      absl::StatusOr<JoinToken> decoded = JoinToken::Decode(damaged);
      if (decoded.ok()) {  // another token then; never this one
        EXPECT_NE(decoded->secret + std::string(decoded->ca_spki.view()), token.secret + std::string(token.ca_spki.view())) << i;
      }
    }
  }
  struct Case {
    std::string text;
    const char* says;
  };
  const Case cases[] = {
      {"", "empty"},
      {" \n", "empty"},
      {"hello", "does not start"},
      {"ot2" + text.substr(3), "version"},
      {text.substr(0, 50), "cut short"},
      {text + text, "pasted twice"},
      {text + "\n" + text, "pasted twice"},
      {text + "abc", "too long"},
      {text.substr(0, 47) + "x" + text.substr(48), "separated by a dot"},
      {text.substr(0, 10) + "!" + text.substr(11), "before the last dot is damaged"},
      {text.substr(0, 60) + "!" + text.substr(61), "behind the last dot is damaged"},
  };
  for (const Case& c : cases) {
    const absl::Status status = JoinToken::Decode(c.text).status();
    EXPECT_NE(status.message().find(c.says), absl::string_view::npos) << status << " for " << c.text;
  }
}

TEST(OwnRecordTest, IsOneCompactRecord) {
  OwnRecord record;
  record.name = "SILENT_AGENT";
  record.time = absl::FromUnixSeconds(1763712000);
  record.account = "111122223333";
  record.region = "eu-west-1";
  record.details = "{\"agent\":\"web-01\"}";
  const Uuid id = *Uuid::Parse("01234567-89ab-4cde-8f01-23456789abcd");
  EXPECT_EQ(record.ToJson(id),
            "{\"eventVersion\":\"1.11\",\"userIdentity\":{\"type\":\"AWSService\",\"invokedBy\":\"orgtrail\"},"
            "\"eventTime\":\"2025-11-21T08:00:00Z\",\"eventSource\":\"orgtrail\",\"eventName\":\"SILENT_AGENT\","
            "\"awsRegion\":\"eu-west-1\",\"sourceIPAddress\":\"orgtrail\",\"userAgent\":\"orgtrail\",\"requestParameters\":null,"
            "\"responseElements\":null,\"eventID\":\"01234567-89ab-4cde-8f01-23456789abcd\",\"readOnly\":false,"
            "\"eventType\":\"AwsServiceEvent\",\"managementEvent\":true,\"recipientAccountId\":\"111122223333\","
            "\"serviceEventDetails\":{\"agent\":\"web-01\"},\"eventCategory\":\"Management\"}");
  record.name = "Lookup\"Events";
  record.who = "spiffe://o-example/account/111122223333/user/ada";
  record.source_ip = "192.0.2.7";
  record.read_only = true;
  record.error_code = "AccessDenied";
  EXPECT_EQ(record.ToJson(id),
            "{\"eventVersion\":\"1.11\",\"userIdentity\":{\"type\":\"IAMUser\","
            "\"principalId\":\"spiffe://o-example/account/111122223333/user/ada\","
            "\"arn\":\"spiffe://o-example/account/111122223333/user/ada\",\"accountId\":\"111122223333\",\"userName\":\"ada\"},"
            "\"eventTime\":\"2025-11-21T08:00:00Z\",\"eventSource\":\"orgtrail\",\"eventName\":\"Lookup\\\"Events\","
            "\"awsRegion\":\"eu-west-1\",\"sourceIPAddress\":\"192.0.2.7\",\"userAgent\":\"orgtrail\",\"errorCode\":\"AccessDenied\","
            "\"requestParameters\":{\"agent\":\"web-01\"},\"responseElements\":null,"
            "\"eventID\":\"01234567-89ab-4cde-8f01-23456789abcd\",\"readOnly\":true,"
            "\"eventType\":\"AwsServiceEvent\",\"managementEvent\":true,\"recipientAccountId\":\"111122223333\","
            "\"eventCategory\":\"Management\"}");
}

}  // namespace
}  // namespace orgtrail
