#include "aggregator/ledger/ledger.h"

#include <atomic>
#include <thread>

#include "common/base/status.h"
#include "common/format/note.h"
#include "gtest/gtest.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

std::string Entry(uint64_t n) { return "OTT1 control entry " + std::to_string(n); }

class LedgerTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(Describe(built.Open()), "ok"); }
  Ledger& ledger() { return *built.ledger; }

  TempDir dir;
  StillClock clock;
  LedgerBuilder built{dir.path(), clock};
};

TEST_F(LedgerTest, AnEmptyLedgerIsSigned) {
  const SignedHead head = ledger().head();
  EXPECT_EQ(head.size, 0u);
  EXPECT_EQ(head.root, EmptyRoot());
  const auto checkpoint = OpenCheckpoint(head.note, NoteKey{built.origin, 1, built.log_key.public_key()});
  ASSERT_EQ(Describe(checkpoint.status()), "ok");
  EXPECT_EQ(checkpoint->size, 0u);
  EXPECT_EQ(ledger().Read(0).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ledger().FirstLoggedAt(0), 0u);
}

TEST_F(LedgerTest, ReopensWithTheSameHeadNoteAndLeaves) {
  TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a");
  ASSERT_EQ(Describe(built.Fill(agent, 20)), "ok");
  ASSERT_EQ(Describe(built.Fill(agent, 30)), "ok");
  const SignedHead before = ledger().head();
  EXPECT_EQ(before.size, 4u);
  EXPECT_EQ(before.events, 50u);
  const auto leaf = ledger().Read(3);
  ASSERT_EQ(Describe(leaf.status()), "ok");
  const auto head = ledger().HeadOf(agent.identity().uuid);
  ASSERT_TRUE(head.has_value());

  ASSERT_EQ(Describe(built.Open()), "ok");
  const SignedHead after = ledger().head();
  EXPECT_EQ(after.size, before.size);
  EXPECT_EQ(after.root, before.root);
  EXPECT_EQ(after.note, before.note);
  EXPECT_EQ(after.events, before.events);
  const auto again = ledger().Read(3);  // from disk now
  ASSERT_EQ(Describe(again.status()), "ok");
  EXPECT_EQ((*again)->bytes, (*leaf)->bytes);
  EXPECT_EQ((*again)->hash, (*leaf)->hash);
  EXPECT_EQ((*again)->logged_ns, (*leaf)->logged_ns);
  ASSERT_EQ((*again)->events.rows.size(), 30u);
  EXPECT_EQ((*again)->events.rows[29].body, (*leaf)->events.rows[29].body);
  EXPECT_EQ(ledger().HeadOf(agent.identity().uuid)->Encode(), head->Encode());
  EXPECT_EQ(ledger().Heads().size(), 1u);
}

TEST_F(LedgerTest, HeadsKnowWhereTheirLeavesLie) {
  ASSERT_EQ(Describe(built.Append(ControlItem(Entry(0)))), "ok");
  TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a");  // leaves 1 and 2
  ASSERT_EQ(Describe(built.Fill(agent, 1)), "ok");
  // Two in one transaction: the second was sealed before anybody could know where the first came to lie.
  std::vector<Admitted> group;
  group.push_back(agent.Heartbeat());
  group.push_back(agent.Close());
  ASSERT_EQ(Describe(built.Append(std::move(group))), "ok");
  AgentHead head = *ledger().HeadOf(agent.identity().uuid);
  EXPECT_EQ(head.leaf_index, 5u);
  EXPECT_EQ(head.epoch_leaf, 2u);
  EXPECT_EQ(head.tree_leaf, 2u);
  EXPECT_TRUE(head.closed);
  EXPECT_EQ(head.leaf, *ledger().LeafHashAt(5));
  EXPECT_EQ(head.logged_ns, clock.WallNanos());
  ASSERT_EQ(Describe(built.Append(agent.Open())), "ok");
  head = *ledger().HeadOf(agent.identity().uuid);
  EXPECT_EQ(head.epoch, 2u);
  EXPECT_EQ(head.epoch_leaf, 6u);
}

