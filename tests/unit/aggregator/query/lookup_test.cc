#include "aggregator/query/lookup.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "aggregator/query/cursor.h"
#include "tests/support/temp_history.h"

namespace orgtrail {
namespace {

const Identity kAuditor{Identity::Kind::kAuditor, "o-demo", "", "", "ann"};
Identity User(std::string account) { return {Identity::Kind::kUser, "o-demo", std::move(account), "", "uma"}; }

class LookupTest : public testing::Test {
 protected:
  LookupTest()
      : completeness_(*t_.builder.ledger, registry_, *t_.history, [this](const AgentHead& h) { return !silent_.contains(h.uuid); }, t_.clock),
        lookup_(*t_.history, *t_.builder.ledger, completeness_, std::string(32, 'k')),
        one_(t_.builder.Enrol("111111111111", "eu-west-1", "web-1")),
        two_(t_.builder.Enrol("222222222222", "us-east-1", "web-2")) {
    CHECK_OK(registry_.Load(*t_.builder.ledger));
  }
  void Append(TestAgent& agent, std::vector<std::string> records, bool quarantined = false) {
    Admitted item = agent.Batch(records);
    if (quarantined) item.leaf->flags |= kLeafQuarantined;
    CHECK_OK(t_.builder.Append(std::move(item)));
    t_.clock.Advance(absl::Seconds(1));
  }
  static v1::LookupRequest Request(std::initializer_list<std::pair<const char*, const char*>> attributes = {}, uint32_t max = 0) {
    v1::LookupRequest request;
    for (const auto& [key, value] : attributes) {
      request.add_attributes()->set_key(key);
      request.mutable_attributes(request.attributes_size() - 1)->set_value(value);
    }
    request.set_max_results(max);
    return request;
  }
  // Every page.
  std::vector<v1::Event> All(const Identity& who, v1::LookupRequest request) {
    std::vector<v1::Event> all;
    for (;;) {
      const absl::StatusOr<v1::LookupResponse> page = lookup_.Find(who, request);
      CHECK_OK(page.status());
      all.insert(all.end(), page->events().begin(), page->events().end());
      if (page->next_page_token().empty()) return all;
      request.set_page_token(page->next_page_token());
    }
  }
  std::string Make(const std::string& account, int age_s = 0, std::string_view name = "PutObject", std::string_view user = "alice") {
    return TestRecord(++n_, account, account[0] == '1' ? "eu-west-1" : "us-east-1", t_.clock.wall - absl::Seconds(age_s), name, user);
  }

