// Rows of the tests of this program come from ATTACK; those of other programs, and what is said of whole numbers, stand here.
// ORGTRAIL_REDTEAM_README=FILE writes README.md (a relative FILE is one of the source tree); RedTeamTable compares it.
#include "tests/redteam/table.h"

#include <gtest/gtest.h>
#include <limits.h>
#include <stdlib.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

constexpr int kNumbers = 107;

struct Attack {
  const char* file;
  int line, number;
  std::string attack, outcome;
};
std::vector<Attack>& Attacks() {
  static auto* const attacks = new std::vector<Attack>();
  return *attacks;
}

// Carried out over the real programs by other tests. Named one by one, so that a test that is renamed or gone is missed.
struct Elsewhere {
  std::vector<int> numbers;
  const char* program;
  const char* test;
  const char* attack;
  const char* outcome;
};
const Elsewhere kElsewhere[] = {
    {{1, 2, 3, 93}, "crash_test", "Crash.KillsAtAnyMomentLoseNothingAndDoubleNothing", "kill -9 of agent and aggregator at any moment under load",
     "every record a caller was told about is in the feed once; in the ledger the agent's epochs are one apart, and each says truly how the one before ended"},
    {{1}, "crash_test", "Crash.EachEndOfAnAgentWithoutLastWordsIsAnAlarm", "kill -9 the agent again and again, sooner than it starts, under 5,000 records/s",
     "every record a caller was told about is in the feed once; UNCLEAN_EPOCH is raised as often as the ledger has epochs after an end without last words, a page from the third on"},
    {{2, 3, 4, 17, 93}, "fault_test", "Fault.WhateverTheDiskDoesNothingAcknowledgedIsLostOrDoubled", "kill -9, power cuts, EIO, EROFS and ENOSPC at each call that changes a file: before it, half way, after it",
     "nothing acknowledged is lost or doubled; a failed fsync is never taken for a good one"},
    {{17}, "fault_test", "Fault.AReadOnlyDiskAcknowledgesNothingAndIsSaid", "the disk of the agent becomes read-only while it captures, then that of the aggregator",
     "no caller is told 200, no agent has a receipt; the program ends, a start says `remount it writable`; SILENT_AGENT, later UNCLEAN_EPOCH; writable again a start is enough, and nothing is lost"},
    {{57}, "full_disk_test", "FullDisk.AcknowledgementsStopReadsGoOnAndNothingIsLostOrDoubled", "the aggregator's disk without one free byte",
     "acknowledgements stop, agents are told, reads go on; nothing is lost when there is room again"},
    {{5}, "damage_test", "Damage.ABodyCostsItsBatchAndNoMore", "change a byte of a record that waits in the spool", "its batch is logged without its bodies, with a loss record and BODIES_MISSING; nothing else is lost; verify exits 3 (incomplete)"},
    {{6}, "damage_test", "Damage.ASignedHeaderIsMadeWholeFromItsCopy", "change a signed header that waits in the spool", "made whole from its copy"},
    {{6}, "damage_test", "Damage.WhenBothEntriesAreGoneTheChainGoesOnInANewEpoch", "change a signed header and its copy", "SPOOL_TAMPER; a new epoch goes on, with a loss record"},
    {{16}, "failure_test", "Failure.AFullSpoolRefusesCallersHoldsFilesAndDrainsLater", "a full spool",
     "callers are refused, files are held, nothing is lost; it drains later"},
    {{23}, "failure_test", "Failure.WithoutItsAggregatorAnAgentKeepsEverythingAndCatchesUpInOrder", "no way to the aggregator",
     "the spool holds; everything arrives in order"},
    {{23}, "failure_test", "Failure.CutOffAnAgentIsMissedAndWhatItKeptComesLateInOrder", "a firewall that drops all between agent and aggregator",
     "SILENT_AGENT after three heartbeats; the spool holds; afterwards everything arrives in order, each record says when it was captured and when logged, and the alarm clears"},
    {{58, 60, 61, 62, 63, 64, 68}, "real_input_test", "RealInput.GeneratedLinesOfEveryShapeComeOutAsTheRulesSay",
     "lines of every odd shape in one file, beside good ones",
     "kept byte for byte, or wrapped and flagged; delivered as the rules say"},
    {{58, 68}, "real_input_test", "RealInput.ARecordBeyondAMebibyteComesBackWhole", "a record beyond a mebibyte", "chunked, and read back whole"},
    {{69}, "access_test", "Access.OnlyGovernanceChangesAnything", "members, auditors and operators change things", "refused"},
    {{82}, "enrolment_test", "EnrolmentE2e.AUsedTokenAdmitsNobodyElseAndSomebodyHearsOfIt", "use a join token again", "TOKEN_USED, an alarm"},
    {{82}, "enrolment_test", "EnrolmentE2e.OfTwoThatRaceWithOneTokenOneGetsIn", "race with one token", "one gets in"},
    {{82}, "enrolment_test", "EnrolmentE2e.ATokenIsGoodForItsTimeItsAccountItsRegionAndItsName", "a token elsewhere, or too late", "refused"},
    {{84}, "enrolment_test", "EnrolmentE2e.AnotherCaIsFoundOutBeforeAnythingIsSent", "another CA at the enrolment port", "nothing is sent to it"},
    {{87}, "scrub_test", "Scrub.DamageIsAnAlarmItIsNeverReadAndItsRepairClearsIt", "change a bit of a sealed shard under the running aggregator", "found within a round: STORE_DAMAGED with file and leaf; cleared when it is whole again"},
    {{87}, "repair_test", "Repair.LeavesArePutBackFromABackupAndTheLogSaysSo", "change every signed header of two shards, then `orgtrail repair` from a backup", "whole again, byte for byte in feed and proofs; LEDGER_REPAIRED in the log"},
    {{87}, "refill_test", "Refill.SealedShardsGetBackWhatTheirDiskDamaged", "change a bit of every record of a shard under the running aggregator, its agent connected", "comes back by itself, byte for byte in feed and proofs; LEDGER_REPAIRED in the log, the alarm clears"},
    {{87}, "refill_test", "Refill.OtherRecordsThanWereSignedGetNowhere", "the agent sends other records under the signed entry when asked for them", "ROOT_MISMATCH; nothing is changed, STORE_DAMAGED stays"},
    {{87}, "repair_test", "Repair.NeitherAnOlderCopyNorAForgedOneIsTaken", "repair from an older copy, and from another log", "refused; nothing is changed"},
    {{87}, "repair_test", "Repair.ACopyOfThisLogWithOtherLeavesInItIsNotTaken", "repair from a copy of this log whose leaves were changed, with checksums that fit", "nothing of it is put back; fsck 2. A true copy named behind it repairs"},
    {{87}, "scrub_test", "Scrub.ADamagedIndexIsFoundAndMadeAgainFromTheLedger", "change bytes of the index under the running aggregator",
     "found within a round: STORE_DAMAGED with file and remedy; no row is shown that is not in the log; removed, it is made again, and the alarm clears; verify 0: the log is whole"},
    {{87}, "scrub_test", "Scrub.ADamagedTileIsFoundProvesNothingAndIsMadeAgain", "change a node of the tree under the running aggregator",
     "found within a round: STORE_DAMAGED; a proof made of it is refused by whoever checks it; fsck 2, verify 0, which believes no node; `orgtrail repair` makes it again from the leaves, fsck 0, the alarm clears"},
    {{102}, "recovery_test", "Recovery.ADeclaredRestoreGoesOnByItselfAndLosesNothingAgentsKept", "a cursor from behind the end of a log that was restored", "refused, with where to go on; one from before the end goes on"},
    {{94}, "scrub_test", "Scrub.AFileCutShortUnderTheAggregatorEndsItWithItsName", "truncate the newest shard under the running aggregator", "it ends with 134, and its last line names the file"},
    {{94}, "repair_test", "Repair.WhatCannotBeReadIsReplacedWhole", "truncate a shard and overwrite another's pages, then `orgtrail repair`", "replaced from the backup; nothing is lost"},
    {{94}, "repair_test", "Repair.TheNewestShardComesFromAMirrorThatHasAllThatWasSigned", "truncate the newest shard, then `orgtrail repair` from a mirror", "no start before it, everything is there after it"},
    {{101}, "access_test", "Access.ACursorIsGoodForItsOwnerOnly", "use somebody else's cursor", "refused"},
    {{102}, "feed_test", "Feed.AReaderThatDoesNotReadDelaysNobody", "subscribe and do not read", "nobody else is delayed; the cursor resumes"},
    {{107}, "fault_test", "Fault.NoRowIsShownBeforeTheRecordOfItsReadIsStored", "look records up while the aggregator's disk does not answer",
     "no row comes back before the disk does; then the rows, and the record of the read is in the log"},
    {{107}, "access_test", "Access.EveryReadIsOnRecordAndTheRecordSaysWhoReadWhat", "read audit data", "the read is a record, with who and what"},
};

