#include "tests/data/record_maker.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "common/json/scanner.h"
#include "tests/data/incident.h"

namespace orgtrail::data {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'795'000'000);
const Place kPlace{"222222222222", "eu-west-1"};

TEST(RecordMaker, SameSeedSameBytes) {
  RecordMaker a(7, 0), b(7, 0), c(8, 0);
  bool differs = false;
  for (int i = 0; i < 200; ++i) {
    const std::string record = a.Ordinary(kPlace, kNow);
    EXPECT_EQ(record, b.Ordinary(kPlace, kNow));
    differs |= record != c.Ordinary(kPlace, kNow);
  }
  EXPECT_TRUE(differs);
}

TEST(RecordMaker, EveryRecordIsWholeAndItsOwn) {
  RecordMaker maker(1, 0);
  json::Scanner scanner;
  std::set<std::string> ids;
  std::map<std::string, int> names;
  int errors = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::string record = maker.Ordinary(kPlace, kNow);
    json::Fields f;
    ASSERT_EQ(scanner.Scan(record, &f), json::Flaw::kNone) << record;
    for (const json::Value* v : {&f.event_version, &f.event_time, &f.event_source, &f.event_name, &f.aws_region, &f.source_ip, &f.event_id,
                                 &f.read_only, &f.recipient_account, &f.event_category, &f.event_type, &f.identity_type}) {
      EXPECT_TRUE(*v) << record;
    }
    EXPECT_EQ(f.recipient_account.text(), "222222222222");
    EXPECT_TRUE(ids.insert(json::Text(f.event_id)).second);
    EXPECT_EQ(record.find('<'), std::string::npos) << record;  // no token is left
    EXPECT_EQ(record.find('\n'), std::string::npos);
    ++names[json::Text(f.event_name)];
    errors += f.error_code ? 1 : 0;
  }
  EXPECT_GT(names.size(), 30u);
  EXPECT_GT(errors, 60);   // one in thirty or so
  EXPECT_LT(errors, 240);
}

TEST(RecordMaker, SizeIsKeptToWhereItCan) {
  RecordMaker maker(3, 2048);
  json::Scanner scanner;
  for (int i = 0; i < 300; ++i) {
    const std::string record = maker.Ordinary(kPlace, kNow);
    json::Fields f;
    ASSERT_EQ(scanner.Scan(record, &f), json::Flaw::kNone) << record;
    EXPECT_GT(record.size(), 1800u);
    EXPECT_LT(record.size(), 2600u);
  }
}

TEST(Incident, TellsItsStoryInThreeAccounts) {
  RecordMaker maker(1, 0);
  json::Scanner scanner;
  std::set<std::string> told, accounts, regions;
  for (const Line& line : Incident(maker, {"111111111111", "222222222222", "333333333333"}, {"us-east-1", "eu-west-1"}, kNow)) {
    json::Fields f;
    ASSERT_EQ(scanner.Scan(line.record, &f), json::Flaw::kNone) << line.record;
    EXPECT_LT(line.when, kNow);
    EXPECT_GT(line.when, kNow - absl::Minutes(30));
    EXPECT_EQ(f.recipient_account.text(), line.place.account);
    told.insert(json::Text(f.event_name) + (f.error_code ? "!" : ""));
    accounts.insert(line.place.account);
    regions.insert(line.place.region);
  }
  for (const char* act : {"AttachRolePolicy", "UpdateFunctionConfiguration20150331v2", "PutBucketPublicAccessBlock", "PutBucketPolicy", "GetObject",
                          "CreateAccessKey", "ConsoleLogin", "StopLogging!", "DeleteBucketPolicy"}) {
    EXPECT_TRUE(told.contains(act)) << act;
  }
  EXPECT_EQ(accounts.size(), 3u);
  EXPECT_EQ(regions.size(), 2u);
}

}  // namespace
}  // namespace orgtrail::data
