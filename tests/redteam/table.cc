#include "tests/redteam/table.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <map>
#include <vector>

#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

struct Row {
  std::string attack, outcome, test;
  bool held = true;
};
std::multimap<int, Row>& Table() {
  static auto* const table = new std::multimap<int, Row>();
  return *table;
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
     "every record a caller was told about is in the feed once"},
    {{4, 17, 93}, "fault_test", "Fault.WhateverTheDiskDoesNothingAcknowledgedIsLostOrDoubled", "a disk that fails, fills up, or loses power, at each call that changes a file",
     "nothing acknowledged is lost or doubled; a failed fsync is never taken for a good one"},
    {{57}, "full_disk_test", "FullDisk.AcknowledgementsStopReadsGoOnAndNothingIsLostOrDoubled", "the aggregator's disk without one free byte",
     "acknowledgements stop, agents are told, reads go on; nothing is lost when there is room again"},
    {{5}, "damage_test", "Damage.ABodyCostsItsBatchAndNoMore", "change a byte of a record that waits in the spool", "its batch is logged without its bodies, with a loss record and BODIES_MISSING; nothing else is lost; verify exits 3 (incomplete)"},
    {{6}, "damage_test", "Damage.ASignedHeaderIsMadeWholeFromItsCopy", "change a signed header that waits in the spool", "made whole from its copy"},
    {{6}, "damage_test", "Damage.WhenBothEntriesAreGoneTheChainGoesOnInANewEpoch", "change a signed header and its copy", "SPOOL_TAMPER; a new epoch goes on, with a loss record"},
    {{16}, "failure_test", "Failure.AFullSpoolRefusesCallersHoldsFilesAndDrainsLater", "a full spool",
     "callers are refused, files are held, nothing is lost; it drains later"},
    {{23}, "failure_test", "Failure.WithoutItsAggregatorAnAgentKeepsEverythingAndCatchesUpInOrder", "no way to the aggregator",
     "the spool holds; everything arrives in order"},
    {{58, 60, 61, 62, 63, 64, 65, 67, 68}, "real_input_test", "RealInput.GeneratedLinesOfEveryShapeComeOutAsTheRulesSay",
     "padding, depth, duplicate keys, broken UTF-8, numbers, times, injection, repeated ids, long names",
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
    {{94}, "scrub_test", "Scrub.AFileCutShortUnderTheAggregatorEndsItWithItsName", "truncate the newest shard under the running aggregator", "it ends with 134, and its last line names the file"},
    {{94}, "repair_test", "Repair.WhatCannotBeReadIsReplacedWhole", "truncate a shard and overwrite another's pages, then `orgtrail repair`", "replaced from the backup; nothing is lost"},
    {{94}, "repair_test", "Repair.TheNewestShardComesFromAMirrorThatHasAllThatWasSigned", "truncate the newest shard, then `orgtrail repair` from a mirror", "no start before it, everything is there after it"},
    {{101}, "access_test", "Access.ACursorIsGoodForItsOwnerOnly", "use somebody else's cursor", "refused"},
    {{102}, "feed_test", "Feed.AReaderThatDoesNotReadDelaysNobody", "subscribe and do not read", "nobody else is delayed; the cursor resumes"},
    {{107}, "access_test", "Access.EveryReadIsOnRecordAndTheRecordSaysWhoReadWhat", "read audit data", "the read is a record, with who and what"},
};

// What no test can carry out yet, and why.
struct NotHere {
  const char* numbers;
  const char* why;
};
const NotHere kNotHere[] = {
    {"24", "no source with a counter of its own losses in this release; what a file source knows it lost is a signed loss record (file_tail_test)"},
    {"69 in part, 70–81", "policy is logged, not obeyed, in this release: nobody can weaken what is always captured"},
    {"92, 90 in part", "there are no witnesses in this release: a fork is seen by the agents it is shown to"},
    {"97–100", "log files and digests are not delivered in this release"},
    {"103", "one region's log in this release"},
    {"105 in part", "nothing is redacted in this release"},
};

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

class Readme : public ::testing::EmptyTestEventListener {
  void OnTestEnd(const ::testing::TestInfo& info) override {
    const std::string name = std::string(info.test_suite_name()) + "." + info.name();
    for (auto& [number, row] : Table()) {
      if (row.test == name) row.held = info.result()->Passed();
    }
  }
  void OnTestProgramEnd(const ::testing::UnitTest&) override {
    const char* path = getenv("ORGTRAIL_REDTEAM_README");
    if (path == nullptr) return;
    // The others too: what did not run, or did not hold, is not in the table.
    for (const Elsewhere& e : kElsewhere) {
      const Ran ran = RunProgram({std::string(ORGTRAIL_TESTS_DIR) + "/" + e.program, std::string("--gtest_filter=") + e.test}, {}, {}, absl::Minutes(10));
      if (ran.out.find("[  PASSED  ] 1 test.") == std::string::npos) continue;
      for (const int number : e.numbers) Table().insert({number, {e.attack, e.outcome, std::string(e.program) + ": " + e.test, ran.code == 0}});
    }
    std::string text = "# Attacks carried out\n\nWritten by `redteam_test` (ORGTRAIL_REDTEAM_README=tests/redteam/README.md). Each row was done to the real "
                       "programs, over\na socket or on their files, in the run that wrote it; after each `orgtrail verify ledger --strict` exits 0 unless the "
                       "row says otherwise.\n\n| # | attack | outcome | test | held |\n| --- | --- | --- | --- | --- |\n";
    for (const auto& [number, row] : Table()) {
      text += "| " + std::to_string(number) + " | " + row.attack + " | " + row.outcome + " | `" + row.test + "` | " + (row.held ? "yes" : "NO") + " |\n";
    }
    text += "\nNot carried out:\n\n| # | why |\n| --- | --- |\n";
    for (const NotHere& n : kNotHere) text += std::string("| ") + n.numbers + " | " + n.why + " |\n";
    WriteWhole(path, text);
  }
};
const bool kListens = [] {
  ::testing::UnitTest::GetInstance()->listeners().Append(new Readme());
  return true;
}();

TEST(RedTeamTable, NamesTestsThatExist) {
  std::map<std::string, std::string> tests;
  for (const Elsewhere& e : kElsewhere) {
    if (!tests.contains(e.program)) tests[e.program] = TestsOf(e.program);
    EXPECT_NE(tests[e.program].find(std::string(e.test) + "\n"), std::string::npos) << e.program << " has no " << e.test;
  }
}

}  // namespace

void Attack(int number, const std::string& attack, const std::string& outcome) {
  const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  Table().insert({number, {attack, outcome, std::string(info->test_suite_name()) + "." + info->name(), true}});
}

}  // namespace orgtrail::e2e
