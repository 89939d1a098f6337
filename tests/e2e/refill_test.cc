// What a disk damages in the ledger of a running aggregator comes back by itself from the agents that sealed it, on the real programs: bit for bit,
// only what was signed, asked for a bounded number of times, and killed at any moment it is as safe as before.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <utility>

#include "agent/spool/spool.h"
#include "aggregator/ledger/shard.h"
#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/compress/zstd.h"
#include "common/format/batch.h"
#include "common/format/frame.h"
#include "tests/e2e/support/ledger_file.h"
#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

namespace stdfs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::Duration kLong = absl::Seconds(90);   // an agent that found nobody waits up to half a minute

class Refill : public ::testing::Test {
 protected:
  static Organization::Options With(const char* period, const char* repack) {
    Organization::Options options;
    options.replace = {{"  shard_period:", period}, {"  repack:", repack}, {"    pause:", "    pause: 1s"}, {"    rate:", "    rate: 64MiB"}};
    return options;
  }
  void Begin(const char* period = "  shard_period: 2s", const char* repack = "  repack: false", int shards = 4, int records = 30) {
    organization_ = std::make_unique<Organization>(With(period, repack));
    agent_ = &organization().StartAgent({});
    ASSERT_TRUE(Eventually(kLong, [&] {
      agent_->Record(CountRecord(told_++));
      (void)Eventually(absl::Milliseconds(150), [] { return false; });   // a few batches a shard: an agent is asked for 16 each 10 s
      return told_ >= records && organization().Metric("orgtrail_ledger_shards") >= shards;
    }));
    ASSERT_TRUE(Eventually(kSoon, [&] { return organization().Feed().size() == static_cast<size_t>(told_); }));
    before_ = organization().Feed();
  }
  Organization& organization() { return *organization_; }
  std::string File(uint32_t shard) { return ShardDir(organization().ledger_dir(), shard) + "/data.mdb"; }
  enum class In { kHeaders, kRecords };
  // Where to flip a bit in every batch of the agent that a file holds, old copies of its pages included.
  static std::vector<size_t> Places(const std::string& bytes, In where, bool with_records = true) {
    std::vector<size_t> places;
    for (size_t at = 0; (at = bytes.find("OTF1", at)) != std::string::npos; at += 4) {
      const size_t entry = GetU16(&bytes[at + 4]), extension = at + 6 + entry;
      if (bytes.compare(at + 6, 4, "OTB1") != 0 || extension + 50 >= bytes.size()) continue;
      if (bytes.substr(at + 6, entry).find("web-1") == std::string::npos) continue;   // the aggregator's own
      const size_t rows = extension + 4 + 32;
      const bool has_records = GetU32(&bytes[extension]) == 0 && GetU32(&bytes[rows]) != 0 && GetU32(&bytes[rows]) <= 1000;
      if (has_records == with_records) places.push_back(where == In::kHeaders ? at + 66 : rows + 4 + 10);
    }
    return places;
  }
  // In place, as a disk does it beneath a mapping.
  static int Flip(const std::string& path, In where, bool with_records = true) {
    const std::string bytes = ReadWhole(path);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    std::vector<size_t> places = Places(bytes, where, with_records);
    const bool is_ledger = path.find("/shard-") != std::string::npos;
    if (is_ledger) {
      const std::vector<size_t> whole = std::exchange(places, {});
      for (const size_t at : whole) {
        if (IsLeaf(bytes, bytes.rfind("OTF1", at))) places.push_back(at);
      }
    }
    for (const size_t at : places) file.seekp(static_cast<std::streamoff>(at)).put(static_cast<char>(bytes[at] ^ 0x20));
    EXPECT_TRUE(file.flush());
    return static_cast<int>(places.size());
  }
  // The n-th sealed shard that has records of the agent.
  uint32_t Sealed(int n) {
    for (uint32_t shard = 1; stdfs::exists(ShardDir(organization().ledger_dir(), shard + 1)); ++shard) {
      const std::string packed = ShardDir(organization().ledger_dir(), shard) + "/packed/data.mdb";
      if (!Places(ReadWhole(stdfs::exists(packed) ? packed : File(shard)), In::kRecords).empty() && --n == 0) return shard;
    }
    ADD_FAILURE() << "too few shards";
    return 1;
  }
  void ExpectDamageFound() {
    ASSERT_TRUE(Eventually(kSoon, [&] { return organization().Alarmed("STORE_DAMAGED"); })) << organization().AggregatorLogTail();
  }
  bool IsFeedWhole() {   // a damaged leaf ends it
    const Ran feed = organization().Orgtrail({"feed", "--from", "start", "--no-follow", "-o", "jsonl"}, "auditor");
    return feed.code == 0 && organization().Feed() == before_;
  }
  double Returned() { return organization().Metric("orgtrail_refill_returned_batches"); }
  void ExpectWholeAgain() {
    EXPECT_TRUE(Eventually(kLong, [&] { return IsFeedWhole() && organization().Metric("orgtrail_refill_wanted_batches") == 0; })) << organization().AggregatorLogTail();
    EXPECT_TRUE(Eventually(kLong, [&] { return organization().Alarms("").find("STORE_DAMAGED") == std::string::npos; })) << organization().Alarms("") << organization().AggregatorLogTail();
    EXPECT_TRUE(Eventually(kSoon, [&] { return organization().Alarmed("LEDGER_REPAIRED"); })) << organization().AggregatorLogTail();
    EXPECT_THAT(organization().Alarms(), HasSubstr("from its agent 222222222222/us-east-1/web-1"));
    EXPECT_EQ(organization().Verify().code, 0);
    agent_->Record(CountRecord(told_++));   // and the log goes on
    EXPECT_TRUE(Eventually(kSoon, [&] { return organization().Feed().size() == before_.size() + 1; }));
    ASSERT_EQ(agent_->Stop(), 0);
    ASSERT_EQ(organization().StopAggregator(), 0);
    const Ran fsck = organization().Fsck();
    EXPECT_EQ(fsck.code, 0) << fsck.out;
    const Ran verified = organization().VerifyFiles();
    EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
    EXPECT_FALSE(stdfs::exists(organization().state_dir() + "/repaired"));
    for (const auto& shard : stdfs::directory_iterator(organization().ledger_dir())) EXPECT_FALSE(stdfs::exists(shard.path() / "repairing"));
    organization().StartAggregator();   // nothing of it was in memory only
    EXPECT_TRUE(Eventually(kSoon, [&] { return organization().Feed().size() == before_.size() + 1; }));
    const std::vector<std::string> now = organization().Feed();
    EXPECT_TRUE(std::equal(before_.begin(), before_.end(), now.begin()));
  }

