#include "aggregator/feed/subscription.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/temp_history.h"

namespace orgtrail {
namespace {

const Identity kAuditor{Identity::Kind::kAuditor, "o-demo", "", "", "ann"};
const Identity kUser{Identity::Kind::kUser, "o-demo", "111111111111", "", "uma"};
const std::string kKey(32, 'k');

class SubscriptionTest : public testing::Test {
 protected:
  SubscriptionTest()
      : one_(t_.builder.Enrol("111111111111", "eu-west-1", "web-1")), two_(t_.builder.Enrol("222222222222", "us-east-1", "web-2")) {}
  absl::StatusOr<std::unique_ptr<Subscription>> Open(const Identity& who, const v1::SubscribeRequest& request) {
    return Subscription::Open(who, request, *t_.builder.ledger, kKey, t_.clock);
  }
  // Records until the subscription has caught up or ends; stops after `messages`.
  std::vector<std::string> Drain(Subscription& s, std::string* cursor, int messages = INT32_MAX) {
    std::vector<std::string> got;
    v1::FeedMessage m;
    while (messages-- > 0) {
      const absl::StatusOr<Subscription::Got> what = s.Next(&m);
      CHECK_OK(what.status());
      for (const v1::Event& e : m.events()) got.push_back(e.record());
      if (!m.cursor().empty()) *cursor = m.cursor();
      if (*what == Subscription::Got::kCaughtUp || *what == Subscription::Got::kEnd) break;
    }
    return got;
  }
  std::string Make(const std::string& account, std::string_view name = "PutObject") {
    return TestRecord(++n_, account, account[0] == '1' ? "eu-west-1" : "us-east-1", t_.clock.wall, name);
  }

