// Lies on the wire: an agent that is properly enrolled, with its own certificate and its own keys, signs and sends what it must not.
// Every row is a line of the table below: what it says, what it is told, what the log keeps of it, and who hears of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "absl/time/clock.h"
#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/shard.h"
#include "common/base/bytes.h"
#include "common/base/random.h"
#include "common/crypto/x509.h"
#include "common/format/control.h"
#include "common/fs/file.h"
#include "tests/redteam/memory_bound.h"
#include "tests/e2e/support/read_ledger.h"
#include "tests/redteam/rogue.h"
#include "tests/redteam/table.h"

namespace orgtrail::e2e {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using grpc::StatusCode;

enum class Kept { kNo, kYes, kApart };

struct Lie {
  int row;
  std::string what;
  std::string code;                  // empty: taken
  StatusCode status;                 // of the stream; OK: it goes on
  Kept kept = Kept::kNo;
  std::string alarm = "";            // code of the finding; empty: none about this agent
  bool evidence = false;             // a leaf of the log shows it
  std::function<std::vector<std::string>(Forger&, const std::string& record)> frames = nullptr;
};

using Frames = std::vector<std::string>;
Frames With(Forger& f, const std::string& record, const Forger::Odd& odd) { return {f.Batch({record}, odd)}; }
auto Header(std::function<void(BatchHeader&)> edit) {
  return [edit](Forger& f, const std::string& record) {
    Forger::Odd odd;
    odd.header = edit;
    return With(f, record, odd);
  };
}
auto Entry(std::function<void(std::string&)> edit) {
  return [edit](Forger& f, const std::string& record) {
    Forger::Odd odd;
    odd.entry = edit;
    return With(f, record, odd);
  };
}
auto Bytes(std::function<void(std::string&)> edit) {
  return [edit](Forger& f, const std::string& record) {
    std::string frame = f.Batch({record});
    edit(frame);
    return Frames{frame};
  };
}
// A well-signed frame around `zstd` in place of its rows.
auto Zstd(std::string zstd) {
  return Bytes([zstd](std::string& frame) { frame = frame.substr(0, frame.size() - FrameView::Decode(frame)->packed.size()) + zstd; });
}
std::string ZstdHeader(uint8_t descriptor, std::string_view more, std::optional<uint64_t> size) {
  std::string out("\x28\xb5\x2f\xfd", 4);
  out += static_cast<char>(descriptor);
  out += more;
  for (int i = 0; size && i < 8; ++i) out += static_cast<char>(*size >> (8 * i));
  return out;
}
std::string ZeroBlocks(size_t n) {   // each is 128 KiB of zeros in four bytes
  std::string out;
  for (size_t i = 0; i < n; ++i) {
    const uint32_t block = (128u << 10) << 3 | 1u << 1 | (i + 1 == n ? 1u : 0u);
    for (int b = 0; b < 3; ++b) out += static_cast<char>(block >> (8 * b));
    out += '\0';
  }
  return out;
}
constexpr uint64_t kMiB = 1 << 20, kDay = 86'400'000'000'000;

void AddOrder(std::string& entry) {   // L = 2^252 + 27742317777372353535851937790883648493, little-endian, added to S
  static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
                                    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0x10};
  char* s = entry.data() + entry.size() - 32;
  int carry = 0;
  for (int i = 0; i < 32; ++i) {
    carry += static_cast<uint8_t>(s[i]) + order[i];
    s[i] = static_cast<char>(carry);
    carry >>= 8;
  }
}

