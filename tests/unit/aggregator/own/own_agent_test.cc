#include "aggregator/own/own_agent.h"

#include <gtest/gtest.h>

#include <future>
#include <map>

#include "absl/time/clock.h"
#include "aggregator/verify/verifier.h"
#include "common/base/status.h"
#include "tests/support/fullable_ledger.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/sized_fs.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

// A disk on which appends fail half-way when told to.
class TearingFs final : public ForwardingFs {
 public:
  bool tear = false;
  absl::StatusOr<std::unique_ptr<File>> Open(std::string_view path, OpenMode mode, int permissions) override {
    ASSIGN_OR_RETURN(std::unique_ptr<File> file, ForwardingFs::Open(path, mode, permissions));
    if (mode != OpenMode::kAppend) return file;
    return std::unique_ptr<File>(new Tearing(std::move(file), tear));
  }

 private:
  class Tearing final : public File {
   public:
    Tearing(std::unique_ptr<File> real, const bool& tear) : real_(std::move(real)), tear_(tear) {}
    absl::StatusOr<size_t> ReadAt(uint64_t offset, char* out, size_t n) override { return real_->ReadAt(offset, out, n); }
    absl::Status Append(std::string_view data) override {
      if (!tear_) return real_->Append(data);
      RETURN_IF_ERROR(real_->Append(data.substr(0, data.size() / 2)));
      return absl::ResourceExhaustedError("no space left on device");
    }
    absl::Status Sync() override { return real_->Sync(); }
    absl::Status Truncate(uint64_t size) override { return tear_ ? absl::InternalError("nor that") : real_->Truncate(size); }
    absl::StatusOr<FileFacts> Facts() override { return real_->Facts(); }

   private:
    std::unique_ptr<File> real_;
    const bool& tear_;
  };
};

