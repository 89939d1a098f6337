// A ledger in shards is the ledger in one: the same reads, the same proofs, the same repeats; and rolling survives being killed anywhere.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "aggregator/ledger/fsck.h"
#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/roll.h"
#include "aggregator/ledger/shards.h"
#include "common/base/status.h"
#include "common/format/frame.h"
#include "gtest/gtest.h"
#include "tests/support/killing_fs.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

namespace stdfs = std::filesystem;

std::string Entry(uint64_t n) { return "OTT1 control entry " + std::to_string(n); }

std::string FsckWords(const LedgerBuilder& built, FsckTotals* totals = nullptr) {
  std::vector<Finding> findings;
  FsckTotals ignored;
  FsckOptions options;
  options.dir = built.options.dir;
  options.origin = built.origin;
  options.map_bytes = 64 << 20;
  EXPECT_EQ(Describe(Fsck(options, nullptr, &findings, totals ? totals : &ignored)), "ok");
  std::string words;
  for (const Finding& f : findings) words += f.file + ": leaf " + std::to_string(f.leaf) + ": " + f.what + "\n";
  return words;
}

// The same agents, batches and entries for the same number, whatever the shards.
struct Story {
  explicit Story(std::string dir) : built(std::move(dir), clock) {}
  void Tell(int chapters) {
    if (agents.empty()) {
      agents.push_back(&built.Enrol("111111111111", "eu-central-1", "a"));
      agents.push_back(&built.Enrol("111111111111", "eu-west-1", "b"));
    }
    for (int i = 0; i < chapters; ++i, ++told) {
      TestAgent& agent = *agents[static_cast<size_t>(told % 2)];
      ASSERT_EQ(Describe(built.Fill(agent, 1 + static_cast<size_t>(told % 4))), "ok");
      std::vector<Admitted> group;
      if (told % 3 == 0) group.push_back(ControlItem(Entry(static_cast<uint64_t>(told / 6))));  // each twice, in different shards
      group.push_back(agents[0]->Heartbeat());
      heartbeats.push_back(group.back());
      ASSERT_EQ(Describe(built.Append(std::move(group))), "ok");
      if (told % 5 == 2) {
        const std::string record = TestRecord(static_cast<uint64_t>(told), "111111111111", "eu-central-1", clock.wall);
        ASSERT_EQ(Describe(built.Append(agents[0]->WithoutBodies(agents[0]->Batch({&record, 1})))), "ok");
      }
      if (told == 20) {
        ASSERT_EQ(Describe(built.Append(agents[1]->Close())), "ok");
        ASSERT_EQ(Describe(built.Append(agents[1]->Open())), "ok");
      }
    }
  }
  StillClock clock;
  LedgerBuilder built;
  std::vector<TestAgent*> agents;
  std::vector<Admitted> heartbeats;
  int told = 0;
};

class ShardsTest : public testing::Test {
 protected:
  void Begin(absl::Duration period = absl::Seconds(5)) {
    story.built.options.shard_period = period;
    ASSERT_EQ(Describe(story.built.Open()), "ok");
  }
  Ledger& ledger() { return *story.built.ledger; }
  std::string Dir(uint32_t number) const { return ShardDir(story.built.options.dir, number); }
  TempDir dir;
  Story story{dir.path() + "/many"};
};

