// kill -9 of agent and aggregator at any moment, under load from a file and from callers who wait: nothing is lost, nothing is
// there twice, the agent's epochs are one apart, and the ledger proves it. ORGTRAIL_KILLS sets how many (20).
#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <map>
#include <thread>
#include <unordered_map>

#include "absl/time/clock.h"
#include "common/base/random.h"
#include "common/crypto/digest.h"
#include "common/http/client.h"
#include "tests/e2e/support/organization.h"
#include "tests/e2e/support/read_ledger.h"

namespace orgtrail::e2e {
namespace {

constexpr int kFileRecordsPerSecond = 4000, kCallers = 2, kPost = 20;
constexpr absl::Duration kCallEvery = absl::Milliseconds(40);  // 2 callers × 20 / 40 ms = 1,000 records/s

std::string Record(std::string_view source, uint64_t n) {
  return R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventSource":")" + std::string(source) +
         R"(.example","eventName":"Count","eventID":")" + std::string(source) + "-" + std::to_string(n) +
         R"(","recipientAccountId":"222222222222","userIdentity":{"type":"IAMUser","userName":"ivy"},"sourceIPAddress":"192.0.2.7"})";
}

// A program that appends to a file at a steady rate, and rotates it by renaming.
class Writer {
 public:
  explicit Writer(std::string dir) : dir_(std::move(dir)), thread_([this] { Run(); }) {}
  ~Writer() { Stop(); }
  uint64_t Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return written_;
  }
  uint64_t written() const { return written_; }

 private:
  void Run() {
    const absl::Time begin = absl::Now();
    uint64_t rotated = 0;
    while (!stop_) {
      const auto due = static_cast<uint64_t>(absl::ToDoubleSeconds(absl::Now() - begin) * kFileRecordsPerSecond);
      std::string text;
      uint64_t n = written_;
      for (; n < due; ++n) text += Record("file", n) + "\n";
      AppendTo(dir_ + "/app.jsonl", text);
      written_ = n;
      if (n / 20'000 > rotated) {
        rotated = n / 20'000;
        std::filesystem::rename(dir_ + "/app.jsonl", dir_ + "/app-" + std::to_string(rotated) + ".jsonl");
      }
      absl::SleepFor(absl::Milliseconds(10));  // the rate; nothing waits for it
    }
  }
  const std::string dir_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> written_{0};
  std::thread thread_;
};

// A program that posts, waits for its answer, and sends again with the same key until it is 200: as the contract tells it to.
class Caller {
 public:
  Caller(int name, std::string url) : name_("caller" + std::to_string(name)), url_(std::move(url)), thread_([this] { Run(); }) {}
  ~Caller() { Stop(); }
  uint64_t Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return answered_;
  }
  const std::string& name() const { return name_; }
  uint64_t answered() const { return answered_; }
  uint64_t retries() const { return retries_; }

 private:
  void Run() {
    while (!stop_) {
      const absl::Time next = absl::Now() + kCallEvery;
      std::string body;
      for (uint64_t i = 0; i < kPost; ++i) body += Record(name_, answered_ + i) + "\n";
      const HttpHeaders headers = {{"idempotency-key", name_ + "-" + std::to_string(answered_)}};
      for (;;) {
        absl::StatusOr<HttpResponse> answer = HttpPost(url_ + "/records", body, headers, absl::Seconds(60));
        if (answer.ok() && answer->status == 200) break;
        ++retries_;
        absl::SleepFor(absl::Milliseconds(20));
      }
      answered_ += kPost;
      absl::SleepFor(next - absl::Now());
    }
  }
  const std::string name_, url_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> answered_{0}, retries_{0};
  std::thread thread_;
};

// A ledger that begins a new shard every second or two, so that kills meet rolls.
Organization::Options TinyShards() {
  Organization::Options options;
  options.replace = {{"  shard_bytes:", "  shard_bytes: 1MiB"}, {"  shard_period:", "  shard_period: 1s"}};
  return options;
}

class Crash : public ::testing::Test {
 protected:
  static int Kills() {
    const char* wanted = getenv("ORGTRAIL_KILLS");
    return wanted != nullptr ? std::atoi(wanted) : 20;
  }
  // After so many more records were written: between nothing and `most`, so also while a program starts.
  bool Meanwhile(uint64_t most) {
    const uint64_t until = writer_.written() + SystemRng().Below(most);
    return Eventually(kPatience, [&] { return writer_.written() >= until; });
  }
  // It really gets somewhere: callers are answered again.
  bool GoesOn() {
    const uint64_t answered = callers_[0]->answered();
    return Eventually(kPatience, [&] { return callers_[0]->answered() > answered; });
  }

