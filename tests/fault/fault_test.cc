// The programs on a disk that fails, fills up, or loses power at any call that changes a file: whatever was acknowledged is there,
// once, as soon as the disk is well again; the ledger proves it; and a failed sync is never taken for one that worked.
//
//   ORGTRAIL_FAULTS=all    every call with every fault, some half an hour; a number: so many of each scene (4)
//   ORGTRAIL_FAULT_SEED    which ones
//   ORGTRAIL_FAULT_SCENE   only the scenes whose name holds this
//   ORGTRAIL_FAULT_VERBOSE every call and fault as it is tried
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include "absl/time/clock.h"
#include "common/crypto/digest.h"
#include "tests/e2e/support/organization.h"
#include "tests/fault/disk_faults.h"
#include "tests/support/fixed_world.h"

namespace orgtrail::fault {
namespace {

using namespace e2e;   // the real programs

constexpr absl::Duration kShortly = absl::Seconds(2);
const std::set<Kind> kKills = {Kind::kKill, Kind::kKillDone, Kind::kKillHalf, Kind::kPower}, kLasting = {Kind::kErofs, Kind::kEnospc};

std::string Record(const std::string& id) {
  return R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventSource":"fault.example","eventName":"Count","eventID":")" + id +
         R"(","recipientAccountId":"222222222222"})";
}

bool IsStore(std::string_view file) { return file.ends_with("ledger/shard-000001/data.mdb") || file.ends_with("spool/data.mdb"); }

// An organization with one agent, both on disks of their own; what its callers were told; and what must be true after each fault.
class Stand {
 public:
  Stand()
      : organization({.start = false}),
        aggregator_disk(organization.Path("aggregator.faults"), std::filesystem::path(organization.ledger_dir()).parent_path()),
        events(MakeDirs(organization.Path("events")) + "/app.jsonl") {
    organization.aggregator_env = aggregator_disk.environment();
    organization.StartAggregator();
    if (!aggregator_disk.attached()) Fail("the aggregator does not use " ORGTRAIL_FAULT_PRELOAD);
    AgentSpec spec{.files = organization.Path("events") + "/*.jsonl"};
    agent = &organization.AddAgent(spec);
    agent_disk = std::make_unique<DiskFaults>(organization.Path("agent.faults"), agent->state_dir());
    agent->mutable_spec().env = agent_disk->environment();
    agent->Start();
    if (!agent_disk->attached()) Fail("the agent does not use " ORGTRAIL_FAULT_PRELOAD);
  }

  // One record through the file, one posted; `told` knows both.
  void Tell() {
    const std::string n = std::to_string(told.size());
    ++told["file-" + n];
    AppendTo(events, Record("file-" + n) + "\n");
    unanswered = "post-" + n;
    ++told[unanswered];
    Post(kShortly);
  }
  bool Post(absl::Duration limit) {
    if (unanswered.empty()) return true;
    absl::StatusOr<HttpResponse> answer = agent->Post(Record(unanswered), {{"idempotency-key", unanswered}}, "/records", limit);
    if (!answer.ok() || answer->status != 200) return false;
    unanswered.clear();
    return true;
  }

  // Everything told is in the log, acknowledged. Only looks; false also while a program is down.
  bool Settled() {
    return unanswered.empty() && agent->Metric("orgtrail_agent_spool_unacked_batches") == 0 && Arrived();
  }

  // The feed so far, exactly as told: nothing lost, nothing twice.
  bool Arrived() {
    const Ran ran = organization.Orgtrail({"feed", "--from", "start", "--no-follow", "-o", "jsonl", "--output", organization.Path("out"),
                                           "--cursor-file", organization.Path("cursor")}, "auditor");
    if (ran.code != 0) return false;
    const std::string text = ReadWhole(organization.Path("out"));
    for (std::string_view rest = std::string_view(text).substr(read); !rest.empty();) {
      const std::string_view line = rest.substr(0, rest.find('\n') + 1);
      rest.remove_prefix(line.size());
      read += line.size();
      const std::string id = MemberOf(line, "eventID");
      EXPECT_EQ(line, Record(id) + "\n");
      ++seen[id];
    }
    return seen.size() >= told.size();
  }

