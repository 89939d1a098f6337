// A batch of 1,000 records of 1 KB through the sealer and back: what each end pays per record. items = records.
#include <benchmark/benchmark.h>

#include "common/base/text.h"
#include "common/format/frame.h"
#include "common/merkle/tree.h"
#include "common/seal/sealer.h"
#include "tests/support/fixed_world.h"

namespace orgtrail {
namespace {

constexpr size_t kRecords = 1000;

// Like real records: the same members over and over, values that differ. 1,024 bytes each, so a batch stays below 1 MiB.
std::vector<std::string> Records() {
  RepeatingRng rng("records");
  std::vector<std::string> out;
  for (size_t i = 0; i < kRecords; ++i) {
    std::string body = "{\"eventVersion\":\"1.11\",\"userIdentity\":{\"type\":\"AssumedRole\",\"principalId\":\"AROA" +
                       Hex(rng.Bytes(8)) + ":deploy\",\"arn\":\"arn:aws:sts::210987654321:assumed-role/ci-deployer/deploy\"," +
                       "\"accountId\":\"210987654321\"},\"eventTime\":\"2026-11-20T09:01:44Z\",\"eventSource\":\"s3.amazonaws.com\"," +
                       "\"eventName\":\"GetObject\",\"awsRegion\":\"eu-central-1\",\"sourceIPAddress\":\"198.51.100." +
                       std::to_string(rng.Below(256)) + "\",\"requestParameters\":{\"key\":\"" + Hex(rng.Bytes(24)) +
                       "\"},\"responseElements\":null,\"eventID\":\"" + Uuid::Random(rng).ToString() + "\",\"pad\":\"";
    while (body.size() < 1000) body += "abcdefghij klmnopqrst ";
    body.resize(1022);
    out.push_back(body + "\"}");
  }
  return out;
}

struct World {
  World() : sealer({Uuid::Random(rng), "o-example", "111122223333", "eu-west-1", "web-01"}, identity, SystemClock(), rng) {
    EpochOpening opening;
    opening.origin = "orgtrail.example/o-example";
    benchmark::DoNotOptimize(sealer.OpenEpoch(1, opening, {}).ok());
  }
  RepeatingRng rng{"bench"};
  SigningKey identity = SigningKey::Generate(rng);
  Sealer sealer;
};

void AddRecords(benchmark::State& state) {
  World world;
  const std::vector<std::string> records = Records();
  for (auto _ : state) {
    for (const std::string& record : records) world.sealer.Add(EventClass::kManagement, 0, record);
    state.PauseTiming();
    benchmark::DoNotOptimize(world.sealer.Close(0, {}).ok());
    world.sealer.Committed();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * kRecords));
}
BENCHMARK(AddRecords);

void CloseBatch(benchmark::State& state) {
  World world;
  const std::vector<std::string> records = Records();
  size_t bytes = 0;
  for (auto _ : state) {
    state.PauseTiming();
    for (const std::string& record : records) world.sealer.Add(EventClass::kManagement, 0, record);
    state.ResumeTiming();
    absl::StatusOr<std::vector<SealedBatch>> closed = world.sealer.Close(0, {});
    bytes = closed->front().frame.size();
    world.sealer.Committed();
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * kRecords));
  state.counters["frame_bytes"] = static_cast<double>(bytes);
}
BENCHMARK(CloseBatch);

void Inflate(benchmark::State& state, bool hash) {
  World world;
  for (const std::string& record : Records()) world.sealer.Add(EventClass::kManagement, 0, record);
  const std::string frame = world.sealer.Close(0, {})->front().frame;
  ZstdDecompressor zstd;
  for (auto _ : state) {
    absl::StatusOr<FrameView> view = FrameView::Decode(frame);
    absl::StatusOr<Events> events = InflateFrame(*view, zstd);
    if (hash) benchmark::DoNotOptimize(HashRows(view->batch_key, events->rows).root);
    benchmark::DoNotOptimize(events->rows.data());
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * kRecords));
}
BENCHMARK_CAPTURE(Inflate, only, false);
BENCHMARK_CAPTURE(Inflate, and_hash, true);

// Rows as they cost after compression: empty bodies, real clock.
void EmptyBodies(benchmark::State& state) {
  World world;
  size_t bytes = 0;
  for (auto _ : state) {
    for (size_t i = 0; i < kRecords; ++i) world.sealer.Add(EventClass::kManagement, 0, "");
    bytes = world.sealer.Close(0, {})->front().frame.size();
    world.sealer.Committed();
  }
  state.counters["frame_bytes"] = static_cast<double>(bytes);
}
BENCHMARK(EmptyBodies);

void Nodes(benchmark::State& state) {
  Hash a = LeafHash("a"), b = LeafHash("b");
  for (auto _ : state) a = NodeHash(a, b);
  benchmark::DoNotOptimize(a);
}
BENCHMARK(Nodes);

}  // namespace
}  // namespace orgtrail