// Everything a reader can ask.
void ExpectSame(const Ledger& a, const Ledger& b) {
  const uint64_t size = b.head().size;
  ASSERT_EQ(a.head().note, b.head().note);
  EXPECT_EQ(a.head().events, b.head().events);
  for (uint64_t i = 0; i < size; ++i) {
    ASSERT_EQ(*a.ReadEntry(i), *b.ReadEntry(i)) << i;
    const auto x = a.Read(i), y = b.Read(i);
    ASSERT_EQ(Describe(x.status()), "ok") << i;
    ASSERT_EQ((*x)->events.rows.size(), (*y)->events.rows.size());
    for (size_t r = 0; r < (*x)->events.rows.size(); ++r) ASSERT_EQ((*x)->events.rows[r].body, (*y)->events.rows[r].body);
    const RawLeaf raw = *a.ReadRaw(i);
    ASSERT_EQ(raw.logged_ns, b.ReadRaw(i)->logged_ns);
    if ((*y)->is_batch) {
      const FrameView frame = *FrameView::Decode(raw.bytes);
      ASSERT_EQ(frame.batch_key, FrameView::Decode(b.ReadRaw(i)->bytes)->batch_key);
      ASSERT_EQ(frame.extension, FrameView::Decode(b.ReadRaw(i)->bytes)->extension);
    }
    const Hash hash = *b.LeafHashAt(i);
    ASSERT_EQ(*a.LeafHashAt(i), hash);
    ASSERT_EQ(*a.Root(i + 1), *b.Root(i + 1)) << i;
    const std::optional<uint64_t> found = a.FindLeaf(hash);
    ASSERT_TRUE(found.has_value() && *a.LeafHashAt(*found) == hash);
    if ((*y)->is_batch) {
      const BatchId id{(*y)->header.agent_uuid, (*y)->header.epoch, (*y)->header.batch_seq};
      ASSERT_EQ(a.Find(id), std::optional(i));
      ASSERT_EQ(a.Find({id.uuid, id.epoch, 1000}), std::nullopt);
      ASSERT_EQ(a.Find({id.uuid, id.epoch + 7, 0}), std::nullopt);
    }
    for (uint64_t n = i + 1; n <= size; ++n) {
      ASSERT_EQ(*a.Inclusion(i, n), *b.Inclusion(i, n)) << i << " " << n;
      ASSERT_EQ(*a.Consistency(i, n), *b.Consistency(i, n)) << i << " " << n;
    }
    ASSERT_EQ(a.ControlLeaves(i, 3), b.ControlLeaves(i, 3)) << i;
    ASSERT_EQ(a.ControlLeaves(i, 1000), b.ControlLeaves(i, 1000)) << i;
    for (const int64_t at : {raw.logged_ns - 1, raw.logged_ns, raw.logged_ns + 1}) ASSERT_EQ(a.FirstLoggedAt(at), b.FirstLoggedAt(at)) << i;
  }
  const auto width = static_cast<uint32_t>(std::min<uint64_t>(size, 256));
  ASSERT_EQ(*a.Tile(0, 0, width), *b.Tile(0, 0, width));
  EXPECT_EQ(a.Find({Uuid{}, 1, 1}), std::nullopt);
  EXPECT_EQ(a.FindLeaf(Sha256("nowhere")), std::nullopt);
  ASSERT_EQ(a.Heads().size(), 2u);
  for (const AgentHead& head : b.Heads()) EXPECT_EQ(a.HeadOf(head.uuid)->Encode(), head.Encode());
}

TEST_F(ShardsTest, ReadAsOne) {
  Begin();
  Story one(dir.path() + "/one");
  ASSERT_EQ(Describe(one.built.Open()), "ok");
  story.Tell(40);
  one.Tell(40);
  ASSERT_GE(ledger().stats().shards, 8u);
  ExpectSame(ledger(), *one.built.ledger);   // as it grew
  ASSERT_EQ(Describe(story.built.Open()), "ok");
  ExpectSame(ledger(), *one.built.ledger);   // opened again
  story.built.Shut();
  FsckTotals totals;
  EXPECT_EQ(FsckWords(story.built, &totals), "");
  EXPECT_GE(totals.shards, 8u);
}

// ---- repacked ------------------------------------------------------------------------------------------------------------------

// Steps until every sealed shard is repacked; how many steps that took.
int Repack(Ledger& ledger) {
  Stage& repacker = *ledger.Background();
  for (int steps = 1; steps < 10'000; ++steps) {
    repacker.Step(Tick{1});
    if (steps > 1 && ledger.stats().to_repack == 0) return steps;
  }
  return -1;
}