  TempHistory t_{60};
  Registry registry_;
  std::set<Uuid> silent_;
  Completeness completeness_;
  Lookup lookup_;
  TestAgent& one_;
  TestAgent& two_;
  uint64_t n_ = 0;
};

TEST_F(LookupTest, EqualsANaiveFilterOverRandomRecords) {
  struct Made {
    std::string record, account, name, user;
    int64_t time_ns;
  };
  std::mt19937 random(11);
  const char* names[] = {"PutObject", "GetObject", "DeleteBucket", "AssumeRole"};
  const char* users[] = {"alice", "bob", "carol"};
  std::vector<Made> made;
  for (int b = 0; b < 60; ++b) {
    const bool first = random() % 2 == 0;
    std::vector<std::string> records;
    for (uint32_t i = 0; i < 1 + random() % 20; ++i) {
      Made m;
      m.account = first ? "111111111111" : "222222222222";
      m.name = names[random() % 4];
      m.user = users[random() % 3];
      const absl::Time time = t_.clock.wall - absl::Seconds(random() % 50);
      m.time_ns = absl::ToUnixNanos(time);
      m.record = TestRecord(++n_, m.account, first ? "eu-west-1" : "us-east-1", time, m.name, m.user);
      records.push_back(m.record);
      made.push_back(m);
    }
    Append(first ? one_ : two_, records);
    if (random() % 3 == 0) t_.history->Step(t_.clock.now);
  }
  t_.Settle();
  for (int q = 0; q < 120; ++q) {
    v1::LookupRequest request;
    const auto add = [&](const char* key, const std::string& value) {
      request.add_attributes()->set_key(key);
      request.mutable_attributes(request.attributes_size() - 1)->set_value(value);
    };
    const std::string account = random() % 3 == 0 ? "111111111111" : "", name = random() % 2 ? names[random() % 4] : "";
    const std::string user = random() % 2 ? users[random() % 3] : "";
    if (!account.empty()) add("Account", account);
    if (!name.empty()) add("EventName", name);
    if (!user.empty()) add("Username", user);
    if (random() % 4 == 0) request.set_start_ns(made[random() % made.size()].time_ns);
    if (random() % 4 == 0) request.set_end_ns(made[random() % made.size()].time_ns);
    if (request.start_ns() != 0 && request.end_ns() != 0 && request.start_ns() > request.end_ns()) request.set_start_ns(0);
    request.set_max_results(1 + random() % 40);
    const bool member = random() % 3 == 0;
    std::multiset<std::string> want, got;
    for (const Made& m : made) {
      if ((account.empty() || m.account == account) && (name.empty() || m.name == name) && (user.empty() || m.user == user) &&
          (request.start_ns() == 0 || m.time_ns >= request.start_ns()) && (request.end_ns() == 0 || m.time_ns <= request.end_ns()) &&
          (!member || m.account == "222222222222")) {
        want.insert(m.record);
      }
    }
    for (const v1::Event& e : All(member ? User("222222222222") : kAuditor, request)) got.insert(e.record());
    ASSERT_EQ(got, want) << request.ShortDebugString();
  }
}

TEST_F(LookupTest, PagesStayStableWhileRecordsArrive) {
  for (int i = 0; i < 30; ++i) Append(one_, {Make("111111111111"), Make("111111111111", 5)});
  t_.history->Step(t_.clock.now);
  const std::vector<v1::Event> want = All(kAuditor, Request({}, 1000));
  ASSERT_EQ(want.size(), 60u);
  v1::LookupRequest request = Request({}, 7);
  std::vector<v1::Event> got;
  for (;;) {
    const absl::StatusOr<v1::LookupResponse> page = lookup_.Find(kAuditor, request);
    ASSERT_TRUE(page.ok()) << page.status();
    got.insert(got.end(), page->events().begin(), page->events().end());
    if (page->next_page_token().empty()) break;
    request.set_page_token(page->next_page_token());
    Append(one_, {Make("111111111111"), Make("111111111111", 20)});   // newer, and into the middle
    t_.Settle();
  }
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i].record(), want[i].record());
}

TEST_F(LookupTest, APageTokenIsBoundToCallerAndRequest) {
  Append(one_, {Make("111111111111"), Make("111111111111"), Make("111111111111")});
  t_.history->Step(t_.clock.now);
  const v1::LookupRequest request = Request({{"EventName", "PutObject"}}, 1);
  const std::string token = lookup_.Find(kAuditor, request)->next_page_token();
  ASSERT_FALSE(token.empty());
  v1::LookupRequest next = request;
  next.set_page_token(token);
  EXPECT_TRUE(lookup_.Find(kAuditor, next).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(lookup_.Find(User("111111111111"), next).status()));
  v1::LookupRequest other = Request({{"EventName", "GetObject"}}, 1);
  other.set_page_token(token);
  EXPECT_TRUE(absl::IsPermissionDenied(lookup_.Find(kAuditor, other).status()));
  for (size_t i = 0; i < token.size(); ++i) {
    std::string forged = token;
    forged[i] = forged[i] == 'A' ? 'B' : 'A';
    next.set_page_token(forged);
    EXPECT_FALSE(lookup_.Find(kAuditor, next).ok()) << i;
  }
  next.set_page_token("?");
  EXPECT_TRUE(absl::IsInvalidArgument(lookup_.Find(kAuditor, next).status()));
}

