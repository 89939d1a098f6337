// Bodies expire when operator, governance and the log say so, and what is left verifies; taken in any other way, everybody sees it.
#include "aggregator/ledger/pruner.h"

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "aggregator/ledger/expiry.h"
#include "aggregator/ledger/fsck.h"
#include "aggregator/ledger/repair.h"
#include "aggregator/ledger/shard.h"
#include "common/base/status.h"
#include "common/format/audit.h"
#include "gtest/gtest.h"
#include "tests/support/killing_fs.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

namespace stdfs = std::filesystem;

constexpr absl::Duration kDay = absl::Hours(24);

struct Nobody final : Commits {
  void Committed(const Flush&) override {}
};

class PrunerTest : public testing::Test {
 protected:
  PrunerTest() : governance(SigningKey::Generate(built.rng)) {
    built.options.shard_period = absl::Hours(1);
    built.options.tail_bytes = 1;
  }
  Ledger& ledger() { return *built.ledger; }
  std::string Dir(uint32_t number) const { return ShardDir(built.options.dir, number); }

  // Leaf 0 is the policy. `shards` of a day each, with records; then a quiet time, then one that is younger.
  void Tell(int shards, absl::Duration quiet) {
    ASSERT_EQ(Describe(built.Open()), "ok");
    const NoteKey admin{"o-demo/governance/ann", 1, governance.public_key()};
    std::string policy = "orgtrail/policy/v1\nadmins 1 " + admin.Encode() + "\nweaken-threshold 1\nweaken-delay 86400\n";
    ASSERT_EQ(Describe(built.Append(ControlItem(PolicyLeaf{1, SignNote(policy, admin.name, governance), ""}.Encode()))), "ok");
    agent = &built.Enrol("111111111111", "eu-central-1", "a");
    for (int i = 0; i < shards; ++i) {
      ASSERT_EQ(Describe(built.Fill(*agent, 3)), "ok");
      ASSERT_EQ(Describe(built.Fill(*agent, 2)), "ok");
      clock.Advance(kDay);
      Beat();
    }
    clock.Advance(quiet);
    Beat();
    ASSERT_EQ(Describe(built.Fill(*agent, 1)), "ok");
    clock.Advance(kDay);
    Beat();
  }
  void Beat() {
    Seen seen;
    seen.size = ledger().head().size;
    seen.root = ledger().head().root;
    ASSERT_EQ(Describe(built.Append(agent->Heartbeat(seen))), "ok");
  }

  std::string Order(uint32_t days) const {
    return SignNote(RetentionOrder{built.origin, days, clock.WallNanos()}.Text(), "o-demo/governance/ann", governance);
  }
  void PutOrder(const std::string& note) { ASSERT_EQ(Describe(WriteFileAtomically(PosixFs(), order_file, note)), "ok"); }
  PrunerOptions Options(absl::Duration keep = 400 * kDay) {
    PrunerOptions options;
    options.keep = keep;
    options.order_file = order_file;
    options.tell = [this](std::string_view code, bool, std::string_view) { told.emplace_back(code); };
    return options;
  }
  // Until nothing more happens by itself.
  RetentionFacts Run(PrunerOptions options, Fs& fs = PosixFs()) {
    Nobody nobody;
    Committer committer(ledger(), nobody, 16, clock);
    Pruner pruner(std::move(options), ledger(), committer, fs, clock);
    EXPECT_EQ(Describe(pruner.Load()), "ok");
    for (int i = 0; i < 300; ++i) {
      const Tick again = pruner.Step(clock.now);
      committer.Step(clock.now);
      if (again >= clock.now + absl::Minutes(1)) break;
      clock.now = clock.now + absl::Milliseconds(10);
    }
    return pruner.facts();
  }
  // What governance and a day bring about.
  RetentionFacts Prune() {
    PutOrder(Order(400));
    Run(Options());
    clock.Advance(kDay);
    Beat();
    return Run(Options());
  }

