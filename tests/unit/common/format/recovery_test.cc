#include "common/format/recovery.h"

#include <gtest/gtest.h>

#include "common/base/random.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

class RecoveryTest : public ::testing::Test {
 protected:
  RecoveryTest() {
    for (const char* name : {"ann", "bob", "cid"}) {
      keys_.push_back(SigningKey::Generate(SystemRng()));
      names_.push_back(std::string("o-demo/governance/") + name);
    }
    declared_.origin = "log.test/o-demo";
    declared_.restored_size = 100;
    declared_.restored_root = Sha256("restored");
    declared_.lost_size = 150;
    declared_.lost_root = Sha256("lost");
    declared_.time_ns = 1'790'000'000'000'000'000;
  }
  std::string Policy(int threshold, size_t admins) const {
    std::string text = "orgtrail/policy/v1\norg o-demo\nversion 1\nadmins " + std::to_string(threshold);
    for (size_t i = 0; i < admins; ++i) text += " " + NoteKey{names_[i], 1, keys_[i].public_key()}.Encode();
    return SignNote(text + "\nexpires 1\n", names_[0], keys_[0]);
  }
  std::string Signed(std::vector<size_t> by) const {
    std::string note = declared_.Text();
    for (size_t i : by) note = SignNote(note, names_[i], keys_[i]);
    return note;
  }
  std::vector<SigningKey> keys_;
  std::vector<std::string> names_;
  Recovery declared_;
};

TEST_F(RecoveryTest, EnoughOfTheAdminsSign) {
  const GovernanceKeys keys = *GovernanceKeys::OfPolicy(Policy(2, 3));
  EXPECT_EQ(keys.threshold, 2u);
  ASSERT_EQ(keys.admins.size(), 3u);
  const struct {
    std::vector<size_t> by;
    bool enough;
  } cases[] = {{{0}, false}, {{0, 0}, false}, {{0, 1}, true}, {{2, 1}, true}, {{0, 1, 2}, true}};
  for (const auto& c : cases) {
    const absl::StatusOr<Recovery> r = OpenRecovery(Signed(c.by), keys, declared_.origin);
    EXPECT_EQ(r.ok(), c.enough) << c.by.size() << " " << r.status();
    if (!r.ok()) {
      EXPECT_TRUE(absl::IsPermissionDenied(r.status()));
    } else {
      EXPECT_EQ(r->Text(), declared_.Text());
    }
  }
  // A key that the policy does not name is nobody's.
  EXPECT_FALSE(OpenRecovery(Signed({0, 2}), *GovernanceKeys::OfPolicy(Policy(2, 2)), declared_.origin).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(OpenRecovery(Signed({0, 1}), keys, "log.test/other").status()));
  // Nothing of it can be changed.
  const std::string note = Signed({0, 1});
  for (size_t i = 0; i < declared_.Text().size(); ++i) {
    std::string forged = note;
    forged[i] = static_cast<char>(forged[i] ^ 1);
    EXPECT_FALSE(OpenRecovery(forged, keys, declared_.origin).ok()) << i;
  }
}

TEST_F(RecoveryTest, WhatContradictsItselfIsNoDeclaration) {
  const GovernanceKeys keys = *GovernanceKeys::OfPolicy(Policy(1, 1));
  const auto refused = [&] { return !OpenRecovery(Signed({0}), keys, declared_.origin).ok(); };
  EXPECT_FALSE(refused());
  const Recovery good = declared_;
  declared_.lost_size = 99;
  EXPECT_TRUE(refused());
  declared_ = good;
  declared_.restored_size = declared_.lost_size = 0;
  EXPECT_TRUE(refused());
  declared_ = good;
  declared_.time_ns = 0;
  EXPECT_TRUE(refused());
}

TEST_F(RecoveryTest, PoliciesThatNobodyCanSatisfyAreRefused) {
  EXPECT_FALSE(GovernanceKeys::OfPolicy("").ok());
  EXPECT_FALSE(GovernanceKeys::OfPolicy("orgtrail/policy/v1\norg o-demo\n").ok());
  EXPECT_FALSE(GovernanceKeys::OfPolicy(Policy(0, 1)).ok());
  EXPECT_FALSE(GovernanceKeys::OfPolicy(Policy(2, 1)).ok());
  std::string twice = Policy(1, 1);
  const std::string vkey = NoteKey{names_[0], 1, keys_[0].public_key()}.Encode();
  twice.insert(twice.find(vkey), vkey + " ");
  EXPECT_FALSE(GovernanceKeys::OfPolicy(twice).ok());
}

TEST_F(RecoveryTest, TheLeafComesBackByteForByte) {
  const RecoveryLeaf leaf{77, Signed({0})};
  const std::string bytes = leaf.Encode();
  const absl::StatusOr<RecoveryLeaf> back = RecoveryLeaf::Decode(bytes);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->wall_ns, 77u);
  EXPECT_EQ(back->note, leaf.note);
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(RecoveryLeaf::Decode(bytes.substr(0, n)).ok()) << n;
  EXPECT_FALSE(RecoveryLeaf::Decode(bytes + "x").ok());
}

}  // namespace
}  // namespace orgtrail
