// The scrub with its real child over real ledgers: what it finds, and that it goes on behind what it cannot read.
#include "aggregator/scrub/scrubber.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include "aggregator/ledger/shard.h"
#include "common/base/status.h"
#include "common/base/worker.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

namespace stdfs = std::filesystem;
using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(60);

struct Told {
  std::map<std::string, std::string> damaged;      // file → words, of all rounds so far
  std::optional<std::set<std::string>> rest;       // of the last round
  int rounds = 0;
};

class ScrubberTest : public testing::Test {
 protected:
  // Six shards of a few leaves.
  void SetUp() override {
    built.options.shard_period = absl::Seconds(3);
    ASSERT_EQ(Describe(built.Open()), "ok");
    TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a");
    while (built.ledger->stats().shards < 6) ASSERT_EQ(Describe(built.Fill(agent, 3)), "ok");
    size = built.ledger->head().size;
    built.Shut();
    options.program = ORGTRAIL_BIN_DIR "/orgtrail-aggregator";
    options.ledger_dir = built.options.dir;
    options.history_dir = dir / "history";
    options.state_file = dir / "scrub";
    options.bytes_per_second = 1 << 30;
  }
  void Start() {
    ScrubOptions now = options;
    now.pause = absl::Milliseconds(1);   // the first round begins at once; Await stops it behind the rounds it wants
    scrubber = std::make_unique<Scrubber>(
        now, PosixFs(), SystemClock(),
        [this](const std::string& file, const std::string& words) { told.With([&](Told& t) { t.damaged[file] = words; }); },
        [this](const std::set<std::string>& files) {
          told.With([&](Told& t) {
            t.rest = files;
            ++t.rounds;
          });
        });
    worker = std::make_unique<Worker>("scrub", *scrubber, SystemClock());
    worker->Start();
  }
  Told Round() {
    told.With([](Told& t) { t = Told{}; });
    Start();
    const Told heard = told.WhenFor(kPatience, [](const Told& t) { return t.rounds > 0; }, [](const Told& t, bool) { return t; });
    EXPECT_GT(heard.rounds, 0);
    worker->Stop();
    facts = scrubber->facts();
    worker.reset();
    scrubber.reset();
    return heard;
  }
  std::string File(uint32_t shard) const { return ShardDir(built.options.dir, shard) + "/data.mdb"; }
  void Damage(uint32_t shard, uint64_t leaf) {
    auto opened = Shard::Open(ShardDir(built.options.dir, shard), 64 << 20, false);
    auto txn = lmdb::WriteTxn::Begin(*opened->env);
    std::string value((*txn)->Get(opened->leaves, IndexKey(leaf)).value());
    value.back() = static_cast<char>(value.back() ^ 1);
    ASSERT_TRUE((*txn)->Put(opened->leaves, IndexKey(leaf), value).ok() && (*txn)->Commit().ok());
  }
  uint64_t FirstOf(uint32_t shard) {
    const auto opened = Shard::Open(ShardDir(built.options.dir, shard), 64 << 20, true);
    const lmdb::ReadTxn txn(*opened->env);
    return TreeState::Decode(*txn.Get(opened->meta, kStateKey))->first;
  }

  TempDir dir;
  StillClock clock;
  LedgerBuilder built{dir / "ledger", clock};
  uint64_t size = 0;
  ScrubOptions options;
  Guarded<Told> told;
  ScrubFacts facts;
  std::unique_ptr<Scrubber> scrubber;
  std::unique_ptr<Worker> worker;
};