TEST_F(LookupTest, WhoSeesWhat) {
  Append(one_, {Make("111111111111")});
  Append(two_, {Make("222222222222"), Make("222222222222")});
  t_.history->Step(t_.clock.now);
  struct Case {
    Identity who;
    int events;   // -1: PermissionDenied
  };
  const Case cases[] = {
      {User("111111111111"), 1},
      {User("222222222222"), 2},
      {User("333333333333"), 0},
      {{Identity::Kind::kAgent, "o-demo", "111111111111", "eu-west-1", "web-1"}, 1},
      {kAuditor, 3},
      {{Identity::Kind::kGovernance, "o-demo", "", "", "gus"}, 3},
      {{Identity::Kind::kOperator, "o-demo", "", "", "olga"}, -1},
      {{Identity::Kind::kAggregator, "o-demo", "", "eu-west-1", ""}, -1},
  };
  for (const Case& c : cases) {
    const absl::StatusOr<v1::LookupResponse> got = lookup_.Find(c.who, Request());
    if (c.events < 0) {
      EXPECT_TRUE(absl::IsPermissionDenied(got.status())) << c.who.ToUri();
    } else {
      ASSERT_TRUE(got.ok()) << got.status();
      EXPECT_EQ(got->events_size(), c.events) << c.who.ToUri();
    }
  }
  // Asking for the other account by name shows nothing of it.
  EXPECT_EQ(lookup_.Find(User("111111111111"), Request({{"Account", "222222222222"}}))->events_size(), 0);
  v1::GetEventRequest at;
  at.set_at_set(true);
  at.set_leaf_index(t_.builder.ledger->head().size - 1);
  EXPECT_TRUE(absl::IsNotFound(lookup_.Get(User("111111111111"), at).status()));
  EXPECT_TRUE(lookup_.Get(User("222222222222"), at).ok());
}

TEST_F(LookupTest, AttributesAreCheckedAndExact) {
  Append(one_, {Make("111111111111", 0, "PutObject", "alice"), Make("111111111111", 0, "GetObject", "bob")});   // 192.0.2.2 and .3
  t_.history->Step(t_.clock.now);
  struct Case {
    const char *key, *value;
    int events;   // -1: InvalidArgument
  };
  const Case cases[] = {
      {"EventName", "PutObject", 1},  {"EventName", "putobject", 0},      {"Username", "bob", 1},      {"ReadOnly", "false", 2},
      {"ReadOnly", "maybe", -1},      {"SourceIp", "192.0.2.2", 1},       {"SourceIp", "192.0.2.0/24", 2}, {"SourceIp", "192.0.2.3/32", 1},
      {"SourceIp", "10.0.0.0/8", 0},  {"SourceIp", "192.0.2.0/33", -1},   {"SourceIp", "::/0", 0},     {"Region", "eu-west-1", 2},
      {"Account", "222222222222", 0}, {"HasError", "false", 2},           {"HasError", "true", 0},     {"Own", "true", -1},
      {"Nonsense", "x", -1},          {"EventName", "", -1},              {"Principal", "alice", 1},
  };
  for (const Case& c : cases) {
    const absl::StatusOr<v1::LookupResponse> got = lookup_.Find(kAuditor, Request({{c.key, c.value}}));
    if (c.events < 0) {
      EXPECT_TRUE(absl::IsInvalidArgument(got.status())) << c.key << "=" << c.value;
    } else {
      ASSERT_TRUE(got.ok()) << got.status();
      EXPECT_EQ(got->events_size(), c.events) << c.key << "=" << c.value;
    }
  }
  EXPECT_TRUE(absl::IsInvalidArgument(lookup_.Find(kAuditor, Request({}, 1001)).status()));
}