// Carried out, and what comes of it is another thing than the acceptance table asks; or only a part of it is carried out.
struct Remark {
  int number;
  const char* why;
};
const Remark kOtherwise[] = {
    {5, "the row asks for LOSS(decode) and goes on; so it does, and since the bodies are gone `verify --strict` exits 3 (incomplete), not 0"},
    {10, "EQUIVOCATION instead of EPOCH_CONFLICT: a clone opens the epoch that the other has opened, with other keys, and is found by that, at once and not at its heartbeat"},
    {12, "within an epoch times never go back: how far behind a clock is shows only as time passes, and after a step ahead that was taken back the epoch's records keep the time that was ahead, with the boot clock beside it, and CLOCK_SKEW until the next epoch"},
    {16, "nothing is dropped by class: a full spool refuses callers and holds files, so that there is no LOSS(spool_full) to sign"},
    {17, "what cannot be stored for another reason than a full disk ends the agent, because only a start can tell what the disk has: then its silence is the alarm, not words over its stream"},
    {19, "backpressure instead of a quota: nothing is dropped, so no LOSS names the source"},
    {21, "CONFIG_CHANGED instead of CONFIG_TAMPER, which needs a policy that is obeyed"},
    {22, "the attempt is denied and not recorded: the kernel tells nobody without an audit rule"},
    {23, "a day is some seconds here; how long a spool holds is a matter of its size"},
    {24, "no source of this release has a counter of what it lost; a file source that lost lines does not know how many: one record of it says so, count 1"},
    {25, "the handshake refuses before gRPC begins: no status 16, and no record of strangers"},
    {42, "a key of small order is BOUNDS: refused with the key list, before anything could be signed with it"},
    {49, "gRPC buffers a message before it compares its length; what all connections buffer is bounded instead"},
    {51, "100 connections at once and 20 a second of an identity instead of 2; none of them without a call lives longer than a minute"},
    {52, "the connection is closed at the socket, without GOAWAY; what it costs in processor time is bounded only by its end, and how late others are is not measured"},
    {53, "two streams of an identity are served, but the connection may open 64: gRPC cannot be told to count by method"},
    {69, "there are no trails to stop or change in this release, and no verb for it: what a member cannot do is enrol, revoke and create for others"},
    {85, "enrolments are in the account's list of agents; there is no feed of them of its own"},
    {87, "verify exits 2 for leaves, and 0 when only tree nodes or the index are damaged: it computes the tree itself, and the index holds nothing that is proven; fsck and the scrub look at nodes. The index is made again when somebody removes it; until a round has found the damage a lookup may miss rows, feed and proofs do not"},
    {90, "there are no witnesses in this release: a fork is seen by the agents it is shown to"},
    {91, "a leaf that is dropped after its receipt was good is found by consistency at the next head, not by asking for its proof; `verify ledger` alone exits 0, because what is left is a log of its own: `verify feed` of what was saved before exits 2"},
    {93, "how long a start takes over 10 million leaves is a bench, not a test: the ledger opens in 2.5 ms (`ledger_bench --benchmark_filter=BM_OpenTenMillionLeaves`, warm cache, a load of 12)"},
    {95, "tiles are served over gRPC by number, there are no paths"},
    {105, "nothing is redacted in this release: what expired is"},
};
const Remark kNotHere[] = {
    {70, "policy is logged, not obeyed, in this release: nobody can weaken what is always captured"},
    {71, "policy is logged, not obeyed, in this release: nobody can weaken what is always captured"},
    {72, "policy is logged, not obeyed, in this release: nobody can weaken what is always captured"},
    {73, "policy is logged, not obeyed, in this release: nobody can weaken what is always captured"},
    {74, "policy is logged, not obeyed, in this release: nobody can weaken what is always captured"},
    {75, "policy is logged, not obeyed, in this release: nobody can weaken what is always captured"},
    {76, "policy is logged, not obeyed, in this release: nobody can weaken what is always captured"},
    {77, "policy is logged, not obeyed, in this release: nobody can weaken what is always captured"},
    {78, "policy is logged, not obeyed, in this release: nobody can weaken what is always captured"},
    {79, "policy is logged, not obeyed, in this release: nobody can weaken what is always captured"},
    {80, "policy is logged, not obeyed, in this release: nobody can weaken what is always captured"},
    {81, "policy is logged, not obeyed, in this release: nobody can weaken what is always captured"},
    {92, "there are no witnesses in this release"},
    {97, "log files and digests are not delivered in this release"},
    {98, "log files and digests are not delivered in this release"},
    {99, "log files and digests are not delivered in this release"},
    {100, "log files and digests are not delivered in this release"},
    {103, "one region's log in this release"},
};

