// The disk side of an agent: spool appends with their fsync, and the tail of a large file. TMPDIR says which disk.
#include <benchmark/benchmark.h>

#include <fstream>

#include "agent/capture/file_tail.h"
#include "agent/spool/spool.h"
#include "common/base/status.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

void SpoolAppend(benchmark::State& state) {
  TempDir dir;
  auto spool = Spool::Open(dir / "spool", {.max_bytes = 2ull << 30, .min_free = 0}, PosixFs(), SystemClock());
  CHECK_OK(spool.status());
  SealedBatch batch;
  batch.frame.assign(static_cast<size_t>(state.range(0)), 'x');
  batch.header.epoch = 1;
  for (auto _ : state) {
    ++batch.header.batch_seq;
    CHECK_OK((*spool)->Append({.batches = {&batch}, .positions = {}, .replies = {}}));
    if (batch.header.batch_seq % 100 == 0) CHECK_OK((*spool)->Acked({1, batch.header.batch_seq}, {}));
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(SpoolAppend)->Arg(1'000)->Arg(100'000)->Arg(1'000'000)->UseRealTime()->Unit(benchmark::kMicrosecond);

class Counting final : public Intake {
 public:
  absl::StatusOr<Taken> Take(const RawChunk& chunk) override {
    lines += chunk.texts.size();
    return Taken{};
  }
  absl::StatusOr<std::vector<FilePosition>> Positions() override { return std::vector<FilePosition>(); }
  absl::StatusOr<std::string> IdempotentReply(std::string_view) override { return absl::NotFoundError(""); }
  void Lost(std::string_view, std::string_view, uint32_t, std::string_view) override {}
  size_t lines = 0;
};

void TailFile(benchmark::State& state) {
  TempDir dir;
  constexpr size_t kLines = 200'000;  // of 1 KB: 200 MB
  {
    std::ofstream out(dir / "f.jsonl", std::ios::binary);
    for (size_t n = 0; n < kLines; ++n) {
      std::string line = absl::StrCat("{\"eventID\":\"", n, "\",\"pad\":\"");
      line.resize(1021, 'x');
      out << line << "\"}\n";
    }
  }
  for (auto _ : state) {
    Counting intake;
    FileTail tail({.path = dir / "f.jsonl"}, intake, PosixFs(), SystemClock());
    for (bool more = true; more;) more = tail.Step().value();
    CHECK(intake.lines == kLines);
  }
  state.SetItemsProcessed(state.iterations() * kLines);
  state.SetBytesProcessed(state.iterations() * kLines * 1024);
}
BENCHMARK(TailFile)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace orgtrail