TEST_F(LookupTest, LongValuesAreFoundByWhatTheIndexHoldsAndByAllOfThem) {
  const std::string held(256, 'n'), two = held + "two", three = held + "three";
  const std::string blob = R"({"orgtrail:blob":{"sha256":")" + std::string(64, '0') + R"(","len":5000000,"chunks":5,"truncated":false)";
  Append(one_, {Make("111111111111", 0, held), Make("111111111111", 0, two), Make("111111111111", 0, three)});
  const TestAgent::Item stubs[] = {{EventClass::kManagement, kFlagBlob, blob + R"(,"cut":true,"head":""},"eventName":")" + held + R"(twen","eventID":"cut"})"},
                                   {EventClass::kManagement, kFlagBlob, blob + R"(,"head":"\"cut\":true"},"eventName":")" + held + R"(four","eventID":"whole"})"}};
  CHECK_OK(t_.builder.Append(one_.BatchOf(stubs)));
  t_.history->Step(t_.clock.now);
  struct Case {
    std::string asked;
    size_t found;
  };
  for (const Case& c : {Case{held, 5}, {held.substr(1), 0}, {two, 1}, {three, 1}, {held + "t", 0}, {held + "twenty and more", 1}, {held + "four", 1}, {held + "fourteen", 0},
                        {held + "none", 0}}) {
    EXPECT_EQ(All(kAuditor, Request({{"EventName", c.asked.c_str()}})).size(), c.found) << c.asked.substr(256);
  }
  size_t cut = 0;
  for (const v1::Event& e : All(kAuditor, Request({{"EventName", held.c_str()}}))) cut += std::count(e.envelope().notes().begin(), e.envelope().notes().end(), "INDEX_CUT");
  EXPECT_EQ(cut, 4u);   // all but the name that the index holds whole
  EXPECT_NE(lookup_.Find(kAuditor, Request({{"EventName", std::string(5'000, 'n').c_str()}})).status().message().find("its first 256 bytes"), absl::string_view::npos);
}

TEST_F(LookupTest, RangesOfAddressesEqualALookAtEveryRecord) {
  std::mt19937_64 random(5);
  struct Made {
    std::string ip, name, record;
  };
  std::vector<Made> made;
  const auto append = [&](int batches) {
    for (int b = 0; b < batches; ++b) {
      std::vector<std::string> records;
      for (int i = 0; i < 40; ++i) {
        const uint64_t r = random();
        std::string ip = r % 10 < 6   ? "10." + std::to_string(r / 16 % 3) + ".0." + std::to_string(r / 64 % 256)
                         : r % 10 < 8 ? "192.0." + std::to_string(r / 16 % 256) + "." + std::to_string(r / 8192 % 256)
                         : r % 10 < 9 ? "2001:db8:" + std::to_string(r / 16 % 4) + "::" + std::to_string(1 + r / 64 % 9)
                                      : "AWS Internal";
        std::string record = Make("111111111111", 0, r % 3 == 0 ? "GetObject" : "PutObject");
        const size_t begin = record.find("\"sourceIPAddress\":\"") + 19, end = record.find('"', begin);
        record.replace(begin, end - begin, ip);
        made.push_back({std::move(ip), r % 3 == 0 ? "GetObject" : "PutObject", record});
        records.push_back(std::move(record));
      }
      Append(one_, std::move(records));
      t_.history->Step(t_.clock.now);
    }
  };
  const auto check = [&](const char* when) {
    for (const char* text : {"10.0.0.0/8", "10.1.0.0/16", "10.1.0.64/26", "10.1.0.64/32", "192.0.0.0/16", "192.0.7.0/24", "172.16.0.0/12", "0.0.0.0/0",
                             "2001:db8:2::/48", "2001:db8:2::3/128", "2001:db8:2::4/127", "::/0"}) {
      for (const char* name : {"", "GetObject"}) {
        std::multiset<std::string> want, got;
        for (const Made& m : made) {
          if (ParseCidr(text)->Contains(m.ip) && (*name == '\0' || m.name == name)) want.insert(m.record);
        }
        v1::LookupRequest request = Request({{"SourceIp", text}}, 7 + static_cast<uint32_t>(random() % 400));
        if (*name != '\0') *request.add_attributes() = Request({{"EventName", name}}).attributes(0);
        for (const v1::Event& e : All(kAuditor, request)) got.insert(e.record());
        EXPECT_EQ(got, want) << when << " " << text << " " << name;
      }
    }
    // Several ranges are one: what all of them hold.
    std::multiset<std::string> both;
    for (const Made& m : made) {
      if (ParseCidr("10.1.0.0/26")->Contains(m.ip)) both.insert(m.record);
    }
    EXPECT_EQ(All(kAuditor, Request({{"SourceIp", "10.1.0.0/16"}, {"SourceIp", "0.0.0.0/1"}, {"SourceIp", "10.1.0.0/26"}})).size(), both.size());
    EXPECT_TRUE(All(kAuditor, Request({{"SourceIp", "10.1.0.0/16"}, {"SourceIp", "192.0.0.0/16"}})).empty());
    // However an address is written.
    EXPECT_EQ(All(kAuditor, Request({{"SourceIp", "2001:DB8:2:0::3"}})).size(), All(kAuditor, Request({{"SourceIp", "2001:db8:2::3/128"}})).size());
  };
  append(1);
  check("in memory");
  append(40);
  t_.Settle();
  append(1);
  check("in runs and in memory");
  EXPECT_GT(t_.history->snapshot().runs.size(), 1u);
}

TEST_F(LookupTest, IdenticalRecordsAreShownOnceWithACount) {
  const std::string same = Make("111111111111");
  Append(one_, {same, Make("111111111111"), same});
  Append(one_, {Make("111111111111"), same});
  t_.history->Step(t_.clock.now);
  for (const uint32_t page : {1u, 2u, 50u}) {
    const std::vector<v1::Event> all = All(kAuditor, Request({}, page));
    ASSERT_EQ(all.size(), 3u) << page;
    for (const v1::Event& e : all) EXPECT_EQ(e.envelope().copies(), e.record() == same ? 3u : 1u);
  }
}

TEST_F(LookupTest, IdenticalRecordsWithoutAReadableTimeAreShownOnceToo) {   // each stands at the moment it was captured
  const std::string odd = R"({"eventTime":"the day before yesterday","eventName":"Odd","eventID":"odd-1","recipientAccountId":"111111111111"})";
  Append(one_, {odd});
  const int64_t between = absl::ToUnixNanos(t_.clock.wall);
  t_.clock.Advance(absl::Hours(3));
  Append(one_, {Make("111111111111"), odd});
  t_.history->Step(t_.clock.now);
  for (const uint32_t page : {1u, 50u}) {
    const std::vector<v1::Event> all = All(kAuditor, Request({{"EventName", "Odd"}}, page));
    ASSERT_EQ(all.size(), 1u) << page;
    EXPECT_EQ(all[0].envelope().copies(), 2u);
    EXPECT_EQ(all[0].envelope().leaf_index(), t_.builder.ledger->head().size - 1);   // the newest
  }
  v1::LookupRequest early = Request({{"EventName", "Odd"}});
  early.set_end_ns(between);
  const std::vector<v1::Event> all = All(kAuditor, early);   // what lies outside the question does not hide what lies within
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].envelope().copies(), 1u);
}

TEST_F(LookupTest, TwoRecordsUnderOneEventIdAreFlaggedForWhoMaySeeBoth) {
  const auto record = [](std::string_view id, std::string_view time, std::string_view name) {
    return R"({"eventID":")" + std::string(id) + R"(","eventTime":"2026-11-20T)" + std::string(time) + R"(Z","eventName":")" + std::string(name) + "\"}";
  };
  Append(one_, {record("at-once", "10:00:00", "Harmless"), record("at-once", "10:00:00", "Harmful"), record("copy", "10:00:00", "Harmless"), record("copy", "10:00:00", "Harmless")});
  Append(one_, {record("later", "10:00:00", "Harmless"), record("across", "10:00:00", "Harmless")});
  Append(two_, {record("across", "10:00:00", "Harmful")});
  t_.Settle();
  CHECK_OK(t_.history->Flush());
  Append(one_, {record("later", "12:00:00", "Harmless"), record("alone", "10:00:00", "Harmless")});
  t_.history->Step(t_.clock.now);
  const auto flagged = [](const auto& events) {
    size_t n = 0;
    for (const v1::Event& e : events) n += std::count(e.envelope().notes().begin(), e.envelope().notes().end(), "EVENTID_REUSE");
    return n;
  };
  struct Case {
    const char* id;
    Identity who;
    size_t found, flagged;
  };
  for (const Case& c : {Case{"at-once", kAuditor, 2, 2}, {"copy", kAuditor, 1, 0}, {"later", kAuditor, 2, 2}, {"across", kAuditor, 2, 2}, {"alone", kAuditor, 1, 0},
                        {"at-once", User("111111111111"), 2, 2}, {"across", User("111111111111"), 1, 0}, {"across", User("222222222222"), 1, 0}}) {
    SCOPED_TRACE(std::string(c.id) + " " + c.who.ToUri());
    const std::vector<v1::Event> all = All(c.who, Request({{"EventId", c.id}}));
    EXPECT_EQ(all.size(), c.found);
    EXPECT_EQ(flagged(all), c.flagged);
    v1::GetEventRequest get;
    get.set_event_id(c.id);
    const absl::StatusOr<v1::GetEventResponse> got = lookup_.Get(c.who, get);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(flagged(got->events()), c.flagged);
    get.set_at_set(true);
    get.set_leaf_index(all[0].envelope().leaf_index());
    get.set_event_index(all[0].envelope().event_index());
    const absl::StatusOr<v1::GetEventResponse> at = lookup_.Get(c.who, get);
    ASSERT_TRUE(at.ok()) << at.status();
    EXPECT_EQ(flagged(at->events()), c.flagged == 0 ? 0u : 1u);
  }
  // A question that names no id finds what has the same time for nothing; a window around one of two leaves the other out, and it is flagged all the same.
  EXPECT_EQ(flagged(All(kAuditor, Request({}))), 4u);
  v1::LookupRequest early = Request({{"EventId", "later"}});
  early.set_end_ns(absl::ToUnixNanos(absl::FromCivil(absl::CivilSecond(2026, 11, 20, 11, 0, 0), absl::UTCTimeZone())));
  const std::vector<v1::Event> one = All(kAuditor, early);
  EXPECT_EQ(one.size(), 1u);
  EXPECT_EQ(flagged(one), 1u);
}

TEST_F(LookupTest, LossesNameTheirCausesAndWhereTheyWere) {
  const auto lose = [&](TestAgent& agent, uint32_t n, std::string_view cause, uint32_t said) {
    agent.Lose(n);
    const std::vector<TestAgent::Item> items = {{EventClass::kLoss, 0, R"({"eventSource":"orgtrail","eventName":"Loss","serviceEventDetails":{"cause":")" + std::string(cause) +
        R"(","count":)" + std::to_string(said) + R"(,"firstSequence":1,"lastSequence":)" + std::to_string(said) + R"(,"source":"audit.log","detail":"d"}})"}};
    CHECK_OK(t_.builder.Append(agent.BatchOf(items)));
    t_.clock.Advance(absl::Minutes(10));
    t_.history->Step(t_.clock.now);
  };
  lose(one_, 5, "spool_full", 5);
  const int64_t middle = absl::ToUnixNanos(t_.clock.wall);
  lose(one_, 2, "source_overflow", 2);
  lose(two_, 4, "spool_full", 3);   // of one nobody says why
  // Somebody else's record that looks like one counts for nothing.
  Append(one_, {R"({"eventSource":"orgtrail","eventName":"Loss","eventID":"x","serviceEventDetails":{"cause":"spool_full","count":99}})"});
  t_.history->Step(t_.clock.now);
  const auto losses = [&](const Identity& who, int64_t start) {
    t_.clock.Advance(absl::Seconds(5));
    v1::LookupRequest request = Request();
    request.set_start_ns(start);
    return lookup_.Find(who, request)->completeness();
  };
  v1::Completeness c = losses(kAuditor, 0);
  ASSERT_EQ(c.losses_size(), 2);
  const bool swapped = c.losses(0).starts_with("222");
  EXPECT_TRUE(c.losses(swapped).starts_with("111111111111/eu-west-1/web-1: 7 events lost: 5 spool_full, 2 source_overflow (2 times, the last at 20")) << c.losses(swapped);
  EXPECT_TRUE(c.losses(!swapped).starts_with("222222222222/us-east-1/web-2: 4 events lost: 3 spool_full, 1 unexplained (at ")) << c.losses(!swapped);
  EXPECT_EQ(c.loss_ranges_size(), 4);
  c = losses(User("111111111111"), middle);
  ASSERT_EQ(c.losses_size(), 1);
  EXPECT_TRUE(c.losses(0).find(": 2 events lost: 2 source_overflow (at ") != std::string::npos) << c.losses(0);
  ASSERT_EQ(c.loss_ranges_size(), 1);
  EXPECT_EQ(c.loss_ranges(0).cause(), "source_overflow");
  EXPECT_EQ(c.loss_ranges(0).last_sequence(), 2u);
  EXPECT_EQ(c.loss_ranges(0).source(), "audit.log");
  EXPECT_EQ(c.loss_ranges(0).epoch(), 1u);
}