TEST_F(ShardsTest, RepackedItReadsAsOneAndTakesLess) {
  for (const std::string& kek : {std::string(), std::string(32, 'k')}) {
    SCOPED_TRACE(kek.size());
    Story many(dir.path() + "/many" + std::to_string(kek.size())), one(dir.path() + "/one" + std::to_string(kek.size()));
    many.built.options.shard_period = absl::Seconds(9);
    many.built.options.kek = kek;
    many.built.options.tail_bytes = 1;
    ASSERT_EQ(Describe(many.built.Open()), "ok");
    ASSERT_EQ(Describe(one.built.Open()), "ok");
    many.Tell(24);
    one.Tell(24);
    const Ledger::Stats before = many.built.ledger->stats();
    ASSERT_GE(before.shards, 3u);
    ASSERT_GT(Repack(*many.built.ledger), 0);
    const Ledger::Stats after = many.built.ledger->stats();
    EXPECT_LT(after.used_bytes, before.used_bytes);
    const std::vector<ShardFacts> facts = many.built.ledger->shard_facts();
    ASSERT_EQ(facts.size(), after.shards);
    uint64_t next = 0;
    for (const ShardFacts& f : facts) {
      const bool grows = f.number == facts.size();
      EXPECT_EQ(f.first, next);
      EXPECT_EQ(f.sealed, !grows);
      EXPECT_EQ(f.repacked, !grows);
      EXPECT_GT(f.bytes, 0u);
      EXPECT_EQ(f.last_logged_ns > 0, f.end > f.first);
      next = f.end;
    }
    EXPECT_EQ(next, many.built.ledger->head().size);
    ExpectSame(*many.built.ledger, *one.built.ledger);
    EXPECT_FALSE(stdfs::exists(ShardDir(many.built.options.dir, 1) + "/data.mdb"));
    ASSERT_EQ(Describe(many.built.Open()), "ok");
    EXPECT_EQ(many.built.ledger->stats().used_bytes, after.used_bytes);
    ExpectSame(*many.built.ledger, *one.built.ledger);
    many.built.Shut();
    EXPECT_EQ(FsckWords(many.built), "");
  }
}

TEST_F(ShardsTest, ReadersGoOnWhileItIsRepacked) {
  Begin();
  story.Tell(20);
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (uint64_t r = 0; r < 3; ++r) {
    readers.emplace_back([&, r] {
      for (uint64_t n = r; !stop; n += 7) {
        const uint64_t size = ledger().head().size;
        if (!ledger().ReadRaw(n % size).ok() || !ledger().Read(n % size).ok() || !ledger().Inclusion(n % size, size).ok()) ADD_FAILURE() << n % size;
      }
    });
  }
  EXPECT_GT(Repack(ledger()), 0);
  stop = true;
  for (std::thread& t : readers) t.join();
}

TEST_F(ShardsTest, ARepeatIsFoundInAnyShardAndAContradictionToo) {
  Begin();
  story.Tell(40);
  const uint64_t size = ledger().head().size;
  for (const Admitted& old : story.heartbeats) {
    const std::optional<uint64_t> logged = ledger().FindLeaf(LeafHash(EntryOf(old.leaf->bytes)));
    ASSERT_TRUE(logged.has_value());
    std::vector<Admitted> group(1, old);
    group[0].leaf = std::make_shared<Leaf>();
    group[0].leaf->bytes = old.leaf->bytes;
    group[0].leaf->is_batch = true;
    group[0].leaf->header = old.leaf->header;
    group.emplace_back();
    group[1].batch = old.batch;  // a repeat that is looked up
    group[1].repeats = LeafHash(EntryOf(old.leaf->bytes));
    const absl::StatusOr<Flush> flush = ledger().Append(group);
    ASSERT_EQ(Describe(flush.status()), "ok");
    ASSERT_EQ(flush->batches.size(), 2u);
    for (const CommittedLeaf& answer : flush->batches) {
      EXPECT_TRUE(answer.duplicate);
      EXPECT_EQ(answer.leaf_index, *logged);
    }
  }
  EXPECT_EQ(ledger().head().size, size);

  Admitted contradiction = story.agents[0]->Heartbeat();
  contradiction.batch = story.heartbeats[0].batch;
  std::vector<Admitted> group(1, contradiction);
  ASSERT_EQ(Describe(ledger().Append(group).status()), "ok");
  EXPECT_EQ(group[0].leaf->flags & kLeafQuarantined, kLeafQuarantined);
  EXPECT_NE(ledger().Find(contradiction.batch), std::optional(size));  // the identity stays the first's
}

