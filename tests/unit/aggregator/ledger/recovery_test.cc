// What the ledger does when the world misbehaves: killed, full, damaged, rolled back.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "aggregator/ledger/fsck.h"
#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/shard.h"
#include "common/base/status.h"
#include "gtest/gtest.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

namespace stdfs = std::filesystem;

std::string Entry(uint64_t n) { return "OTT1 control entry " + std::to_string(n); }

std::vector<Finding> FsckOf(const LedgerBuilder& built, FsckTotals* totals = nullptr) {
  std::vector<Finding> findings;
  FsckTotals ignored;
  FsckOptions options;
  options.dir = built.options.dir;
  options.origin = built.origin;
  options.map_bytes = 64 << 20;
  options.kek = built.options.kek;
  EXPECT_EQ(Describe(Fsck(options, nullptr, &findings, totals ? totals : &ignored)), "ok");
  return findings;
}

std::string Words(const std::vector<Finding>& findings) {
  std::string words;
  for (const Finding& f : findings) words += "leaf " + std::to_string(f.leaf) + ": " + f.what + "\n";
  return words;
}

class RecoveryTest : public testing::Test {
 protected:
  // Leaves: 0 enrolment, 1 epoch_open, 2..4 batches, 5 control.
  void SetUp() override {
    ASSERT_EQ(Describe(built.Open()), "ok");
    agent = &built.Enrol("111111111111", "eu-central-1", "a");
    for (int i = 0; i < 3; ++i) ASSERT_EQ(Describe(built.Fill(*agent, 10)), "ok");
    ASSERT_EQ(Describe(built.Append(ControlItem(Entry(5)))), "ok");
  }
  std::string DataFile() const { return ShardDir(built.options.dir, 1) + "/data.mdb"; }
  void FlipInFile(const std::string& around, size_t offset) {
    const std::string file = *ReadFile(PosixFs(), DataFile(), 256 << 20);
    const size_t at = file.find(around);
    ASSERT_NE(at, std::string::npos);
    std::fstream f(DataFile(), std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(static_cast<std::streamoff>(at + offset));
    f.put(static_cast<char>(file[at + offset] ^ 0x10));
  }

  TempDir dir;
  StillClock clock;
  LedgerBuilder built{dir.path(), clock};
  TestAgent* agent = nullptr;
};

// Ends the process after the commit, before anything is signed or published: it looks at the clock when it begins, before the commit, and after it.
class KillingClock final : public Clock {
 public:
  explicit KillingClock(const StillClock& real) : real_(real) {}
  absl::Time Wall() const override { return real_.Wall(); }
  Tick Now() const override {
    if (++calls_ == 3) ::kill(::getpid(), SIGKILL);
    return real_.Now();
  }
  ClockQuality Quality() const override { return real_.Quality(); }
  std::string BootId() const override { return real_.BootId(); }