TEST_F(LookupTest, WhoIsInQuarantineIsNamedWithTheEvidence) {
  Append(one_, {Make("111111111111")});
  Admitted item = one_.Batch(std::vector<std::string>{Make("111111111111")});
  EvidenceLeaf evidence;
  evidence.code = "EQUIVOCATION";
  evidence.wall_ns = 1;
  evidence.object = std::string(FrameView::Decode(item.leaf->bytes)->entry);
  CHECK_OK(t_.builder.Append(ControlItem(evidence.Encode())));
  item.leaf->flags |= kLeafQuarantined;
  item.head->quarantined = true;
  CHECK_OK(t_.builder.Append(std::move(item)));
  t_.Settle();
  const v1::Completeness c = lookup_.Find(kAuditor, Request())->completeness();
  ASSERT_EQ(c.quarantined_agents_size(), 1);
  EXPECT_EQ(c.quarantined_agents(0), "111111111111/eu-west-1/web-1: leaf " + std::to_string(t_.builder.ledger->head().size - 2) + " is the evidence: EQUIVOCATION");
  EXPECT_EQ(lookup_.Find(User("222222222222"), Request())->completeness().quarantined_agents_size(), 0);
}

TEST_F(LookupTest, QuarantinedAndOwnRecordsAreLeftOutUnlessAsked) {
  Append(one_, {Make("111111111111")});
  Append(one_, {Make("111111111111"), Make("111111111111")}, true);
  const std::vector<TestAgent::Item> own = {{EventClass::kOwn, 0, Make("111111111111")}, {EventClass::kLoss, 0, Make("111111111111")}};
  ASSERT_TRUE(t_.builder.Append(one_.BatchOf(own)).ok());
  t_.Settle();
  v1::LookupRequest request = Request();
  absl::StatusOr<v1::LookupResponse> got = lookup_.Find(kAuditor, request);
  EXPECT_EQ(got->events_size(), 1);
  EXPECT_EQ(got->completeness().quarantined_matches(), 2u);
  request.set_include_quarantined(true);
  EXPECT_EQ(lookup_.Find(kAuditor, request)->events_size(), 3);
  request.set_include_own(true);
  EXPECT_EQ(lookup_.Find(kAuditor, request)->events_size(), 5);
}