// What a batch of an agent that goes on needs is in the active shard: its head, its key tree, its proofs.
TEST_F(ShardsTest, GoingOnOpensNoSealedShard) {
  Begin();
  story.Tell(30);
  ASSERT_EQ(Describe(story.built.Open()), "ok");
  story.built.options.shard_period = absl::Hours(1000);
  ASSERT_EQ(Describe(story.built.Open()), "ok");
  const uint32_t before = ledger().stats().open_shards;
  EXPECT_LE(before, 2u);
  story.Tell(10);
  for (const AgentHead& head : ledger().Heads()) {
    const std::optional<uint64_t> tree = ledger().Find({head.uuid, head.epoch, head.tree_base == 0 ? 0 : head.tree_base - 1});
    ASSERT_EQ(tree, std::optional(head.tree_leaf));
    ASSERT_EQ(Describe(ledger().ReadRaw(*tree).status()), "ok");
    ASSERT_EQ(Describe(ledger().Read(*tree).status()), "ok");
    EXPECT_EQ(ledger().Find({head.uuid, head.epoch, head.batch_seq + 1}), std::nullopt);
    ASSERT_EQ(Describe(ledger().Inclusion(head.leaf_index, ledger().head().size).status()), "ok");
    ASSERT_EQ(Describe(ledger().Consistency(ledger().head().size - 3, ledger().head().size).status()), "ok");
  }
  EXPECT_EQ(ledger().Find({Uuid{}, 1, 0}), std::nullopt);
  EXPECT_EQ(ledger().stats().open_shards, before);
}

TEST_F(ShardsTest, AtMostThirtyTwoSealedShardsAreOpen) {
  Begin(absl::Seconds(1));
  story.Tell(44);
  ASSERT_GT(ledger().stats().shards, 40u);
  const uint64_t size = ledger().head().size;
  for (int pass = 0; pass < 2; ++pass) {
    for (uint64_t i = 0; i < size; ++i) ASSERT_EQ(Describe(ledger().ReadRaw(i).status()), "ok");
    EXPECT_EQ(ledger().FindLeaf(Sha256("nowhere")), std::nullopt);
    EXPECT_LE(ledger().stats().open_shards, 33u);
  }
}

