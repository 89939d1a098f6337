#include "aggregator/query/read_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/ledger_builder.h"

namespace orgtrail {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Journal final : public ReadJournal {
 public:
  absl::Status Record(const Peer& who, std::string_view name, std::string details) override {
    if (!answer.ok()) return answer;
    records.push_back(who.identity.name + " " + std::string(name) + " " + details);
    return absl::OkStatus();
  }
  absl::Status answer;
  std::vector<std::string> records;
};

class ReadLogTest : public testing::Test {
 protected:
  static Peer Who(std::string name) { return {Identity{Identity::Kind::kOperator, "o-demo", "", "", std::move(name)}, "0a", "", "127.0.0.1:1"}; }
  void Pass(absl::Duration d) {
    clock_.Advance(d);
    log_.Step(clock_.now);
  }
  StillClock clock_;
  Journal journal_;
  ReadLog log_{journal_, clock_, true};
};

TEST_F(ReadLogTest, TheFirstIsRecordedTheRestOfTheMinuteCounted) {
  for (int i = 0; i < 58; ++i) {
    ASSERT_TRUE(log_.Record(Who("olga"), "GetStatus", "{}").ok());
    Pass(absl::Seconds(1));
  }
  EXPECT_THAT(journal_.records, ElementsAre("olga GetStatus {}"));
  Pass(absl::Seconds(2));
  EXPECT_THAT(journal_.records, ElementsAre("olga GetStatus {}", HasSubstr("olga GetStatus {\"reads\":57,\"from\":\"20")));
  Pass(absl::Hours(1));
  EXPECT_EQ(journal_.records.size(), 2u);   // nothing to say
  ASSERT_TRUE(log_.Record(Who("olga"), "GetStatus", "{}").ok());
  Pass(absl::Hours(1));
  EXPECT_EQ(journal_.records.size(), 3u);   // one read, one record
}

TEST_F(ReadLogTest, AnotherPersonKindOrQuestionIsAnotherRead) {
  ASSERT_TRUE(log_.Record(Who("olga"), "ListAgents", "{\"agent\":\"a\"}").ok());
  ASSERT_TRUE(log_.Record(Who("olga"), "ListAgents", "{\"agent\":\"b\"}").ok());
  ASSERT_TRUE(log_.Record(Who("oscar"), "ListAgents", "{\"agent\":\"b\"}").ok());
  ASSERT_TRUE(log_.Record(Who("oscar"), "ListAlarms", "{}").ok());
  EXPECT_EQ(journal_.records.size(), 4u);
  ASSERT_TRUE(log_.Record(Who("oscar"), "ListAgents", "{\"agent\":\"b\"}").ok());
  EXPECT_EQ(journal_.records.size(), 4u);
  log_.Finish();
  ASSERT_EQ(journal_.records.size(), 5u);
  EXPECT_THAT(journal_.records[4], HasSubstr("\"reads\":1,"));
  EXPECT_THAT(journal_.records[4], HasSubstr("\"asked\":{\"agent\":\"b\"}}"));
}

TEST_F(ReadLogTest, WhatCannotBeRecordedIsNotAnswered) {
  journal_.answer = absl::UnavailableError("no");
  EXPECT_TRUE(absl::IsUnavailable(log_.Record(Who("olga"), "GetStatus", "{}")));
  journal_.answer = absl::OkStatus();
  ASSERT_TRUE(log_.Record(Who("olga"), "GetStatus", "{}").ok());
  EXPECT_EQ(journal_.records.size(), 1u);
}

TEST_F(ReadLogTest, OnAFullDiskTheReadsOfWhoMakesRoomAreAnsweredAndRecordedLater) {
  journal_.answer = absl::ResourceExhaustedError("full");
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(log_.Record(Who("olga"), "GetStatus", "{}").ok());
  Pass(absl::Minutes(2));
  Pass(absl::Minutes(2));
  EXPECT_TRUE(journal_.records.empty());
  journal_.answer = absl::OkStatus();
  Pass(absl::Minutes(2));
  ASSERT_EQ(journal_.records.size(), 1u);
  EXPECT_THAT(journal_.records[0], HasSubstr("\"reads\":3,"));
  ReadLog strict(journal_, clock_, false);
  journal_.answer = absl::ResourceExhaustedError("full");
  EXPECT_TRUE(absl::IsResourceExhausted(strict.Record(Who("olga"), "GetStatus", "{}")));
}

TEST_F(ReadLogTest, IsBounded) {
  for (int i = 0; i < 10'050; ++i) ASSERT_TRUE(log_.Record(Who("olga"), "ListAgents", std::to_string(i)).ok());
  for (int i = 0; i < 10'050; ++i) ASSERT_TRUE(log_.Record(Who("olga"), "ListAgents", std::to_string(i)).ok());
  EXPECT_EQ(journal_.records.size(), 10'050u + 50u);   // beyond the bound each is recorded by itself
}

}  // namespace
}  // namespace orgtrail