  // An agent that was never here before, on a disk of its own: `disk` of the stand while it enrols.
  void Newcomer() {
    AgentSpec spec{.name = "new-" + std::to_string(++newcomers)};
    newcomer = &organization.AddAgent(spec);
    newcomer_disk = std::make_unique<DiskFaults>(newcomer->dir() + "/faults", newcomer->state_dir());
    newcomer->mutable_spec().env = newcomer_disk->environment();
  }
  // It gets in with the token it was given, and then it records.
  void NewcomerIsIn() {
    newcomer_disk->Disarm();
    const auto up = [this] {
      Revive();
      if (!newcomer->Running()) newcomer->Launch();
      return newcomer->Ready();
    };
    const std::string id = "post-" + newcomer->spec().name;
    ++told[id];
    // A program that met its error late may still end, before or after it has the record.
    EXPECT_TRUE(Eventually(kPatience, [&] {
      if (!up()) return false;
      const absl::StatusOr<HttpResponse> answer = newcomer->Post(Record(id), {{"idempotency-key", id}}, "/records", kShortly);
      return answer.ok() && answer->status == 200;
    })) << newcomer->LogTail() << organization.AggregatorLogTail();
    EXPECT_TRUE(Eventually(kPatience, [&] { return up() && newcomer->Metric("orgtrail_agent_spool_unacked_batches") == 0; }));
    EXPECT_EQ(newcomer->Stop(), 0);
  }

  // The disks are well: both programs run again and go on by themselves.
  void Revive() {
    aggregator_disk.Disarm();
    agent_disk->Disarm();
    if (!organization.aggregator().Running()) {
      organization.StartAggregator();
      if (++restarts % 3 == 0) agent->Kill();   // else its pause between tries grows to half a minute
    }
    if (!agent->Running()) agent->Launch();
  }
  void Heal() {
    Revive();
    // A program that met its error late may still end; it is started again, like any that ends.
    EXPECT_TRUE(Eventually(kPatience, [this] {
      Revive();
      return Post(kPatience) && Settled();
    })) << agent->LogTail() << organization.AggregatorLogTail();
    EXPECT_EQ(seen, told);
  }

  void Prove() {
    const Ran checked = organization.Orgtrail({"fsck", organization.ledger_dir()});
    EXPECT_EQ(checked.code, 0) << checked.out << checked.err;
    const Ran verified = organization.Orgtrail({"verify", "ledger", "--strict", "-o", "json"}, "auditor");
    EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
  }

  Organization organization;
  DiskFaults aggregator_disk;
  std::unique_ptr<DiskFaults> agent_disk, newcomer_disk;
  AgentProcess* agent = nullptr;
  AgentProcess* newcomer = nullptr;
  const std::string events;
  std::map<std::string, int> told, seen;
  std::string unanswered;      // posted, and not answered 200 yet
  size_t read = 0;
  int restarts = 0, newcomers = 0;
};

// What one scene does while one disk may fail. `wait` returns when there is nothing more to wait for.
struct Scene {
  const char* name;
  enum Who { kAgent, kAggregator, kNewcomer } who;   // whose disk fails
  enum { kStarts, kCommits, kStops } what;
  std::function<void(Stand&)> prepare;
  std::function<void(Stand&)> act;
  std::function<bool(Stand&)> done;
  std::function<void(Stand&)> after = [](Stand&) {};   // the disk is well, the aggregator runs
};