// Proofs of every size up to 200 against trees built from the leaves alone.
TEST_F(LedgerTest, ProofsAreThoseOfTheNaiveTree) {
  constexpr uint64_t kLeaves = 200;
  std::vector<Hash> leaves;
  for (uint64_t n = 0; n < kLeaves;) {
    std::vector<Admitted> group;
    for (uint64_t i = 0; i < 1 + n % 7 && n < kLeaves; ++i, ++n) {
      group.push_back(ControlItem(Entry(n)));
      leaves.push_back(LeafHash(Entry(n)));
    }
    ASSERT_EQ(Describe(built.Append(std::move(group))), "ok");
  }
  std::vector<Hash> roots;
  for (uint64_t size = 0; size <= kLeaves; ++size) {
    roots.push_back(RootOf(std::span(leaves).first(size)));
    ASSERT_EQ(*ledger().Root(size), roots.back()) << size;
  }
  for (uint64_t size = 1; size <= kLeaves; ++size) {
    for (uint64_t i = 0; i < size; i += 1 + size / 13) {
      const auto path = ledger().Inclusion(i, size);
      ASSERT_EQ(Describe(path.status()), "ok");
      ASSERT_EQ(Describe(VerifyInclusion(leaves[i], i, size, *path, roots[size])), "ok") << i << " in " << size;
    }
    for (uint64_t old_size = 0; old_size <= size; old_size += 1 + size / 13) {
      const auto path = ledger().Consistency(old_size, size);
      ASSERT_EQ(Describe(path.status()), "ok");
      ASSERT_EQ(Describe(VerifyConsistency(old_size, roots[old_size], size, roots[size], *path)), "ok") << old_size << " to " << size;
    }
  }
  EXPECT_EQ(ledger().head().root, roots[kLeaves]);
  EXPECT_EQ(ledger().Root(kLeaves + 1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ledger().Inclusion(5, 5).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ledger().Consistency(6, 5).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(LedgerTest, TilesAreSubtreesOf256) {
  std::vector<Admitted> group;
  std::vector<Hash> leaves;
  for (uint64_t n = 0; n < 600; ++n) {
    group.push_back(ControlItem(Entry(n)));
    leaves.push_back(LeafHash(Entry(n)));
  }
  ASSERT_EQ(Describe(built.Append(std::move(group))), "ok");
  EXPECT_EQ(*ledger().Tile(0, 0, 256), std::vector<Hash>(leaves.begin(), leaves.begin() + 256));
  EXPECT_EQ(*ledger().Tile(0, 2, 88), std::vector<Hash>(leaves.begin() + 512, leaves.end()));
  EXPECT_EQ(*ledger().Tile(1, 0, 2), (std::vector<Hash>{RootOf(std::span(leaves).first(256)), RootOf(std::span(leaves).subspan(256, 256))}));
  const struct { int level; uint64_t tile; uint32_t width; absl::StatusCode code; } refused[] = {
      {0, 2, 89, absl::StatusCode::kNotFound},       {1, 0, 3, absl::StatusCode::kNotFound},
      {2, 0, 1, absl::StatusCode::kNotFound},        {0, 0, 0, absl::StatusCode::kInvalidArgument},
      {0, 0, 257, absl::StatusCode::kInvalidArgument}, {-1, 0, 1, absl::StatusCode::kInvalidArgument},
      {8, 0, 1, absl::StatusCode::kInvalidArgument}, {0, UINT64_MAX / 256, 256, absl::StatusCode::kInvalidArgument},
  };
  for (const auto& c : refused) EXPECT_EQ(ledger().Tile(c.level, c.tile, c.width).status().code(), c.code) << c.level << "/" << c.tile;
}

TEST_F(LedgerTest, ARepeatIsAnsweredAndNotStored) {
  TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a");
  ASSERT_EQ(Describe(built.Fill(agent, 5)), "ok");
  const std::string note = ledger().head().note;
  const auto logged = ledger().Read(2);
  ASSERT_EQ(Describe(logged.status()), "ok");

  const BatchId id{agent.identity().uuid, 1, 1};
  EXPECT_EQ(ledger().Find(id), 2u);
  EXPECT_EQ(ledger().FindLeaf((*logged)->hash), 2u);
  EXPECT_EQ(ledger().Find(BatchId{agent.identity().uuid, 1, 2}), std::nullopt);

  const Admitted next = agent.Heartbeat();
  std::vector<Admitted> group(4);
  group[0].batch = id;            // a known repeat
  group[0].duplicate_of = 2;
  group[1] = next;
  group[2].batch = next.batch;    // a repeat of the one in front of it
  group[2].repeats = next.leaf->hash;
  group[3].batch = id;            // the same bytes once more, by someone who did not know
  group[3].leaf = std::make_shared<Leaf>();
  group[3].leaf->bytes = (*logged)->bytes;
  group[3].leaf->is_batch = true;
  group[3].leaf->header = (*logged)->header;
  const auto flush = ledger().Append(group);
  ASSERT_EQ(Describe(flush.status()), "ok");
  const struct { uint64_t leaf; bool duplicate; } want[] = {{2, true}, {3, false}, {3, true}, {2, true}};
  ASSERT_EQ(flush->batches.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(flush->batches[i].leaf_index, want[i].leaf) << i;
    EXPECT_EQ(flush->batches[i].duplicate, want[i].duplicate) << i;
  }
  EXPECT_EQ(flush->head.size, 4u);
  EXPECT_EQ(ledger().head().events, 5u);

  // Repeats alone change nothing: the same head, the same note.
  std::vector<Admitted> repeat(1);
  repeat[0].batch = id;
  repeat[0].repeats = (*logged)->hash;
  const auto unchanged = ledger().Append(repeat);
  ASSERT_EQ(Describe(unchanged.status()), "ok");
  EXPECT_EQ(unchanged->head.size, 4u);
  EXPECT_EQ(unchanged->batches.at(0).leaf_index, 2u);
}

TEST_F(LedgerTest, AContradictingBatchIsKeptInQuarantine) {
  TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a");
  ASSERT_EQ(Describe(built.Fill(agent, 5)), "ok");
  const std::string head = ledger().HeadOf(agent.identity().uuid)->Encode();
  Admitted other = agent.Heartbeat();
  other.batch.batch_seq = 1;  // an identity that is taken
  ASSERT_EQ(Describe(built.Append(std::move(other))), "ok");
  EXPECT_EQ(ledger().head().size, 4u);
  EXPECT_EQ(ledger().ReadRaw(3)->flags, kLeafQuarantined);
  EXPECT_EQ(ledger().Find(BatchId{agent.identity().uuid, 1, 1}), 2u);
  EXPECT_EQ(ledger().HeadOf(agent.identity().uuid)->Encode(), head);
}

TEST_F(LedgerTest, TheSameControlEntryTwiceIsTwoLeaves) {
  ASSERT_EQ(Describe(built.Append(ControlItem(Entry(1)))), "ok");
  ASSERT_EQ(Describe(built.Append(ControlItem(Entry(1)))), "ok");
  EXPECT_EQ(ledger().head().size, 2u);
  EXPECT_EQ(ledger().FindLeaf(LeafHash(Entry(1))), 0u);
}

TEST_F(LedgerTest, ControlLeavesArePaged) {
  TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a");  // 0 control, 1 batch
  ASSERT_EQ(Describe(built.Fill(agent, 1)), "ok");                      // 2
  for (uint64_t n = 3; n < 8; ++n) ASSERT_EQ(Describe(built.Append(ControlItem(Entry(n)))), "ok");
  EXPECT_EQ(ledger().ControlLeaves(0, 100), (std::vector<uint64_t>{0, 3, 4, 5, 6, 7}));
  EXPECT_EQ(ledger().ControlLeaves(1, 2), (std::vector<uint64_t>{3, 4}));
  EXPECT_EQ(ledger().ControlLeaves(8, 2), (std::vector<uint64_t>{}));
  EXPECT_EQ(*ledger().ReadEntry(4), Entry(4));
  EXPECT_EQ(LeafHash(*ledger().ReadEntry(2)), *ledger().LeafHashAt(2));
}

TEST_F(LedgerTest, TimesOfLeavesDoNotGoBack) {
  const int64_t t0 = clock.WallNanos();
  ASSERT_EQ(Describe(built.Append(ControlItem(Entry(0)))), "ok");
  ASSERT_EQ(Describe(built.Append(ControlItem(Entry(1)))), "ok");  // the same instant
  clock.Advance(absl::Seconds(10));
  ASSERT_EQ(Describe(built.Append(ControlItem(Entry(2)))), "ok");
  clock.Advance(-absl::Hours(1));
  ASSERT_EQ(Describe(built.Append(ControlItem(Entry(3)))), "ok");  // logged with the time before
  clock.Advance(absl::Hours(2));
  ASSERT_EQ(Describe(built.Append(ControlItem(Entry(4)))), "ok");
  const int64_t second = 1'000'000'000;
  EXPECT_EQ(ledger().ReadRaw(3)->logged_ns, t0 + 10 * second);
  const struct { int64_t at; uint64_t first; } cases[] = {
      {INT64_MIN, 0}, {0, 0}, {t0, 0}, {t0 + 1, 2}, {t0 + 10 * second, 2}, {t0 + 10 * second + 1, 4},
      {t0 + 3610 * second, 4}, {t0 + 3611 * second, 5}, {INT64_MAX, 5},
  };
  for (const auto& c : cases) EXPECT_EQ(ledger().FirstLoggedAt(c.at), c.first) << c.at - t0;
  ASSERT_EQ(Describe(built.Open()), "ok");
  for (const auto& c : cases) EXPECT_EQ(ledger().FirstLoggedAt(c.at), c.first) << c.at - t0;
}

TEST_F(LedgerTest, LeavesBeyondTheTailComeFromDiskOnce) {
  built.options.tail_bytes = 1;  // holds the newest leaf only
  ASSERT_EQ(Describe(built.Open()), "ok");
  TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a", "any");
  ASSERT_EQ(Describe(built.Fill(agent, 10)), "ok");
  ASSERT_EQ(Describe(built.Fill(agent, 10)), "ok");
  std::vector<Uuid> asked;
  ledger().SetCarries([&](const Uuid& uuid) {
    asked.push_back(uuid);
    return std::string("any");
  });
  const auto newest = ledger().Read(3), disk = ledger().Read(2), again = ledger().Read(2);
  ASSERT_EQ(Describe(disk.status()), "ok");
  EXPECT_EQ((*disk)->events.rows.size(), 10u);
  EXPECT_EQ((*disk)->facts.size(), 10u);
  EXPECT_EQ((*disk)->facts[0].account, "111111111111");
  EXPECT_EQ(disk->get(), again->get());  // inflated once
  EXPECT_EQ(asked, std::vector<Uuid>{agent.identity().uuid});
  EXPECT_EQ(IdentityLeaf::Decode((*ledger().Read(0))->bytes)->carries, "any");
  EXPECT_FALSE((*ledger().Read(0))->is_batch);
}

TEST_F(LedgerTest, WaitersWakeAtTheirSizeAndAtShutdown) {
  std::atomic<int> grown{0}, ended{0};
  std::vector<std::thread> threads;
  for (uint64_t size : {0, 0, 1, 2}) {
    threads.emplace_back([&, size] { grown += ledger().WaitBeyond(size, absl::Hours(2)) ? 1 : 0; });
  }
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] { ended += ledger().WaitBeyond(1000, absl::InfiniteDuration()) ? 0 : 1; });
  }
  for (uint64_t n = 0; n < 3; ++n) ASSERT_EQ(Describe(built.Append(ControlItem(Entry(n)))), "ok");
  for (int i = 0; i < 4; ++i) threads[i].join();
  EXPECT_EQ(grown, 4);
  ledger().Wake();
  for (int i = 4; i < 6; ++i) threads[i].join();
  EXPECT_EQ(ended, 2);
  EXPECT_FALSE(ledger().WaitBeyond(3, absl::Hours(2)));  // now and later
  EXPECT_TRUE(ledger().WaitBeyond(2, absl::Hours(2)));
}