TEST_F(ShardsTest, RollsAtItsSize) {
  story.built.options.shard_bytes = 1 << 20;
  Begin(absl::Hours(1000));
  for (uint64_t n = 0; n < 300; ++n) ASSERT_EQ(Describe(story.built.Append(ControlItem(std::string(20'000, 'x') + Entry(n)))), "ok");
  const Ledger::Stats stats = ledger().stats();
  EXPECT_GE(stats.shards, 5u);
  EXPECT_LE(stats.shards, 9u);
  EXPECT_LT(stats.active_bytes, 2u << 20);
  EXPECT_GT(stats.used_bytes, 6'000'000u);
  story.built.Shut();
  EXPECT_EQ(FsckWords(story.built), "");
}

TEST_F(ShardsTest, ReadersGoOnWhileItRolls) {
  Begin(absl::Seconds(1));
  story.Tell(2);
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (uint64_t r = 0; r < 3; ++r) {
    readers.emplace_back([&, r] {
      for (uint64_t n = r; !stop; n += 7) {
        const uint64_t size = ledger().head().size;
        if (!ledger().ReadRaw(n % size).ok() || !ledger().Inclusion(n % size, size).ok() || ledger().Heads().size() != 2) ADD_FAILURE() << n % size;
      }
    });
  }
  story.Tell(40);
  stop = true;
  for (std::thread& t : readers) t.join();
  EXPECT_GT(ledger().stats().shards, 30u);
}

// ---- ended in between ----------------------------------------------------------------------------------------------------------

TEST_F(ShardsTest, KilledAtEachStepOfARoll) {
  Begin(absl::Hours(1000));
  story.Tell(6);
  const SignedHead before = ledger().head();
  story.built.Shut();
  story.built.options.shard_period = absl::Seconds(1);
  int killed = 0;
  for (int at = 0; at < 12; ++at) {
    const pid_t child = ::fork();
    if (child == 0) {
      KillingFs fs(at);
      auto opened = Ledger::Open(story.built.options, story.built.origin, &story.built.log_key, fs, story.clock);
      if (!opened.ok()) ::_exit(1);
      fs.armed = true;
      std::vector<Admitted> group(1, ControlItem(Entry(1000 + static_cast<uint64_t>(at))));
      ::_exit((*opened)->Append(group).ok() ? 0 : 2);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status)) {
      ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << at;
      break;
    }
    ++killed;
    // Read-only first: as it was left.
    LedgerOptions look = story.built.options;
    look.read_only = true;
    {
      const auto left = Ledger::Open(look, "", nullptr, PosixFs(), story.clock);
      ASSERT_EQ(Describe(left.status()), "ok") << at;
      ASSERT_EQ((*left)->head().size, before.size);
      for (uint64_t i = 0; i < before.size; ++i) ASSERT_EQ(Describe((*left)->Read(i).status()), "ok") << at;
    }
    ASSERT_EQ(FsckWords(story.built), "") << at;
    ASSERT_EQ(Describe(story.built.Open()), "ok") << at;
    ASSERT_EQ(ledger().head().note, before.note) << at;
    story.built.Shut();
    ASSERT_EQ(FsckWords(story.built), "") << at;
    if (PosixFs().Facts(Dir(2)).ok()) {  // the roll was over but for the seal: take the second shard back for the next round
      ASSERT_TRUE(Shard::OpenSealed(Dir(1)).ok()) << at;
      stdfs::remove_all(Dir(2));
      auto shard = Shard::Open(Dir(1), 64 << 20, false);
      ASSERT_TRUE(shard.ok());
      auto txn = lmdb::WriteTxn::Begin(*shard->env);
      ASSERT_TRUE((*txn)->Delete(shard->meta, kSealKey).ok() && (*txn)->Commit().ok());
    }
  }
  EXPECT_GE(killed, 5);
  ASSERT_EQ(Describe(story.built.Open()), "ok");
  EXPECT_EQ(ledger().head().size, before.size + 1);
  EXPECT_EQ(ledger().stats().shards, 2u);
}

TEST_F(ShardsTest, KilledAtEachStepOfARepack) {
  Begin();
  story.Tell(8);
  const SignedHead before = ledger().head();
  ASSERT_EQ(ledger().stats().shards, 2u);
  story.built.Shut();
  const std::string good = dir.path() + "/good";
  stdfs::copy(story.built.options.dir, good, stdfs::copy_options::recursive);
  int killed = 0;
  for (int at = 0; at < 40; ++at) {
    const pid_t child = ::fork();
    if (child == 0) {
      KillingFs fs(at);
      auto opened = Ledger::Open(story.built.options, story.built.origin, &story.built.log_key, fs, story.clock);
      if (!opened.ok()) ::_exit(1);
      fs.armed = true;
      ::_exit(Repack(**opened) > 0 ? 0 : 2);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    const bool was_killed = WIFSIGNALED(status);
    killed += was_killed ? 1 : 0;
    ASSERT_TRUE(was_killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) << at << " " << status;
    ASSERT_EQ(FsckWords(story.built), "") << at;  // as it was left
    ASSERT_EQ(Describe(story.built.Open()), "ok") << at;
    ASSERT_EQ(ledger().head().note, before.note) << at;
    for (uint64_t i = 0; i < before.size; ++i) ASSERT_EQ(Describe(ledger().Read(i).status()), "ok") << at;
    EXPECT_FALSE(stdfs::exists(Dir(1) + "/packing")) << at;
    EXPECT_NE(stdfs::exists(Dir(1) + "/packed"), stdfs::exists(Dir(1) + "/data.mdb")) << at;  // one of them, not both
    ASSERT_GT(Repack(ledger()), 0) << at;
    story.built.Shut();
    ASSERT_EQ(FsckWords(story.built), "") << at;
    stdfs::remove_all(story.built.options.dir);
    stdfs::copy(good, story.built.options.dir, stdfs::copy_options::recursive);
    if (!was_killed) break;
  }
  EXPECT_GE(killed, 8);
}

TEST_F(ShardsTest, ADamagedShardIsNotRepacked) {
  Begin();
  story.Tell(8);
  const std::string frame = ledger().ReadRaw(4)->bytes;
  story.built.Shut();
  {
    auto shard = Shard::Open(Dir(1), 64 << 20, false);
    auto txn = lmdb::WriteTxn::Begin(*shard->env);
    std::string value((*txn)->Get(shard->leaves, IndexKey(4)).value());
    value.back() = static_cast<char>(value.back() ^ 1);
    ASSERT_TRUE((*txn)->Put(shard->leaves, IndexKey(4), value).ok() && (*txn)->Commit().ok());
  }
  ASSERT_EQ(Describe(story.built.Open()), "ok");
  for (int i = 0; i < 50; ++i) ledger().Background()->Step(Tick{1});
  EXPECT_TRUE(stdfs::exists(Dir(1) + "/data.mdb"));
  EXPECT_FALSE(stdfs::exists(Dir(1) + "/packed"));
  EXPECT_GT(ledger().stats().to_repack, 0u);
  EXPECT_EQ(Describe(ledger().Read(3).status()), "ok");
  EXPECT_EQ(ledger().Read(4).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(ShardsTest, WhatARollLeftIsCompletedOrTakenBack) {
  story.built.options.anchor_dir.clear();
  Begin();
  story.Tell(12);
  const SignedHead head = ledger().head();
  const uint32_t shards = ledger().stats().shards;
  story.built.Shut();
  const std::string good = dir.path() + "/good";
  stdfs::copy(story.built.options.dir, good, stdfs::copy_options::recursive);
  const auto copy_of = [&](uint32_t from, uint32_t to) {
    stdfs::remove_all(Dir(to));
    stdfs::copy(ShardDir(good, from), Dir(to));
  };
  const struct {
    const char* name;
    std::function<void()> act;
    const char* refused;  // empty: it starts
  } cases[] = {
      {"an empty directory", [&] { stdfs::create_directory(Dir(shards + 1)); }, ""},
      {"a successor without a first commit",
       [&] {
         stdfs::create_directory(Dir(shards + 1));
         ASSERT_TRUE(Shard::Open(Dir(shards + 1), 1 << 20, false).ok());
       },
       ""},
      {"a predecessor that was not sealed yet",
       [&] {
         auto shard = Shard::Open(Dir(shards - 1), 64 << 20, false);
         auto txn = lmdb::WriteTxn::Begin(*shard->env);
         ASSERT_TRUE((*txn)->Delete(shard->meta, kSealKey).ok() && (*txn)->Commit().ok());
       },
       ""},
      {"the newest shard is gone", [&] { stdfs::remove_all(Dir(shards)); }, "is missing or has nothing in it"},
      {"the newest shard is empty",
       [&] {
         stdfs::remove_all(Dir(shards));
         stdfs::create_directory(Dir(shards));
       },
       "is missing or has nothing in it"},
      {"a shard in between is gone", [&] { stdfs::remove_all(Dir(2)); }, "shard-000002 is missing"},
      {"the predecessor is another shard", [&] { copy_of(1, shards - 1); }, "continue leaves"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    stdfs::remove_all(story.built.options.dir);
    stdfs::copy(good, story.built.options.dir, stdfs::copy_options::recursive);
    c.act();
    const absl::Status opened = story.built.Open();
    if (*c.refused != '\0') {
      EXPECT_EQ(opened.code(), absl::StatusCode::kDataLoss);
      EXPECT_NE(opened.message().find(c.refused), absl::string_view::npos) << opened;
      story.built.Shut();
      EXPECT_NE(FsckWords(story.built).find(c.refused), std::string::npos);
      continue;
    }
    ASSERT_EQ(Describe(opened), "ok");
    EXPECT_EQ(ledger().head().note, head.note);
    ASSERT_EQ(Describe(story.built.Append(ControlItem(Entry(5000)))), "ok");
    story.built.Shut();
    EXPECT_EQ(FsckWords(story.built), "");
  }
}

class FullFs final : public Fs {
 public:
  bool full = false;
  absl::StatusOr<std::unique_ptr<File>> Open(std::string_view p, OpenMode m, int perm) override { return PosixFs().Open(p, m, perm); }
  absl::StatusOr<FileFacts> Facts(std::string_view p) override { return PosixFs().Facts(p); }
  absl::StatusOr<std::vector<std::string>> List(std::string_view d) override { return PosixFs().List(d); }
  absl::StatusOr<std::vector<std::string>> Glob(std::string_view p) override { return PosixFs().Glob(p); }
  absl::Status Rename(std::string_view a, std::string_view b, Fsync f) override { return PosixFs().Rename(a, b, f); }
  absl::Status Remove(std::string_view p) override { return PosixFs().Remove(p); }
  absl::Status MakeDirs(std::string_view p, int perm) override {
    RETURN_IF_ERROR(PosixFs().MakeDirs(p, perm));
    return full ? absl::ResourceExhaustedError("no space left on device") : absl::OkStatus();
  }
  absl::Status SyncDir(std::string_view p) override { return PosixFs().SyncDir(p); }
  absl::StatusOr<uint64_t> FreeBytes(std::string_view p) override { return PosixFs().FreeBytes(p); }
  absl::StatusOr<uint64_t> TotalBytes(std::string_view p) override { return PosixFs().TotalBytes(p); }
};

TEST_F(ShardsTest, AFullDiskWhileRollingWritesNothingAndLeavesNothing) {
  FullFs fs;
  story.built.options.shard_period = absl::Seconds(1);
  auto opened = Ledger::Open(story.built.options, story.built.origin, &story.built.log_key, fs, story.clock);
  ASSERT_EQ(Describe(opened.status()), "ok");
  std::vector<Admitted> group(1, ControlItem(Entry(0)));
  ASSERT_EQ(Describe((*opened)->Append(group).status()), "ok");
  story.clock.Advance(absl::Seconds(2));
  fs.full = true;
  group[0] = ControlItem(Entry(1));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ((*opened)->Append(group).status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ((*opened)->head().size, 1u);
    EXPECT_FALSE(stdfs::exists(Dir(2)));
  }
  fs.full = false;
  EXPECT_EQ(Describe((*opened)->Append(group).status()), "ok");
  EXPECT_EQ((*opened)->stats().shards, 2u);
}

// Every way in which a shard may not continue the one before it, by somebody who can write LMDB.
TEST_F(ShardsTest, FsckFindsWhatDoesNotContinue) {
  Begin();
  story.Tell(12);
  ASSERT_EQ(ledger().stats().shards, 3u);
  const uint64_t tree = ledger().HeadOf(story.agents[0]->identity().uuid)->tree_leaf;
  const std::string other = ledger().ReadRaw(tree + 1)->bytes;
  story.built.Shut();
  const auto peak_of = [](const lmdb::ReadTxn& t, const Shard& s) {
    const uint64_t first = TreeState::Decode(*t.Get(s.meta, kStateKey))->first;
    int level = 0;
    while ((first >> level & 1) == 0) ++level;
    return NodeKey(level, (first >> level) - 1);
  };
  const struct {
    const char* name;
    std::function<absl::Status(lmdb::WriteTxn&, const Shard&)> act;
    const char* words;
  } cases[] = {
      {"a peak altered", [&](auto& t, const Shard& s) { return t.Put(s.nodes, peak_of(t, s), Sha256("x").view()); }, "the copied peak"},
      {"a peak removed", [&](auto& t, const Shard& s) { return t.Delete(s.nodes, peak_of(t, s)); }, "the copied peak"},
      {"another leaf in a copy's place",
       [&](auto& t, const Shard& s) {
         StoredLeaf leaf;
         leaf.bytes = other;
         std::string value(StoredSize(leaf), '\0');
         WriteLeaf(tree, leaf, value.data());
         return t.Put(s.leaves, IndexKey(tree), value);
       },
       "its copy is not the leaf"},
      {"a copied identity altered",
       [&](auto& t, const Shard& s) { return t.Put(s.batches, BatchKey({story.agents[0]->identity().uuid, 1, 0}), IndexKey(0)); },
       "the copied entry of the identity map"},
      {"the list altered",
       [&](auto& t, const Shard& s) {
         ShardList list = *ShardList::Decode(*t.Get(s.meta, kShardsKey));
         list.sealed[0].last_logged_ns += 1;
         return t.Put(s.meta, kShardsKey, list.Encode());
       },
       "the shards after it continue"},
      {"a head lost", [&](auto& t, const Shard& s) { return t.Delete(s.heads, story.agents[1]->identity().uuid.view()); }, "have no head"},
  };
  const std::string good = dir.path() + "/good";
  stdfs::copy(story.built.options.dir, good, stdfs::copy_options::recursive);
  for (const auto& c : cases) {
    stdfs::remove_all(story.built.options.dir);
    stdfs::copy(good, story.built.options.dir, stdfs::copy_options::recursive);
    {
      auto shard = Shard::Open(Dir(3), 64 << 20, false);
      ASSERT_EQ(Describe(shard.status()), "ok");
      auto txn = lmdb::WriteTxn::Begin(*shard->env);
      ASSERT_EQ(Describe(c.act(**txn, *shard)), "ok") << c.name;
      ASSERT_EQ(Describe((*txn)->Commit()), "ok");
    }
    const std::string words = FsckWords(story.built);
    EXPECT_NE(words.find(c.words), std::string::npos) << c.name << ":\n" << words;
  }
}

}  // namespace
}  // namespace orgtrail