  std::unique_ptr<Organization> organization_;
  AgentProcess* agent_ = nullptr;
  int told_ = 0;
  std::vector<std::string> before_;
};

TEST_F(Refill, SealedShardsGetBackWhatTheirDiskDamaged) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  const std::string proof = organization().Path("proof");
  WriteWhole(proof, organization().Must({"prove", MemberOf(CountRecord(1), "eventID")}, "auditor"));
  const uint32_t one = Sealed(1), two = Sealed(2);
  ASSERT_GT(Flip(File(one), In::kHeaders), 0);
  Flip(File(one), In::kHeaders, /*with_records=*/false);
  ASSERT_GT(Flip(File(two), In::kRecords), 0);
  const pid_t process = organization().aggregator().pid();
  ExpectDamageFound();
  EXPECT_TRUE(Eventually(kLong, [&] { return Returned() >= 2; })) << organization().AggregatorLogTail();
  EXPECT_EQ(organization().aggregator().pid(), process);
  EXPECT_TRUE(Eventually(kLong, [&] { return IsFeedWhole(); })) << organization().AggregatorLogTail();
  EXPECT_EQ(RunOrgtrail({"verify", "proof", proof, "--trust", organization().trust()}).code, 0);
  WriteWhole(proof, organization().Must({"prove", MemberOf(CountRecord(1), "eventID")}, "auditor"));
  EXPECT_EQ(RunOrgtrail({"verify", "proof", proof, "--trust", organization().trust()}).code, 0);
  ExpectWholeAgain();
}

