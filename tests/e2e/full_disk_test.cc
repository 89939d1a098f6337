// The aggregator's disk fills to the last byte, on the real programs: acknowledgements stop, agents are told to keep what they have,
// people are told, reads go on and are recorded, and when there is space again everything is logged once without anybody's help.
//
// The disk is a small tmpfs, which takes root. Without it a limit on the size of files (RLIMIT_FSIZE) stands in: the ledger cannot
// grow, the journal of reads can.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <map>
#include <thread>

#include "absl/time/clock.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class SmallDisk {
 public:
  SmallDisk(std::string dir, uint64_t mebibytes) : dir_(std::move(dir)) {
    std::filesystem::create_directories(dir_);
    mounted_ = mount("tmpfs", dir_.c_str(), "tmpfs", 0, ("size=" + std::to_string(mebibytes) + "m,mode=0700").c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) umount2(dir_.c_str(), MNT_DETACH);
  }
  // Not one byte is left.
  void Fill(Organization& organization) {
    if (!mounted_) return Limit(organization, std::filesystem::file_size(organization.ledger_dir() + "/shard-000001/data.mdb"));
    std::FILE* ballast = std::fopen((dir_ + "/ballast").c_str(), "ab");
    const std::string piece(4096, 'b');
    std::setvbuf(ballast, nullptr, _IONBF, 0);
    while (std::fwrite(piece.data(), 1, piece.size(), ballast) == piece.size()) {
    }
    std::fclose(ballast);
  }
  void Empty(Organization& organization) {
    if (!mounted_) return Limit(organization, RLIM_INFINITY);
    std::filesystem::remove(dir_ + "/ballast");
  }

 private:
  static void Limit(Organization& organization, rlim_t bytes) {
    rlimit limit{bytes, RLIM_INFINITY};
    if (prlimit(organization.aggregator().pid(), RLIMIT_FSIZE, &limit, nullptr) != 0) Fail("prlimit");
  }
  const std::string dir_;
  bool mounted_ = false;
};

// Somebody who looks something up all the time.
class Reader {
 public:
  explicit Reader(const Organization& organization) : organization_(organization), thread_([this] { Run(); }) {}
  ~Reader() { Stop(); }
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  int answered() const { return answered_; }
  int failed() const { return failed_; }
  double longest_seconds() const { return longest_; }

 private:
  void Run() {
    while (!stop_) {
      const absl::Time begin = absl::Now();
      const Ran ran = organization_.Orgtrail({"events", "lookup", "--account", kAlice, "--max", "1", "-o", "jsonl"}, "auditor");
      ++(ran.code == 0 ? answered_ : failed_);
      if (ran.code != 0) std::fprintf(stderr, "lookup: %s\n", ran.err.c_str());
      longest_ = std::max(longest_.load(), absl::ToDoubleSeconds(absl::Now() - begin));
    }
  }
  const Organization& organization_;
  std::atomic<bool> stop_{false};
  std::atomic<int> answered_{0}, failed_{0};
  std::atomic<double> longest_{0};
  std::thread thread_;
};

