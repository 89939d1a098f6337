#include "aggregator/alarms/alarms.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

class AlarmsTest : public ::testing::Test {
 protected:
  AlarmsTest() { Start(); }
  void Start() {
    alarms_ = std::make_unique<Alarms>("111111111111", "us-east-1", dir_ / "alarms.json", PosixFs(), clock_, rng_, metrics_);
    alarms_->Wire(
        [this](OwnRecord r) {
          EXPECT_EQ(r.account, "111111111111");
          const size_t at = r.details.find("\"event\":\"");
          posted_.push_back(std::string(r.name) + " " + r.details.substr(at + 9, r.details.find('"', at + 9) - at - 9));
        },
        [this](const AlarmState& a) { notified_.push_back(a); });
  }
  TempDir dir_;
  StillClock clock_;
  SeededRng rng_{1};
  Metrics metrics_;
  std::vector<std::string> posted_;
  std::vector<AlarmState> notified_;
  std::unique_ptr<Alarms> alarms_;
};

TEST_F(AlarmsTest, RaiseRepeatClear) {
  alarms_->Raise("SILENT_AGENT", Severity::kWarn, "a/r/n", "first");
  clock_.Advance(absl::Minutes(59));
  alarms_->Raise("SILENT_AGENT", Severity::kWarn, "a/r/n", "second");   // counted, not logged again
  EXPECT_EQ(posted_, std::vector<std::string>{"SILENT_AGENT raised"});
  clock_.Advance(absl::Minutes(1));
  alarms_->Raise("SILENT_AGENT", Severity::kWarn, "a/r/n", "third");
  EXPECT_EQ(posted_.back(), "SILENT_AGENT again");
  alarms_->Raise("SILENT_AGENT", Severity::kWarn, "a/r/other", "another subject is another alarm");
  EXPECT_EQ(alarms_->open(), 2u);
  const AlarmState a = alarms_->List(false, 10)[1];
  EXPECT_EQ(a.count, 3u);
  EXPECT_EQ(a.detail, "third");
  EXPECT_EQ(a.last_ns - a.raised_ns, 3600'000'000'000);
  EXPECT_EQ(notified_.size(), 2u);   // people hear of it once
  alarms_->Clear("SILENT_AGENT", "a/r/n");
  alarms_->Clear("SILENT_AGENT", "a/r/n");
  alarms_->Clear("OTHER", "a/r/n");
  EXPECT_EQ(posted_.back(), "SILENT_AGENT cleared");
  EXPECT_EQ(posted_.size(), 4u);
  EXPECT_EQ(notified_.size(), 3u);
  EXPECT_NE(notified_.back().cleared_ns, 0);
  EXPECT_EQ(alarms_->open(), 1u);
  EXPECT_EQ(alarms_->List(true, 10).size(), 2u);
}

TEST_F(AlarmsTest, AnEventThatHappensAgainIsLoggedOnceAMinute) {
  alarms_->Raise("EQUIVOCATION", Severity::kPage, "a/r/n", "first", AlarmKind::kEvent);
  for (int i = 0; i < 4; ++i) {
    clock_.Advance(absl::Seconds(30));
    alarms_->Raise("EQUIVOCATION", Severity::kPage, "a/r/n", "more", AlarmKind::kEvent);
  }
  EXPECT_EQ(posted_, (std::vector<std::string>{"EQUIVOCATION raised", "EQUIVOCATION again", "EQUIVOCATION again"}));
}

TEST_F(AlarmsTest, WhatGetsWorseIsToldAgainAtOnce) {
  alarms_->Raise("DISK_LOW", Severity::kWarn, "/d", "9 %");
  ASSERT_TRUE(alarms_->Acknowledge(alarms_->List(false, 1)[0].id, "bob", "on it").ok());
  alarms_->Raise("DISK_LOW", Severity::kPage, "/d", "2 %");
  EXPECT_EQ(posted_.back(), "DISK_LOW worse");
  ASSERT_EQ(notified_.size(), 2u);
  EXPECT_EQ(notified_[1].severity, Severity::kPage);
  EXPECT_EQ(notified_[1].id, notified_[0].id);
  EXPECT_EQ(alarms_->List(false, 10).size(), 1u);   // a page is not what was acknowledged
  alarms_->Raise("DISK_LOW", Severity::kWarn, "/d", "9 %");
  EXPECT_EQ(alarms_->List(false, 10)[0].severity, Severity::kPage);
  EXPECT_EQ(notified_.size(), 2u);
}

TEST_F(AlarmsTest, InfoIsLoggedAndDone) {
  alarms_->Raise("AGENT_REVOKED", Severity::kInfo, "x", "d");
  alarms_->Raise("AGENT_REVOKED", Severity::kInfo, "x", "d");
  EXPECT_EQ(posted_.size(), 2u);
  EXPECT_EQ(alarms_->open(), 0u);
  EXPECT_TRUE(alarms_->List(false, 10).empty());
  EXPECT_EQ(alarms_->List(true, 10).size(), 2u);
}

TEST_F(AlarmsTest, TheListIsOrderedByWhatMatters) {
  const auto raise = [&](const char* code, Severity severity) {
    clock_.Advance(absl::Seconds(1));
    alarms_->Raise(code, severity, "s", "");
  };
  raise("CLEARED", Severity::kPage);
  alarms_->Clear("CLEARED", "s");
  raise("ACKNOWLEDGED", Severity::kPage);
  ASSERT_TRUE(alarms_->Acknowledge(alarms_->List(false, 1)[0].id, "bob", "").ok());
  raise("OLD_PAGE", Severity::kPage);
  raise("NEW_PAGE", Severity::kPage);
  raise("WARN", Severity::kWarn);
  raise("INFO", Severity::kInfo);
  const auto codes = [](const std::vector<AlarmState>& list) {
    std::string out;
    for (const AlarmState& a : list) out += a.code + " ";
    return out;
  };
  EXPECT_EQ(codes(alarms_->List(true, 10)), "NEW_PAGE OLD_PAGE WARN ACKNOWLEDGED CLEARED INFO ");
  EXPECT_EQ(codes(alarms_->List(false, 10)), "NEW_PAGE OLD_PAGE WARN ");
  EXPECT_EQ(codes(alarms_->List(false, 2)), "NEW_PAGE OLD_PAGE ");
}

TEST_F(AlarmsTest, Acknowledge) {
  alarms_->Raise("A", Severity::kWarn, "s", "");
  const std::string id = alarms_->List(false, 1)[0].id;
  EXPECT_TRUE(absl::IsNotFound(alarms_->Acknowledge("no-such-id", "bob", "").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(alarms_->Acknowledge(id, "bob", std::string(1025, 'x')).status()));
  EXPECT_TRUE(alarms_->Acknowledge(id, "bob", "looked").ok());
  EXPECT_EQ(alarms_->open(), 0u);
  EXPECT_EQ(alarms_->acknowledged(), 1u);       // a condition goes on, looked at or not
  EXPECT_EQ(alarms_->List(true, 1)[0].State(), "acknowledged");
  EXPECT_EQ(alarms_->List(true, 1)[0].acknowledged_by, "bob");
  EXPECT_TRUE(alarms_->List(false, 1).empty());
  alarms_->Raise("A", Severity::kWarn, "s", "");
  EXPECT_TRUE(alarms_->List(false, 1).empty());  // still the one somebody looked at
  alarms_->Clear("A", "s");
  EXPECT_EQ(alarms_->List(true, 1)[0].State(), "cleared");
  EXPECT_TRUE(absl::IsNotFound(alarms_->Acknowledge(id, "bob", "").status()));
}

TEST_F(AlarmsTest, AnEventIsOverWhenSomebodySaysSo) {
  alarms_->Raise("EQUIVOCATION", Severity::kPage, "a/r/n", "twice", AlarmKind::kEvent);
  ASSERT_TRUE(alarms_->Save().ok());
  Start();
  ASSERT_TRUE(alarms_->Load().ok());             // what it is survives a restart
  const absl::StatusOr<AlarmState> told = alarms_->Acknowledge(alarms_->List(false, 1)[0].id.substr(0, 8), "bob", "a snapshot");
  ASSERT_TRUE(told.ok()) << told.status();
  EXPECT_EQ(told->State(), "cleared");
  EXPECT_EQ(alarms_->open() + alarms_->acknowledged(), 0u);
  EXPECT_EQ(posted_.back(), "EQUIVOCATION cleared");
  EXPECT_EQ(notified_.back().note, "a snapshot");
  EXPECT_EQ(alarms_->List(true, 1)[0].note, "a snapshot");
  alarms_->Raise("EQUIVOCATION", Severity::kPage, "a/r/n", "again", AlarmKind::kEvent);
  EXPECT_EQ(alarms_->open(), 1u);                // another one
  EXPECT_NE(alarms_->List(false, 1)[0].id, told->id);
}

TEST_F(AlarmsTest, PassingEventsPass) {
  alarms_->Raise("CLOCK_SKEW", Severity::kWarn, "a/r/n", "6 s", AlarmKind::kEvent);
  alarms_->Raise("TOKEN_REUSE", Severity::kWarn, "x", "", AlarmKind::kEvent);
  for (int i = 0; i < 20; ++i) {
    clock_.Advance(absl::Minutes(1));
    alarms_->Raise("CLOCK_SKEW", Severity::kWarn, "a/r/n", "6 s", AlarmKind::kEvent);
    alarms_->Sweep();
  }
  EXPECT_EQ(alarms_->open(), 2u);                // seen again and again
  clock_.Advance(absl::Minutes(15));
  alarms_->Sweep();
  EXPECT_EQ(alarms_->open(), 2u);
  clock_.Advance(absl::Seconds(1));
  alarms_->Sweep();
  ASSERT_EQ(alarms_->open(), 1u);
  EXPECT_EQ(alarms_->List(false, 1)[0].code, "TOKEN_REUSE");
  EXPECT_EQ(posted_.back(), "CLOCK_SKEW cleared");
}

TEST_F(AlarmsTest, AllOfACodeAndTheBeginningOfAnId) {
  for (int i = 0; i < 40; ++i) alarms_->Raise("AGENT_CHANGED", Severity::kWarn, std::to_string(i), "", AlarmKind::kEvent);
  alarms_->Raise("DISK_LOW", Severity::kWarn, "/d", "");
  EXPECT_TRUE(absl::IsNotFound(alarms_->Acknowledge("", "bob", "").status()));
  EXPECT_TRUE(absl::IsNotFound(alarms_->Acknowledge(alarms_->List(false, 1)[0].id.substr(0, 3), "bob", "").status()));
  EXPECT_EQ(alarms_->AcknowledgeAll("AGENT_CHANGED", "bob", "upgrade").size(), 40u);
  EXPECT_TRUE(alarms_->AcknowledgeAll("AGENT_CHANGED", "bob", "upgrade").empty());
  EXPECT_EQ(alarms_->open(), 1u);
  alarms_->ClearOthers("DISK_LOW", {"/d"});
  EXPECT_EQ(alarms_->open(), 1u);
  alarms_->ClearOthers("DISK_LOW", {"/other"});
  EXPECT_EQ(alarms_->open(), 0u);
}

TEST_F(AlarmsTest, SurvivesARestart) {
  alarms_->Raise("OPEN", Severity::kPage, "s \"quoted\"\n", "d\\");
  ASSERT_TRUE(alarms_->Acknowledge(alarms_->List(true, 1)[0].id, "bob", "note").ok());
  alarms_->Raise("GONE", Severity::kWarn, "s", "");
  alarms_->Clear("GONE", "s");
  alarms_->Raise("INFO", Severity::kInfo, "s", "");
  ASSERT_TRUE(alarms_->Save().ok());
  const std::vector<AlarmState> before = alarms_->List(true, 10);
  Start();
  ASSERT_TRUE(alarms_->Load().ok());
  const std::vector<AlarmState> after = alarms_->List(true, 10);
  ASSERT_EQ(after.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(AlarmJson(after[i]), AlarmJson(before[i]));
  EXPECT_EQ(alarms_->acknowledged(), 1u);
  posted_.clear();
  alarms_->Clear("OPEN", "s \"quoted\"\n");
  EXPECT_EQ(posted_, std::vector<std::string>{"OPEN cleared"});
}

TEST_F(AlarmsTest, TheFileIsWrittenWhenSomethingWasLogged) {
  ASSERT_TRUE(alarms_->Save().ok());
  EXPECT_FALSE(PosixFs().Facts(dir_ / "alarms.json").ok());
  alarms_->Raise("A", Severity::kWarn, "s", "");
  ASSERT_TRUE(alarms_->Save().ok());
  const uint64_t inode = PosixFs().Facts(dir_ / "alarms.json")->inode;
  clock_.Advance(absl::Seconds(1));
  alarms_->Raise("A", Severity::kWarn, "s", "");   // as a watch does each second
  ASSERT_TRUE(alarms_->Save().ok());
  EXPECT_EQ(PosixFs().Facts(dir_ / "alarms.json")->inode, inode);
}

TEST_F(AlarmsTest, AGarbledFileIsSaidOrSkipped) {
  for (const char* text : {"", "{", "{\"a\":1}", "nonsense"}) {
    ASSERT_TRUE(WriteFileAtomically(PosixFs(), dir_ / "alarms.json", text).ok());
    EXPECT_TRUE(absl::IsDataLoss(alarms_->Load())) << text;
  }
  ASSERT_TRUE(WriteFileAtomically(PosixFs(), dir_ / "alarms.json", "[1,{},{\"id\":7},{\"id\":\"x\",\"code\":\"C\",\"severity\":\"page\"}]").ok());
  EXPECT_TRUE(alarms_->Load().ok());
  EXPECT_EQ(alarms_->List(true, 10).size(), 1u);
}

TEST_F(AlarmsTest, IsBounded) {
  for (int i = 0; i < 10'050; ++i) alarms_->Raise("A", Severity::kWarn, std::to_string(i), "");
  EXPECT_EQ(alarms_->open(), 10'000u);
  for (int i = 0; i < 10'000; ++i) alarms_->Clear("A", std::to_string(i));
  EXPECT_EQ(alarms_->List(true, 100'000).size(), 1000u);
}

}  // namespace
}  // namespace orgtrail