// "program: Suite.Test" of the first test of `file` behind `line`; a test of this program has no program in front.
std::string TestBehind(const std::string& file, int line) {
  const auto& unit = *::testing::UnitTest::GetInstance();
  std::string name;
  int nearest = INT_MAX;
  for (int s = 0; s < unit.total_test_suite_count(); ++s) {
    const auto& suite = *unit.GetTestSuite(s);
    for (int t = 0; t < suite.total_test_count(); ++t) {
      const auto& info = *suite.GetTestInfo(t);
      if (file != info.file() || info.line() <= line || info.line() >= nearest) continue;
      nearest = info.line();
      name = std::string(suite.name()) + "." + info.name();
    }
  }
  return name;
}

struct Row {
  std::string attack, outcome, test;
  bool operator<(const Row& other) const { return std::tie(test, attack) < std::tie(other.test, other.attack); }
};
std::multimap<int, Row> Rows() {
  std::map<int, std::vector<Row>> sorted;
  for (const Attack& a : Attacks()) sorted[a.number].push_back({a.attack, a.outcome, TestBehind(a.file, a.line)});
  for (const Elsewhere& e : kElsewhere) {
    for (const int number : e.numbers) sorted[number].push_back({e.attack, e.outcome, std::string(e.program) + ": " + e.test});
  }
  std::multimap<int, Row> rows;
  for (auto& [number, of_it] : sorted) {
    std::stable_sort(of_it.begin(), of_it.end());   // whatever order the linker had
    for (Row& row : of_it) rows.insert({number, std::move(row)});
  }
  return rows;
}