TEST_F(ScrubberTest, FindsNothingInAGoodLedgerAndSaysWhenItLooked) {
  const Told heard = Round();
  EXPECT_TRUE(heard.damaged.empty()) << heard.damaged.begin()->second;
  EXPECT_TRUE(heard.rest->empty());
  EXPECT_GT(facts.last_round_ns, 0);
  EXPECT_GT(facts.last_round_bytes, 10'000u);
  EXPECT_EQ(facts.damaged_files, 0u);
}

TEST_F(ScrubberTest, NamesEachDamagedFileAndItsLeaves) {
  const uint64_t two = FirstOf(2) + 1, five = FirstOf(5);
  Damage(2, two);
  Damage(2, two + 1);
  Damage(5, five);
  const Told heard = Round();
  ASSERT_EQ(heard.damaged.size(), 2u);
  EXPECT_THAT(heard.damaged.at(File(2)), HasSubstr(" to " + std::to_string(two + 1) + ": its CRC differs"));
  EXPECT_THAT(heard.damaged.at(File(5)), HasSubstr("leaf " + std::to_string(five)));
  EXPECT_THAT(heard.damaged.at(File(5)), HasSubstr("restore"));
  EXPECT_EQ(heard.rest, (std::set<std::string>{File(2), File(5)}));
  EXPECT_EQ(facts.last_round_findings, 2u);
}

TEST_F(ScrubberTest, GoesOnBehindAShardThatIsCutShortOrGoneMad) {
  Damage(5, FirstOf(5));
  stdfs::resize_file(File(2), stdfs::file_size(File(2)) / 2);
  std::fstream noise(File(4), std::ios::in | std::ios::out | std::ios::binary);
  for (uint64_t page = 2; page < stdfs::file_size(File(4)) / 4096; ++page) noise.seekp(static_cast<int64_t>(page * 4096 + 8)).write("\xff\xff\xff\xff", 4);
  noise.close();
  const Told heard = Round();
  ASSERT_EQ(heard.damaged.size(), 3u);
  EXPECT_THAT(heard.damaged.at(File(2)), HasSubstr("cut short"));
  EXPECT_TRUE(heard.damaged.contains(File(4)));      // however LMDB's pages fail, the process is another one
  EXPECT_THAT(heard.damaged.at(File(5)), HasSubstr("CRC"));
}

TEST_F(ScrubberTest, ARunOfTheHistoryThatChangedIsFound) {
  stdfs::create_directories(options.history_dir);
  const std::string run = options.history_dir + "/0000000000000000-0000000000000001-0.run";
  std::ofstream(run) << std::string(4096, 'x');
  const Told heard = Round();
  EXPECT_THAT(heard.damaged.at(run), HasSubstr("derived/history"));
}

// A child as it would be if the disk failed under it, and what is made of its words.
TEST_F(ScrubberTest, AChildThatDiesIsAFindingAndTheNextGoesOnBehindIt) {
  const std::string log = dir / "log", program = dir / "child";
  std::ofstream(program) << "#!/bin/sh\n"
                            "echo \"$4\" >> " << log << "\n"
                            "test $4 -gt 2 && exit 0\n"
                            "printf 'entering\\t%s\\t/l/shard\\n' $4\n"
                            "echo 'FATAL /l/shard-x/data.mdb: a page of it cannot be read; do this' >&2\n"
                            "kill -BUS $$\n";
  stdfs::permissions(program, stdfs::perms::owner_all);
  options.program = program;
  const Told heard = Round();
  ASSERT_EQ(heard.damaged.size(), 1u);
  EXPECT_THAT(heard.damaged.at("/l/shard-x/data.mdb"), HasSubstr("a page of it cannot be read; do this"));
  std::ifstream in(log);
  std::string a, b, c;
  in >> a >> b >> c;
  EXPECT_EQ(a + b + c, "123");
}

TEST_F(ScrubberTest, ARestartGoesOnAtTheShardItWasAt) {
  std::ofstream(options.state_file) << "orgtrail-scrub 1\nshard 4\nread 5000\nlast 0\nlast-bytes 0\nlast-findings 0\ndamaged /before\n";
  Damage(2, FirstOf(2));   // it has been there: the next round's
  const Told heard = Round();
  EXPECT_TRUE(heard.damaged.empty());
  EXPECT_EQ(heard.rest, (std::set<std::string>{"/before"}));
  EXPECT_GT(facts.last_round_bytes, 5000u);
}

}  // namespace
}  // namespace orgtrail