TEST_F(LookupTest, AChunkedRecordComesBackWhole) {
  const std::string big = Make("111111111111") + std::string(3'000'000, ' ');
  std::string stub = "{\"orgtrail:blob\":{\"sha256\":\"" + Hex(Sha256(big).view()) + "\",\"len\":" + std::to_string(big.size()) +
                     ",\"chunks\":3,\"truncated\":false,\"head\":\"{\"},\"eventName\":\"PutObject\",\"eventID\":\"big-one\"}";
  const auto chunk = [&](size_t i) { return TestAgent::Item{EventClass::kChunk, 0, big.substr(i << 20, 1 << 20)}; };
  std::vector<TestAgent::Item> items = {{EventClass::kManagement, kFlagBlob, stub}};
  ASSERT_TRUE(t_.builder.Append(one_.BatchOf(items)).ok());
  for (size_t i = 0; i < 2; ++i) {
    items = {chunk(i)};
    ASSERT_TRUE(t_.builder.Append(one_.BatchOf(items)).ok());
  }
  t_.history->Step(t_.clock.now);
  const v1::LookupRequest request = Request({{"EventId", "big-one"}});
  absl::StatusOr<v1::LookupResponse> got = lookup_.Find(kAuditor, request);
  ASSERT_EQ(got->events_size(), 1);
  EXPECT_EQ(got->events(0).record(), stub);   // not all there yet, and says so
  const auto& notes = got->events(0).envelope().notes();
  EXPECT_NE(std::find(notes.begin(), notes.end(), "BLOB_INCOMPLETE"), notes.end());
  items = {chunk(2)};
  ASSERT_TRUE(t_.builder.Append(one_.BatchOf(items)).ok());
  t_.history->Step(t_.clock.now);
  got = lookup_.Find(kAuditor, request);
  ASSERT_EQ(got->events_size(), 1);
  EXPECT_TRUE(got->events(0).record() == big);
  EXPECT_EQ(lookup_.Find(kAuditor, Request())->events_size(), 1);   // chunks are not listed
}