std::vector<Scene> Scenes() {
  const auto nothing = [](Stand&) {};
  const auto tell = [](Stand& s) { s.Tell(); };
  const auto settled = [](Stand& s) { return s.Settled(); };
  const auto join = [](Stand& s) { s.Newcomer(); };
  const auto launch = [](Stand& s) { s.newcomer->Launch(); };
  const auto is_in = [](Stand& s) { return !s.newcomer->Running() || s.newcomer->Ready(); };
  const auto enter = [](Stand& s) { s.NewcomerIsIn(); };
  return {
      {"agent: capture to receipt", Scene::kAgent, Scene::kCommits, nothing, tell, settled},
      {"aggregator: frame to receipt", Scene::kAggregator, Scene::kCommits, nothing, tell, settled},
      {"agent: start", Scene::kAgent, Scene::kStarts,
       [](Stand& s) {
         s.agent->Kill();
         s.Tell();
       },
       [](Stand& s) { s.agent->Launch(); },
       [](Stand& s) {
         s.Post(kShortly);
         return s.Settled();
       }},
      {"aggregator: start", Scene::kAggregator, Scene::kStarts, [](Stand& s) { s.organization.KillAggregator(); }, [](Stand& s) { s.organization.LaunchAggregator(); },
       [](Stand& s) { return s.organization.Ready(); }},
      {"agent: stop", Scene::kAgent, Scene::kStops, nothing, [](Stand& s) { s.agent->process().Signal(SIGTERM); }, [](Stand&) { return false; }},
      {"aggregator: stop", Scene::kAggregator, Scene::kStops, nothing, [](Stand& s) { s.organization.aggregator().Signal(SIGTERM); }, [](Stand&) { return false; }},
      {"agent: enrolment", Scene::kNewcomer, Scene::kStarts, join, launch, is_in, enter},
      {"aggregator: enrolment", Scene::kAggregator, Scene::kStarts, join, launch, is_in, enter},
  };
}

struct Counted {
  int faults = 0, hit = 0, ended = 0;
};

class Fault : public ::testing::Test {
 protected:
  bool Running(const Scene& scene) {
    return scene.who == Scene::kAggregator ? stand.organization.aggregator().Running()
                                           : (scene.who == Scene::kAgent ? stand.agent : stand.newcomer)->Running();
  }
  DiskFaults& Disk(const Scene& scene) {
    return scene.who == Scene::kAggregator ? stand.aggregator_disk : *(scene.who == Scene::kAgent ? stand.agent_disk : stand.newcomer_disk);
  }
  void Heal(const Scene& scene) {
    stand.Revive();
    scene.after(stand);
    stand.Heal();
  }

  // What the scene calls when nothing goes wrong.
  std::vector<FaultBlock::Step> Trace(const Scene& scene) {
    scene.prepare(stand);
    Disk(scene).Arm(Kind::kNone, 0);
    scene.act(stand);
    Eventually(kPatience, [&] { return !Running(scene) || scene.done(stand); });
    if (scene.who == Scene::kAggregator) Eventually(kShortly, [&] { return !Running(scene); });   // the anchor follows within a second
    std::vector<FaultBlock::Step> steps = Disk(scene).trace();
    Heal(scene);
    return steps;
  }

  void Try(const Scene& scene, Kind kind, uint32_t nth) {
    scene.prepare(stand);
    DiskFaults& disk = Disk(scene);
    disk.Arm(kind, nth);
    scene.act(stand);
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    Eventually(kPatience, [&] {
      if (!Running(scene) || absl::Now() > deadline) return true;
      if (kLasting.contains(kind) && disk.hits() > 0) return true;   // stays so until healed
      if (!scene.done(stand)) return false;
      if (disk.hits() == 0) Eventually(kShortly, [&] { return disk.hits() > 0 || !Running(scene); });   // what comes a moment later
      return true;
    });
    const bool hit = disk.hits() > 0;
    // A signal, and the end of a program that gives up, take a moment.
    if (hit && (kKills.contains(kind) || kLasting.contains(kind))) Eventually(kKills.contains(kind) ? kSoon : kShortly, [&] { return !Running(scene); });
    const std::vector<FaultBlock::Step> steps = disk.trace();
    const bool of_commit = hit && nth <= steps.size() && scene.what == Scene::kCommits && IsStore(steps[nth - 1].file);
    // A commit that failed otherwise than for want of space: nobody knows what the disk has, so the program ends.
    const bool unknown = of_commit && (kind == Kind::kEio || kind == Kind::kEioDone || kind == Kind::kErofs);
    if (unknown) Eventually(kSoon, [&] { return !Running(scene); });
    const bool ended = !Running(scene);
    Counted& counted = counts[scene.name][kind];
    ++counted.faults;
    counted.hit += hit;
    counted.ended += ended;
    std::string what = std::string(scene.name) + ", " + Name(kind) + " at call " + std::to_string(nth);
    if (hit && nth <= steps.size()) {
      const FaultBlock::Step& step = steps[nth - 1];
      what += ": " + Describe(step);
      const bool meta_page = step.call == Call::kWrite && step.offset < 8192;
      EXPECT_FALSE(unknown && !ended) << what;
      EXPECT_FALSE(of_commit && kind == Kind::kEnospc && !meta_page && ended) << what;   // a full disk ends nothing
    }
    SCOPED_TRACE(what);
    if (getenv("ORGTRAIL_FAULT_VERBOSE") != nullptr) {
      std::printf("%s %s%s\n", what.c_str(), hit ? "" : "(not reached) ", ended ? "ended" : "goes on");
      std::fflush(stdout);
    }
    if (scene.what == Scene::kStops) {   // whatever went wrong, it ends
      disk.Disarm();
      EXPECT_TRUE(Eventually(kPatience, [&] { return !Running(scene); })) << what;
    }
    Heal(scene);
  }

