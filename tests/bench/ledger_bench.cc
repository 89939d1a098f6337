// The ledger: append of full batches, sequential reading from disk, opening. build/release/tests/ledger_bench
#include <time.h>


#include "aggregator/ledger/ledger.h"
#include "benchmark/benchmark.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/format/frame.h"
#include "tests/data/record_maker.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/gzip.h"

namespace orgtrail {
namespace {

double ThreadCpuSeconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// `records` records of 1 KB in frames that differ in their headers only: what is measured is the ledger, not the sealer.
struct Batches {
  explicit Batches(uint64_t records_each = 1000) {
    TestAgent agent("111111111111", "eu-central-1", "a", "orgtrail.test/o-demo", clock, rng);
    agent.Open();
    std::vector<std::string> records;
    for (uint64_t i = 0; i < records_each; ++i) records.push_back(TestRecord(i, "111111111111", "eu-central-1", clock.wall, "PutObject", Hex(rng.Bytes(48))));
    model = agent.Batch(records);
    const FrameView frame = *FrameView::Decode(model.leaf->bytes);
    entry_size = frame.entry.size();
    entry = std::string(frame.entry);
    rest = model.leaf->bytes.substr(6 + entry_size);
  }
  Admitted Next() {
    Admitted item = model;
    auto leaf = std::make_shared<Leaf>();
    leaf->is_batch = true;
    leaf->header = model.leaf->header;
    leaf->header.batch_seq = ++seq;
    item.batch.batch_seq = seq;
    item.head->batch_seq = seq;
    std::string header = leaf->header.Encode();
    leaf->bytes = model.leaf->bytes.substr(0, 6);
    leaf->bytes += header;
    leaf->bytes += std::string_view(entry).substr(header.size());
    leaf->bytes += rest;
    item.leaf = std::move(leaf);
    return item;
  }
  StillClock clock;
  SeededRng rng{1};
  Admitted model;
  size_t entry_size = 0;
  std::string entry, rest;
  uint64_t seq = 10;
};

// range(0): batches that queued up during one fsync.
void BM_Append(benchmark::State& state) {
  TempDir dir;
  Batches batches;
  LedgerBuilder built(dir.path(), batches.clock);
  built.options.map_bytes = 32ull << 30;
  CHECK_OK(built.Open());
  double cpu = 0;
  uint64_t n = 0;
  for (auto _ : state) {
    state.PauseTiming();
    std::vector<Admitted> group;
    for (int64_t i = 0; i < state.range(0); ++i) group.push_back(batches.Next());
    batches.clock.Advance(absl::Milliseconds(5));
    state.ResumeTiming();
    const double begin = ThreadCpuSeconds();
    CHECK_OK(built.ledger->Append(group).status());
    cpu += ThreadCpuSeconds() - begin;
    n += group.size();
  }
  const double records = 1000.0 * static_cast<double>(n);
  state.counters["records/s"] = benchmark::Counter(records, benchmark::Counter::kIsRate);
  state.counters["cpu_us/record"] = 1e6 * cpu / records;
  state.counters["frame_bytes"] = static_cast<double>(batches.model.leaf->bytes.size());
}
BENCHMARK(BM_Append)->Arg(1)->Arg(10)->Arg(100)->UseRealTime()->Unit(benchmark::kMillisecond);

void BM_ReadFromDisk(benchmark::State& state) {
  TempDir dir;
  Batches batches;
  LedgerBuilder built(dir.path(), batches.clock);
  built.options.map_bytes = 32ull << 30;
  built.options.tail_bytes = 1;
  CHECK_OK(built.Open());
  for (int i = 0; i < 10; ++i) {
    std::vector<Admitted> group;
    for (int k = 0; k < 20; ++k) group.push_back(batches.Next());
    CHECK_OK(built.ledger->Append(group).status());
  }
  uint64_t index = 0;
  for (auto _ : state) {
    const auto leaf = built.ledger->Read(index);
    CHECK_OK(leaf.status());
    index = (index + 1) % 199;
  }
  state.counters["records/s"] = benchmark::Counter(1000.0 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}
BENCHMARK(BM_ReadFromDisk)->UseRealTime()->Unit(benchmark::kMicrosecond);

void BM_ReadFromTail(benchmark::State& state) {
  TempDir dir;
  Batches batches;
  LedgerBuilder built(dir.path(), batches.clock);
  CHECK_OK(built.Open());
  CHECK_OK(built.Append(batches.Next()));
  for (auto _ : state) CHECK_OK(built.ledger->Read(0).status());
}
BENCHMARK(BM_ReadFromTail);

// range(0): leaves in the ledger that is opened.
void BM_Open(benchmark::State& state) {
  TempDir dir;
  StillClock clock;
  LedgerBuilder built(dir.path(), clock);
  built.options.map_bytes = 32ull << 30;
  CHECK_OK(built.Open());
  for (int64_t n = 0; n < state.range(0);) {
    std::vector<Admitted> group;
    for (int i = 0; i < 1000; ++i, ++n) group.push_back(ControlItem("OTT1 leaf " + std::to_string(n) + std::string(450, 'x')));
    clock.Advance(absl::Milliseconds(5));
    CHECK_OK(built.ledger->Append(group).status());
  }
  built.Shut();
  for (auto _ : state) {
    CHECK_OK(built.Open());
    state.PauseTiming();
    built.Shut();
    state.ResumeTiming();
  }
}
BENCHMARK(BM_Open)->Arg(1000)->Arg(100'000)->UseRealTime()->Unit(benchmark::kMillisecond);

// Ten million records in range(0) shards, opened again. Fills 1.3 GB of disk once per number of shards.
void BM_OpenTenMillion(benchmark::State& state) {
  TempDir dir;
  Batches batches;
  LedgerBuilder built(dir.path(), batches.clock);
  built.options.map_bytes = 32ull << 30;
  built.options.shard_period = absl::Seconds(100) / state.range(0);
  CHECK_OK(built.Open());
  for (int i = 0; i < 100; ++i) {
    std::vector<Admitted> group;
    for (int k = 0; k < 100; ++k) group.push_back(batches.Next());
    batches.clock.Advance(absl::Seconds(1));
    CHECK_OK(built.ledger->Append(group).status());
  }
  state.counters["shards"] = built.ledger->stats().shards;
  built.Shut();
  for (auto _ : state) {
    CHECK_OK(built.Open());
    state.PauseTiming();
    state.counters["records"] = static_cast<double>(built.ledger->head().events);
    built.Shut();
    state.ResumeTiming();
  }
}
BENCHMARK(BM_OpenTenMillion)->Arg(1)->Arg(10)->Arg(40)->UseRealTime()->Unit(benchmark::kMillisecond)->Iterations(20);

// Ten million leaves, batches of one record each. Fills 11 GB of disk.
void BM_OpenTenMillionLeaves(benchmark::State& state) {
  TempDir dir;
  Batches batches(1);
  LedgerBuilder built(dir.path(), batches.clock);
  built.options.map_bytes = 32ull << 30;
  CHECK_OK(built.Open());
  for (int i = 0; i < 1000; ++i) {
    std::vector<Admitted> group;
    for (int k = 0; k < 10'000; ++k) group.push_back(batches.Next());
    batches.clock.Advance(absl::Seconds(1));
    CHECK_OK(built.ledger->Append(group).status());
  }
  built.Shut();
  for (auto _ : state) {
    CHECK_OK(built.Open());
    state.PauseTiming();
    state.counters["leaves"] = static_cast<double>(built.ledger->head().size);
    built.Shut();
    state.ResumeTiming();
  }
}
BENCHMARK(BM_OpenTenMillionLeaves)->UseRealTime()->Unit(benchmark::kMillisecond)->Iterations(5);

// Bytes at rest before and after a shard is repacked, in batches of range(0) records of generated trails, and beside gzip -6.
void BM_Repack(benchmark::State& state) {
  for (auto _ : state) {
    TempDir dir;
    StillClock clock;
    LedgerBuilder built(dir.path(), clock);
    built.options.map_bytes = 8ull << 30;
    built.options.tail_bytes = 1;
    built.options.shard_period = absl::Hours(1000);
    CHECK_OK(built.Open());
    TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "a");
    data::RecordMaker maker(7, 0);
    const auto per_batch = static_cast<size_t>(state.range(0));
    const size_t total = per_batch < 100 ? 20'000 : 200'000;
    std::string text;
    std::vector<Admitted> group;
    for (size_t made = 0, in_epoch = 0; made < total; made += per_batch) {
      std::vector<std::string> records;
      for (size_t i = 0; i < per_batch; ++i) {
        records.push_back(maker.Ordinary({"111111111111", "eu-central-1"}, clock.wall));
        text += records.back() + "\n";
      }
      clock.Advance(absl::Milliseconds(20));
      group.push_back(agent.Batch(records));
      if (++in_epoch == 1000) {
        group.push_back(agent.Close());
        group.push_back(agent.Open());
        in_epoch = 0;
      }
      if (group.size() >= 50) {
        CHECK_OK(built.Append(std::move(group)));
        group.clear();
      }
    }
    if (!group.empty()) CHECK_OK(built.Append(std::move(group)));
    const uint64_t before = built.ledger->stats().used_bytes;
    built.options.shard_period = absl::Seconds(1);
    CHECK_OK(built.Open());
    clock.Advance(absl::Seconds(2));
    CHECK_OK(built.Append(ControlItem("OTT1 the last")));  // seals it
    const uint64_t with_next = built.ledger->stats().used_bytes;
    const double begin = ThreadCpuSeconds();
    Stage& repacker = *built.ledger->Background();
    do repacker.Step(Tick{1});
    while (built.ledger->stats().to_repack > 0 || built.ledger->stats().used_bytes == with_next);
    const double cpu = ThreadCpuSeconds() - begin;
    const uint64_t after = before - (with_next - built.ledger->stats().used_bytes);
    const double records = static_cast<double>(total);
    state.counters["record_bytes"] = static_cast<double>(text.size()) / records;
    state.counters["before"] = static_cast<double>(before) / records;
    state.counters["after"] = static_cast<double>(after) / records;
    state.counters["gzip6"] = static_cast<double>(Gzip(text).size()) / records;
    state.counters["cpu_us/record"] = 1e6 * cpu / records;
    uint64_t read = 0;
    const double read_begin = ThreadCpuSeconds();
    for (uint64_t i = 0; i < built.ledger->head().size; ++i) read += built.ledger->ReadRaw(i)->bytes.size();
    state.counters["readraw_us/record"] = 1e6 * (ThreadCpuSeconds() - read_begin) / records;
    benchmark::DoNotOptimize(read);
  }
}
BENCHMARK(BM_Repack)->Arg(10)->Arg(100)->Arg(600)->UseRealTime()->Unit(benchmark::kMillisecond)->Iterations(1);

void BM_Inclusion(benchmark::State& state) {
  TempDir dir;
  StillClock clock;
  LedgerBuilder built(dir.path(), clock);
  built.options.map_bytes = 1ull << 30;
  CHECK_OK(built.Open());
  std::vector<Admitted> group;
  for (int n = 0; n < 20'000; ++n) group.push_back(ControlItem("OTT1 leaf " + std::to_string(n)));
  CHECK_OK(built.ledger->Append(group).status());
  uint64_t index = 0;
  for (auto _ : state) {
    CHECK_OK(built.ledger->Inclusion(index, 20'000).status());
    index = (index + 7919) % 20'000;
  }
}
BENCHMARK(BM_Inclusion)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace orgtrail

BENCHMARK_MAIN();