TEST_F(LedgerTest, ReadersRunBesideTheWriter) {
  TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a");
  std::atomic<bool> done{false};
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; ++t) {
    readers.emplace_back([&] {
      uint64_t next = 0;
      while (!done || next < ledger().head().size) {
        if (!ledger().WaitBeyond(next, absl::Milliseconds(20))) continue;
        const SignedHead head = ledger().head();
        for (; next < head.size; ++next) {
          const auto leaf = ledger().Read(next);
          ASSERT_EQ(Describe(leaf.status()), "ok");
          ASSERT_EQ((*leaf)->index, next);
          const auto path = ledger().Inclusion(next, head.size);
          ASSERT_EQ(Describe(path.status()), "ok");
          ASSERT_EQ(Describe(VerifyInclusion((*leaf)->hash, next, head.size, *path, head.root)), "ok");
        }
      }
    });
  }
  for (int i = 0; i < 30; ++i) ASSERT_EQ(Describe(built.Fill(agent, 3)), "ok");
  done = true;
  ledger().Wake();
  for (std::thread& t : readers) t.join();
  EXPECT_EQ(ledger().head().size, 32u);
}

TEST_F(LedgerTest, OpensForOneWriterOfOneLog) {
  TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a");
  ASSERT_EQ(Describe(built.Fill(agent, 1)), "ok");
  EXPECT_EQ(Ledger::Open(built.options, built.origin, &built.log_key, PosixFs(), clock).status().code(),
            absl::StatusCode::kFailedPrecondition);
  const std::string note = ledger().head().note;
  built.Shut();
  const auto other = Ledger::Open(built.options, "orgtrail.test/other", &built.log_key, PosixFs(), clock);
  EXPECT_EQ(other.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(other.status().message().find("orgtrail.test/o-demo"), absl::string_view::npos) << other.status();

  LedgerOptions options = built.options;
  options.read_only = true;
  auto read_only = Ledger::Open(options, "", nullptr, PosixFs(), clock);
  ASSERT_EQ(Describe(read_only.status()), "ok");
  EXPECT_EQ((*read_only)->origin(), built.origin);
  EXPECT_EQ((*read_only)->head().note, note);  // stored when the writer closed
  EXPECT_EQ((*read_only)->head().size, 3u);
  options.dir = dir.path() + "/nowhere";
  EXPECT_EQ(Ledger::Open(options, "", nullptr, PosixFs(), clock).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LedgerTest, BatchKeysAreSealedAtRestAndRestored) {
  TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a");
  ASSERT_EQ(Describe(built.Fill(agent, 2)), "ok");  // stored as it came
  built.options.kek = std::string(32, 'k');
  ASSERT_EQ(Describe(built.Open()), "ok");
  ASSERT_EQ(Describe(built.Fill(agent, 2)), "ok");
  const std::string bytes = (*ledger().Read(3))->bytes;
  const std::string key(FrameView::Decode(bytes)->batch_key);

  ASSERT_EQ(Describe(built.Open()), "ok");
  EXPECT_EQ(ledger().ReadRaw(3)->bytes, bytes);
  EXPECT_EQ(Describe(ledger().Read(2).status()), "ok");
  built.Shut();
  const std::string file = *ReadFile(PosixFs(), built.options.dir + "/shard-000001/data.mdb", 256 << 20);
  EXPECT_EQ(file.find(key), std::string::npos);  // never on disk in the clear

  // Found at the start, whoever writes; a reader without the key sees what is public.
  for (const auto& [kek, words] : {std::pair{std::string(), "no ledger.key_encryption_key is configured"}, {std::string(32, 'x'), "is another file than"}}) {
    built.options.kek = kek;
    const absl::Status opened = built.Open();
    EXPECT_EQ(opened.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(opened.message().find(words), absl::string_view::npos) << opened;
  }
  {
    LedgerOptions look = built.options;
    look.read_only = true;
    EXPECT_EQ(Ledger::Open(look, "", nullptr, PosixFs(), clock).status().code(), absl::StatusCode::kFailedPrecondition);
    look.kek.clear();
    const std::unique_ptr<Ledger> read = *Ledger::Open(look, "", nullptr, PosixFs(), clock);
    EXPECT_EQ(read->Read(3).status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(Describe(read->ReadEntry(3).status()), "ok");
    EXPECT_EQ(Describe(read->Read(2).status()), "ok");
  }
  built.options.kek = "short";
  EXPECT_EQ(built.Open().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace orgtrail