std::string List(const std::set<int>& numbers) {
  std::string text;
  for (auto at = numbers.begin(); at != numbers.end();) {
    int last = *at;
    const int first = last;
    for (++at; at != numbers.end() && *at == last + 1; ++at) ++last;
    text += (text.empty() ? "" : ", ") + std::to_string(first) + (last == first ? "" : (last == first + 1 ? ", " : "–") + std::to_string(last));
  }
  return text;
}

std::string Readme() {
  const std::multimap<int, Row> rows = Rows();
  std::string text =
      "# Attacks carried out\n\nWritten by `ORGTRAIL_REDTEAM_README=tests/redteam/README.md redteam_test --gtest_filter=RedTeamTable.*` from the tests "
      "themselves;\nctest's `redteam_table` fails when this page says something else than they do. Each row is a test of ctest over the real programs, on a socket "
      "or on\ntheir files: one that does not hold fails it. After each `orgtrail verify ledger --strict` exits 0 unless the row says otherwise.\n\n"
      "| # | attack | outcome | test |\n| --- | --- | --- | --- |\n";
  std::set<int> carried_out;
  for (const auto& [number, row] : rows) {
    text += "| " + std::to_string(number) + " | " + row.attack + " | " + row.outcome + " | `" + row.test + "` |\n";
    carried_out.insert(number);
  }
  std::set<int> otherwise, missing, whole = carried_out;
  text += "\nCarried out in part, or with another outcome than the acceptance table asks:\n\n| # | what differs, and why |\n| --- | --- |\n";
  for (const Remark& r : kOtherwise) {
    text += "| " + std::to_string(r.number) + " | " + r.why + " |\n";
    otherwise.insert(r.number);
    whole.erase(r.number);
  }
  text += "\nNot carried out:\n\n| # | why |\n| --- | --- |\n";
  std::map<std::string, std::set<int>> reasons;
  for (const Remark& r : kNotHere) {
    reasons[r.why].insert(r.number);
    missing.insert(r.number);
  }
  std::vector<std::pair<std::set<int>, std::string>> by_number;
  for (const auto& [why, numbers] : reasons) by_number.push_back({numbers, why});
  std::sort(by_number.begin(), by_number.end());
  for (const auto& [numbers, why] : by_number) text += "| " + List(numbers) + " | " + why + " |\n";
  text += "\nOf the table's " + std::to_string(kNumbers) + " numbers " + std::to_string(carried_out.size()) + " are carried out, by " + std::to_string(rows.size()) +
          " rows: " + std::to_string(whole.size()) + " with the outcome it asks for, " + std::to_string(otherwise.size()) +
          " in part or with another one. " + std::to_string(missing.size()) + " are not: " + List(missing) + ".\n";
  return text;
}