TEST_F(LookupTest, EnvelopesAndCompletenessSayWhatIsKnown) {
  Append(one_, {Make("111111111111")});
  Append(two_, {Make("222222222222")});
  t_.history->Step(t_.clock.now);
  silent_.insert(two_.identity().uuid);
  const absl::StatusOr<v1::LookupResponse> got = lookup_.Find(kAuditor, Request({{"Account", "111111111111"}}));
  ASSERT_EQ(got->events_size(), 1);
  const v1::Envelope& e = got->events(0).envelope();
  EXPECT_EQ(e.account(), "111111111111");
  EXPECT_EQ(e.region(), "eu-west-1");
  EXPECT_EQ(e.agent(), "web-1");
  EXPECT_EQ(e.agent_uuid(), std::string(one_.identity().uuid.view()));
  EXPECT_EQ(e.epoch(), 1u);
  EXPECT_EQ(e.batch_seq(), 1u);
  EXPECT_EQ(e.seq(), 1u);
  EXPECT_GT(e.captured_ns(), 0);
  EXPECT_GT(e.logged_ns(), 0);
  EXPECT_EQ(e.copies(), 1u);
  EXPECT_FALSE(e.cursor().empty());
  const v1::Completeness& c = got->completeness();
  ASSERT_EQ(c.silent_agents_size(), 1);
  EXPECT_EQ(c.silent_agents(0), "222222222222/us-east-1/web-2");
  EXPECT_EQ(c.complete_to_ns(), static_cast<int64_t>(t_.builder.ledger->HeadOf(one_.identity().uuid)->wall_close_ns));
  EXPECT_EQ(c.indexed_to(), t_.builder.ledger->head().size);
  // A member is told of its own agents only.
  EXPECT_EQ(lookup_.Find(User("111111111111"), Request())->completeness().silent_agents_size(), 0);
}