class OwnAgentTest : public ::testing::Test, public Verdicts, public Commits {
 protected:
  OwnAgentTest() : builder_(dir_ / "ledger", clock_) {
    CHECK_OK(builder_.Open());
    options_.org = "o-demo";
    options_.account = "111111111111";
    options_.region = "us-east-1";
    options_.origin = builder_.origin;
    options_.dir = dir_ / "own";
    Open();
    IdentityLeaf leaf;
    leaf.act = IdentityLeaf::Act::kEnrolled;
    leaf.wall_ns = static_cast<uint64_t>(clock_.WallNanos());
    leaf.uuid = own_->identity().uuid;
    leaf.uri = Who().ToUri();
    leaf.identity_key = std::string(View(own_->identity_key()));
    leaf.serial = "0a";
    CHECK_OK(builder_.Append(ControlItem(leaf.Encode())));
    registry_.Apply(leaf, 0);
    CHECK_OK(StartOwn());
    Pump();
  }
  // One life of the process over the same ledger and directory.
  void Open() {
    own_.reset();
    verifier_.reset();
    disk_ = std::make_unique<FullableLedger>(*builder_.ledger);
    committer_ = std::make_unique<Committer>(*disk_, *this, 1024, clock_);
    verifier_ = std::make_unique<Verifier>(
        VerifierOptions{}, *builder_.ledger, registry_, *committer_, *this,
        [](std::string_view code, Severity, std::string_view, std::string_view detail) {
          if (code != "UNCLEAN_EPOCH" && code != "AGENT_CHANGED") ADD_FAILURE() << code << ": " << detail;
        },
        clock_, metrics_);
    auto own = OwnAgent::Open(options_, *builder_.ledger, *committer_, fs_, clock_, rng_);
    CHECK_OK(own.status());
    own_ = *std::move(own);
  }
  absl::Status StartOwn() {
    auto caller = std::make_shared<Caller>();
    caller->identity = Who();
    caller->address = "own";
    return own_->Start([this, caller](std::string frame) -> absl::Status {
      ++submitted_;
      if (stuck_) return absl::ResourceExhaustedError("verify is full");
      Submission submission{0, caller, own_->identity().uuid, std::move(frame)};
      return verifier_->TryEnter(submission) ? absl::OkStatus() : absl::ResourceExhaustedError("verify is full");
    });
  }
  void Crash() {
    Open();
    CHECK_OK(StartOwn());
  }
  Identity Who() const {
    Identity who;
    who.kind = Identity::Kind::kAgent;
    who.org = options_.org;
    who.account = options_.account;
    who.region = options_.region;
    who.name = "aggregator";
    return who;
  }
  void Pump(int rounds = 4) {
    for (int i = 0; i < rounds; ++i) {
      clock_.Advance(absl::Milliseconds(6));
      own_->Step(clock_.now);
      verifier_->Step(clock_.now);
      committer_->Step(clock_.now);
    }
  }
  static OwnRecord Lookup(int n) {
    OwnRecord r;
    r.name = "LookupEvents";
    r.time = absl::FromUnixSeconds(1'790'000'000);
    r.account = "111111111111";
    r.region = "us-east-1";
    r.read_only = true;
    r.details = "{\"n\":" + std::to_string(n) + "}";
    return r;
  }
  absl::StatusOr<std::string> Record(int n) {
    auto answer = std::async(std::launch::async, [this, n] { return own_->Record(Lookup(n)); });
    while (answer.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) Pump(1);
    return answer.get();
  }
  void Fill(bool full) {
    disk_->full = full;
    if (full) {  // held is known from the first group that finds no room
      own_->Post(Lookup(-1));
      Pump();
      CHECK(committer_->held());
    } else {
      clock_.Advance(absl::Seconds(2));
      Pump();
      CHECK(!committer_->held());
    }
  }
  // How often each `n` is in the ledger.
  std::map<int, int> Logged() {
    std::map<int, int> counts;
    for (uint64_t i = 0; i < builder_.ledger->head().size; ++i) {
      auto leaf = *builder_.ledger->Read(i);
      if (!leaf->is_batch) continue;
      for (const Row& row : leaf->events.rows) {
        EXPECT_EQ(row.body.rfind("\"eventVersion\""), row.body.find("\"eventVersion\"")) << "two records in one: " << row.body;
        const size_t at = row.body.find("{\"n\":");
        if (at != std::string_view::npos) ++counts[std::atoi(std::string(row.body.substr(at + 5, 12)).c_str())];
      }
    }
    counts.erase(-1);
    return counts;
  }
  static std::map<int, int> Once(int from, int to) {
    std::map<int, int> counts;
    for (int n = from; n <= to; ++n) counts[n] = 1;
    return counts;
  }

  void Refuse(Refused r) override { ADD_FAILURE() << r.code << ": " << r.detail; }
  void Room(StreamId) override {}
  void Committed(const Flush& flush) override {
    verifier_->Committed(flush);
    own_->Committed(flush);
  }
  void Held(bool held) override { own_->Held(held); }

  TempDir dir_;
  StillClock clock_;
  TearingFs fs_;
  SeededRng rng_{3};
  Metrics metrics_;
  LedgerBuilder builder_;
  Registry registry_;
  OwnAgentOptions options_;
  bool stuck_ = false;
  int submitted_ = 0;
  std::unique_ptr<FullableLedger> disk_;
  std::unique_ptr<Committer> committer_;
  std::unique_ptr<Verifier> verifier_;
  std::unique_ptr<OwnAgent> own_;
};

TEST_F(OwnAgentTest, ARecordIsUnderACheckpointWhenItReturns) {
  const uint64_t before = builder_.ledger->head().events;
  auto id = Record(1);
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(id->size(), 36u);
  EXPECT_EQ(builder_.ledger->head().events, before + 1);
  EXPECT_EQ(Logged(), Once(1, 1));
}

TEST_F(OwnAgentTest, APostDoesNotWait) {
  own_->Post(Lookup(1));
  EXPECT_TRUE(Logged().empty());
  Pump();
  EXPECT_EQ(Logged(), Once(1, 1));
}

TEST_F(OwnAgentTest, BeatsAndContinuesItsChain) {
  const uint64_t size = builder_.ledger->head().size;
  clock_.Advance(absl::Seconds(10));
  Pump();
  EXPECT_EQ(builder_.ledger->head().size, size + 1);
  const Uuid uuid = own_->identity().uuid;
  EXPECT_EQ(builder_.ledger->HeadOf(uuid)->epoch, 1u);
  Crash();
  Pump();
  EXPECT_EQ(own_->identity().uuid, uuid);            // key and name survive
  EXPECT_EQ(builder_.ledger->HeadOf(uuid)->epoch, 2u);
  EXPECT_EQ(builder_.ledger->HeadOf(uuid)->unclean_epochs, 1u);
}

TEST_F(OwnAgentTest, CloseIsClean) {
  ASSERT_TRUE(Record(1).ok());
  own_->Post(Lookup(2));
  auto closed = std::async(std::launch::async, [this] { return own_->Close(); });
  while (closed.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) Pump(1);
  EXPECT_EQ(closed.get(), absl::OkStatus());
  EXPECT_EQ(Logged(), Once(1, 2));
  EXPECT_TRUE(builder_.ledger->HeadOf(own_->identity().uuid)->closed);
  EXPECT_TRUE(absl::IsUnavailable(own_->Record(Lookup(3)).status()));
  own_->Post(Lookup(4));
  Crash();
  Pump();
  EXPECT_EQ(builder_.ledger->HeadOf(own_->identity().uuid)->unclean_epochs, 0u);
  EXPECT_EQ(Logged(), Once(1, 2));
}

TEST_F(OwnAgentTest, LastWordsWaitForTheVerifier) {
  stuck_ = true;
  own_->Post(Lookup(1));
  Pump();
  auto closed = std::async(std::launch::async, [this] { return own_->Close(); });
  while (submitted_ < 4) Pump(1);
  stuck_ = false;
  while (closed.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) Pump(1);
  EXPECT_EQ(closed.get(), absl::OkStatus());
  EXPECT_EQ(Logged(), Once(1, 1));
}

TEST_F(OwnAgentTest, AStuckLedgerBoundsWhatWaits) {
  stuck_ = true;
  const uint64_t size = builder_.ledger->head().size;
  for (int i = 0; i < 200'000; ++i) own_->Post(Lookup(0));   // 64 frames of 1,000, one open; the rest is given up
  EXPECT_TRUE(absl::IsUnavailable(own_->Record(Lookup(1)).status()));
  for (int i = 0; i < 300; ++i) {
    clock_.Advance(absl::Seconds(11));                       // and no heartbeat joins the queue
    own_->Step(clock_.now);
  }
  stuck_ = false;
  for (int i = 0; i < 80; ++i) Pump(1);
  EXPECT_LE(builder_.ledger->head().size, size + 70);
  EXPECT_LE(Logged()[0], 67'000);
  EXPECT_GE(Logged()[0], 60'000);
}

TEST_F(OwnAgentTest, TooLongToBeLoggedIsRefused) {
  OwnRecord record = Lookup(1);
  record.details = "{\"n\":\"" + std::string(1 << 20, 'x') + "\"}";
  EXPECT_TRUE(absl::IsInvalidArgument(own_->Record(record).status()));
  own_->Post(record);
  Pump();
  EXPECT_TRUE(Logged().empty());
}

TEST_F(OwnAgentTest, AHeldLedgerRefusesReadsWhenToldTo) {
  options_.journal_when_full = false;
  Crash();
  Pump();
  Fill(true);
  EXPECT_TRUE(absl::IsResourceExhausted(own_->Record(Lookup(1)).status()));
  EXPECT_EQ(fs_.Facts(options_.dir + "/journal.ndjson")->size, 0u);
}

TEST_F(OwnAgentTest, AHeldLedgersReadsAreJournalledAndLoggedOnce) {
  Fill(true);
  for (int n = 1; n <= 1234; ++n) ASSERT_TRUE(own_->Record(Lookup(n)).ok());
  EXPECT_TRUE(Logged().empty());
  EXPECT_GT(fs_.Facts(options_.dir + "/journal.ndjson")->size, 0u);
  Fill(false);
  for (int i = 0; i < 20; ++i) Pump();
  EXPECT_EQ(Logged(), Once(1, 1234));
  EXPECT_EQ(fs_.Facts(options_.dir + "/journal.ndjson")->size, 0u);
  EXPECT_FALSE(fs_.Facts(options_.dir + "/journal.replay").ok());
  Fill(true);                                    // and again, from a fresh journal
  ASSERT_TRUE(own_->Record(Lookup(2000)).ok());
  Fill(false);
  Pump(10);
  EXPECT_EQ(Logged()[2000], 1);
}

TEST_F(OwnAgentTest, JournalledReadsSurviveACrash) {
  Fill(true);
  for (int n = 1; n <= 3; ++n) ASSERT_TRUE(own_->Record(Lookup(n)).ok());
  Crash();
  Pump(10);
  EXPECT_EQ(Logged(), Once(1, 3));
}

// The process dies after every possible number of steps of a replay; each time the next life goes on.
TEST_F(OwnAgentTest, ACrashDuringReplayLogsNothingTwiceAndLosesNothing) {
  for (int steps = 0; steps < 12; ++steps) {
    SCOPED_TRACE(steps);
    const int from = 10'000 * (steps + 1);
    Fill(true);
    for (int n = from; n < from + 1100; ++n) ASSERT_TRUE(own_->Record(Lookup(n)).ok());
    disk_->full = false;
    clock_.Advance(absl::Seconds(2));
    committer_->Step(clock_.now);
    for (int i = 0; i < steps; ++i) {
      clock_.Advance(absl::Milliseconds(6));
      switch (i % 3) {
        case 0: own_->Step(clock_.now); break;
        case 1: verifier_->Step(clock_.now); break;
        case 2: committer_->Step(clock_.now); break;
      }
    }
    Crash();
    Pump(30);
    std::map<int, int> mine;
    for (auto [n, count] : Logged()) {
      if (n >= from) mine[n] = count;
    }
    EXPECT_EQ(mine, Once(from, from + 1099));
  }
}

// The disk fills while a read's record is on its way to it: answered at once, from the journal, and logged once; also when the process
// dies after every possible number of steps from there on.
TEST_F(OwnAgentTest, AReadInFlightWhenTheDiskFillsIsAnsweredAndLoggedOnce) {
  for (int steps = -1; steps < 12; ++steps) {
    SCOPED_TRACE(steps);
    const int n = 100 * (steps + 2);
    disk_->full = true;
    const absl::Time begin = absl::Now();
    ASSERT_TRUE(Record(n).ok());
    EXPECT_LT(absl::Now() - begin, absl::Seconds(8));
    ASSERT_TRUE(committer_->held());
    ASSERT_TRUE(own_->Record(Lookup(n + 1)).ok());    // and one that comes later
    EXPECT_EQ(Logged()[n], 0);
    if (steps >= 0) {
      disk_->full = false;
      clock_.Advance(absl::Seconds(2));
      committer_->Step(clock_.now);
      for (int i = 0; i < steps; ++i) {
        clock_.Advance(absl::Milliseconds(6));
        switch (i % 3) {
          case 0: own_->Step(clock_.now); break;
          case 1: verifier_->Step(clock_.now); break;
          case 2: committer_->Step(clock_.now); break;
        }
      }
    }
    Crash();                                           // at -1: before the disk had room again
    Pump(30);
    EXPECT_EQ(Logged()[n], 1);
    EXPECT_EQ(Logged()[n + 1], 1);
  }
}

TEST_F(OwnAgentTest, AReadInFlightWithoutACrashIsLoggedOnceToo) {
  disk_->full = true;
  ASSERT_TRUE(Record(1).ok());
  Fill(false);
  Pump(10);
  ASSERT_TRUE(Record(2).ok());
  EXPECT_EQ(Logged(), Once(1, 2));
  EXPECT_EQ(fs_.Facts(options_.dir + "/journal.ndjson")->size, 0u);
}

TEST_F(OwnAgentTest, ATornJournalKeepsWhatWasAnswered) {
  Fill(true);
  ASSERT_TRUE(own_->Record(Lookup(1)).ok());
  fs_.tear = true;                              // this disk is full as well, half-way through a line
  EXPECT_FALSE(own_->Record(Lookup(2)).ok());
  fs_.tear = false;
  ASSERT_TRUE(own_->Record(Lookup(3)).ok());
  fs_.tear = true;
  EXPECT_FALSE(own_->Record(Lookup(4)).ok());
  fs_.tear = false;
  Crash();
  Pump(10);
  EXPECT_EQ(Logged(), (std::map<int, int>{{1, 1}, {3, 1}}));
}

TEST_F(OwnAgentTest, AStaleMarkSkipsNothing) {
  Fill(true);
  ASSERT_TRUE(own_->Record(Lookup(1)).ok());
  ASSERT_TRUE(WriteFileAtomically(fs_, options_.dir + "/journal.replay", "200 1 1 " + std::string(64, 'a') + "\n").ok());
  Crash();
  Pump(10);
  EXPECT_EQ(Logged(), Once(1, 1));
}

TEST_F(OwnAgentTest, ALostNameIsSaid) {
  ASSERT_TRUE(fs_.Remove(options_.dir + "/uuid").ok());
  auto own = OwnAgent::Open(options_, *builder_.ledger, *committer_, fs_, clock_, rng_);
  EXPECT_FALSE(own.ok());
  ASSERT_TRUE(WriteFileAtomically(fs_, options_.dir + "/uuid", "garbage").ok());
  own = OwnAgent::Open(options_, *builder_.ledger, *committer_, fs_, clock_, rng_);
  EXPECT_TRUE(absl::IsDataLoss(own.status()));
}

}  // namespace
}  // namespace orgtrail