  TempHistory t_;
  TestAgent& one_;
  TestAgent& two_;
  uint64_t n_ = 0;
};

TEST_F(SubscriptionTest, ExactlyOnceAcrossResumesAndFilters) {
  std::mt19937 random(5);
  std::vector<std::string> all, of_one, puts;
  for (int b = 0; b < 40; ++b) {
    const bool first = random() % 2;
    std::vector<std::string> records;
    for (uint32_t i = 0; i < random() % 80; ++i) {
      const bool put = random() % 3 == 0;
      records.push_back(Make(first ? "111111111111" : "222222222222", put ? "PutObject" : "GetObject"));
      all.push_back(records.back());
      if (first) of_one.push_back(records.back());
      if (put) puts.push_back(records.back());
    }
    ASSERT_TRUE(t_.builder.Append((first ? one_ : two_).Batch(records)).ok());
  }
  v1::SubscribeRequest everything, account, name, member;
  everything.set_start(true);
  account.set_start(true);
  account.add_accounts("111111111111");
  name.set_start(true);
  name.add_attributes()->set_key("EventName");
  name.mutable_attributes(0)->set_value("PutObject");
  member.set_start(true);
  member.set_bodies_only(true);
  struct Case {
    const Identity& who;
    const v1::SubscribeRequest& request;
    const std::vector<std::string>& want;
  };
  for (const Case& c : {Case{kAuditor, everything, all}, {kAuditor, account, of_one}, {kAuditor, name, puts}, {kUser, member, of_one}}) {
    v1::SubscribeRequest request = c.request;
    std::vector<std::string> got;
    for (int rounds = 0; rounds < 1000 && got.size() < c.want.size(); ++rounds) {
      auto s = Open(c.who, request);
      ASSERT_TRUE(s.ok()) << s.status();
      std::string cursor;
      const std::vector<std::string> some = Drain(**s, &cursor, 1 + static_cast<int>(random() % 2));   // then the connection is lost
      got.insert(got.end(), some.begin(), some.end());
      request.set_cursor(cursor);
    }
    EXPECT_EQ(got, c.want);
  }
  // From the cursor of any envelope: exactly what follows it.
  auto s = Open(kAuditor, everything);
  v1::FeedMessage m;
  ASSERT_TRUE((*s)->Next(&m).ok());
  for (const int i : {0, 1, m.events_size() / 2, m.events_size() - 1}) {
    v1::SubscribeRequest request;
    request.set_cursor(m.events(i).envelope().cursor());
    std::string cursor;
    const std::vector<std::string> rest = Drain(**Open(kAuditor, request), &cursor);
    ASSERT_EQ(rest.size(), all.size() - i - 1);
    EXPECT_EQ(rest.front(), all[i + 1]);
  }
}

TEST_F(SubscriptionTest, StartsWhereAsked) {
  std::vector<std::string> records = {Make("111111111111"), Make("111111111111")};
  ASSERT_TRUE(t_.builder.Append(one_.Batch(records)).ok());
  t_.clock.Advance(absl::Seconds(10));
  const int64_t later = t_.clock.WallNanos();
  records = {Make("111111111111")};
  ASSERT_TRUE(t_.builder.Append(one_.Batch(records)).ok());
  std::string cursor;
  v1::SubscribeRequest request;
  request.set_now(true);
  auto now = Open(kAuditor, request);
  EXPECT_EQ(Drain(**now, &cursor).size(), 0u);
  request.set_time_ns(later);
  EXPECT_EQ(Drain(**Open(kAuditor, request), &cursor), records);
  request.set_start(true);
  EXPECT_EQ(Drain(**Open(kAuditor, request), &cursor).size(), 3u);
  request.set_max(2);
  EXPECT_EQ(Drain(**Open(kAuditor, request), &cursor).size(), 2u);
  request.clear_max();
  request.set_cursor(cursor);
  EXPECT_EQ(Drain(**Open(kAuditor, request), &cursor).size(), 1u);
  const std::vector<std::string> after = {Make("111111111111")};
  ASSERT_TRUE(t_.builder.Append(one_.Batch(after)).ok());
  EXPECT_EQ(Drain(**now, &cursor), after);
}

TEST_F(SubscriptionTest, RefusesWhatIsNotTheirs) {
  v1::SubscribeRequest request;
  const std::string first = CursorWriter(std::string(kKey), kAuditor, *t_.builder.ledger).Text({1, 0});
  request.set_cursor(first);
  EXPECT_TRUE(Open(kAuditor, request).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(Open(kUser, request).status()));
  const std::string other(8, 'r');   // of a root that this log does not have
  request.set_cursor(FeedCursor{99, 0}.Encode(kKey, kAuditor, t_.builder.origin, other));
  const absl::Status future = Open(kAuditor, request).status();
  EXPECT_TRUE(absl::IsOutOfRange(future));
  const std::string oldest = CursorWriter(std::string(kKey), kAuditor, *t_.builder.ledger).Text({});
  EXPECT_NE(std::string(ToStd(future.message())).find(oldest), std::string::npos);
  request.set_cursor(FeedCursor{1, 0}.Encode(kKey, kAuditor, "another/log", other));
  EXPECT_TRUE(absl::IsOutOfRange(Open(kAuditor, request).status()));
  // In reach, but of a history this log does not have: it was restored, and went on from leaf 1.
  request.set_cursor(FeedCursor{2, 0}.Encode(kKey, kAuditor, t_.builder.origin, other));
  const absl::Status forked = Subscription::Open(kAuditor, request, *t_.builder.ledger, std::string(kKey), t_.clock, {1}).status();
  EXPECT_TRUE(absl::IsOutOfRange(forked));
  EXPECT_NE(std::string(ToStd(forked.message())).find(first), std::string::npos) << forked;
  request.set_start(true);
  request.add_accounts("222222222222");
  EXPECT_TRUE(absl::IsPermissionDenied(Open(kUser, request).status()));
  EXPECT_TRUE(absl::IsPermissionDenied(Open({Identity::Kind::kOperator, "o-demo", "", "", "olga"}, request).status()));
}

TEST_F(SubscriptionTest, OwnAndQuarantinedRecords) {
  const std::vector<TestAgent::Item> own = {{EventClass::kOwn, 0, Make("111111111111")}, {EventClass::kManagement, 0, Make("111111111111")}};
  ASSERT_TRUE(t_.builder.Append(one_.BatchOf(own)).ok());
  Admitted bad = one_.Batch(std::vector<std::string>{Make("111111111111")});
  bad.leaf->flags |= kLeafQuarantined;
  ASSERT_TRUE(t_.builder.Append(std::move(bad)).ok());
  std::string cursor;
  v1::SubscribeRequest request;
  request.set_start(true);
  auto s = Open(kAuditor, request);
  EXPECT_EQ(Drain(**s, &cursor).size(), 1u);
  EXPECT_EQ((*s)->quarantined(), 1u);
  request.set_own(true);
  EXPECT_EQ(Drain(**Open(kAuditor, request), &cursor).size(), 2u);
}

TEST_F(SubscriptionTest, AStubWaitsForItsChunks) {
  const std::string big = Make("111111111111") + std::string(1'500'000, ' ');
  const std::string stub = "{\"orgtrail:blob\":{\"sha256\":\"" + Hex(Sha256(big).view()) + "\",\"len\":" + std::to_string(big.size()) +
                           ",\"chunks\":2,\"truncated\":false,\"head\":\"{\"},\"eventID\":\"big-one\"}";
  std::vector<TestAgent::Item> items = {{EventClass::kManagement, kFlagBlob, stub}};
  ASSERT_TRUE(t_.builder.Append(one_.BatchOf(items)).ok());
  v1::SubscribeRequest request;
  request.set_start(true);
  std::string cursor;
  auto s = Open(kAuditor, request);
  EXPECT_EQ(Drain(**s, &cursor).size(), 0u);
  for (const size_t i : {0, 1}) {
    items = {{EventClass::kChunk, 0, big.substr(i << 20, 1 << 20)}};
    ASSERT_TRUE(t_.builder.Append(one_.BatchOf(items)).ok());
  }
  EXPECT_EQ(Drain(**s, &cursor), std::vector<std::string>{big});
  items = {{EventClass::kManagement, kFlagBlob, stub}};   // whose chunks never come
  ASSERT_TRUE(t_.builder.Append(two_.BatchOf(items)).ok());
  EXPECT_EQ(Drain(**s, &cursor).size(), 0u);
  t_.clock.Advance(absl::Seconds(6));
  EXPECT_EQ(Drain(**s, &cursor), std::vector<std::string>{stub});
}

}  // namespace
}  // namespace orgtrail