std::string ReadmeFile() {
  const char* asked = getenv("ORGTRAIL_REDTEAM_README");
  const std::string path = asked != nullptr ? asked : "tests/redteam/README.md";
  return path.starts_with('/') ? path : std::string(ORGTRAIL_SOURCE_DIR) + "/" + path;
}

std::string TestsOf(const std::string& program) {
  const Ran listed = RunProgram({std::string(ORGTRAIL_TESTS_DIR) + "/" + program, "--gtest_list_tests"});
  std::string suite, all;
  for (const std::string& line : LinesOf(listed.out)) {
    if (!line.starts_with("  ")) {
      suite = line;
    } else {
      all += suite + line.substr(2) + "\n";
    }
  }
  return all;
}

TEST(RedTeamTable, NamesTestsThatExist) {
  std::map<std::string, std::string> tests;
  for (const Elsewhere& e : kElsewhere) {
    if (!tests.contains(e.program)) tests[e.program] = TestsOf(e.program);
    EXPECT_NE(tests[e.program].find(std::string(e.test) + "\n"), std::string::npos) << e.program << " has no " << e.test;
  }
  for (const Attack& a : Attacks()) EXPECT_NE(TestBehind(a.file, a.line), "") << a.file << ":" << a.line << ": no test follows";
}

TEST(RedTeamTable, LeavesNoNumberOut) {
  const std::multimap<int, Row> rows = Rows();
  std::set<int> not_here;
  for (const Remark& r : kNotHere) not_here.insert(r.number);
  for (int n = 1; n <= kNumbers; ++n) EXPECT_NE(rows.contains(n), not_here.contains(n)) << n << " is carried out, or is said not to be: one of the two";
  for (const auto& [n, row] : rows) EXPECT_TRUE(n >= 1 && n <= kNumbers) << n << " " << row.test;
  for (const Remark& r : kOtherwise) EXPECT_TRUE(rows.contains(r.number)) << r.number;
}

// Line by line, so that what differs is what is shown.
TEST(RedTeamTable, IsWhatTheReadmeSays) {
  const std::string path = ReadmeFile(), now = Readme();
  if (getenv("ORGTRAIL_REDTEAM_README") != nullptr) {
    WriteWhole(path, now);   // fails when it cannot
    std::printf("%s is written\n", path.c_str());
  }
  const std::vector<std::string> said = LinesOf(ReadWhole(path)), says = LinesOf(now);
  const std::set<std::string> had(said.begin(), said.end()), has(says.begin(), says.end());
  for (const std::string& line : says) EXPECT_TRUE(had.contains(line)) << path << " lacks: " << line;
  for (const std::string& line : said) EXPECT_TRUE(has.contains(line)) << path << " has, and no test does it: " << line;
  EXPECT_EQ(said, says) << "write it anew: ORGTRAIL_REDTEAM_README=tests/redteam/README.md redteam_test --gtest_filter=RedTeamTable.*";
}

}  // namespace

bool AddAttack(const char* file, int line, int number, std::string attack, std::string outcome) {
  Attacks().push_back({file, line, number, std::move(attack), std::move(outcome)});
  return true;
}

}  // namespace orgtrail::e2e