const std::vector<Lie>& Lies() {
  static const auto* const lies = new std::vector<Lie>{
      {28, "the header names another account", "IDENTITY_MISMATCH", StatusCode::PERMISSION_DENIED, Kept::kNo, "IDENTITY_MISMATCH", false,
       Header([](BatchHeader& h) { h.account = kBob; })},
      {28, "… another region", "IDENTITY_MISMATCH", StatusCode::PERMISSION_DENIED, Kept::kNo, "IDENTITY_MISMATCH", false,
       Header([](BatchHeader& h) { h.region = "eu-west-1"; })},
      {28, "… another agent", "IDENTITY_MISMATCH", StatusCode::PERMISSION_DENIED, Kept::kNo, "IDENTITY_MISMATCH", false,
       Header([](BatchHeader& h) { h.agent = "web-2"; })},
      {28, "… another uuid", "IDENTITY_MISMATCH", StatusCode::PERMISSION_DENIED, Kept::kNo, "IDENTITY_MISMATCH", false,
       Header([](BatchHeader& h) { h.agent_uuid.bytes[0] ^= 1; })},
      {35, "batch n+2 before n+1", "CHAIN_EXPECT", StatusCode::OK, Kept::kNo, "", false, Header([](BatchHeader& h) { h.batch_seq += 1; })},
      {35, "batch 2^64-1", "CHAIN_EXPECT", StatusCode::OK, Kept::kNo, "", false, Header([](BatchHeader& h) { h.batch_seq = UINT64_MAX; })},
      {36, "prev_hash of something else", "CHAIN_EXPECT", StatusCode::OK, Kept::kNo, "", false, Header([](BatchHeader& h) { h.prev_hash.bytes[3] ^= 1; })},
      {36, "prev_hash zero", "CHAIN_EXPECT", StatusCode::OK, Kept::kNo, "", false, Header([](BatchHeader& h) { h.prev_hash = Hash{}; })},
      {37, "n_events one too many", "COUNT_MISMATCH", StatusCode::INVALID_ARGUMENT, Kept::kNo, "COUNT_MISMATCH", true,
       Header([](BatchHeader& h) { ++h.n_events, ++h.last_seq, ++h.cum_events; })},
      {37, "n_events 2^32-1", "BOUNDS", StatusCode::INVALID_ARGUMENT, Kept::kNo, "BOUNDS", false, Header([](BatchHeader& h) { h.n_events = UINT32_MAX; })},
      {38, "first_seq beyond last_seq+1", "BOUNDS", StatusCode::INVALID_ARGUMENT, Kept::kNo, "BOUNDS", false,
       Header([](BatchHeader& h) { h.first_seq = h.last_seq + 3; })},
      {38, "counters that overflow", "BOUNDS", StatusCode::INVALID_ARGUMENT, Kept::kNo, "BOUNDS", false,
       Header([](BatchHeader& h) { h.first_seq = UINT64_MAX, h.last_seq = 1; })},
      {38, "totals that do not add up", "COUNT_MISMATCH", StatusCode::INVALID_ARGUMENT, Kept::kNo, "COUNT_MISMATCH", true,
       Header([](BatchHeader& h) { h.cum_events += 5; })},
      {37, "events_root of other events", "ROOT_MISMATCH", StatusCode::INVALID_ARGUMENT, Kept::kNo, "ROOT_MISMATCH", true,
       Header([](BatchHeader& h) { h.events_root.bytes[0] ^= 1; })},
      {42, "a signature of zeros", "SIG_INVALID", StatusCode::INVALID_ARGUMENT, Kept::kNo, "SIG_INVALID", true,
       [](Forger& f, const std::string& record) {
         Forger::Odd odd;
         odd.zero_signature = true;
         return With(f, record, odd);
       }},
      {42, "a signature with S+L", "SIG_INVALID", StatusCode::INVALID_ARGUMENT, Kept::kNo, "SIG_INVALID", true, Entry(AddOrder)},
      {42, "a one-time key of small order", "BOUNDS", StatusCode::INVALID_ARGUMENT, Kept::kNo, "BOUNDS", false,
       [](Forger& f, const std::string&) {
         Forger::Odd odd;
         odd.opening = [](EpochOpening& o) { o.keys[5] = PublicKey{}; };   // y = 0: order 4
         return Frames{f.Open(odd)};
       }},
      {42, "a slot that is another batch's", "SLOT_UNKNOWN", StatusCode::INVALID_ARGUMENT, Kept::kNo, "SLOT_UNKNOWN", true,
       Header([](BatchHeader& h) { h.key_slot = 1000; })},
      {43, "a signature under the epoch's label", "SIG_INVALID", StatusCode::INVALID_ARGUMENT, Kept::kNo, "SIG_INVALID", true,
       [](Forger& f, const std::string& record) {
         Forger::Odd odd;
         odd.label = kEpochLabel;
         return With(f, record, odd);
       }},
      {44, "version 2", "VERSION_UNKNOWN", StatusCode::INVALID_ARGUMENT, Kept::kNo, "VERSION_SKEW", false, Entry([](std::string& e) { e[4] = 2; })},
      {44, "kind 200", "VERSION_UNKNOWN", StatusCode::INVALID_ARGUMENT, Kept::kNo, "VERSION_SKEW", false,
       Entry([](std::string& e) { e[5] = static_cast<char>(200); })},
      {45, "OTE1 where OTB1 stands", "FRAME_MALFORMED", StatusCode::INVALID_ARGUMENT, Kept::kNo, "FRAME_MALFORMED", false,
       Entry([](std::string& e) { e[2] = 'E'; })},
      {45, "a frame cut short", "FRAME_MALFORMED", StatusCode::INVALID_ARGUMENT, Kept::kNo, "FRAME_MALFORMED", false, Bytes([](std::string& f) { f.resize(100); })},
      {45, "no frame at all", "FRAME_MALFORMED", StatusCode::INVALID_ARGUMENT, Kept::kNo, "FRAME_MALFORMED", false, Bytes([](std::string& f) { f = "hello"; })},
      {45, "bytes behind the frame", "FRAME_MALFORMED", StatusCode::INVALID_ARGUMENT, Kept::kNo, "FRAME_MALFORMED", false, Bytes([](std::string& f) { f += "xx"; })},
      {47, "zstd without a content size", "DECOMP_LIMIT", StatusCode::RESOURCE_EXHAUSTED, Kept::kNo, "DECOMP_LIMIT", false,
       Zstd(ZstdHeader(0, std::string(1, '\x50'), {}) + ZeroBlocks(1))},
      {47, "zstd that declares 1 GiB", "DECOMP_LIMIT", StatusCode::RESOURCE_EXHAUSTED, Kept::kNo, "DECOMP_LIMIT", false,
       Zstd(ZstdHeader(0xe0, "", 1 << 30) + ZeroBlocks(8192))},
      {47, "a zstd window of 2 GiB", "DECOMP_LIMIT", StatusCode::RESOURCE_EXHAUSTED, Kept::kNo, "DECOMP_LIMIT", false,
       Zstd(ZstdHeader(0xc0, "\xa8", kMiB) + ZeroBlocks(8))},
      {48, "zstd that declares 1 MiB and holds 2 GiB", "DECOMP_LIMIT", StatusCode::RESOURCE_EXHAUSTED, Kept::kNo, "DECOMP_LIMIT", false,
       Zstd(ZstdHeader(0xe0, "", kMiB) + ZeroBlocks(16384))},
      {48, "a zstd frame behind another", "FRAME_MALFORMED", StatusCode::INVALID_ARGUMENT, Kept::kNo, "FRAME_MALFORMED", false,
       Zstd(ZstdHeader(0xe0, "", kMiB) + ZeroBlocks(8) + ZstdHeader(0xe0, "", kMiB) + ZeroBlocks(8))},
      {48, "zstd with a dictionary", "DECOMP_LIMIT", StatusCode::RESOURCE_EXHAUSTED, Kept::kNo, "DECOMP_LIMIT", false,
       Zstd(ZstdHeader(0xe1, "\x07", kMiB) + ZeroBlocks(8))},
      {49, "an extension of 4 GiB by its length, and nothing behind it", "FRAME_MALFORMED", StatusCode::INVALID_ARGUMENT, Kept::kNo, "FRAME_MALFORMED", false,
       Bytes([](std::string& f) { f.replace(4 + 2 + GetU16(f.data() + 4), 4, "\xff\xff\xff\xff"); })},
      {13, "boot time that goes back within one boot", "MONO_ROLLBACK", StatusCode::ABORTED, Kept::kNo, "MONO_ROLLBACK", true,
       Header([](BatchHeader& h) { h.boot_close_ns -= 3'600'000'000'000; })},
      {34, "one place, signed twice with different content", "EQUIVOCATION", StatusCode::ABORTED, Kept::kNo, "EQUIVOCATION", true,
       [](Forger& f, const std::string& record) { return With(f, record, {}); }},   // behind the honest one: see the test
      // Authentic, and odd: kept, and somebody hears of it.
      {12, "the wall clock a day behind", "", StatusCode::OK, Kept::kYes, "", false, Header([](BatchHeader& h) { h.wall_close_ns -= kDay; })},
      {12, "the wall clock ten years ahead", "", StatusCode::OK, Kept::kYes, "CLOCK_SKEW", false, Header([](BatchHeader& h) { h.wall_close_ns += 3650 * kDay; })},
      {40, "a heartbeat that was signed yesterday", "", StatusCode::OK, Kept::kNo, "STALE_HEARTBEAT", false,
       [](Forger& f, const std::string&) {
         Forger::Odd odd;
         odd.header = [](BatchHeader& h) { h.wall_close_ns -= kDay; };
         return Frames{f.Batch({}, odd)};
       }},
      {41, "a head larger than the log ever was", "", StatusCode::OK, Kept::kYes, "SPLIT_VIEW_SUSPECT", false,
       Header([](BatchHeader& h) { h.seen_size = 1'000'000, h.seen_root = Sha256("no such head"); })},
      {41, "a head with a root that is not the log's", "", StatusCode::OK, Kept::kYes, "SPLIT_VIEW_SUSPECT", false,
       Header([](BatchHeader& h) { h.seen_size = 1, h.seen_root = Sha256("no such head"); })},
      {39, "a hole in the sequence and no loss record", "", StatusCode::OK, Kept::kYes, "UNEXPLAINED_GAP", false,
       [](Forger& f, const std::string& record) {
         Forger::Odd odd;
         odd.header = [](BatchHeader& h) { h.n_lost = 7, h.last_seq += 7, h.cum_lost += 7; };
         std::string hole = f.Batch({record}, odd);
         return Frames{hole, f.Batch({R"({"eventName":"Red","what":"the batch after the hole"})"})};   // no heartbeat: one may be stale by now
       }},
  };
  return *lies;
}