TEST(FullDisk, AcknowledgementsStopReadsGoOnAndNothingIsLostOrDoubled) {
  Organization organization({.start = false});
  SmallDisk disk(std::filesystem::path(organization.ledger_dir()).parent_path().string(), 48);
  const std::string told = organization.Path("told"), program = organization.Path("tell");
  WriteWhole(program, "#!/bin/sh\ncat >> " + told + "\necho >> " + told + "\n");
  chmod(program.c_str(), 0755);
  organization.Reconfigure("  exec:", "  exec: " + program);
  organization.StartAggregator();
  AgentProcess& agent = organization.StartAgent({});
  std::vector<std::string> records;
  const auto record = [&](int n, size_t padding) {
    for (int i = 0; i < n; ++i) {
      records.push_back(PaddedRecord(static_cast<int>(records.size()), Base64(SystemRng().Bytes(padding))));
      agent.Record(records.back());   // answered 200: it is on the agent's disk
    }
  };
  const auto acked = [&] { return agent.Metric("orgtrail_agent_spool_unacked_batches") == 0; };
  record(20, 100);
  ASSERT_TRUE(Eventually(kSoon, acked));

  Reader reader(organization);
  ASSERT_TRUE(Eventually(kSoon, [&] { return reader.answered() > 2; }));
  disk.Fill(organization);
  for (int n = 0; n < 200 && organization.Ready(); ++n) record(1, 60'000);   // what is free inside the ledger's file goes first
  ASSERT_TRUE(Eventually(kSoon, [&] { return !organization.Ready(); })) << organization.AggregatorLogTail();
  const int before = reader.answered();
  record(50, 1'000);
  ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Logged("SPOOL_PRESSURE"); })) << agent.LogTail();
  ASSERT_TRUE(Eventually(kSoon, [&] { return reader.answered() > before + 3; }));
  EXPECT_GT(agent.Metric("orgtrail_agent_spool_unacked_batches"), 0);
  // No head is signed for what is not on the disk.
  const std::string size = MemberOf(organization.Must({"status", "-o", "json"}), "treeSize");
  record(10, 1'000);
  ASSERT_TRUE(Eventually(kSoon, [&] { return ReadWhole(told).find("LEDGER_FULL") != std::string::npos; }));
  const std::string status = organization.Must({"status", "-o", "table"});
  EXPECT_THAT(status, HasSubstr("FULL since"));
  EXPECT_THAT(status, HasSubstr("LEDGER_FULL"));
  EXPECT_EQ(MemberOf(organization.Must({"status", "-o", "json"}), "treeSize"), size);
  // What has to be logged before it holds is refused with the reason, at once.
  const Ran token = organization.Orgtrail({"agent", "token", "--account", kAlice, "--region", "us-east-1", "--out", organization.Path("t2")});
  EXPECT_EQ(token.code, 1);
  EXPECT_THAT(token.err, HasSubstr("LEDGER_FULL"));

  // Even a crash in this state is no trouble: it comes up, and serves reads.
  reader.Stop();
  EXPECT_EQ(reader.failed(), 0);
  EXPECT_LT(reader.longest_seconds(), 9) << "a read in flight waited for its commit";
  int reads = reader.answered();
  organization.KillAggregator();
  organization.LaunchAggregator();
  disk.Fill(organization);
  const auto look = [&] { return organization.Orgtrail({"events", "lookup", "--account", kAlice, "--max", "1", "-o", "jsonl"}, "auditor"); };
  ASSERT_TRUE(Eventually(kPatience, [&] { return look().code == 0 && ++reads > 0; })) << organization.AggregatorLogTail();
  record(10, 1'000);
  ASSERT_TRUE(Eventually(kSoon, [&] { return !organization.Ready(); })) << organization.AggregatorLogTail();
  for (int i = 0; i < 5; ++i) {
    const Ran ran = look();
    EXPECT_EQ(ran.code, 0) << ran.err;
    ++reads;
  }

  disk.Empty(organization);
  ASSERT_TRUE(Eventually(kPatience, [&] { return organization.Ready(); })) << organization.AggregatorLogTail();
  ASSERT_TRUE(Eventually(kPatience, acked)) << agent.LogTail();
  EXPECT_EQ(organization.Feed({"--account", kAlice}), records);
  // Each read that was answered is there once; one that was refused may be there too.
  std::map<std::string, int> logged;
  ASSERT_TRUE(Eventually(kSoon, [&] {
    logged.clear();
    for (const std::string& r : organization.Feed({"--own"})) {
      if (MemberOf(r, "eventName") == "LookupEvents") ++logged[MemberOf(r, "eventID")];
    }
    return static_cast<int>(logged.size()) >= reads;
  })) << logged.size() << " of " << reads;
  for (const auto& [id, count] : logged) EXPECT_EQ(count, 1) << id;
  ASSERT_TRUE(Eventually(kSoon, [&] { return organization.Must({"alarms"}).find("LEDGER_FULL") == std::string::npos; }));
  EXPECT_THAT(organization.Must({"status", "-o", "table"}), Not(HasSubstr("FULL since")));
  EXPECT_EQ(organization.Verify().code, 0);
  size_t complaints = 0;
  for (const std::string& l : LinesOf(ReadWhole(organization.Path("aggregator.log")))) complaints += l.find("list of alarms cannot be saved") != std::string::npos;
  EXPECT_LE(complaints, 3u);
  EXPECT_FALSE(organization.AggregatorLogged("SILENT_AGENT"));
}

}  // namespace
}  // namespace orgtrail::e2e
