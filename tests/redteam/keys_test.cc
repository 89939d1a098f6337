// Keys whose time is over: of an agent that was revoked or retired, of a tree of one-time keys that was replaced, of a log that is not this one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/redteam/rogue.h"
#include "tests/redteam/table.h"

namespace orgtrail::e2e {
namespace {

using ::testing::HasSubstr;
using grpc::StatusCode;

std::string RecordOf(const std::string& id) {
  return R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventName":"Red","eventID":")" + id + R"(","recipientAccountId":"222222222222"})";
}

class RedKeys : public ::testing::Test {
 protected:
  void ExpectRevoked(const Answer& answer, const std::string& why) {
    EXPECT_EQ(answer.code, "AUTH_REVOKED") << answer.detail;
    EXPECT_EQ(answer.status, StatusCode::UNAUTHENTICATED);
    EXPECT_THAT(answer.detail, HasSubstr(why));
  }

  Organization organization;
};

// A new tree for the next epoch.
void Regrow(Forger& forger) {
  forger.tree = std::make_unique<KeyTree>(forger.rng);
  while (!forger.tree->Grow(1024)) {
  }
}

ATTACK(30, "sign the next batch, open an epoch and ask for a certificate with the keys of an agent that was revoked",
       "`AUTH_REVOKED`, gRPC 16; alarm REVOKED_RENEWAL; what was logged before stays");
TEST_F(RedKeys, OfARevokedAgentSignNothingMore) {
  Rogue rogue(organization, "web-1");
  Forger signer = rogue.Signer();
  ASSERT_EQ(rogue.Send({signer.Open(), signer.Batch({RecordOf("before")})}).code, "");
  organization.Must({"agents", "revoke", "web-1", "--reason", "stolen"});
  const std::string next = signer.Batch({RecordOf("after")});
  ExpectRevoked(rogue.Send({next}), "revoked");
  Regrow(signer);
  ExpectRevoked(rogue.Send({signer.Open()}), "revoked");
  absl::Status renewed;
  EXPECT_TRUE(Eventually(kSoon, [&] { return !absl::IsResourceExhausted(renewed = rogue.Renew()); }));
  EXPECT_THAT(std::string(renewed.message()), HasSubstr("AUTH_REVOKED"));
  EXPECT_THAT(organization.Alarms(), HasSubstr("REVOKED_RENEWAL"));
  EXPECT_EQ(organization.Feed(), std::vector<std::string>{RecordOf("before")});
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(30, "go on with the keys of an agent whose last words said that it is retired", "`AUTH_REVOKED`, gRPC 16, from the next batch on; its name is free for another");
TEST_F(RedKeys, OfARetiredAgentSignNothingMore) {
  Rogue rogue(organization, "web-1");
  Forger signer = rogue.Signer();
  Forger::Odd goodbye;
  goodbye.header = [](BatchHeader& h) {
    h.kind = BatchKind::kEpochClose;
    h.flags |= kBatchRetired;
  };
  ASSERT_EQ(rogue.Send({signer.Open(), signer.Batch({RecordOf("before")}), signer.Batch({}, goodbye)}).code, "");
  Regrow(signer);
  ExpectRevoked(rogue.Send({signer.Open()}), "retired");
  EXPECT_TRUE(Eventually(kSoon, [&] { return MemberOf(organization.Must({"agents", "show", "web-1", "-o", "jsonl"}), "state") == "retired"; }));
  Regrow(signer);
  ExpectRevoked(rogue.Send({signer.Open()}), "retired");
  absl::Status renewed;   // its last certificate was made seconds ago: until then it is told that
  EXPECT_TRUE(Eventually(kSoon, [&] { return !absl::IsResourceExhausted(renewed = rogue.Renew()); }));
  EXPECT_THAT(std::string(renewed.message()), HasSubstr("AUTH_REVOKED"));
  organization.StartAgent({.name = "web-1"}).Record(RecordOf("of the heir"));
  EXPECT_TRUE(Eventually(kSoon, [&] { return organization.Feed().size() == 2; }));
  EXPECT_EQ(organization.Feed(), (std::vector<std::string>{RecordOf("before"), RecordOf("of the heir")}));
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(42, "sign with a one-time key of the epoch before, and say so; or under the new epoch's root", "`SLOT_UNKNOWN` or `SIG_INVALID`, gRPC 3; evidence; the honest chain goes on");
TEST_F(RedKeys, OfAnEpochThatIsOverSignNothingMore) {
  const Rogue rogue(organization, "web-1");
  Forger signer = rogue.Signer(), old = rogue.Signer();
  ASSERT_EQ(rogue.Send({signer.Open(), signer.Batch({RecordOf("first")})}).code, "");
  Regrow(signer);
  ASSERT_EQ(rogue.Send({signer.Open(), signer.Batch({RecordOf("second")})}).code, "");
  old.state = signer.state;
  Forger::Odd posing;
  posing.dry = true;
  posing.header = [&](BatchHeader& h) { h.keytree_root = signer.tree->root(); };
  const Answer under_new = rogue.Send({old.Batch({RecordOf("forged")}, posing)});
  EXPECT_EQ(under_new.code, "SIG_INVALID") << under_new.detail;
  EXPECT_EQ(under_new.status, StatusCode::INVALID_ARGUMENT);
  Forger::Odd plain;
  plain.dry = true;
  plain.header = [](BatchHeader& h) { h.key_slot += 1; };   // the other of this number has signed above
  const Answer under_old = rogue.Send({old.Batch({RecordOf("forged")}, plain)});
  EXPECT_EQ(under_old.code, "SLOT_UNKNOWN") << under_old.detail;
  EXPECT_EQ(under_old.status, StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(rogue.Send({signer.Batch({RecordOf("third")})}).code, "");
  EXPECT_EQ(organization.Feed(), (std::vector<std::string>{RecordOf("first"), RecordOf("second"), RecordOf("third")}));
  EXPECT_EQ(organization.Verify().code, 0);
}

}  // namespace
}  // namespace orgtrail::e2e
