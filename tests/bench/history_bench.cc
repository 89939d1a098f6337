// history_bench [MILLIONS]: indexes synthetic records (terms only, no bodies) and looks them up. Prints one line a size:
// records/s, CPU per record with merges, and the time of a lookup (first 50 hits, without reading the records).
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "aggregator/admit/address_term.h"
#include "aggregator/admit/terms.h"
#include "aggregator/index/history.h"
#include "aggregator/index/search.h"
#include "common/base/status.h"
#include "common/base/worker.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

constexpr size_t kBatch = 500;

uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}
constexpr uint64_t kEventIds = 1;   // the kind whose terms are marked as those of event ids
uint64_t TermOf(uint64_t kind, uint64_t value) {
  const uint64_t hash = Mix(Mix(kind) ^ value) & ~(kAddressBit | kIdBit);
  return kind == kEventIds ? hash | kIdBit : hash;
}
// A few values often, many rarely.
uint64_t Skewed(uint64_t r, uint64_t values) {
  const double u = static_cast<double>(r >> 11) * 0x1p-53;
  return static_cast<uint64_t>(static_cast<double>(values) * u * u * u);
}

// An organization's networks: half of the records come from 40 private /16, most of the rest from 40,000 addresses anywhere, and one in
// twenty from IPv6 hosts of 200 networks.
IpBytes Address(uint64_t r) {
  IpBytes ip = *ParseIp("10.0.0.0");
  const uint64_t host = Mix(Skewed(Mix(r), 40'000));
  if (r % 2 == 0) {
    ip[13] = static_cast<uint8_t>(Skewed(Mix(r), 40));
    ip[14] = static_cast<uint8_t>(host);
    ip[15] = static_cast<uint8_t>(host >> 8);
  } else if (r % 20 == 1) {
    ip = *ParseIp("2001:db8::");
    ip[5] = static_cast<uint8_t>(Skewed(Mix(r), 200));
    ip[15] = static_cast<uint8_t>(host);
  } else {
    for (size_t i = 0; i < 4; ++i) ip[12 + i] = static_cast<uint8_t>(host >> (8 * i));
  }
  return ip;
}

// Leaves made when they are read: 14 terms a record, cardinalities of a real organization.
class Synthetic final : public LedgerReader {
 public:
  explicit Synthetic(uint64_t leaves) : leaves_(leaves) {}
  static IpBytes AddressOf(uint64_t n) { return Address(Mix(n * 2 + 7)); }
  static void TermsOf(uint64_t n, std::vector<uint64_t>* out) {
    uint64_t r = Mix(n * 2 + 1);
    const auto draw = [&r] { return r = Mix(r); };
    const uint64_t account = Skewed(draw(), 200), user = account * 1000 + Skewed(draw(), 200);
    out->push_back(TermOf(1, n));                                  // EventId
    out->push_back(TermOf(2, Skewed(draw(), 600)));                // EventName
    out->push_back(TermOf(3, draw() % 5 == 0));                    // ReadOnly
    out->push_back(TermOf(4, user));                               // Username
    out->push_back(TermOf(5, Skewed(draw(), 40)));                 // ResourceType
    out->push_back(TermOf(6, Skewed(draw(), 2'000'000)));          // ResourceName
    out->push_back(TermOf(6, 3'000'000 + user % 5000));
    out->push_back(TermOf(7, Skewed(draw(), 80)));                 // EventSource
    out->push_back(TermOf(8, user * 50 + n / 200'000));            // AccessKeyId: changes with time
    out->push_back(TermOf(9, account));                            // Account
    out->push_back(TermOf(10, Skewed(draw(), 16)));                // Region
    if (draw() % 12 == 0) {
      out->push_back(TermOf(11, Skewed(draw(), 60)));              // ErrorCode
      out->push_back(TermOf(14, 1));                               // HasError
    }
    const IpBytes ip = AddressOf(n);
    out->push_back(AddressTerm(ip));                               // SourceIp
    if (!IsIpv4(ip)) out->push_back(TermOf(12, Mix(ip[5]) ^ ip[15]));
    out->push_back(TermOf(13, user));                              // Principal: arn
    out->push_back(TermOf(13, user + (1ull << 40)));               // and id
  }
  absl::StatusOr<std::shared_ptr<const Leaf>> Read(uint64_t index) const override {
    auto leaf = std::make_shared<Leaf>();
    leaf->index = index;
    leaf->is_batch = true;
    leaf->logged_ns = static_cast<int64_t>(index) * 1'000'000;
    leaf->events.rows.resize(kBatch);
    leaf->facts.resize(kBatch);
    leaf->terms.reserve(kBatch * 16);
    for (size_t i = 0; i < kBatch; ++i) {
      const uint64_t n = index * kBatch + i;
      leaf->events.rows[i].event_class = 1;
      leaf->facts[i].event_time_ns = static_cast<int64_t>(n / 5000) * 1'000'000'000 - static_cast<int64_t>(Mix(n) % 3) * 1'000'000'000;
      leaf->facts[i].terms_begin = static_cast<uint32_t>(leaf->terms.size());
      TermsOf(n, &leaf->terms);
      leaf->facts[i].terms_end = static_cast<uint32_t>(leaf->terms.size());
    }
    return std::shared_ptr<const Leaf>(std::move(leaf));
  }
  const std::string& origin() const override { return origin_; }
  SignedHead head() const override { return {leaves_, {}, "", leaves_ * kBatch}; }
  bool WaitBeyond(uint64_t, absl::Duration) const override { return false; }
  void Wake() override {}
  absl::StatusOr<RawLeaf> ReadRaw(uint64_t) const override { return None(); }
  absl::StatusOr<std::string> ReadEntry(uint64_t) const override { return None(); }
  absl::StatusOr<Hash> LeafHashAt(uint64_t) const override { return Hash{}; }
  absl::StatusOr<Hash> Root(uint64_t) const override { return None(); }
  absl::StatusOr<std::vector<Hash>> Inclusion(uint64_t, uint64_t) const override { return None(); }
  absl::StatusOr<std::vector<Hash>> Consistency(uint64_t, uint64_t) const override { return None(); }
  absl::StatusOr<std::vector<Hash>> Tile(int, uint64_t, uint32_t) const override { return None(); }
  std::optional<uint64_t> Find(const BatchId&) const override { return std::nullopt; }
  std::optional<uint64_t> FindLeaf(const Hash&, uint64_t) const override { return std::nullopt; }
  std::vector<AgentHead> Heads() const override { return {}; }
  std::optional<AgentHead> HeadOf(const Uuid&) const override { return std::nullopt; }
  std::vector<uint64_t> ControlLeaves(uint64_t, size_t) const override { return {}; }
  uint64_t FirstLoggedAt(int64_t) const override { return 0; }

 private:
  static absl::Status None() { return absl::UnimplementedError("not here"); }
  const uint64_t leaves_;
  const std::string origin_ = "bench";
};

double CpuSeconds() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6; };
  return seconds(u.ru_utime) + seconds(u.ru_stime);
}

void Measure(uint64_t records) {
  TempDir dir;
  Metrics metrics;
  const Synthetic ledger(records / kBatch);
  double made = CpuSeconds();   // what making the records alone costs
  for (uint64_t i = 0; i < records / kBatch; ++i) CHECK_OK(ledger.Read(i).status());
  made = CpuSeconds() - made;
  HistoryOptions options;
  std::printf("made: %.2f us CPU a record\n", made / static_cast<double>(records) * 1e6);
  options.dir = dir / "history";
  options.keep = absl::InfiniteDuration();
  std::unique_ptr<History> history = *History::Open(options, ledger, PosixFs(), SystemClock(), metrics);
  Worker merger("merge", history->merger(), SystemClock());
  merger.Start();
  const double cpu = CpuSeconds();
  const Tick begin = SystemClock().Now();
  while (history->indexed_to() < ledger.head().size) history->Step(SystemClock().Now());
  const double wall = absl::ToDoubleSeconds(SystemClock().Now() - begin);
  // Until merging has caught up: its cost belongs to the records too.
  for (int idle = 0; idle < 3;) {
    history->Step(SystemClock().Now());
    merger.Poke();
    absl::SleepFor(absl::Milliseconds(20));
    idle = history->merger().idle() ? idle + 1 : 0;
  }
  const double spent = CpuSeconds() - cpu - made;
  merger.Stop();
  uint64_t bytes = 0;
  for (const auto& run : history->snapshot().runs) bytes += run->size_bytes();
  std::printf("%4.0f M records: %.0f records/s (made on the fly), %.2f us CPU a record with merges, %zu runs, %.0f bytes a record\n",
              static_cast<double>(records) / 1e6, static_cast<double>(records) / wall, spent / static_cast<double>(records) * 1e6,
              history->snapshot().runs.size(), static_cast<double>(bytes) / static_cast<double>(records));

  struct Ask {
    const char* name;
    std::function<std::vector<uint64_t>(uint64_t)> terms;
  };
  const auto pick = [](uint64_t n, std::initializer_list<size_t> which) {
    std::vector<uint64_t> all, some;
    Synthetic::TermsOf(n, &all);
    for (const size_t w : which) some.push_back(all[w]);
    return some;
  };
  const Ask asks[] = {
      {"event id", [&](uint64_t n) { return pick(n, {0}); }},
      {"user name", [&](uint64_t n) { return pick(n, {3}); }},
      {"resource name", [&](uint64_t n) { return pick(n, {5}); }},
      {"account, event name", [&](uint64_t n) { return pick(n, {9, 1}); }},
      {"write, region, source (dense)", [&](uint64_t n) { return pick(n, {2, 10, 7}); }},
      {"account, resource of another (no hit)", [&](uint64_t n) { return std::vector<uint64_t>{pick(n, {9})[0], pick(n + 1, {5})[0]}; }},
      {"not there", [&](uint64_t n) { return std::vector<uint64_t>{TermOf(1, n + (1ull << 50))}; }},
  };
  std::mt19937_64 random(7);
  std::vector<double> every;
  const auto time = [&](const char* name, const std::function<HistoryQuery(uint64_t)>& ask) {
    std::vector<double> ms;
    size_t found = 0;
    for (int i = 0; i < 300; ++i) {
      HistoryQuery query = ask(random() % records);
      const Tick at = SystemClock().Now();
      HistorySearch search(history->snapshot(), std::move(query));
      for (int hits = 0; hits < 50 && search.Next().has_value(); ++hits) ++found;
      ms.push_back(absl::ToDoubleMilliseconds(SystemClock().Now() - at));
    }
    every.insert(every.end(), ms.begin(), ms.end());
    std::sort(ms.begin(), ms.end());
    std::printf("       %-40s p50 %.3f ms  p99 %.3f ms  hits %zu\n", name, ms[ms.size() / 2], ms[ms.size() * 99 / 100], found / ms.size());
  };
  for (const Ask& ask : asks) {
    time(ask.name, [&](uint64_t n) {
      HistoryQuery query;
      query.terms = ask.terms(n);
      return query;
    });
  }
  // The network of a record's own address, so many bits wide; alone, and with the record's user.
  struct Network {
    const char* name;
    int bits;
    bool v4, user;
  };
  for (const Network& network : {Network{"IPv4 /8", 8, true, false}, {"IPv4 /12", 12, true, false}, {"IPv4 /16", 16, true, false}, {"IPv4 /24", 24, true, false},
                                 {"IPv4 /32", 32, true, false}, {"IPv4 /16 and user name", 16, true, true}, {"IPv6 /32", 32, false, false},
                                 {"IPv6 /48", 48, false, false}, {"IPv6 /128", 128, false, false}}) {
    time(network.name, [&](uint64_t n) {
      while (IsIpv4(Synthetic::AddressOf(n)) != network.v4) n = (n + 1) % records;
      HistoryQuery query;
      query.addresses = AddressTerms({Synthetic::AddressOf(n), network.bits + (network.v4 ? 96 : 0)});
      if (network.user) query.terms = pick(n, {3});
      return query;
    });
  }
  std::sort(every.begin(), every.end());
  std::printf("       %-40s p50 %.3f ms  p99 %.3f ms\n", "all lookups", every[every.size() / 2], every[every.size() * 99 / 100]);
}

}  // namespace
}  // namespace orgtrail

int main(int argc, char** argv) {
  if (argc > 1) {
    const double millions = std::atof(argv[1]);
    if (!(millions > 0 && millions <= 1000)) {
      std::fprintf(stderr, "usage: history_bench [MILLIONS]: of records, at most 1000; without it 1, 5 and 10\n");
      return 2;
    }
    orgtrail::Measure(static_cast<uint64_t>(millions * 1e6));
    return 0;
  }
  for (const uint64_t records : {1'000'000u, 5'000'000u, 10'000'000u}) orgtrail::Measure(records);
}
