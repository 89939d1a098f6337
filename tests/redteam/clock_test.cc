// The wall clock of an agent's host is set, under the running agent: a day back, ten years ahead, and right again.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "absl/time/clock.h"
#include "common/base/clock.h"
#include "tests/e2e/support/organization.h"
#include "tests/redteam/table.h"

namespace orgtrail::e2e {
namespace {

using ::testing::HasSubstr;

// The wall clock of a program that was started with environment(): right until it is set.
class WallClock {
 public:
  explicit WallClock(std::string file) : file_(std::move(file)), fd_(open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) { Set(absl::ZeroDuration()); }
  ~WallClock() { close(fd_); }
  WallClock(const WallClock&) = delete;
  void Set(absl::Duration off) {
    const int64_t nanos = absl::ToInt64Nanoseconds(off);
    if (pwrite(fd_, &nanos, sizeof nanos, 0) != sizeof nanos) Fail(file_);
  }
  Environment environment() const { return {{"LD_PRELOAD", ORGTRAIL_CLOCK_PRELOAD}, {"ORGTRAIL_CLOCK_FILE", file_}, {"ASAN_OPTIONS", "verify_asan_link_order=0"}}; }

 private:
  const std::string file_;
  const int fd_;
};

constexpr absl::Duration kDay = absl::Hours(24), kTenYears = absl::Hours(24 * 3652);

class RedClock : public ::testing::Test {
 protected:
  static Organization::Options KeepsFor400Days() {
    Organization::Options options;
    options.replace = {{"  retention:", "  retention: 400d"}, {"  shard_period:", "  shard_period: 2s"}, {"  heartbeat_interval:", "  heartbeat_interval: 1s"}};
    return options;
  }
  // The steps of the agent's clock that are on record, in hours.
  std::vector<int64_t> Steps() {
    std::vector<int64_t> steps;
    for (const std::string& record : organization.Feed({"--own"})) {
      if (MemberOf(record, "eventName") == "ClockStep") steps.push_back(std::llround(std::stod(MemberOf(record, "stepNanoseconds")) / 3.6e12));
    }
    return steps;
  }
  std::string Retention(const std::string& member) { return MemberOf(organization.Must({"status", "-o", "json"}), member); }

  Organization organization{KeepsFor400Days()};
  WallClock wall{organization.Path("clock")};
};

ATTACK(12, "set the wall clock of an agent's host a day back, then ten years ahead, then right again, under the running agent",
       "a ClockStep record each; CLOCK_SKEW, at last a page; everything is taken on the stream that was open, in the feed in order; when bodies expire goes by the log's clock alone");
TEST_F(RedClock, AStepIsOnRecordAndChangesNothingElse) {
  AgentProcess& agent = organization.StartAgent({.env = wall.environment()});
  std::vector<std::string> told;
  const auto tell = [&] {
    for (int n = 0; n < 5; ++n) {
      told.push_back(CountRecord(static_cast<int>(told.size())));
      agent.Record(told.back());
    }
    return Eventually(kSoon, [&] { return organization.Feed() == told; });
  };
  ASSERT_TRUE(tell()) << agent.LogTail();
  const double shards = organization.Metric("orgtrail_ledger_shards");
  std::vector<int64_t> steps;
  absl::Duration off;
  for (const absl::Duration next : {-kDay, kTenYears, absl::ZeroDuration()}) {
    wall.Set(next);
    steps.push_back(absl::ToInt64Hours(next - off));
    off = next;
    EXPECT_TRUE(tell()) << agent.LogTail() << organization.AggregatorLogTail();
    EXPECT_TRUE(Eventually(kSoon, [&] { return Steps() == steps; })) << ::testing::PrintToString(Steps());
    if (off < absl::ZeroDuration()) {   // an epoch's times never go back: how far behind shows as time passes
      EXPECT_TRUE(Eventually(kSoon, [&] { return organization.Alarmed("behind"); })) << organization.Alarms();
    } else if (off > absl::ZeroDuration()) {
      EXPECT_TRUE(Eventually(kSoon, [&] { return organization.Alarmed("ahead"); })) << organization.Alarms();
    }
  }
  EXPECT_EQ(organization.Feed(), told);
  for (const std::string& alarm : LinesOf(organization.Alarms())) {
    if (MemberOf(alarm, "subject") != "222222222222/us-east-1/web-1") continue;
    if (MemberOf(alarm, "code") == "SILENT_AGENT") continue;   // a machine that is busy for three seconds
    EXPECT_EQ(MemberOf(alarm, "code"), "CLOCK_SKEW") << alarm;
    EXPECT_EQ(MemberOf(alarm, "severity"), "page") << alarm;
  }
  EXPECT_EQ(agent.Metric("orgtrail_agent_events_lost_total"), 0);
  EXPECT_EQ(organization.Verify().code, 0);

  // Governance's order finds shards in which an agent's clock is ten years ahead: they stay for 400 days and one, as all others.
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Metric("orgtrail_ledger_shards") > shards; }));
  ASSERT_EQ(agent.Stop(), 0);
  ASSERT_EQ(organization.StopAggregator(), 0);
  const Ran ordered = RunOrgtrail({"retention", "order", organization.state_dir(), "--keep", "400", "--policy", organization.Path("org/policy/policy-1.note"),
                                   "--governance-key-file", organization.Path("org/governance/demo.key")});
  ASSERT_EQ(ordered.code, 0) << ordered.err;
  organization.StartAggregator();
  absl::Time next;
  ASSERT_TRUE(Eventually(kSoon, [&] { return ParseWhen(Retention("next"), absl::Now(), &next); })) << organization.Must({"status", "-o", "json"});
  EXPECT_NEAR(absl::ToDoubleHours(next - absl::Now()) / 24, 401, 1);
  EXPECT_EQ(Retention("minimum"), "0");
  EXPECT_EQ(organization.Feed(), told);
}

}  // namespace
}  // namespace orgtrail::e2e