// Of these somebody is told at night.
const std::set<std::string>& Pages() {
  static const auto* const pages = new std::set<std::string>{"IDENTITY_MISMATCH", "EQUIVOCATION", "MONO_ROLLBACK", "SPLIT_VIEW_SUSPECT", "UNEXPLAINED_GAP", "CLOCK_SKEW"};
  return *pages;
}

// As the table of attacks says it.
std::string OutcomeOf(const Lie& lie) {
  const bool split = lie.code == "EQUIVOCATION" || lie.code == "MONO_ROLLBACK";
  return (lie.code.empty() ? std::string("taken") : "`" + lie.code + "`, gRPC " + std::to_string(lie.status)) +
         (split ? "; sent again: logged in quarantine" : "") + (lie.kept == Kept::kYes ? "; in the feed" : "") +
         (lie.alarm.empty() ? "" : "; alarm " + lie.alarm + (Pages().contains(lie.alarm) ? ", a page" : "")) + (lie.row == 39 ? "; verify --strict exits 3 (incomplete)" : "") +
         (lie.evidence ? "; evidence leaf" : "") + "; the honest chain goes on";
}

std::string RecordOf(const std::string& id, const std::string& account = kAlice) {
  return R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventName":"Red","eventID":")" + id + R"(","recipientAccountId":")" + account +
         "\"}";
}