 private:
  const StillClock& real_;
  mutable int calls_ = 0;
};

TEST_F(RecoveryTest, KilledBetweenCommitAndPublishSignsTheSameNoteLater) {
  built.Shut();
  const pid_t child = ::fork();
  if (child == 0) {
    const KillingClock killing(clock);
    auto ledger = Ledger::Open(built.options, built.origin, &built.log_key, PosixFs(), killing);
    if (!ledger.ok()) ::_exit(1);
    std::vector<Admitted> group(1, ControlItem(Entry(6)));
    (void)(*ledger)->Append(group);
    ::_exit(2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;

  ASSERT_EQ(Describe(built.Open()), "ok");  // the dead writer's lock is gone with it
  const SignedHead head = built.ledger->head();
  EXPECT_EQ(head.size, 7u);
  EXPECT_EQ(*built.ledger->ReadEntry(6), Entry(6));
  EXPECT_EQ(head.note, SignNote(Checkpoint{built.origin, 7, head.root}.Text(), built.origin, built.log_key));
  ASSERT_EQ(Describe(built.Open()), "ok");
  EXPECT_EQ(built.ledger->head().note, head.note);
  built.Shut();
  EXPECT_EQ(Words(FsckOf(built)), "");
}

TEST_F(RecoveryTest, AFullMapWritesNothingAndGoesOnWhenThereIsRoom) {
  built.options.map_bytes = 2 << 20;
  ASSERT_EQ(Describe(built.Open()), "ok");
  absl::Status full;
  std::vector<Admitted> last;
  SignedHead before;
  for (uint64_t n = 0; n < 200 && full.ok(); ++n) {
    before = built.ledger->head();
    last.assign(1, ControlItem(Entry(100 + n)));
    last.push_back(ControlItem(std::string(30'000, static_cast<char>('a' + n % 26)) + std::to_string(n)));
    full = built.ledger->Append(last).status();
  }
  ASSERT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
  EXPECT_EQ(built.ledger->head().size, before.size);
  EXPECT_EQ(built.ledger->head().note, before.note);
  EXPECT_EQ(last[0].leaf->index, 0u);  // not told anything
  for (uint64_t i = 0; i < before.size; i += 7) EXPECT_EQ(Describe(built.ledger->Read(i).status()), "ok");  // reads go on
  EXPECT_EQ(built.ledger->FindLeaf(LeafHash(last[0].leaf->bytes)), std::nullopt);
  EXPECT_EQ(built.ledger->Append(last).status().code(), absl::StatusCode::kResourceExhausted);  // and again

  built.options.map_bytes = 64 << 20;
  ASSERT_EQ(Describe(built.Open()), "ok");
  ASSERT_EQ(Describe(built.ledger->Append(last).status()), "ok");
  EXPECT_EQ(last[0].leaf->index, before.size);
  EXPECT_EQ(*built.ledger->ReadEntry(before.size), last[0].leaf->bytes);
  built.Shut();
  EXPECT_EQ(Words(FsckOf(built)), "");
}

TEST_F(RecoveryTest, AFlippedByteIsNeverServed) {
  const std::string bytes = (*built.ledger->Read(3))->bytes;
  built.Shut();
  FlipInFile(bytes.substr(bytes.size() - 40), 20);  // in the compressed records
  ASSERT_EQ(Describe(built.Open()), "ok");          // the newest leaf and the tree are well
  for (int pass = 0; pass < 2; ++pass) {
    const absl::Status read = built.ledger->Read(3).status();
    EXPECT_EQ(read.code(), absl::StatusCode::kDataLoss);
    EXPECT_NE(read.message().find("leaf 3 in " + DataFile()), absl::string_view::npos) << read;
    EXPECT_NE(read.message().find("orgtrail fsck"), absl::string_view::npos) << read;
  }
  EXPECT_EQ(built.ledger->ReadRaw(3).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Describe(built.ledger->ReadEntry(3).status()), "ok");  // its own hash proves it
  EXPECT_EQ(Describe(built.ledger->Read(2).status()), "ok");
  built.Shut();
  const std::vector<Finding> findings = FsckOf(built);
  ASSERT_FALSE(findings.empty());
  EXPECT_EQ(findings[0].leaf, 3u);
  EXPECT_EQ(findings[0].file, DataFile());
  EXPECT_NE(findings[0].what.find("CRC"), std::string::npos) << findings[0].what;
  EXPECT_FALSE(findings[0].remedy.empty());
}

TEST_F(RecoveryTest, AFlippedByteInAnEntryIsNeverServed) {
  const std::string bytes = (*built.ledger->Read(3))->bytes;
  built.Shut();
  FlipInFile(bytes.substr(6, 64), 40);
  ASSERT_EQ(Describe(built.Open()), "ok");
  EXPECT_EQ(built.ledger->ReadEntry(3).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(built.ledger->Read(3).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(RecoveryTest, ADamagedNewestLeafStopsTheStart) {
  built.Shut();
  FlipInFile(Entry(5), 3);
  const absl::Status opened = built.Open();
  EXPECT_EQ(opened.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(opened.message().find("leaf 5"), absl::string_view::npos) << opened;
}

TEST_F(RecoveryTest, FsckOfAGoodLedgerFindsNothing) {
  ASSERT_EQ(Describe(built.Append(ControlItem(Entry(5)))), "ok");  // the same entry twice is fine
  Admitted contradicting = agent->Heartbeat();
  contradicting.batch.batch_seq = 1;
  std::vector<Finding> findings;
  FsckTotals totals;
  built.Shut();
  uint64_t told = 0;
  FsckOptions options;
  options.dir = built.options.dir;
  options.map_bytes = 64 << 20;
  ASSERT_EQ(Describe(Fsck(options, [&](uint64_t done, uint64_t total) {
              EXPECT_LE(done, total);
              told = done;
            }, &findings, &totals)), "ok");
  EXPECT_EQ(Words(findings), "");
  EXPECT_EQ(told, 7u);
  EXPECT_EQ(totals.leaves, 7u);
  EXPECT_EQ(totals.batches, 4u);
  EXPECT_EQ(totals.events, 30u);
  options.dir = dir.path() + "/nowhere";
  EXPECT_FALSE(Fsck(options, nullptr, &findings, &totals).ok());
}

// In a child, as the command line does: the ledger stays open here, and grows while it is looked at.
TEST_F(RecoveryTest, FsckOfALedgerInUse) {
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  built.Shut();
  const pid_t child = ::fork();
  if (child == 0) {
    char go = 0;
    if (::read(pipe_fds[0], &go, 1) != 1) ::_exit(3);
    std::vector<Finding> findings;
    FsckTotals totals;
    FsckOptions options;
    options.dir = built.options.dir;
    options.map_bytes = 64 << 20;
    bool ok = true;
    for (int i = 0; i < 20 && ok; ++i) ok = Fsck(options, nullptr, &findings, &totals).ok() && findings.empty();
    ::_exit(ok ? 0 : 1);
  }
  ASSERT_EQ(Describe(built.Open()), "ok");
  ASSERT_EQ(::write(pipe_fds[1], "g", 1), 1);
  for (uint64_t n = 10; n < 110; ++n) {
    clock.Advance(absl::Milliseconds(5));
    ASSERT_EQ(Describe(built.Append(ControlItem(Entry(n) + std::string(20'000, 'x')))), "ok");
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
}

// Every table tampered with by somebody who can write LMDB: CRCs and all.
TEST_F(RecoveryTest, FsckFindsEachKindOfTampering) {
  const BatchId id{agent->identity().uuid, 1, 2};
  const std::string uuid(agent->identity().uuid.view());
  const Hash leaf3 = *built.ledger->LeafHashAt(3);
  const std::string other_entry = Entry(99);
  const std::string agent_head = built.ledger->HeadOf(agent->identity().uuid)->Encode();
  const int64_t logged = built.ledger->ReadRaw(3)->logged_ns;
  const std::string batch3 = built.ledger->ReadRaw(3)->bytes, batch2 = built.ledger->ReadRaw(2)->bytes;
  built.Shut();
  const auto put_leaf = [](lmdb::WriteTxn& txn, const Shard& s, uint64_t index, std::string_view bytes, int64_t logged_ns) {
    StoredLeaf leaf;
    leaf.logged_ns = logged_ns;
    leaf.bytes = bytes;
    std::string value(StoredSize(leaf), '\0');
    WriteLeaf(index, leaf, value.data());
    return txn.Put(s.leaves, IndexKey(index), value);
  };
  const struct {
    const char* name;
    std::function<absl::Status(lmdb::WriteTxn&, const Shard&)> act;
    const char* words;
  } cases[] = {
      {"a leaf replaced, CRC made to fit", [&](auto& t, const Shard& s) { return put_leaf(t, s, 5, other_entry, logged + 1'000'000'000); },
       "leaf 5: tree node 0/5 is"},
      {"records of another batch under a signed entry",
       [&](auto& t, const Shard& s) {
         const FrameView a = *FrameView::Decode(batch3), b = *FrameView::Decode(batch2);
         std::string mixed = batch3.substr(0, static_cast<size_t>(a.packed.data() - batch3.data()));
         mixed += b.packed;
         return put_leaf(t, s, 3, mixed, logged);
       },
       "leaf 3: its records lead to"},
      {"a leaf removed", [&](auto& t, const Shard& s) { return t.Delete(s.leaves, IndexKey(3)); }, "leaf 3: it is missing"},
      {"a leaf logged earlier than the one in front", [&](auto& t, const Shard& s) { return put_leaf(t, s, 3, batch3, 1); },
       "leaf 3: it was logged before"},
      {"a node altered", [&](auto& t, const Shard& s) { return t.Put(s.nodes, NodeKey(1, 1), Sha256("x").view()); }, "tree node 1/1 is"},
      {"a node too many", [&](auto& t, const Shard& s) { return t.Put(s.nodes, NodeKey(40, 0) + "x", Sha256("x").view()); },
       "tree nodes; the leaves account for"},
      {"an identity moved", [&](auto& t, const Shard& s) { return t.Put(s.batches, BatchKey(id), IndexKey(2)); },
       "leaf 3: the identity map's entry for this batch is"},
      {"an identity removed", [&](auto& t, const Shard& s) { return t.Delete(s.batches, BatchKey(id)); },
       "leaf 3: the identity map's entry for this batch is missing"},
      {"an identity too many",
       [&](auto& t, const Shard& s) { return t.Put(s.batches, BatchKey(BatchId{Uuid{}, 1, 1}), IndexKey(2)); }, "table batches has 5 entries"},
      {"a hash removed", [&](auto& t, const Shard& s) { return t.Delete(s.hashes, leaf3.view()); }, "leaf 3: the hash index's entry"},
      {"a hash too many", [&](auto& t, const Shard& s) { return t.Put(s.hashes, Sha256("x").view(), IndexKey(1)); },
       "table hashes has 7 entries"},
      {"a control leaf hidden", [&](auto& t, const Shard& s) { return t.Delete(s.control, IndexKey(0)); },
       "leaf 0: it is missing in the control index"},
      {"a control leaf invented", [&](auto& t, const Shard& s) { return t.Put(s.control, IndexKey(3), ""); }, "table control has 3 entries"},
      {"a time removed", [&](auto& t, const Shard& s) { return t.Delete(s.times, IndexKey(static_cast<uint64_t>(logged))); },
       "leaf 3: the time index's entry is missing"},
      {"a head set back",
       [&](auto& t, const Shard& s) {
         AgentHead head = *AgentHead::Decode(agent_head);
         head.batch_seq -= 1;
         return t.Put(s.heads, uuid, head.Encode());
       },
       "its head says epoch 1, batch 2"},
      {"a head removed", [&](auto& t, const Shard& s) { return t.Delete(s.heads, uuid); }, "1 agents that have batches have no head"},
      {"a head damaged", [&](auto& t, const Shard& s) { return t.Put(s.heads, uuid, "x"); }, "does not decode"},
      {"a count altered",
       [&](auto& t, const Shard& s) {
         TreeState state = *TreeState::Decode(*t.Get(s.meta, kStateKey));
         state.events = 1;
         return t.Put(s.meta, kStateKey, state.Encode());
       },
       "the batches have 30 records, the ledger says 1"},
      {"the root altered",
       [&](auto& t, const Shard& s) {
         TreeState state = *TreeState::Decode(*t.Get(s.meta, kStateKey));
         state.root = Sha256("x");
         return t.Put(s.meta, kStateKey, state.Encode());
       },
       "the leaves lead to root"},
      {"the state damaged", [&](auto& t, const Shard& s) { return t.Put(s.meta, kStateKey, "\x01short"); }, "state is damaged"},
      {"the origin altered", [&](auto& t, const Shard& s) { return t.Put(s.meta, kOriginKey, "orgtrail.test/x"); }, "the stored origin is"},
  };
  const std::string good = dir.path() + "/good";
  stdfs::copy(built.options.dir, good, stdfs::copy_options::recursive);
  for (const auto& c : cases) {
    stdfs::remove_all(built.options.dir);
    stdfs::copy(good, built.options.dir, stdfs::copy_options::recursive);
    {
      auto shard = Shard::Open(ShardDir(built.options.dir, 1), 64 << 20, false);
      ASSERT_EQ(Describe(shard.status()), "ok");
      auto txn = lmdb::WriteTxn::Begin(*shard->env);
      ASSERT_EQ(Describe(txn.status()), "ok");
      ASSERT_EQ(Describe(c.act(**txn, *shard)), "ok") << c.name;
      ASSERT_EQ(Describe((*txn)->Commit()), "ok");
    }
    const std::string words = Words(FsckOf(built));
    EXPECT_NE(words.find(c.words), std::string::npos) << c.name << ":\n" << words;
  }
}

TEST_F(RecoveryTest, FsckOfEncryptedKeys) {
  built.options.kek = std::string(32, 'k');
  ASSERT_EQ(Describe(built.Open()), "ok");
  ASSERT_EQ(Describe(built.Fill(*agent, 3)), "ok");
  built.Shut();
  FsckTotals totals;
  EXPECT_EQ(Words(FsckOf(built, &totals)), "");
  EXPECT_EQ(totals.records_unchecked, 0u);
  built.options.kek.clear();
  EXPECT_EQ(Words(FsckOf(built, &totals)), "");
  EXPECT_EQ(totals.records_unchecked, 1u);
  built.options.kek = std::string(32, 'x');
  EXPECT_NE(Words(FsckOf(built)).find("leaf 6: its batch key does not open"), std::string::npos);
}

TEST_F(RecoveryTest, AnOlderCopyDoesNotSign) {
  built.Shut();
  const std::string copy = dir.path() + "/copy";
  stdfs::copy(built.options.dir, copy, stdfs::copy_options::recursive);
  ASSERT_EQ(Describe(built.Open()), "ok");
  ASSERT_EQ(Describe(built.Append(ControlItem(Entry(6)))), "ok");
  built.Shut();  // anchors on the way out
  stdfs::remove_all(built.options.dir);
  stdfs::copy(copy, built.options.dir, stdfs::copy_options::recursive);
  const absl::Status refused = built.Open();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(refused.message().find("LOG_ROLLBACK"), absl::string_view::npos) << refused;
  EXPECT_NE(refused.message().find("has 6 leaves"), absl::string_view::npos) << refused;
  EXPECT_NE(refused.message().find("records 7"), absl::string_view::npos) << refused;
  EXPECT_NE(refused.message().find("newest copy"), absl::string_view::npos) << refused;
}

TEST_F(RecoveryTest, AnotherHistoryDoesNotSign) {
  built.Shut();
  stdfs::remove_all(built.options.dir);
  const LedgerOptions real = built.options;
  built.options.anchor_dir = dir.path() + "/other-anchor";
  ASSERT_EQ(Describe(built.Open()), "ok");
  for (uint64_t n = 0; n < 8; ++n) ASSERT_EQ(Describe(built.Append(ControlItem(Entry(n)))), "ok");
  built.options = real;
  const absl::Status refused = built.Open();
  EXPECT_NE(refused.message().find("LOG_ROLLBACK"), absl::string_view::npos) << refused;
  EXPECT_NE(refused.message().find("another root at size 6"), absl::string_view::npos) << refused;
}

TEST_F(RecoveryTest, AnAnchorThatIsNotOursIsRefused) {
  built.Shut();
  const std::string file = built.options.anchor_dir + "/head";
  const std::string good = *ReadFile(PosixFs(), file);
  SeededRng rng(7);
  const SigningKey other = SigningKey::Generate(rng);
  const std::string cases[] = {"", "garbage", good.substr(0, good.size() / 2),
                               SignNote(Checkpoint{built.origin, 1, Sha256("x")}.Text(), built.origin, other),
                               SignNote(Checkpoint{"orgtrail.test/x", 1, Sha256("x")}.Text(), "orgtrail.test/x", built.log_key)};
  for (const std::string& text : cases) {
    ASSERT_EQ(Describe(WriteFileAtomically(PosixFs(), file, text)), "ok");
    const absl::Status refused = built.Open();
    EXPECT_EQ(refused.code(), absl::StatusCode::kDataLoss) << text;
    EXPECT_NE(refused.message().find(file), absl::string_view::npos) << refused;
  }
  ASSERT_EQ(Describe(WriteFileAtomically(PosixFs(), file, good)), "ok");
  EXPECT_EQ(Describe(built.Open()), "ok");
  built.Shut();
  stdfs::remove(file);
  const absl::Status missing = built.Open();   // an older copy would look the same
  EXPECT_TRUE(absl::IsFailedPrecondition(missing));
  EXPECT_NE(missing.message().find("ANCHOR_MISSING"), absl::string_view::npos) << missing;
  EXPECT_NE(missing.message().find(file), absl::string_view::npos) << missing;
  EXPECT_FALSE(stdfs::exists(file));
}

TEST_F(RecoveryTest, ADeclaredRecoveryStandsInThePlaceOfTheAnchor) {
  const SignedHead head = built.ledger->head();
  built.Shut();
  const std::string file = built.options.anchor_dir + "/head";
  stdfs::remove(file);
  const Recovery good{built.origin, head.size, head.root, head.size + 5, Sha256("lost"), 1};
  Recovery longer = good, other = good;
  longer.restored_size = head.size + 1;
  other.restored_root = Sha256("another history");
  for (const Recovery& bad : {longer, other}) {
    built.options.recovery = bad;
    EXPECT_TRUE(absl::IsFailedPrecondition(built.Open()));
  }
  // An anchor of the lost branch must be known to the declaration.
  const auto anchor = [&](uint64_t size) {
    CHECK_OK(WriteFileAtomically(PosixFs(), file, SignNote(Checkpoint{built.origin, size, Sha256("lost")}.Text(), built.origin, built.log_key)));
  };
  built.options.recovery = good;
  anchor(head.size + 6);
  EXPECT_TRUE(absl::IsFailedPrecondition(built.Open()));
  anchor(head.size + 5);
  EXPECT_EQ(Describe(built.Open()), "ok");
  // Logged, and the process ended before the anchor followed: taken again. Something else behind that head: not.
  CHECK_OK(built.Append(ControlItem(RecoveryLeaf{1, SignNote(good.Text(), "ann", built.log_key)}.Encode())));
  built.Shut();
  stdfs::remove(file);
  EXPECT_EQ(Describe(built.Open()), "ok");
  built.Shut();
  built.options.recovery->time_ns = 2;
  EXPECT_TRUE(absl::IsFailedPrecondition(built.Open()));
}

TEST_F(RecoveryTest, TheAnchorIsThereBeforeTheFirstLeaf) {
  TempDir dir;
  StillClock clock;
  LedgerBuilder fresh(dir / "ledger", clock);
  fresh.options.anchor_dir = dir / "anchor";
  ASSERT_EQ(Describe(fresh.Open()), "ok");
  EXPECT_TRUE(stdfs::exists(fresh.options.anchor_dir + "/head"));
  fresh.Shut();
  EXPECT_EQ(Describe(fresh.Open()), "ok");
}

}  // namespace
}  // namespace orgtrail