  Stand stand;
  std::map<std::string, std::map<Kind, Counted>> counts;
};

// The kernel makes a file system read-only that it does not trust any more. A program that cannot store ends, started again it says why, and when
// the file system is writable again a start is all it takes.
TEST_F(Fault, AReadOnlyDiskAcknowledgesNothingAndIsSaid) {
  stand.organization.Reconfigure("  heartbeat_interval:", "  heartbeat_interval: 1s");
  EXPECT_EQ(stand.organization.StopAggregator(), 0);
  stand.organization.StartAggregator();
  stand.Tell();
  stand.Heal();
  const std::string subject = "222222222222/us-east-1/web-1";
  const auto alarms = [&](std::string_view code) {
    for (const std::string& alarm : LinesOf(stand.organization.Alarms())) {
      if (MemberOf(alarm, "code") == code && MemberOf(alarm, "subject") == subject) return true;
    }
    return false;
  };
  // The agent's.
  stand.agent_disk->Arm(Kind::kErofs, 1);
  stand.Tell();
  EXPECT_NE(stand.unanswered, "");
  EXPECT_TRUE(Eventually(kSoon, [&] { return !stand.agent->Running(); })) << stand.agent->LogTail();
  EXPECT_TRUE(Eventually(kSoon, [&] { return alarms("SILENT_AGENT"); })) << stand.organization.AggregatorLogTail();
  stand.agent->Launch();
  EXPECT_EQ(stand.agent->process().Wait(kSoon), 1) << stand.agent->LogTail();
  EXPECT_TRUE(stand.agent->Logged("remount it writable")) << stand.agent->LogTail();
  stand.Heal();
  EXPECT_TRUE(Eventually(kSoon, [&] { return alarms("UNCLEAN_EPOCH"); })) << stand.organization.AggregatorLogTail();
  // The aggregator's: its agent keeps what it has and is told nothing.
  stand.aggregator_disk.Arm(Kind::kErofs, 1);
  stand.Tell();
  EXPECT_EQ(stand.unanswered, "");   // it is in the spool
  EXPECT_TRUE(Eventually(kSoon, [&] { return !stand.organization.aggregator().Running(); })) << stand.organization.AggregatorLogTail();
  EXPECT_GT(stand.agent->Metric("orgtrail_agent_spool_unacked_batches"), 0);
  stand.organization.LaunchAggregator();
  EXPECT_EQ(stand.organization.aggregator().Wait(kSoon), 1) << stand.organization.AggregatorLogTail();
  EXPECT_TRUE(stand.organization.AggregatorLogged("remount it writable")) << stand.organization.AggregatorLogTail();
  stand.Heal();
  stand.Prove();
}

