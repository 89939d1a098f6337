#include "common/format/retention.h"

#include <gtest/gtest.h>

#include "common/base/random.h"
#include "common/base/status.h"
#include "common/format/control.h"

namespace orgtrail {
namespace {

constexpr int64_t kDay = 86'400'000'000'000;
constexpr int64_t kStart = 1'790'000'000'000'000'000;

class RetentionTest : public ::testing::Test {
 protected:
  RetentionTest() {
    for (const char* name : {"ann", "bob", "cid", "dot"}) {
      keys_.push_back(SigningKey::Generate(SystemRng()));
      names_.push_back(std::string("o-demo/governance/") + name);
    }
    order_.origin = "log.test/o-demo";
    order_.keep_days = 400;
    order_.time_ns = kStart;
  }
  // Of the admins [from, to), signed by `by`.
  std::string Policy(size_t from, size_t to, std::vector<size_t> by, int threshold = 2, int weaken = 3) const {
    std::string text = "orgtrail/policy/v1\norg o-demo\nversion 1\nadmins " + std::to_string(threshold);
    for (size_t i = from; i < to; ++i) text += " " + NoteKey{names_[i], 1, keys_[i].public_key()}.Encode();
    text += "\nweaken-threshold " + std::to_string(weaken) + "\nweaken-delay 86400\nexpires 1\n";
    for (size_t i : by) text = SignNote(text, names_[i], keys_[i]);
    return PolicyLeaf{1, text, ""}.Encode();
  }
  std::string Signed(std::vector<size_t> by) const {
    std::string note = order_.Text();
    for (size_t i : by) note = SignNote(note, names_[i], keys_[i]);
    return note;
  }
  std::string Leaf(int64_t wall_ns, uint64_t minimum, int64_t newest_ns, std::vector<size_t> by = {0, 1, 2}) const {
    return RetentionLeaf{static_cast<uint64_t>(wall_ns), minimum, newest_ns, Signed(by)}.Encode();
  }
  std::vector<SigningKey> keys_;
  std::vector<std::string> names_;
  RetentionOrder order_;
  RetentionHistory log_{"log.test/o-demo"};
};

TEST_F(RetentionTest, WhatTheLogAnnouncedMayGoAfterTheDelay) {
  ASSERT_TRUE(log_.Take(0, Policy(0, 3, {0})).ok());
  ASSERT_TRUE(log_.Take(10, Leaf(kStart, 0, 0)).ok());
  EXPECT_EQ(log_.minimum(), 0u);
  EXPECT_EQ(log_.Of(0), nullptr);
  ASSERT_TRUE(log_.newest());
  EXPECT_EQ(log_.newest()->leaf, 10u);
  EXPECT_EQ(log_.newest()->effective_ns, kStart + kDay);
  ASSERT_TRUE(log_.Take(20, Leaf(kStart + kDay, 5, kStart - 399 * kDay)).ok());
  ASSERT_TRUE(log_.Take(30, Leaf(kStart + 9 * kDay, 12, kStart - 395 * kDay)).ok());
  EXPECT_EQ(log_.minimum(), 12u);
  EXPECT_EQ(log_.Of(4)->leaf, 20u);
  EXPECT_EQ(log_.Of(5)->leaf, 30u);
  EXPECT_EQ(log_.Of(5)->from, 5u);
  EXPECT_EQ(log_.Of(11)->leaf, 30u);
  EXPECT_EQ(log_.Of(12), nullptr);
  EXPECT_EQ(log_.newest()->leaf, 10u);
  // A longer order replaces it at once, and the shorter one does not come back.
  const RetentionOrder shorter = order_;
  order_.keep_days = 800;
  order_.time_ns += kDay;
  ASSERT_TRUE(log_.Take(40, Leaf(kStart + 10 * kDay, 12, kStart - 395 * kDay)).ok());
  order_ = shorter;
  EXPECT_EQ(log_.Take(50, Leaf(kStart + 90 * kDay, 13, kStart - 395 * kDay)).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(RetentionTest, NothingElseRaisesTheMinimum) {
  ASSERT_TRUE(log_.Take(0, Policy(0, 3, {})).ok());
  const RetentionOrder good = order_;
  // Announcements that are none.
  const auto announced = [&](std::vector<size_t> by) { return log_.Take(10, Leaf(kStart, 0, 0, std::move(by))).code(); };
  EXPECT_EQ(announced({0, 1}), absl::StatusCode::kPermissionDenied);      // the policy wants three to weaken
  EXPECT_EQ(announced({0, 0, 0}), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(announced({0, 1, 3}), absl::StatusCode::kPermissionDenied);   // not of this policy
  order_.keep_days = 399;
  EXPECT_EQ(announced({0, 1, 2}), absl::StatusCode::kOutOfRange);
  order_.keep_days = 36'501;
  EXPECT_EQ(announced({0, 1, 2}), absl::StatusCode::kInvalidArgument);
  order_ = good;
  order_.origin = "log.test/other";
  EXPECT_EQ(announced({0, 1, 2}), absl::StatusCode::kInvalidArgument);
  order_ = good;
  // Not announced before.
  EXPECT_EQ(log_.Take(11, Leaf(kStart + 9 * kDay, 5, kStart - 500 * kDay)).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_EQ(announced({0, 1, 2}), absl::StatusCode::kOk);

  const struct {
    const char* what;
    int64_t wall_ns;
    uint64_t minimum;
    int64_t newest_ns;
    std::vector<size_t> by;
    absl::StatusCode code;
  } cases[] = {
      {"before the delay is over", kStart + kDay - 1, 5, kStart - 500 * kDay, {0, 1, 2}, absl::StatusCode::kFailedPrecondition},
      {"before the announcement", kStart - 1, 0, 0, {0, 1, 2}, absl::StatusCode::kFailedPrecondition},
      {"a nanosecond below the floor", kStart + 2 * kDay, 5, kStart - 398 * kDay + 1, {0, 1, 2}, absl::StatusCode::kOutOfRange},
      {"of the future", kStart + 2 * kDay, 5, kStart + 3 * kDay, {0, 1, 2}, absl::StatusCode::kOutOfRange},
      {"beyond its own place", kStart + 2 * kDay, 21, kStart - 500 * kDay, {0, 1, 2}, absl::StatusCode::kInvalidArgument},
      {"too few signatures", kStart + 2 * kDay, 5, kStart - 500 * kDay, {1, 2}, absl::StatusCode::kPermissionDenied},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(log_.Take(20, Leaf(c.wall_ns, c.minimum, c.newest_ns, c.by)).code(), c.code) << c.what;
    EXPECT_EQ(log_.minimum(), 0u) << c.what;
  }
  // At the floor itself it goes, and stays gone.
  ASSERT_TRUE(log_.Take(20, Leaf(kStart + 2 * kDay, 5, kStart - 398 * kDay)).ok());
  EXPECT_EQ(log_.Take(21, Leaf(kStart + 3 * kDay, 4, kStart - 500 * kDay)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(log_.minimum(), 5u);
}

TEST_F(RetentionTest, GovernanceIsWhomTheFirstPolicyNamesAndWhomTheyName) {
  EXPECT_EQ(log_.Take(5, Leaf(kStart, 0, 0)).code(), absl::StatusCode::kFailedPrecondition);   // nobody yet
  ASSERT_TRUE(log_.Take(6, Policy(0, 3, {})).ok());
  ASSERT_TRUE(log_.Take(7, Policy(1, 4, {3})).ok());        // by one of its own: whoever has the log's key can write that
  EXPECT_EQ(log_.Take(8, Leaf(kStart, 0, 0, {1, 2, 3})).code(), absl::StatusCode::kPermissionDenied);
  ASSERT_TRUE(log_.Take(9, Policy(1, 4, {0, 2})).ok());     // by two of the admins before
  EXPECT_EQ(log_.Take(10, Leaf(kStart, 0, 0, {0, 1, 2})).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(log_.Take(11, Leaf(kStart, 0, 0, {1, 2, 3})).ok());
}

TEST_F(RetentionTest, PolicySaysWhatWeakeningTakes) {
  const std::string admin = NoteKey{names_[0], 1, keys_[0].public_key()}.Encode(), head = "orgtrail/policy/v1\nadmins 1 " + admin + "\n";
  const RetentionGovernance plain = *RetentionGovernance::OfPolicy(head);
  EXPECT_EQ(plain.weaken_threshold, 1u);
  EXPECT_EQ(plain.weaken_delay_s, 86'400);
  EXPECT_EQ(RetentionGovernance::OfPolicy(head + "weaken-threshold 1\nweaken-delay 0\n")->weaken_delay_s, 0);
  for (const char* line : {"weaken-threshold 2\n", "weaken-threshold 0\n", "weaken-threshold\n", "weaken-delay -1\n", "weaken-delay 999999999999\n",
                           "weaken-delay x\n"}) {
    EXPECT_FALSE(RetentionGovernance::OfPolicy(head + line).ok()) << line;
  }
}

TEST_F(RetentionTest, TheLeafIsItsBytesAndNoOthers) {
  const std::string bytes = Leaf(kStart, 7, kStart - 500 * kDay);
  const absl::StatusOr<RetentionLeaf> leaf = RetentionLeaf::Decode(bytes);
  ASSERT_TRUE(leaf.ok()) << leaf.status();
  EXPECT_EQ(leaf->Encode(), bytes);
  EXPECT_EQ(leaf->minimum, 7u);
  EXPECT_EQ(LeafMagic(bytes), "OTR2");
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(RetentionLeaf::Decode(bytes.substr(0, n)).ok()) << n;
  EXPECT_FALSE(RetentionLeaf::Decode(bytes + "x").ok());
  const struct {
    const char* what;
    size_t at;
    char value;
    const char* code;
  } cases[] = {
      {"magic", 3, '3', "FRAME_MALFORMED"}, {"version", 4, 2, "VERSION_UNKNOWN"}, {"wall", 5, '\x80', "BOUNDS"}, {"newest", 21, '\x80', "BOUNDS"},
      {"no minimum, yet a time", 20, 0, "BOUNDS"}, {"length of the note", 30, 0, "FRAME_MALFORMED"},
  };
  for (const auto& c : cases) {
    std::string damaged = bytes;
    damaged[c.at] = c.value;
    const absl::Status s = RetentionLeaf::Decode(damaged).status();
    EXPECT_NE(s.message().find(c.code), absl::string_view::npos) << c.what << ": " << s;
  }
  const std::string without = bytes.substr(0, 29) + std::string(2, '\0');
  EXPECT_NE(RetentionLeaf::Decode(without).status().message().find("BOUNDS"), absl::string_view::npos);
  // An order has one text.
  const std::string text = order_.Text();
  EXPECT_TRUE(RetentionOrder::Decode(text).ok());
  for (const std::string& odd : {text + "\n", "x" + text, std::string("orgtrail/retention/v1\norigin a\nkeep 0400\ntime 1\n"),
                                 std::string("orgtrail/retention/v1\norigin a\nkeep 400\ntime 0\n"), std::string("orgtrail/retention/v1\norigin \nkeep 400\ntime 1\n")}) {
    EXPECT_FALSE(RetentionOrder::Decode(odd).ok()) << odd;
  }
}

}  // namespace
}  // namespace orgtrail
