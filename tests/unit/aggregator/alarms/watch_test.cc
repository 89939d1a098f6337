#include "aggregator/alarms/watch.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/sized_fs.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

class WatchTest : public ::testing::Test {
 protected:
  WatchTest()
      : builder_(dir_ / "ledger", clock_),
        alarms_("111111111111", "us-east-1", dir_ / "alarms.json", fs_, clock_, rng_, metrics_) {
    CHECK_OK(builder_.Open());
    alarms_.Wire([this](OwnRecord r) { posted_.emplace_back(r.name); }, nullptr);
    options_.state_dir = dir_.path();
    Restart();
  }
  void Restart() {
    watch_ = std::make_unique<Watch>(
        options_, *builder_.ledger, registry_, alarms_,
        [this](const IdentityLeaf& leaf) {
          logged_.push_back(leaf);
          registry_.Apply(leaf, builder_.ledger->head().size);
          return absl::OkStatus();
        },
        [this] { return bytes_; }, [this] { return followers_; }, fs_, clock_, metrics_);
  }
  TestAgent& Enrol(const char* name, const char* account = "222222222222") {
    TestAgent& agent = builder_.Enrol(account, "eu-west-1", name);   // opens its epoch
    CHECK_OK(registry_.Load(*builder_.ledger));
    return agent;
  }
  void Look(absl::Duration pass = absl::Seconds(1)) {
    clock_.Advance(pass);
    watch_->Step(clock_.now);
  }
  std::string Open() {
    std::string out;
    for (const AlarmState& a : alarms_.List(false, 100)) out += a.code + "(" + std::string(SeverityName(a.severity)) + " " + a.subject + ") ";
    return out;
  }

  TempDir dir_;
  StillClock clock_;
  SizedFs fs_;
  SeededRng rng_{1};
  Metrics metrics_;
  LedgerBuilder builder_;
  Registry registry_;
  std::vector<IdentityLeaf> logged_;
  Alarms alarms_;
  WatchOptions options_;
  uint64_t bytes_ = 0;
  std::vector<FollowerFacts> followers_;
  std::vector<std::string> posted_;
  std::unique_ptr<Watch> watch_;
};

TEST_F(WatchTest, NothingIsWrongWithoutAgents) {
  for (int i = 0; i < 100; ++i) Look();
  EXPECT_EQ(Open(), "");
  EXPECT_TRUE(posted_.empty());
  EXPECT_EQ(watch_->facts().days_left, -1);
}

TEST_F(WatchTest, SilenceAndCoverage) {
  TestAgent& a = Enrol("a");
  Enrol("b");
  Look();
  EXPECT_EQ(watch_->facts().live, 2u);
  for (int i = 0; i < 30; ++i) {
    Look();
    if (i % 10 == 0) CHECK_OK(builder_.Append(a.Heartbeat()));
  }
  EXPECT_EQ(Open(), "SILENT_AGENT(warn 222222222222/eu-west-1/b) ");   // 31 s after its last word; a covers the account
  EXPECT_EQ(watch_->facts().silent, 1u);
  EXPECT_EQ(watch_->facts().live, 1u);
  Look(absl::Seconds(31));
  EXPECT_NE(Open().find("COVERAGE_MISSING(page 222222222222/eu-west-1)"), std::string::npos);
  EXPECT_NE(Open().find("SILENT_AGENT(warn 222222222222/eu-west-1/a)"), std::string::npos);
  CHECK_OK(builder_.Append(a.Heartbeat()));
  Look();
  EXPECT_EQ(Open(), "SILENT_AGENT(warn 222222222222/eu-west-1/b) ");
}

TEST_F(WatchTest, AHeartbeatThatWasHeldBackIsNoSignOfLife) {
  TestAgent& a = Enrol("a");
  Look();
  Look(absl::Minutes(5));
  ASSERT_NE(Open().find("SILENT_AGENT(warn 222222222222/eu-west-1/a)"), std::string::npos);
  Admitted held = a.Heartbeat();      // of a head that is five minutes old
  held.leaf->flags |= kLeafLate;
  CHECK_OK(builder_.Append(held));
  Look();
  Look();
  EXPECT_NE(Open().find("SILENT_AGENT(warn 222222222222/eu-west-1/a)"), std::string::npos);
  EXPECT_EQ(watch_->facts().live, 0u);
  Seen seen;
  seen.size = builder_.ledger->head().size;
  seen.root = builder_.ledger->head().root;
  CHECK_OK(builder_.Append(a.Heartbeat(seen)));
  Look();
  EXPECT_EQ(Open().find("SILENT_AGENT"), std::string::npos);
}

TEST_F(WatchTest, ThirtySecondsAreNotSilence) {
  Enrol("a");
  Look(absl::Seconds(30));
  EXPECT_EQ(Open(), "");
  Look(absl::Seconds(1));
  EXPECT_NE(Open(), "");
}