// The disk of the aggregator does not answer: what is read is shown when its own record is stored, and not before.
TEST_F(Fault, NoRowIsShownBeforeTheRecordOfItsReadIsStored) {
  stand.Tell();
  stand.Heal();
  const std::string out = stand.organization.Path("rows");
  stand.aggregator_disk.Arm(Kind::kHang, 1);
  const std::unique_ptr<Process> reader =
      Process::Start(stand.organization.OrgtrailArgs({"events", "lookup", "--attribute", "EventName=Count", "-o", "jsonl"}, "auditor"), out);
  ASSERT_TRUE(Eventually(kSoon, [&] { return stand.aggregator_disk.hits() > 0; }));
  EXPECT_FALSE(Eventually(kShortly, [&] { return !ReadWhole(out).empty() || !reader->Running(); })) << ReadWhole(out);
  EXPECT_GT(stand.organization.Metric("orgtrail_ledger_shards"), 0);   // what needs no commit is answered meanwhile
  EXPECT_EQ(ReadWhole(out), "");
  stand.aggregator_disk.Disarm();
  EXPECT_EQ(reader->Wait(kSoon), 0);
  EXPECT_EQ(LinesOf(ReadWhole(out)).size(), stand.told.size());
  // It is in the log, not in the journal of a ledger that is full.
  int reads = 0;
  for (const std::string& r : stand.organization.Feed({"--own"})) {
    if (MemberOf(r, "eventName") == "LookupEvents") ++reads;
  }
  EXPECT_EQ(reads, 1);
}

TEST_F(Fault, WhateverTheDiskDoesNothingAcknowledgedIsLostOrDoubled) {
  const char* wanted = getenv("ORGTRAIL_FAULTS");
  const bool all = wanted != nullptr && std::string_view(wanted) == "all";
  const size_t most = all ? SIZE_MAX : wanted != nullptr ? static_cast<size_t>(std::atoi(wanted)) : 4;
  const char* seed_text = getenv("ORGTRAIL_FAULT_SEED");
  const uint64_t seed = seed_text != nullptr ? std::strtoull(seed_text, nullptr, 10) : SystemRng().Below(1'000'000);
  SCOPED_TRACE("ORGTRAIL_FAULT_SEED=" + std::to_string(seed));
  RepeatingRng rng("faults " + std::to_string(seed));
  const char* only = getenv("ORGTRAIL_FAULT_SCENE");

  std::vector<Scene> scenes = Scenes();
  std::string names;
  for (const Scene& scene : scenes) names += std::string("\n  ") + scene.name;
  if (only != nullptr) std::erase_if(scenes, [&](const Scene& s) { return std::string_view(s.name).find(only) == std::string_view::npos; });
  ASSERT_FALSE(scenes.empty()) << "ORGTRAIL_FAULT_SCENE=" << only << " is part of no scene's name:" << names;

  stand.Tell();
  stand.Heal();
  int tried = 0, reached = 0;
  for (const Scene& scene : scenes) {
    const std::vector<FaultBlock::Step> steps = Trace(scene);
    ASSERT_FALSE(steps.empty()) << scene.name;
    if (getenv("ORGTRAIL_FAULT_VERBOSE") != nullptr) {
      for (size_t i = 0; i < steps.size(); ++i) std::printf("  %s %zu: %s\n", scene.name, i + 1, Describe(steps[i]).c_str());
    }
    std::vector<std::pair<Kind, uint32_t>> cases;
    for (uint32_t n = 1; n <= steps.size(); ++n) {
      for (Kind kind : kKinds) {
        if (kind != Kind::kKillHalf || steps[n - 1].call == Call::kWrite) cases.emplace_back(kind, n);
      }
    }
    for (size_t i = cases.size(); i > 1; --i) std::swap(cases[i - 1], cases[rng.Below(i)]);
    if (cases.size() > most) cases.resize(most);
    for (const auto& [kind, nth] : cases) {
      Try(scene, kind, nth);
      if (HasFailure()) return;
      if (++tried % 10 == 0) stand.Prove();
    }
  }
  stand.Prove();
  std::printf("%-30s %-14s %6s %6s %6s\n", "scene", "fault", "tried", "hit", "ended");
  for (const auto& [scene, kinds] : counts) {
    for (const auto& [kind, c] : kinds) {
      std::printf("%-30s %-14s %6d %6d %6d\n", scene.c_str(), Name(kind), c.faults, c.hit, c.ended);
      reached += c.hit;
    }
  }
  std::printf("%d faults, %d hit, seed %llu; %zu records told, each in the log once\n", tried, reached, static_cast<unsigned long long>(seed),
              stand.told.size());
  EXPECT_GT(reached * 2, tried);   // else this test tests nothing
}

}  // namespace
}  // namespace orgtrail::fault