  std::string FsckWords(FsckTotals* totals = nullptr) const {
    std::vector<Finding> findings;
    FsckTotals ignored;
    FsckOptions options;
    options.dir = built.options.dir;
    options.kek = built.options.kek;
    options.map_bytes = 64 << 20;
    EXPECT_EQ(Describe(Fsck(options, nullptr, &findings, totals ? totals : &ignored)), "ok");
    std::string words;
    for (const Finding& f : findings) words += "leaf " + std::to_string(f.leaf) + ": " + f.what + "\n";
    return words;
  }
  AuditReport Verify(int64_t now_ns = INT64_MAX) {
    const SignedHead head = ledger().head();
    Audit audit(1, Checkpoint{built.origin, head.size, head.root}, nullptr, now_ns);
    for (uint64_t i = 0; i < head.size; ++i) audit.Add(ledger().ReadRaw(i)->bytes, false);
    return audit.Finish();
  }
  static std::string Tampered(const AuditReport& r) {
    std::string out;
    for (const AuditFinding& f : r.findings) {
      if (f.kind != AuditFinding::Kind::kNote) out += "leaf " + std::to_string(f.leaf) + ": " + f.what + "\n";
    }
    return out;
  }
  uint64_t Raises() {
    RetentionHistory log(built.origin);
    for (const uint64_t i : ledger().ControlLeaves(0, 10'000)) log.Take(i, *ledger().ReadEntry(i)).IgnoreError();
    return log.raises().size();
  }
  // A history that this ledger does not hold: what somebody who owns the machine could make up.
  RetentionHistory MadeUp(uint64_t minimum) const {
    RetentionHistory log(built.origin);
    CHECK_OK(log.Take(0, *built.ledger->ReadEntry(0)));
    const int64_t now = clock.WallNanos(), year = absl::ToInt64Nanoseconds(kDay * 500);
    const std::string order = Order(400);
    CHECK_OK(log.Take(1, RetentionLeaf{static_cast<uint64_t>(now), 0, 0, order}.Encode()));
    CHECK_OK(log.Take(1'000'000, RetentionLeaf{static_cast<uint64_t>(now + year), minimum, now - year, order}.Encode()));
    return log;
  }
  void Drop(const RetentionHistory& log) {
    for (int i = 0; i < 300; ++i) {
      const absl::StatusOr<bool> done = ledger().DropBodies(log);
      ASSERT_EQ(Describe(done.status()), "ok");
      if (*done) return;
    }
    FAIL();
  }

  TempDir dir;
  StillClock clock;
  LedgerBuilder built{dir.path(), clock};
  SigningKey governance;
  const std::string order_file = dir.path() + "/retention.note";
  TestAgent* agent = nullptr;
  std::vector<std::string> told;
};

TEST_F(PrunerTest, WhatIsLeftVerifies) {
  for (const std::string& kek : {std::string(), std::string(32, 'k')}) {
    SCOPED_TRACE(kek.size());
    stdfs::remove_all(built.options.dir);
    stdfs::remove_all(built.options.anchor_dir);
    stdfs::remove(order_file);
    built.options.kek = kek;
    Tell(3, 399 * kDay);
    const std::vector<ShardFacts> sealed = ledger().Sealed();
    ASSERT_GE(sealed.size(), 4u);
    if (!kek.empty()) {   // pruned from its packed form as from the original
      for (int i = 0; i < 500 && ledger().stats().to_repack + static_cast<uint32_t>(i == 0) > 0; ++i) ledger().Background()->Step(Tick{1});
      ASSERT_TRUE(stdfs::exists(Dir(1) + "/packed"));
    }
    const SignedHead before = ledger().head();
    std::vector<Hash> leaves;
    std::vector<std::vector<std::string>> bodies;
    for (uint64_t i = 0; i < before.size; ++i) {
      leaves.push_back(*ledger().LeafHashAt(i));
      bodies.emplace_back();
      for (const Row& row : (*ledger().Read(i))->events.rows) bodies.back().emplace_back(row.body);
    }
    const auto size = [&] {
      uint64_t sum = 0;
      for (uint32_t n = 1; n <= 3; ++n) {
        for (const auto& file : stdfs::recursive_directory_iterator(Dir(n))) sum += file.is_regular_file() ? file.file_size() : 0;
      }
      return sum;
    };
    const uint64_t bytes = size();

    const RetentionFacts facts = Prune();
    ASSERT_GT(facts.minimum, 0u) << facts.why;
    EXPECT_EQ(facts.minimum, sealed[2].end);     // three shards are old enough; the next is not
    EXPECT_EQ(facts.order_days, 400u);
    EXPECT_GT(facts.next_ns, clock.WallNanos());
    EXPECT_GE(facts.oldest_body_ns, sealed[2].last_logged_ns);
    EXPECT_EQ(Raises(), 1u);
    EXPECT_LE(size(), bytes);                    // a page here or there: a record is smaller than one
    for (uint32_t n = 1; n <= 3; ++n) {
      EXPECT_TRUE(stdfs::exists(Dir(n) + "/pruned"));
      EXPECT_FALSE(stdfs::exists(Dir(n) + "/packed"));
      EXPECT_FALSE(stdfs::exists(Dir(n) + "/data.mdb"));
    }
    EXPECT_FALSE(stdfs::exists(Dir(4) + "/pruned"));

    uint64_t gone = 0;
    const Expiry expiry(ledger());
    for (int reopened = 0; reopened < 2; ++reopened) {
      gone = 0;
      for (uint64_t i = 0; i < before.size; ++i) {
        ASSERT_EQ(*ledger().LeafHashAt(i), leaves[i]) << i;
        const absl::StatusOr<std::shared_ptr<const Leaf>> leaf = ledger().Read(i);
        ASSERT_EQ(Describe(leaf.status()), "ok") << i;
        ASSERT_EQ((*leaf)->events.rows.size(), bodies[i].size());
        for (size_t r = 0; r < bodies[i].size(); ++r) {
          const Row& row = (*leaf)->events.rows[r];
          if (i >= facts.minimum) {
            EXPECT_EQ(row.body, bodies[i][r]);
            continue;
          }
          ++gone;
          EXPECT_TRUE(row.tombstone && row.reason == TombstoneReason::kExpired && row.body.empty());
          EXPECT_EQ(row.body_len, bodies[i][r].size());
          EXPECT_EQ(FrameView::Decode(ledger().ReadRaw(i)->bytes)->batch_key, std::string(32, '\0'));
        }
        EXPECT_EQ(Describe(ledger().Inclusion(i, before.size).status()), "ok");
      }
      EXPECT_EQ(*ledger().Root(before.size), before.root);
      const AuditReport report = Verify();
      EXPECT_EQ(Tampered(report), "");
      EXPECT_EQ(report.expired, gone);
      EXPECT_EQ(report.tombstones, gone);
      if (reopened == 0) {
        EXPECT_EQ(expiry.By(0), facts.minimum_leaf);
        EXPECT_EQ(expiry.By(facts.minimum), std::nullopt);
      }
      built.Shut();
      FsckTotals totals;
      EXPECT_EQ(FsckWords(&totals), "");
      EXPECT_EQ(totals.expired, gone);
      ASSERT_EQ(Describe(built.Open()), "ok");
    }
    EXPECT_EQ(gone, 15u);
    EXPECT_EQ(Run(Options()).minimum, facts.minimum);   // a restart changes nothing
    EXPECT_EQ(Raises(), 1u);
    EXPECT_EQ(told, std::vector<std::string>{"RETENTION_ORDERED"});
    told.clear();
    built.Shut();
  }
}

TEST_F(PrunerTest, NothingGoesUnlessAllAgree) {
  Tell(2, 450 * kDay);
  EXPECT_EQ(Run(Options()).minimum, 0u);                               // no order
  PutOrder(Order(399));
  EXPECT_EQ(Run(Options()).order_days, 0u);                            // below the floor
  EXPECT_EQ(told, std::vector<std::string>{"RETENTION_REFUSED"});
  PutOrder(SignNote(RetentionOrder{built.origin, 400, clock.WallNanos()}.Text(), "o-demo/governance/ann", SigningKey::Generate(built.rng)));
  EXPECT_EQ(Run(Options()).order_days, 0u);                            // not governance
  EXPECT_EQ(told.size(), 2u);
  PutOrder(Order(400));
  RetentionFacts facts = Run(Options());
  EXPECT_EQ(facts.order_days, 400u);
  EXPECT_EQ(facts.minimum, 0u);                                        // announced, not in effect
  EXPECT_EQ(facts.next_ns, facts.effective_ns);
  clock.Advance(2 * kDay);
  Beat();
  EXPECT_EQ(Run(Options(absl::ZeroDuration())).minimum, 0u);           // not configured
  EXPECT_EQ(Run(Options(500 * kDay)).minimum, 0u);                     // configured to keep longer
  EXPECT_EQ(Raises(), 0u);
  clock.Advance(3 * kDay);
  facts = Run(Options());                                              // no agent confirms the clock
  EXPECT_EQ(facts.minimum, 0u);
  EXPECT_NE(facts.why.find("clock"), std::string::npos);
  PrunerOptions own = Options();
  Beat();
  own.own = agent->identity().uuid;                                    // nor does the aggregator's own
  EXPECT_EQ(Run(own).minimum, 0u);
  EXPECT_GT(Run(Options()).minimum, 0u);
  // A longer order stops what would have gone next.
  PutOrder(Order(2000));
  clock.Advance(600 * kDay);
  Beat();
  Run(Options());
  EXPECT_EQ(Raises(), 1u);
  EXPECT_EQ(Tampered(Verify()), "");
}

TEST_F(PrunerTest, BodiesTakenOtherwiseAreTampering) {
  Tell(3, 10 * kDay);
  const std::vector<ShardFacts> sealed = ledger().Sealed();
  Drop(MadeUp(sealed[1].end));           // no leaf of this log says so
  std::string found = Tampered(Verify());
  EXPECT_NE(found.find("leaf 3: its bodies are gone as expired, and no order in the log covers them"), std::string::npos) << found;
  built.Shut();
  EXPECT_NE(FsckWords().find("no order in the log covers them"), std::string::npos);
  ASSERT_EQ(Describe(built.Open()), "ok");

  // Now with leaves that governance did sign, and a clock that somebody set: below the floor for whoever knows when agents saw the log.
  const std::string order = Order(400);
  const int64_t now = clock.WallNanos(), days = absl::ToInt64Nanoseconds(kDay);
  ASSERT_EQ(Describe(built.Append(ControlItem(RetentionLeaf{static_cast<uint64_t>(now), 0, 0, order}.Encode()))), "ok");
  RetentionLeaf raise{static_cast<uint64_t>(now + 450 * days), sealed[1].end, sealed[1].last_logged_ns, order};
  ASSERT_EQ(Describe(built.Append(ControlItem(raise.Encode()))), "ok");
  found = Tampered(Verify(now));
  EXPECT_NE(found.find("which is not yet"), std::string::npos) << found;
  EXPECT_EQ(found.find("no order in the log"), std::string::npos) << found;
  EXPECT_EQ(Tampered(Verify()), "");    // in 450 days it would be true

  // Its own claim of an age says nothing.
  raise.wall_ns = static_cast<uint64_t>(now + 451 * days);
  raise.minimum = sealed[2].end;
  raise.newest_ns = now - 1000 * days;
  ASSERT_EQ(Describe(built.Append(ControlItem(raise.Encode()))), "ok");
  built.Shut();
  EXPECT_NE(FsckWords().find("not the end of a shard, or not of that time"), std::string::npos);
}

TEST_F(PrunerTest, APruneThatAgentsCannotConfirmIsTampering) {
  Tell(2, 10 * kDay);
  const std::vector<ShardFacts> sealed = ledger().Sealed();
  const int64_t now = clock.WallNanos(), days = absl::ToInt64Nanoseconds(kDay);
  const std::string order = Order(400);
  ASSERT_EQ(Describe(built.Append(ControlItem(RetentionLeaf{static_cast<uint64_t>(now - 2 * days), 0, 0, order}.Encode()))), "ok");
  // Says that what is twelve days old is 500.
  const RetentionLeaf raise{static_cast<uint64_t>(now), sealed[0].end, now - 500 * days, order};
  ASSERT_EQ(Describe(built.Append(ControlItem(raise.Encode()))), "ok");
  const std::string found = Tampered(Verify(now));
  EXPECT_NE(found.find("bodies went that were not 400 days old"), std::string::npos) << found;
}

TEST_F(PrunerTest, KilledAtEachStep) {
  Tell(2, 450 * kDay);
  PutOrder(Order(400));
  Run(Options());
  clock.Advance(kDay);
  Beat();
  const SignedHead before = ledger().head();
  built.Shut();
  const std::string good = dir.path() + "/good";
  stdfs::copy(built.options.dir, good, stdfs::copy_options::recursive);
  const std::string anchored = dir.path() + "/anchored";
  stdfs::copy(built.options.anchor_dir, anchored, stdfs::copy_options::recursive);
  int killed = 0;
  for (int at = 0; at < 120; ++at) {
    const pid_t child = ::fork();
    if (child == 0) {
      KillingFs fs(at);
      fs.counts_looks = false;
      auto opened = Ledger::Open(built.options, built.origin, &built.log_key, fs, clock);
      if (!opened.ok()) ::_exit(1);
      built.ledger = *std::move(opened);
      fs.armed = true;
      ::_exit(Run(Options(), fs).minimum > 0 ? 0 : 2);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    const bool was_killed = WIFSIGNALED(status);
    killed += was_killed ? 1 : 0;
    ASSERT_TRUE(was_killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) << at << " " << status;
    ASSERT_EQ(FsckWords(), "") << at;   // as it was left: nothing is gone that the log does not say
    ASSERT_EQ(Describe(built.Open()), "ok") << at;
    ASSERT_EQ(*ledger().Root(before.size), before.root) << at;
    for (uint64_t i = 0; i < before.size; ++i) ASSERT_EQ(Describe(ledger().Read(i).status()), "ok") << at;
    EXPECT_FALSE(stdfs::exists(Dir(1) + "/pruning")) << at;
    EXPECT_NE(stdfs::exists(Dir(1) + "/pruned"), stdfs::exists(Dir(1) + "/data.mdb")) << at;
    ASSERT_GT(Run(Options()).minimum, 0u) << at;
    EXPECT_EQ(Raises(), 1u) << at;
    EXPECT_TRUE(stdfs::exists(Dir(1) + "/pruned") && stdfs::exists(Dir(2) + "/pruned")) << at;
    ASSERT_EQ(Tampered(Verify()), "") << at;
    built.Shut();
    ASSERT_EQ(FsckWords(), "") << at;
    stdfs::remove_all(built.options.dir);
    stdfs::remove_all(built.options.anchor_dir);
    stdfs::copy(good, built.options.dir, stdfs::copy_options::recursive);
    stdfs::copy(anchored, built.options.anchor_dir, stdfs::copy_options::recursive);
    if (!was_killed) break;
  }
  EXPECT_GE(killed, 12);
}

TEST_F(PrunerTest, ADamagedShardKeepsItsBodies) {
  Tell(2, 450 * kDay);
  built.Shut();
  {
    auto shard = Shard::Open(Dir(1), 64 << 20, false);
    auto txn = lmdb::WriteTxn::Begin(*shard->env);
    std::string value((*txn)->Get(shard->leaves, IndexKey(3)).value());
    value.back() = static_cast<char>(value.back() ^ 1);
    ASSERT_TRUE((*txn)->Put(shard->leaves, IndexKey(3), value).ok() && (*txn)->Commit().ok());
  }
  ASSERT_EQ(Describe(built.Open()), "ok");
  const RetentionFacts facts = Prune();
  EXPECT_NE(facts.why.find("leaf 3"), std::string::npos) << facts.why;
  EXPECT_TRUE(stdfs::exists(Dir(1) + "/data.mdb"));
  EXPECT_FALSE(stdfs::exists(Dir(1) + "/pruned"));
  EXPECT_FALSE(stdfs::exists(Dir(1) + "/pruning"));
}

// What a backup from before still holds does not come back.
TEST_F(PrunerTest, RepairedItStaysWithoutBodies) {
  Tell(2, 450 * kDay);
  built.Shut();
  const std::string old = dir.path() + "/old";
  stdfs::copy(built.options.dir, old, stdfs::copy_options::recursive);
  ASSERT_EQ(Describe(built.Open()), "ok");
  ASSERT_GT(Prune().minimum, 0u);
  built.Shut();
  {
    auto shard = Shard::OpenPacking(Dir(1) + "/pruned", 64 << 20);
    auto txn = lmdb::WriteTxn::Begin(*shard->env);
    std::string value((*txn)->Get(shard->leaves, IndexKey(3)).value());
    value.back() = static_cast<char>(value.back() ^ 1);
    ASSERT_TRUE((*txn)->Put(shard->leaves, IndexKey(3), value).ok() && (*txn)->Commit().ok());
  }
  stdfs::remove(Dir(1) + "/pruned/lock.mdb");
  ASSERT_NE(FsckWords(), "");
  RepairOrder order;
  order.ledger_dir = built.options.dir;
  order.shard = 1;
  order.sources = {old};
  order.leaves = {3};
  order.map_bytes = 64 << 20;
  const absl::StatusOr<Candidate> candidate = CopyAndPatch(order, PosixFs(), clock);
  ASSERT_EQ(Describe(candidate.status()), "ok");
  EXPECT_TRUE(candidate->is_pruned);
  ASSERT_EQ(candidate->repaired.size(), 1u);
  ASSERT_EQ(Describe(Install(order.ledger_dir, 1, candidate->is_packed, PosixFs(), candidate->is_pruned)), "ok");
  EXPECT_TRUE(stdfs::exists(Dir(1) + "/pruned/data.mdb"));
  EXPECT_FALSE(stdfs::exists(Dir(1) + "/packed"));
  EXPECT_EQ(FsckWords(), "");
  ASSERT_EQ(Describe(built.Open()), "ok");
  for (const Row& row : (*ledger().Read(3))->events.rows) EXPECT_TRUE(row.tombstone && row.reason == TombstoneReason::kExpired);
  EXPECT_EQ(Tampered(Verify()), "");
}

}  // namespace
}  // namespace orgtrail