TEST_F(WatchTest, OurOwnAbsenceIsNobodysSilence) {
  Enrol("a");
  clock_.Advance(absl::Hours(5));   // the aggregator was down
  Restart();
  Look();
  EXPECT_EQ(Open(), "");
  Look(absl::Seconds(30));
  EXPECT_NE(Open().find("SILENT_AGENT"), std::string::npos);
}

TEST_F(WatchTest, AnAgentThatHasJustEnrolledIsNotMissed) {
  Look(absl::Minutes(5));
  TestAgent agent("333333333333", "eu-west-1", "new", builder_.origin, clock_, rng_);
  CHECK_OK(builder_.Append(ControlItem(agent.Enrolment().Encode())));
  registry_.Apply(agent.Enrolment(), builder_.ledger->head().size - 1);
  Look();
  EXPECT_EQ(Open(), "");                 // its first batch is on its way
  EXPECT_EQ(watch_->facts().total, 1u);
  Look(absl::Seconds(30));
  EXPECT_EQ(Open(), "");
  Look(absl::Seconds(1));
  EXPECT_EQ(Open(), "COVERAGE_MISSING(page 333333333333/eu-west-1) ");
  CHECK_OK(builder_.Append(agent.Open()));
  Look();
  EXPECT_EQ(Open(), "");
}

TEST_F(WatchTest, AListedAccountThatNeverHadAnAgentIsAnAlarmAfterAWhile) {
  options_.accounts = {"222222222222", "333333333333"};
  Restart();
  TestAgent& a = Enrol("a");
  const auto after = [&](absl::Duration pass) {
    clock_.Advance(pass);
    CHECK_OK(builder_.Append(a.Heartbeat()));
    Look(absl::ZeroDuration());
  };
  for (int i = 0; i < 60; ++i) after(absl::Minutes(1));
  EXPECT_EQ(alarms_.open(), 0u) << Open();   // an hour's grace
  Look(absl::Seconds(1));
  EXPECT_EQ(Open(), "COVERAGE_MISSING(warn 333333333333) ");
  EXPECT_NE(alarms_.List(false, 1)[0].detail.find("--account 333333333333"), std::string::npos);
  Restart();                                  // it is not forgotten, nor said to be over, because we were restarted
  CHECK_OK(builder_.Append(a.Heartbeat()));
  Look();
  EXPECT_EQ(Open(), "COVERAGE_MISSING(warn 333333333333) ");
  Enrol("b", "333333333333");
  Look();
  EXPECT_EQ(Open(), "");
}

TEST_F(WatchTest, ACollectorCoversWhatItCarries) {
  options_.accounts = {"333333333333", "444444444444"};
  options_.coverage_grace = absl::ZeroDuration();
  Restart();
  builder_.Enrol("111111111111", "eu-west-1", "collector", "333333333333,555555555555");
  CHECK_OK(registry_.Load(*builder_.ledger));
  Look();
  EXPECT_EQ(Open(), "COVERAGE_MISSING(warn 444444444444) ");
  builder_.Enrol("111111111111", "eu-west-1", "everything", "any");
  CHECK_OK(registry_.Load(*builder_.ledger));
  Look();
  EXPECT_EQ(Open(), "");
}

TEST_F(WatchTest, AnAgentReenrolledUnderItsNameIsOneAgent) {
  Enrol("a");
  Look(absl::Minutes(10));
  EXPECT_NE(Open(), "");
  TestAgent& again = Enrol("a");          // it had lost its state directory
  posted_.clear();
  for (int i = 0; i < 200; ++i) {
    Look();
    if (i % 10 == 0) CHECK_OK(builder_.Append(again.Heartbeat()));
  }
  EXPECT_EQ(Open(), "");
  EXPECT_EQ(posted_.size(), 2u);          // two alarms cleared, none raised again
  EXPECT_EQ(watch_->facts().total, 1u);
}

TEST_F(WatchTest, TheRetiredAreNotMissedButTheLastOfAnAccountIs) {
  TestAgent& a = Enrol("a");
  TestAgent& b = Enrol("b");
  const auto gone = [&](TestAgent& agent, IdentityLeaf::Act act) {
    IdentityLeaf leaf = agent.Enrolment();
    leaf.act = act;
    registry_.Apply(leaf, 99);
  };
  gone(a, IdentityLeaf::Act::kRetired);
  for (int i = 0; i < 10; ++i) {
    Look(absl::Seconds(10));
    CHECK_OK(builder_.Append(b.Heartbeat()));
  }
  EXPECT_EQ(Open(), "");
  EXPECT_EQ(watch_->facts().total, 1u);
  gone(b, IdentityLeaf::Act::kRevoked);
  Look();
  EXPECT_EQ(Open(), "COVERAGE_MISSING(page 222222222222/eu-west-1) ");
}