TEST_F(Refill, TheShardThatGrowsIsSealedFirst) {
  ASSERT_NO_FATAL_FAILURE(Begin("  shard_period: 720h", "  repack: false", 1));
  ASSERT_GT(Flip(File(1), In::kRecords), 0);
  ExpectDamageFound();
  EXPECT_TRUE(Eventually(kLong, [&] { return Returned() >= 1; })) << organization().AggregatorLogTail();
  EXPECT_EQ(organization().Metric("orgtrail_ledger_shards"), 2);
  ExpectWholeAgain();
}

TEST_F(Refill, ABlockOfARepackedShardGivesBackWhatAgentsHave) {
  ASSERT_NO_FATAL_FAILURE(Begin("  shard_period: 2s", "  repack: true"));
  const uint32_t shard = Sealed(2);
  const std::string packed = ShardDir(organization().ledger_dir(), shard) + "/packed/data.mdb";   // the aggregator's own records came before and after
  ASSERT_TRUE(Eventually(kLong, [&] { return stdfs::exists(packed) && !stdfs::exists(File(shard)); }));
  const std::string bytes = ReadWhole(packed);
  const size_t block = bytes.find("\x28\xB5\x2F\xFD");
  ASSERT_NE(block, std::string::npos);
  {
    std::fstream file(packed, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(block + 40)).put(static_cast<char>(bytes[block + 40] ^ 0x20));
  }
  ExpectDamageFound();
  EXPECT_TRUE(Eventually(kLong, [&] { return Returned() >= 1; })) << organization().AggregatorLogTail();
  EXPECT_TRUE(stdfs::exists(packed));
  ExpectWholeAgain();
}

TEST_F(Refill, BatchesLeftWithoutBodiesGetThemAndAreFound) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  ASSERT_EQ(agent_->Stop(), 0);
  ASSERT_EQ(organization().StopAggregator(), 0);
  ASSERT_GT(Flip(File(Sealed(2)), In::kRecords), 0);
  ASSERT_EQ(RunOrgtrail({"repair", organization().state_dir(), "--without-bodies"}).code, 3);
  stdfs::remove_all(organization().state_dir() + "/derived/history");   // it knew them
  organization().StartAggregator();
  std::vector<std::string> without;
  ASSERT_TRUE(Eventually(kSoon, [&] { return !(without = organization().Feed()).empty(); }));
  ASSERT_LT(without.size(), before_.size());
  const auto found = [&] { return organization().Must({"events", "lookup", "--attribute", "EventName=Count", "--max", "1000", "-o", "jsonl"}, "auditor"); };
  const auto lines = [](const std::string& text) { return static_cast<size_t>(std::count(text.begin(), text.end(), '\n')); };
  EXPECT_TRUE(Eventually(kSoon, [&] { return lines(found()) == without.size(); }));
  organization().KillAggregator();   // the history on disk is of before, as is what memory had
  organization().StartAggregator();
  agent_->Start();
  EXPECT_TRUE(Eventually(kLong, [&] { return IsFeedWhole(); })) << organization().AggregatorLogTail();
  EXPECT_TRUE(Eventually(kSoon, [&] { return lines(found()) == before_.size(); })) << organization().AggregatorLogTail();
  EXPECT_EQ(organization().Verify().code, 0);
  for (const auto& file : stdfs::directory_iterator(organization().state_dir() + "/derived")) EXPECT_THAT(file.path().filename().string(), Not(HasSubstr("late-")));
}