  // The load ends; everything told is in the feed, once, in each source's order.
  void ExpectEverythingOnce() {
    told_ = {{"file", writer_.Stop()}};
    uint64_t retries = 0, total = 0;
    for (auto& c : callers_) {
      told_[c->name()] = c->Stop();
      retries += c->retries();
    }
    for (const auto& [source, n] : told_) total += n;
    const absl::Duration loaded = absl::Now() - begin_;
    const std::string output = organization_.Path("out"), cursor = organization_.Path("cursor");
    std::map<std::string, uint64_t> seen;
    uint64_t lines = 0, out_of_order = 0, checked_bytes = 0;
    const absl::Time deadline = absl::Now() + absl::Minutes(3);
    while (lines < total && absl::Now() < deadline) {
      organization_.Must({"feed", "--from", "start", "--no-follow", "-o", "jsonl", "--output", output, "--cursor-file", cursor}, "auditor");
      const std::string text = ReadWhole(output);
      for (std::string_view rest = std::string_view(text).substr(checked_bytes); !rest.empty();) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(line.size() + 1);
        checked_bytes += line.size() + 1;
        ++lines;
        const std::string id = MemberOf(line, "eventID");
        const size_t dash = id.find('-');
        const std::string source = id.substr(0, dash);
        uint64_t& next = seen[source];
        if (line != Record(source, next)) ++out_of_order;  // lost, doubled, altered or out of order: all break the count
        ++next;
      }
    }
    EXPECT_EQ(lines, total) << agent_.LogTail() << organization_.AggregatorLogTail();
    EXPECT_EQ(out_of_order, 0u);
    EXPECT_EQ(seen, told_);
    std::printf("%.0f s, %llu records told (%.0f/s), %llu retries of callers: %llu in the log, %llu lost, doubled or out of order\n",
                absl::ToDoubleSeconds(loaded), static_cast<unsigned long long>(total), static_cast<double>(total) / absl::ToDoubleSeconds(loaded),
                static_cast<unsigned long long>(retries), static_cast<unsigned long long>(lines), static_cast<unsigned long long>(out_of_order));
  }

  // In the ledger: one apart from the first on, each names the one before, and says truly whether that ended with last words. How many did not.
  uint64_t ExpectEpochsOneApart() {
    const std::vector<LoggedEpoch> epochs = EpochsOf(*OpenLedger(organization_), agent_.spec().name);
    uint64_t unclean = 0;
    for (size_t i = 0; i < epochs.size(); ++i) {
      EXPECT_EQ(epochs[i].epoch, i + 1);
      EXPECT_EQ(epochs[i].opening.previous_epoch, i);
      const EpochReason reason = i == 0 ? EpochReason::kFirst : epochs[i - 1].closed ? EpochReason::kClean : EpochReason::kUnclean;
      EXPECT_EQ(epochs[i].opening.reason, reason) << "epoch " << epochs[i].epoch;
      unclean += reason == EpochReason::kUnclean;
    }
    const Ran verified = organization_.Verify();
    EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
    std::printf("%zu epochs, %llu of them after an end without last words\n", epochs.size(), static_cast<unsigned long long>(unclean));
    return unclean;
  }
  // How often UNCLEAN_EPOCH was raised for the agent.
  uint64_t AlarmsRaised() {
    for (const std::string& alarm : LinesOf(organization_.Alarms())) {
      if (MemberOf(alarm, "code") == "UNCLEAN_EPOCH" && MemberOf(alarm, "subject") == "222222222222/us-east-1/web-1") return std::stoull(MemberOf(alarm, "count"));
    }
    return 0;
  }
  void ExpectCleanEnd() {
    const Ran checked = organization_.Fsck();
    EXPECT_EQ(checked.code, 0) << checked.out << checked.err;
    EXPECT_EQ(agent_.Stop(), 0);
    EXPECT_EQ(organization_.StopAggregator(), 0);
  }

  Organization organization_{TinyShards()};
  const std::string dir_ = MakeDirs(organization_.Path("events"));
  AgentProcess& agent_ = organization_.StartAgent({.files = dir_ + "/*.jsonl"});
  const absl::Time begin_ = absl::Now();
  Writer writer_{dir_};
  std::vector<std::unique_ptr<Caller>> callers_ = [this] {
    std::vector<std::unique_ptr<Caller>> callers;
    for (int i = 0; i < kCallers; ++i) callers.push_back(std::make_unique<Caller>(i, agent_.url()));
    return callers;
  }();
  std::map<std::string, uint64_t> told_;
};

TEST_F(Crash, KillsAtAnyMomentLoseNothingAndDoubleNothing) {
  int agents = 0, aggregators = 0;
  for (int k = 0; k < Kills(); ++k) {
    ASSERT_TRUE(Meanwhile(3000));
    const uint64_t victim = SystemRng().Below(5);  // 2 : 2 : 1 for the agent, the aggregator, both
    if (victim != 2 && victim != 3) {
      agent_.Kill();
      ++agents;
    }
    if (victim >= 2) {
      organization_.KillAggregator();
      ++aggregators;
      organization_.StartAggregator();
    }
    if (!agent_.Running()) agent_.Launch();
    if (k % 5 == 4) { ASSERT_TRUE(GoesOn()) << agent_.LogTail(); }
  }
  std::printf("%d kills of the agent, %d of the aggregator\n", agents, aggregators);
  ExpectEverythingOnce();
  EXPECT_LE(ExpectEpochsOneApart(), static_cast<uint64_t>(agents));   // one that was killed before its epoch was stored leaves none
  const auto shards = std::distance(std::filesystem::directory_iterator(organization_.ledger_dir()), {}) - 1;  // beside them the lock
  EXPECT_GE(shards, 3);
  ExpectCleanEnd();
}

TEST_F(Crash, EachEndOfAnAgentWithoutLastWordsIsAnAlarm) {
  for (int k = 0; k < Kills(); ++k) {
    ASSERT_TRUE(Meanwhile(400));
    agent_.Kill();
    agent_.Launch();
    if (k % 3 == 2) { ASSERT_TRUE(GoesOn()) << agent_.LogTail(); }
  }
  ExpectEverythingOnce();
  const uint64_t unclean = ExpectEpochsOneApart();
  EXPECT_GE(unclean, static_cast<uint64_t>(Kills() / 3));
  EXPECT_LE(unclean, static_cast<uint64_t>(Kills()));
  EXPECT_EQ(AlarmsRaised(), unclean);
  ExpectCleanEnd();
}

}  // namespace
}  // namespace orgtrail::e2e
