// Root on the agent's host: its memory, its files, its configuration, its neighbours.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <set>

#include "aggregator/ledger/ledger.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "common/crypto/sign.h"
#include "common/format/epoch.h"
#include "common/format/frame.h"
#include "common/fs/file.h"
#include "common/lmdb/env.h"
#include "tests/e2e/support/organization.h"
#include "tests/e2e/support/read_ledger.h"
#include "tests/redteam/memory_bound.h"
#include "tests/redteam/table.h"

namespace orgtrail::e2e {
namespace {

namespace stdfs = std::filesystem;
using ::testing::HasSubstr;

class RedHost : public ::testing::Test {
 protected:
  void Tell(AgentProcess& agent, int from, int to) {
    for (int n = from; n < to; ++n) agent.Record(CountRecord(n));
  }
  bool Logged(size_t n) {
    return Eventually(kPatience, [&] { return organization.Feed().size() == n; });
  }
  bool Alarm(std::string_view code) {
    return Eventually(kSoon, [&] { return organization.Alarmed(code); });
  }

  Organization organization;
};

struct Mapping {
  uint64_t begin = 0, end = 0;
  bool readable = false, anonymous = false;
  std::string flags;                 // VmFlags
};
std::vector<Mapping> MappingsOf(pid_t pid) {
  std::vector<Mapping> all;
  std::ifstream maps("/proc/" + std::to_string(pid) + "/smaps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long long begin = 0, end = 0, offset = 0, inode = 0;
    char access[8] = "", device[16] = "";
    if (std::sscanf(line.c_str(), "%llx-%llx %7s %llx %15s %llu", &begin, &end, access, &offset, device, &inode) == 6) {
      all.push_back({begin, end, access[0] == 'r' && access[1] == 'w', inode == 0, ""});
    } else if (line.starts_with("VmFlags:") && !all.empty()) {
      all.back().flags = line.substr(8) + " ";
    }
  }
  return all;
}

// Thirty-two bytes that could be a seed: no small number or address in any word, and many different bytes.
bool LooksRandom(const char* p) {
  for (int i = 0; i < 4; ++i) {
    uint64_t word = 0;
    std::memcpy(&word, p + 8 * i, 8);
    if (word >> 48 == 0 || (word & 0xffff'ffff) == 0) return false;
  }
  std::array<bool, 256> seen{};
  int different = 0;
  for (int i = 0; i < 32; ++i) different += !std::exchange(seen[static_cast<uint8_t>(p[i])], true);
  return different >= 24;
}

ATTACK(14, "read the memory of the running agent and look for the seeds of one-time keys that signed",
       "none, wherever it lies: every 32 bytes that could be one were tried against the public keys in the log; seeds of keys to come are found");
ATTACK(15, "dump core, swap, fork: where do the seeds go?", "the process is not dumpable and has no core; their pages are DONTDUMP, WIPEONFORK and, where the machine grants it, locked");
TEST_F(RedHost, MemoryHoldsNoKeyThatHasSigned) {
  AgentProcess& agent = organization.StartAgent({});
  Tell(agent, 0, 40);
  ASSERT_TRUE(Logged(40));
  ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Metric("orgtrail_agent_spool_unacked_batches") == 0; }));
  const pid_t pid = agent.process().pid();
  agent.process().Signal(SIGSTOP);
  // The public keys, from the log.
  std::set<std::string> used, unused;
  {
    const std::string enrolled = ReadWhole(agent.state_dir() + "/identity/enrolled");
    const size_t at = enrolled.find("uuid ");
    ASSERT_NE(at, std::string::npos);
    const std::optional<Uuid> uuid = Uuid::Parse(enrolled.substr(at + 5, 36));
    ASSERT_TRUE(uuid);
    const std::unique_ptr<Ledger> ledger = OpenLedger(organization);
    const std::vector<LoggedEpoch> epochs = EpochsOf(*ledger, "web-1");
    ASSERT_EQ(epochs.size(), 1u);
    const std::vector<PublicKey>& keys = epochs[0].opening.keys;
    const uint64_t signed_through = ledger->HeadOf(*uuid)->batch_seq;
    ASSERT_GE(signed_through, 30u);
    for (uint64_t slot = 0; slot < keys.size(); ++slot) (slot <= signed_through ? used : unused).emplace(View(keys[slot]));
  }
  // Not as its own user: the process is not dumpable, so only root reads on.
  std::ifstream memory("/proc/" + std::to_string(pid) + "/mem", std::ios::binary);
  if (geteuid() != 0) {
    EXPECT_FALSE(memory.is_open());
    return;
  }
  ASSERT_TRUE(memory.is_open());
  size_t found_unused = 0, tried = 0;
  std::set<std::string> seen;        // copies are tried once
  for (const Mapping& m : MappingsOf(pid)) {
    if (!m.readable || !m.anonymous || m.end - m.begin > 1ull << 40) continue;   // terabytes: what a sanitizer reserves for itself
    std::string bytes(m.end - m.begin, '\0');
    memory.clear();
    memory.seekg(static_cast<std::streamoff>(m.begin));
    memory.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    bytes.resize(static_cast<size_t>(memory.gcount()));
    bool holds_seeds = false;
    for (size_t at = 0; at + 32 <= bytes.size(); at += 8) {
      // Of the pages that hold what is to come a few are enough.
      if (!LooksRandom(bytes.data() + at) || (holds_seeds && found_unused > 64 && at % 32 != 0)) continue;
      if (!seen.emplace(bytes.substr(at, 32)).second) continue;
      ++tried;
      const std::string key(View(SigningKey::FromSeed(std::string_view(bytes).substr(at, 32)).public_key()));
      EXPECT_FALSE(used.contains(key)) << "the seed of a key that has signed lies at " << m.begin + at;
      if (!unused.contains(key)) continue;
      ++found_unused;
      holds_seeds = true;
    }
    if (holds_seeds) {
      EXPECT_THAT(m.flags, HasSubstr(" dd "));
      EXPECT_THAT(m.flags, HasSubstr(" wf "));
    }
  }
  EXPECT_GE(found_unused, 900u) << "the search itself does not work: " << tried << " candidates";
  const std::string limits = ReadWhole("/proc/" + std::to_string(pid) + "/limits");
  EXPECT_THAT(limits, ::testing::ContainsRegex("Max core file size +0 +0"));
  agent.process().Signal(SIGCONT);
  Tell(agent, 40, 41);
  EXPECT_TRUE(Logged(41));
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(22, "attach a debugger, or read the memory, as the user the agent runs as", "denied: the process is not dumpable. The attempt is not recorded");
TEST_F(RedHost, ADebuggerOfTheSameUserIsDenied) {
  AgentSpec spec;
  if (geteuid() == 0) {
    spec.wrapper = {"/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"};
  }
  AgentProcess& agent = organization.AddAgent(spec);
  if (geteuid() == 0) {
    for (const std::string& what : {organization.Path("agents"), organization.Path("org")}) {
      ASSERT_EQ(RunProgram({"/bin/chown", "-R", "65534:65534", what}).code, 0);
    }
    stdfs::permissions(organization.Path(""), stdfs::perms::others_exec, stdfs::perm_options::add);
  }
  agent.Start();
  const pid_t pid = agent.process().pid();
  const pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(9);
    const bool attached = ptrace(PTRACE_ATTACH, pid, nullptr, nullptr) == 0;
    const bool read = access(("/proc/" + std::to_string(pid) + "/mem").c_str(), R_OK) == 0 &&
                      fopen(("/proc/" + std::to_string(pid) + "/mem").c_str(), "r") != nullptr;
    _exit((attached ? 1 : 0) | (read ? 2 : 0));
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  Tell(agent, 0, 1);
  EXPECT_TRUE(Logged(1));
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(7, "take away what was captured last and not sent, by putting back the spool as it was before", "UNCLEAN_EPOCH; what was sent stays; what was taken is gone, and only that");
TEST_F(RedHost, TheNewestUnsentBatchesAreTakenAway) {
  AgentProcess& agent = organization.StartAgent({});
  Tell(agent, 0, 5);
  ASSERT_TRUE(Logged(5));
  organization.StopAggregator();
  Tell(agent, 5, 10);
  agent.Kill();
  const std::string copy = organization.Path("copy");
  stdfs::copy(agent.state_dir(), copy, stdfs::copy_options::recursive);
  agent.Launch();
  ASSERT_TRUE(Eventually(kSoon, [&] { return agent.Post(CountRecord(10)).ok(); }));
  Tell(agent, 11, 15);
  agent.Kill();
  stdfs::remove_all(agent.state_dir());
  stdfs::copy(copy, agent.state_dir(), stdfs::copy_options::recursive);
  organization.StartAggregator();
  agent.Start();
  Tell(agent, 15, 16);
  EXPECT_TRUE(Logged(11));
  EXPECT_TRUE(Alarm("UNCLEAN_EPOCH"));
  const std::vector<std::string> feed = organization.Feed();
  ASSERT_EQ(feed.size(), 11u);
  for (int n = 0; n < 10; ++n) EXPECT_EQ(feed[static_cast<size_t>(n)], CountRecord(n));
  EXPECT_EQ(feed[10], CountRecord(15));
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(20, "replace the agent's program", "AGENT_CHANGED: the hash of the executable is in the epoch's opening");
ATTACK(21, "edit the agent's configuration", "CONFIG_CHANGED; there is nothing in it that stops a class of events. CONFIG_TAMPER comes with policy");
TEST_F(RedHost, AnotherProgramAnotherConfiguration) {
  const std::string program = organization.Path("orgtrail-agent");
  stdfs::copy_file(Program("orgtrail-agent"), program);
  AgentSpec spec;
  spec.program = program;
  AgentProcess& agent = organization.StartAgent(spec);
  Tell(agent, 0, 1);
  ASSERT_EQ(agent.Stop(), 0);
  AppendTo(program, "something else");
  agent.Start();
  Tell(agent, 1, 2);
  EXPECT_TRUE(Alarm("AGENT_CHANGED"));
  ASSERT_EQ(agent.Stop(), 0);
  agent.mutable_spec().yaml = "batch_interval_ms: 50\n";
  agent.WriteConfig();
  agent.Start();
  Tell(agent, 2, 3);
  EXPECT_TRUE(Alarm("CONFIG_CHANGED"));
  EXPECT_TRUE(Logged(3));
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(18, "hold a read transaction of the spool's file open", "the agent captures, sends and prunes; the file grows meanwhile, at most to its map; within half a minute SPOOL_PINNED is in the log");
TEST_F(RedHost, AReaderHoldsThePagesOfTheSpool) {
  AgentProcess& agent = organization.StartAgent({});
  Tell(agent, 0, 5);
  ASSERT_TRUE(Logged(5));
  {
    lmdb::EnvOptions options;
    options.read_only = true;
    options.map_bytes = 16ull << 30;
    const absl::StatusOr<std::unique_ptr<lmdb::Env>> env = lmdb::Env::Open(agent.state_dir() + "/spool", options);
    ASSERT_TRUE(env.ok()) << env.status();
    const lmdb::ReadTxn held(**env);
    Tell(agent, 5, 100);
    EXPECT_TRUE(Logged(100));
    EXPECT_LT(stdfs::file_size(agent.state_dir() + "/spool/data.mdb"), 64u << 20);
    EXPECT_GE(agent.Metric("orgtrail_agent_spool_oldest_reader_txns"), 64);
    EXPECT_TRUE(Eventually(kPatience, [&] {
      const std::vector<std::string> own = organization.Feed({"--own"});
      return std::any_of(own.begin(), own.end(), [](const std::string& r) { return r.find("\"eventName\":\"SPOOL_PINNED\"") != std::string::npos; });
    }));
  }
  EXPECT_LT(agent.Metric("orgtrail_agent_spool_oldest_reader_txns"), 64);
  Tell(agent, 100, 101);
  EXPECT_TRUE(Logged(101));
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(19, "50,000 lines at once in a file that the agent follows", "the file waits its turn (8 MiB on their way, then backpressure instead of a quota): nothing of it is lost, and the other source is served meanwhile");
TEST_F(RedHost, AFloodFromOneSourceDelaysNoOther) {
  const std::string file = organization.Path("app.jsonl");
  WriteWhole(file, "");
  AgentSpec spec;
  spec.files = file;
  AgentProcess& agent = organization.StartAgent(spec);
  std::string lines;
  for (int n = 0; n < 50'000; ++n) lines += CountRecord(n) + "\n";
  AppendTo(file, lines);
  for (int n = 0; n < 20; ++n) agent.Record(CountRecord(1'000'000 + n));
  EXPECT_TRUE(Eventually(kPatience, [&] { return agent.Metric("orgtrail_agent_records_total") == 50'020; }));
  EXPECT_TRUE(Eventually(kPatience, [&] { return agent.Metric("orgtrail_agent_spool_unacked_batches") == 0; }));
  EXPECT_EQ(agent.Metric("orgtrail_agent_events_lost_total"), 0);
  EXPECT_EQ(organization.Feed().size(), 50'020u);
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(59, "a record with a field of 200 MiB", "present, with SHA-256 and length of all of it; a signed loss record says that it was cut; the agent's memory stays below 256 MiB");
ATTACK(66, "a record of 10^6 distinct keys", "kept whole; found by its id within the time of any other");
TEST_F(RedHost, RecordsThatAreTooLargeForAnything) {
  const std::string file = organization.Path("app.jsonl");
  WriteWhole(file, "");
  AgentSpec spec;
  spec.files = file;
  AgentProcess& agent = organization.StartAgent(spec);
  std::string keys = R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventName":"Count","eventID":"many","recipientAccountId":"222222222222")";
  for (int n = 0; n < 1'000'000; ++n) keys += ",\"k" + std::to_string(n) + "\":1";
  keys += "}";
  AppendTo(file, keys + "\n");
  std::string hash;
  size_t size = 0;
  {
    std::string huge = R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventName":"Count","eventID":"huge","recipientAccountId":"222222222222","x":")";
    huge += std::string(200 << 20, 'x');
    huge += "\"}";
    size = huge.size();
    hash = Hex(Sha256(huge).view());
    AppendTo(file, huge + "\n" + CountRecord(7) + "\n");
  }
  ASSERT_TRUE(Logged(3)) << agent.LogTail();
  EXPECT_LT(agent.process().ResidentBytes(), MemoryBound(256 << 20));
  const std::vector<std::string> feed = organization.Feed();
  EXPECT_EQ(feed[0], keys);
  EXPECT_THAT(feed[1], ::testing::StartsWith("{\"orgtrail:blob\":{\"sha256\":\"" + hash + "\",\"len\":" + std::to_string(size) + ",\"chunks\":0,\"truncated\":true"));
  EXPECT_THAT(organization.Feed({"--own"}), ::testing::Contains(::testing::AllOf(HasSubstr("\"cause\":\"decode\""), HasSubstr(" has " + std::to_string(size) + " bytes"))));
  EXPECT_EQ(feed[2], CountRecord(7));
  EXPECT_EQ(LinesOf(organization.Must({"events", "lookup", "-a", "EventId=many", "-o", "jsonl"}, "auditor")).size(), 1u);
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(24, "cut a file that the agent follows before its last bytes were read", "a signed loss record, source_overflow, that names the file and how many bytes at least; verify --strict still 0: nothing that had a number is missing");
TEST_F(RedHost, AFileIsCutBeforeItWasRead) {
  const std::string file = organization.Path("app.jsonl");
  WriteWhole(file, "");
  AgentSpec spec;
  spec.files = file;
  organization.StartAgent(spec);
  const std::string unfinished = CountRecord(1).substr(0, 77);   // a line without its end waits
  AppendTo(file, CountRecord(0) + "\n" + unfinished);
  ASSERT_TRUE(Logged(1));
  stdfs::resize_file(file, 0);
  AppendTo(file, CountRecord(2) + "\n");
  ASSERT_TRUE(Logged(2));
  std::string loss;
  EXPECT_TRUE(Eventually(kSoon, [&] {
    for (const std::string& r : organization.Feed({"--own"})) {
      if (r.find("source_overflow") != std::string::npos) loss = r;
    }
    return !loss.empty();
  }));
  EXPECT_THAT(loss, HasSubstr("\"cause\":\"source_overflow\",\"count\":1"));
  EXPECT_THAT(loss, HasSubstr(file));
  EXPECT_THAT(loss, HasSubstr("at least 77 bytes unread"));
  EXPECT_EQ(organization.Verify().code, 0);
}

}  // namespace
}  // namespace orgtrail::e2e