TEST_F(Refill, AnAgentThatHasItNoMoreIsAskedOnce) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  ASSERT_GT(Flip(agent_->state_dir() + "/spool/data.mdb", In::kRecords), 0);
  ASSERT_GT(Flip(File(Sealed(2)), In::kRecords), 0);
  ExpectDamageFound();
  EXPECT_TRUE(Eventually(kSoon, [&] {
    return organization().Metric("orgtrail_refill_given_up_batches") > 0 && organization().Metric("orgtrail_refill_wanted_batches") == 0;
  })) << organization().AggregatorLogTail();
  const double asked = organization().Metric("orgtrail_refill_asked_batches"), round = organization().Metric("orgtrail_scrub_last_round_timestamp_seconds");
  EXPECT_TRUE(Eventually(kSoon, [&] { return organization().Metric("orgtrail_scrub_last_round_timestamp_seconds") > round + 3; }));
  EXPECT_EQ(organization().Metric("orgtrail_refill_asked_batches"), asked);
  EXPECT_EQ(Returned(), 0);
  EXPECT_THAT(organization().Alarms(""), HasSubstr("STORE_DAMAGED"));
  EXPECT_TRUE(organization().AggregatorLogged("not with their agents any more")) << organization().AggregatorLogTail();
}

TEST_F(Refill, OtherRecordsThanWereSignedGetNowhere) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  ASSERT_EQ(agent_->Stop(), 0);
  int changed = 0;
  {   // the entries stay, what they signed does not; every checksum of the spool is right
    auto spool = Spool::Open(agent_->state_dir() + "/spool", {}, PosixFs(), SystemClock());
    ASSERT_EQ(Describe(spool.status()), "ok");
    struct BatchKey at;   // not the function of shard.h
    for (;;) {
      const auto next = (*spool)->Next(at);
      ASSERT_EQ(Describe(next.status()), "ok");
      if (!next->has_value()) break;
      at = (*next)->first;
      const std::string& frame = (*next)->second;
      const absl::StatusOr<FrameView> view = FrameView::Decode(frame);
      if (!view.ok() || view->packed.empty()) continue;
      std::string plain, forged(frame.substr(0, frame.size() - view->packed.size()));
      ZstdDecompressor unzip;
      ASSERT_EQ(Describe(unzip.Decompress(view->packed, 1 << 20, &plain)), "ok");
      const size_t name = plain.find("Count");
      if (name == std::string::npos) continue;
      plain.replace(name, 5, "Forge");
      ZstdCompressor zip(1);
      zip.Compress(plain, &forged);
      ASSERT_EQ(Describe((*spool)->Repair(at, forged)), "ok");
      ++changed;
    }
  }
  ASSERT_GT(changed, 0);
  const std::string damaged = File(Sealed(2));
  ASSERT_GT(Flip(damaged, In::kRecords), 0);
  agent_->Start();
  ExpectDamageFound();
  EXPECT_TRUE(Eventually(kSoon, [&] { return organization().Metric("orgtrail_refill_given_up_batches") > 0; })) << organization().AggregatorLogTail();
  EXPECT_THAT(organization().Alarms(""), HasSubstr("ROOT_MISMATCH"));
  EXPECT_THAT(organization().Alarms(""), HasSubstr("STORE_DAMAGED"));
  EXPECT_EQ(Returned(), 0);
  ASSERT_EQ(organization().StopAggregator(), 0);
  EXPECT_FALSE(Places(ReadWhole(damaged), In::kRecords).empty());
  EXPECT_EQ(organization().Fsck().code, 2);
}

TEST_F(Refill, KilledAtAnyMomentItGoesOnAfterwards) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  ASSERT_GT(Flip(File(Sealed(1)), In::kRecords), 0);
  ASSERT_GT(Flip(File(Sealed(2)), In::kRecords), 0);
  const auto kill = [&] {
    organization().KillAggregator();
    organization().StartAggregator();
    agent_->Kill();   // else its pause between tries grows to half a minute
    agent_->Start();
  };
  for (const int ms : {0, 500, 1500, 3000}) {
    (void)Eventually(absl::Milliseconds(ms), [] { return false; });
    kill();
  }
  // … and while a shard is copied, changed and put in its place.
  const auto is_repairing = [&] {
    for (const auto& shard : stdfs::directory_iterator(organization().ledger_dir())) {
      if (stdfs::exists(shard.path() / "repairing")) return true;
    }
    return Returned() > 0 || IsFeedWhole();
  };
  for (int n = 0; n < 2; ++n) {
    ASSERT_TRUE(Eventually(kLong, is_repairing)) << organization().AggregatorLogTail();
    kill();
  }
  ExpectWholeAgain();
}

}  // namespace
}  // namespace orgtrail::e2e