class Wire : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    organization_ = new Organization({.accounts = {kAlice, kBob}});
    const std::string file = organization_->Path("token");
    organization_->Must({"agent", "token", "--account", kAlice, "--region", "us-east-1", "--uses", "1000", "--out", file});
    token_ = new std::string(ReadWhole(file));
  }
  static void TearDownTestSuite() {
    delete std::exchange(organization_, nullptr);
    delete std::exchange(token_, nullptr);
  }
  static Organization& organization() { return *organization_; }
  static Rogue Enrolled(const std::string& name) { return Rogue(*organization_, name, kAlice, *token_); }
  static bool Raised(std::string_view code, std::string_view subject) {
    for (const std::string& line : LinesOf(organization().Alarms())) {
      if (line.find(code) != std::string::npos && line.find(subject) != std::string::npos) return true;
    }
    return false;
  }
  static bool InFeed(const std::string& id, std::string_view as = "auditor") {
    for (const std::string& line : organization_->Feed({}, as)) {
      if (MemberOf(line, "eventID") == id) return true;
    }
    return false;
  }
  static bool Apart(const std::string& id) {
    const Ran found = organization_->Orgtrail({"events", "lookup", "-a", "EventId=" + id, "--quarantined", "--envelope", "-o", "jsonl"}, "auditor");
    return found.out.find("\"quarantined\":true") != std::string::npos;
  }

 private:
  static inline Organization* organization_ = nullptr;
  static inline std::string* token_ = nullptr;
};