TEST_F(WatchTest, AStoppedAgentIsToldHowToGo) {
  TestAgent& a = Enrol("a");
  CHECK_OK(builder_.Append(a.Close()));
  Look(absl::Seconds(31));
  ASSERT_NE(Open().find("SILENT_AGENT"), std::string::npos);
  EXPECT_NE(alarms_.List(false, 10).back().detail.find("retire"), std::string::npos);
}

TEST_F(WatchTest, TheOwnAgentIsNotWatched) {
  TestAgent& own = Enrol("aggregator", "111111111111");
  options_.own = own.identity().uuid;
  Restart();
  Look(absl::Minutes(10));
  EXPECT_EQ(Open(), "");
  EXPECT_EQ(watch_->facts().total, 0u);
}

TEST_F(WatchTest, DiskSpace) {
  struct Case {
    uint64_t free_percent;
    const char* open;
  };
  for (const Case& c : {Case{50, ""}, {10, ""}, {9, "DISK_LOW(warn"}, {2, "DISK_LOW(page"}, {50, ""}}) {
    fs_.free = fs_.total / 100 * c.free_percent;
    Look();
    EXPECT_EQ(Open().substr(0, 13), c.open) << c.free_percent;
  }
}

TEST_F(WatchTest, DaysLeft) {
  fs_.free = 50ull << 30;
  const uint64_t a_day = 10ull << 30;   // five days at this rate
  for (int i = 0; i < 9; ++i) {
    bytes_ += a_day / 1440;
    Look(absl::Minutes(1));
  }
  EXPECT_EQ(watch_->facts().days_left, -1);   // too little to tell
  EXPECT_EQ(Open(), "");
  for (int i = 0; i < 5; ++i) {
    bytes_ += a_day / 1440;
    Look(absl::Minutes(1));
  }
  EXPECT_NEAR(watch_->facts().days_left, 5, 0.1);
  EXPECT_EQ(Open().substr(0, 13), "DISK_LOW(warn");
  EXPECT_NE(alarms_.List(false, 1)[0].detail.find("about 5 days"), std::string::npos) << alarms_.List(false, 1)[0].detail;
  fs_.free = 20ull << 30;
  Look();
  EXPECT_EQ(Open().substr(0, 13), "DISK_LOW(page");
  for (int i = 0; i < 1500; ++i) Look(absl::Minutes(1));   // a day without growth
  EXPECT_EQ(watch_->facts().days_left, -1);
  EXPECT_EQ(Open(), "");
}

TEST_F(WatchTest, FollowersBehind) {
  followers_ = {{"history", 0}, {"feed", 0}};
  std::vector<Admitted> many;
  for (int i = 0; i < 2010; ++i) many.push_back(ControlItem("OTT1 entry " + std::to_string(i)));
  CHECK_OK(builder_.Append(std::move(many)));
  followers_[1].cursor = builder_.ledger->head().size;
  Look();
  EXPECT_EQ(Open(), "FOLLOWER_BEHIND(warn history) ");
  followers_[0].cursor = builder_.ledger->head().size;
  Look();
  EXPECT_EQ(Open(), "");
}

TEST_F(WatchTest, RateIsOfTheLastMinute) {
  TestAgent& a = Enrol("a");
  for (int i = 0; i < 120; ++i) {
    CHECK_OK(builder_.Fill(a, 50));   // moves the clock by a second
    watch_->Step(clock_.now);
  }
  EXPECT_NEAR(watch_->facts().events_per_second, 50, 0.01);
  EXPECT_EQ(watch_->facts().disk_free, fs_.free);
}

TEST_F(WatchTest, AFullLedgerIsToldAtOnceAndSilencesNobody) {
  TestAgent& web = Enrol("web");
  std::string why;
  options_.ledger_full = [&] { return why; };
  Restart();
  Look();
  EXPECT_EQ(Open(), "");
  why = "no space left on device";
  std::vector<std::string> order;
  alarms_.Wire([&](OwnRecord) { order.emplace_back("logged"); }, [&](const AlarmState& a) { order.push_back("told " + a.code); });
  Look();
  EXPECT_EQ(Open(), "LEDGER_FULL(page ledger) ");
  EXPECT_EQ(order, (std::vector<std::string>{"told LEDGER_FULL", "logged"}));   // people first
  EXPECT_EQ(watch_->facts().full_why, why);
  // Nobody can be heard meanwhile, so nobody is silent, until three heartbeats after it is over.
  for (int i = 0; i < 100; ++i) Look();
  EXPECT_EQ(Open(), "LEDGER_FULL(page ledger) ");
  why.clear();
  Look();
  EXPECT_EQ(Open(), "");
  EXPECT_EQ(watch_->facts().full_since_ns, 0);
  Look(absl::Seconds(40));
  EXPECT_NE(Open().find("SILENT_AGENT"), std::string::npos) << web.uri();
}

}  // namespace
}  // namespace orgtrail
