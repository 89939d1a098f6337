// sim_test: the world, many times. Without arguments: 200 seeds, which must all pass, then each planted mistake, which must be noticed.
//
//   --seed N      one seed, its whole history printed     --seeds N   so many, from --from (1)
//   --mutant M    with mistake M (1 to 10) planted        --forever   seeds until one fails
//   --forget      where a log is restored, spools forget at once what was acknowledged: some seeds do not come to rest yet
//   --no-mutants  the seeds only                     --repeat N   the first N seeds here and in another process: the same histories
//   --digest      a digest of each seed's run, and nothing else
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>

#include "common/base/text.h"
#include "tests/sim/world.h"

namespace orgtrail::sim {
namespace {

constexpr const char* kMutantNames[kMutants + 1] = {
    "none", "ack before commit", "offset committed apart", "skipped prev_hash", "reused slot", "unverified receipt", "pruned too early",
    "lost fsync of a directory", "cursor moved before its effect", "accepted epoch with a wrong previous", "index run dropped"};

void Print(const Outcome& outcome, size_t most) {
  const size_t n = outcome.history.size();
  if (n > most) std::printf("    … %zu lines before\n", n - most);
  for (size_t i = n > most ? n - most : 0; i < n; ++i) std::printf("    %s\n", outcome.history[i].c_str());
}

// The shortest beginning of the run and the fewest kinds of faults that still fail.
void Explain(Plan plan, const Outcome& first) {
  std::printf("seed %llu FAILS: %s\n", static_cast<unsigned long long>(plan.seed), first.why.c_str());
  Outcome shortest = first;
  int works = 0, fails = plan.steps;
  while (fails - works > 25) {
    plan.steps = (works + fails) / 2;
    Outcome again = Run(plan);
    if (again.ok()) {
      works = plan.steps;
    } else {
      fails = plan.steps;
      shortest = std::move(again);
    }
  }
  plan.steps = fails;
  for (int fault = 0; fault < kFaults; ++fault) {
    Plan less = plan;
    less.without |= 1u << fault;
    if (Outcome again = Run(less); !again.ok()) {
      plan = less;
      shortest = std::move(again);
    }
  }
  std::printf("  shortened to %d steps, without faults 0x%x: %s\n", plan.steps, plan.without, shortest.why.c_str());
  Print(shortest, 120);
}

// One seed is one history: in this process, once more in this process, and in one whose memory lies elsewhere.
int Repeat(const char* self, uint64_t from, uint64_t seeds) {
  const std::string command = std::string(self) + " --digest --from " + std::to_string(from) + " --seeds " + std::to_string(seeds);
  std::FILE* other = ::popen(command.c_str(), "r");
  if (other == nullptr) return std::perror("popen"), 1;
  uint64_t differ = 0;
  for (uint64_t seed = from; seed < from + seeds; ++seed) {
    const std::string here = Run(Plan{seed}).digest, again = seed % 4 == 0 ? Run(Plan{seed}).digest : here;
    char there[80] = "";
    if (std::fgets(there, sizeof there, other) != nullptr && here + "\n" == there && here == again) continue;
    ++differ;
    std::printf("seed %llu has two histories: %s, %s, and elsewhere %s\n", static_cast<unsigned long long>(seed), here.c_str(), again.c_str(), there);
  }
  ::pclose(other);
  std::printf("%llu seeds run twice, %llu differ\n", static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(differ));
  return differ > 0 ? 1 : 0;
}

int Main(int argc, char** argv) {
  uint64_t from = 1, seeds = 200;
  uint64_t repeat = 0;
  bool forever = false, one = false, mutants = true, digest = false;
  int mutant = 0, steps = Plan().steps;
  uint32_t without = 0;
  bool forget = false;
  for (int i = 1; i < argc; ++i) {
    const auto value = [&] { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 0) : 0; };
    if (!std::strcmp(argv[i], "--seed")) one = true, from = value(), seeds = 1;
    else if (!std::strcmp(argv[i], "--seeds")) seeds = value();
    else if (!std::strcmp(argv[i], "--from")) from = value();
    else if (!std::strcmp(argv[i], "--steps")) steps = static_cast<int>(value());
    else if (!std::strcmp(argv[i], "--forget")) forget = true;
    else if (!std::strcmp(argv[i], "--without")) without = static_cast<uint32_t>(value());
    else if (!std::strcmp(argv[i], "--mutant")) mutant = static_cast<int>(value());
    else if (!std::strcmp(argv[i], "--forever")) forever = true;
    else if (!std::strcmp(argv[i], "--no-mutants")) mutants = false;
    else if (!std::strcmp(argv[i], "--repeat")) repeat = value();
    else if (!std::strcmp(argv[i], "--digest")) digest = true;
    else return std::fprintf(stderr, "unknown option %s\n", argv[i]), 2;
  }
  if (repeat > 0) return Repeat(argv[0], from, repeat);
  if (digest) {
    for (uint64_t seed = from; seed < from + seeds; ++seed) std::printf("%s\n", Run(Plan{seed, steps, without, static_cast<Mutant>(mutant)}).digest.c_str());
    return 0;
  }
  const auto begin = std::chrono::steady_clock::now();
  std::map<std::string, uint64_t> faults;
  uint64_t batches = 0, records = 0, gone = 0, shards = 0, steps_done = 0, failed = 0;
  for (uint64_t seed = from; forever || seed < from + seeds; ++seed) {
    Plan plan{seed, steps, without, static_cast<Mutant>(mutant), forget};
    Outcome outcome = Run(plan);
    for (const auto& [name, n] : outcome.faults) faults[name] += n;
    batches += outcome.batches;
    records += outcome.records;
    gone += outcome.gone;
    shards += outcome.shards;
    steps_done += outcome.steps;
    if (one) Print(outcome, 100'000);
    if (outcome.ok()) continue;
    ++failed;
    if (one) {
      std::printf("seed %llu FAILS: %s\n", static_cast<unsigned long long>(seed), outcome.why.c_str());
    } else {
      Explain(plan, outcome);
    }
    std::fflush(stdout);
    if (forever || failed >= 5) break;
  }
  const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%llu seeds, %llu failed; %llu steps, %llu batches, %llu records, %llu shards in %.1f s (%.1f seeds/s)\n",
              static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(failed), static_cast<unsigned long long>(steps_done),
              static_cast<unsigned long long>(batches), static_cast<unsigned long long>(records), static_cast<unsigned long long>(shards), took, static_cast<double>(seeds) / took);
  if (gone > 0) std::printf("  %llu lines lost to a disk, all signed as captured\n", static_cast<unsigned long long>(gone));
  for (const auto& [name, n] : faults) std::printf("  %-18s %llu\n", name.c_str(), static_cast<unsigned long long>(n));
  if (failed > 0 || one || mutant != 0 || !mutants) return failed > 0 ? 1 : 0;

  bool all = true;
  for (int m = 1; m <= kMutants; ++m) {
    uint64_t seed = 1;
    Outcome outcome;
    for (; seed <= 200; ++seed) {
      outcome = Run(Plan{seed, steps, 0, static_cast<Mutant>(m)});
      if (!outcome.ok()) break;
    }
    if (outcome.ok()) {
      std::printf("mutant %2d %-38s NOT NOTICED in 200 seeds\n", m, kMutantNames[m]);
      all = false;
    } else {
      std::printf("mutant %2d %-38s seed %3llu: %s\n", m, kMutantNames[m], static_cast<unsigned long long>(seed), outcome.why.substr(0, 110).c_str());
    }
    std::fflush(stdout);
  }
  return all ? 0 : 1;
}

}  // namespace
}  // namespace orgtrail::sim

int main(int argc, char** argv) { return orgtrail::sim::Main(argc, argv); }