TEST_F(LookupTest, ACursorThatIsNotOursIsRefused) {
  const LedgerReader& ledger = *t_.builder.ledger;
  const std::string key(32, 'k');
  const FeedCursor cursor{ledger.head().size - 1, 7};
  const std::string text = CursorWriter(key, kAuditor, ledger).Text(cursor);
  EXPECT_EQ(*FeedCursor::Decode(text, key, kAuditor, ledger), cursor);
  EXPECT_TRUE(absl::IsPermissionDenied(FeedCursor::Decode(text, key, User("111111111111"), ledger).status()));
  EXPECT_TRUE(absl::IsPermissionDenied(FeedCursor::Decode(text, std::string(32, 'x'), kAuditor, ledger).status()));
  const std::string root(8, 'r');
  EXPECT_TRUE(absl::IsOutOfRange(FeedCursor::Decode(cursor.Encode(key, kAuditor, "log.test/b", root), key, kAuditor, ledger).status()));
  EXPECT_TRUE(absl::IsOutOfRange(FeedCursor::Decode(cursor.Encode(key, kAuditor, ledger.origin(), root), key, kAuditor, ledger).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(FeedCursor::Decode("", key, kAuditor, ledger).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(FeedCursor::Decode(text + "A", key, kAuditor, ledger).status()));
  for (size_t i = 0; i < text.size(); ++i) {
    std::string forged = text;
    forged[i] = forged[i] == 'A' ? 'B' : 'A';
    EXPECT_FALSE(FeedCursor::Decode(forged, key, kAuditor, ledger).ok()) << i;
  }
}

}  // namespace
}  // namespace orgtrail