const bool kLiesAreInTheTable = [] {
  for (const Lie& lie : Lies()) AddAttack(__FILE__, __LINE__, lie.row, lie.what, OutcomeOf(lie));
  return true;
}();
TEST_F(Wire, EveryLieIsToldByItsCodeAndNoChainIsWedged) {
  struct Told {
    const Lie* lie;
    std::string id, subject, uri;
  };
  std::vector<Told> told;
  const int64_t memory = organization().aggregator().ResidentBytes();
  int n = 0;
  for (const Lie& lie : Lies()) {
    const std::string name = "red-" + std::to_string(lie.row) + "-" + std::to_string(++n);
    SCOPED_TRACE(name + ": " + lie.what);
    const Rogue rogue = Enrolled(name);
    Forger honest = rogue.Signer(), liar = rogue.Signer();
    ASSERT_EQ(rogue.Send({honest.Open(), honest.Batch({RecordOf(name + "-before")})}).code, "");
    liar.state = honest.state;
    liar.tree = rogue.Signer().tree;
    const bool twice = lie.row == 34;   // the honest one came first
    if (twice) {
      ASSERT_EQ(rogue.Send({honest.Batch({RecordOf(name + "-first")})}).code, "");
    }
    const std::vector<std::string> frames = lie.frames(liar, RecordOf(name + "-lie"));
    const Answer answer = rogue.Send(frames);
    EXPECT_EQ(answer.code, lie.code) << answer.detail;
    EXPECT_EQ(answer.status, lie.status) << answer.detail;
    EXPECT_EQ(answer.closes, lie.status != StatusCode::OK);
    // The chain goes on: from the lie when it was taken, else from where it was; after a contradiction, apart.
    Forger& next = lie.code.empty() ? liar : honest;
    if (lie.code == "EQUIVOCATION" || lie.code == "MONO_ROLLBACK") {
      EXPECT_EQ(rogue.Send({frames.back()}).code, "");
      EXPECT_TRUE(Eventually(kSoon, [&] { return Apart(name + "-lie"); }));
    }
    const Answer after = rogue.Send({next.Batch({RecordOf(name + "-after")})});
    EXPECT_EQ(after.code, "") << after.detail;
    told.push_back({&lie, name, rogue.subject(), rogue.as().Uri()});
  }
  // Whatever sizes they claimed (35, 37, 47 to 49), nothing was set aside for it.
  EXPECT_LT(organization().aggregator().ResidentBytes() - memory, MemoryBound(128 << 20));
  std::set<std::string> feed;
  for (const std::string& line : organization().Feed()) feed.insert(MemberOf(line, "eventID"));
  // Evidence, from the leaves of the log.
  std::set<std::pair<std::string, std::string>> evidence;
  {
    ASSERT_EQ(organization().StopAggregator(), 0);
    const std::unique_ptr<Ledger> ledger = OpenLedger(organization());
    for (const uint64_t index : ledger->ControlLeaves(0, 100'000)) {
      const absl::StatusOr<std::string> entry = ledger->ReadEntry(index);
      ASSERT_TRUE(entry.ok());
      if (LeafMagic(*entry) != "OTV1") continue;
      const absl::StatusOr<EvidenceLeaf> leaf = EvidenceLeaf::Decode(*entry);
      ASSERT_TRUE(leaf.ok());
      evidence.insert({leaf->uri, leaf->code});
      EXPECT_TRUE(leaf->object.starts_with("OTB1")) << leaf->code;
      // What it contradicts is a leaf as well: the two entries of one place.
      if (leaf->code == "EQUIVOCATION") {
        ASSERT_NE(leaf->related_leaf, UINT64_MAX);
        const absl::StatusOr<std::string> first = ledger->ReadEntry(leaf->related_leaf);
        ASSERT_TRUE(first.ok());
        const absl::StatusOr<BatchEntry> one = BatchEntry::Decode(*first), other = BatchEntry::Decode(leaf->object);
        ASSERT_TRUE(one.ok() && other.ok());
        EXPECT_EQ(std::tie(one->header.agent_uuid, one->header.epoch, one->header.batch_seq), std::tie(other->header.agent_uuid, other->header.epoch, other->header.batch_seq));
        EXPECT_NE(*first, leaf->object);
      }
    }
  }
  organization().StartAggregator();
  const std::vector<std::string> alarms = LinesOf(organization().Alarms());
  for (const Told& t : told) {
    SCOPED_TRACE(t.id + ": " + t.lie->what);
    const bool split = t.lie->code == "EQUIVOCATION" || t.lie->code == "MONO_ROLLBACK";
    EXPECT_TRUE(feed.contains(t.id + "-before"));
    EXPECT_EQ(feed.contains(t.id + "-lie"), t.lie->kept == Kept::kYes);
    EXPECT_EQ(feed.contains(t.id + "-after"), !split);
    EXPECT_EQ(evidence.contains({t.uri, t.lie->code}), t.lie->evidence);
    std::set<std::string> about;
    for (const std::string& line : alarms) {
      if (MemberOf(line, "subject") != t.subject) continue;
      about.insert(MemberOf(line, "code"));
      EXPECT_TRUE(MemberOf(line, "severity") == "page" || !Pages().contains(MemberOf(line, "code"))) << line;
    }
    about.erase("SILENT_AGENT");   // it sent what it had to say and left
    about.erase("COVERAGE_MISSING");
    EXPECT_THAT(about, ::testing::ElementsAreArray(t.lie->alarm.empty() ? std::set<std::string>{} : std::set<std::string>{t.lie->alarm}));
  }
  // Whatever was taken is what its agents signed; one signed a hole and does not say why (39).
  const Ran verified = organization().Verify();
  EXPECT_EQ(verified.code, 3) << verified.out << verified.err;
  EXPECT_THAT(verified.out, HasSubstr("7 events lost at the source"));
  EXPECT_THAT(verified.out, HasSubstr("7 events are missing"));
  EXPECT_THAT(verified.out, Not(HasSubstr("INCOMPLETE  leaf")));   // and nothing else is
  EXPECT_EQ(organization().Orgtrail({"verify", "ledger", "--trust", organization().trust()}, "auditor").code, 0);
}

ATTACK(40, "hold a heartbeat back for as long as it takes to be missed, then send it", "STALE_HEARTBEAT; the silence goes on, until a fresh batch comes");
TEST_F(Wire, AHeartbeatThatWasHeldBackIsNoSignOfLife) {
  ASSERT_EQ(organization().StopAggregator(), 0);
  organization().Reconfigure("  heartbeat_interval: ", "  heartbeat_interval: 1s");
  organization().StartAggregator();
  const Rogue rogue = Enrolled("held-back");
  Forger signer = rogue.Signer();
  ASSERT_EQ(rogue.Send({signer.Open(), signer.Batch({RecordOf("held-back-before")})}).code, "");
  Forger::Odd yesterday;
  yesterday.header = [](BatchHeader& h) { h.wall_close_ns -= kDay; };
  const std::string held = signer.Batch({}, yesterday);
  const auto silent = [&] {
    for (const std::string& line : LinesOf(organization().Must({"alarms", "--max", "10000", "-o", "jsonl"}))) {
      if (MemberOf(line, "code") == "SILENT_AGENT" && MemberOf(line, "subject") == rogue.subject()) return true;
    }
    return false;
  };
  ASSERT_TRUE(Eventually(kPatience, silent));
  ASSERT_EQ(rogue.Send({held}).code, "");
  ASSERT_TRUE(Eventually(kSoon, [&] { return Raised("STALE_HEARTBEAT", rogue.subject()); }));
  const int64_t begin = absl::ToUnixSeconds(absl::Now());
  EXPECT_TRUE(Eventually(kSoon, [&] { return !silent() || absl::ToUnixSeconds(absl::Now()) > begin + 3; }));
  EXPECT_TRUE(silent()) << "a heartbeat of yesterday counts as a sign of life";
  ASSERT_EQ(rogue.Send({signer.Batch({RecordOf("held-back-after")})}).code, "");
  EXPECT_TRUE(Eventually(kSoon, [&] { return !silent(); }));
}

}  // namespace
}  // namespace orgtrail::e2e
