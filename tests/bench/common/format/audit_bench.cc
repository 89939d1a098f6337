// Records audited a second on one core: 1,000-record batches of about 1 KB each. build/release/tests/audit_bench
#include <benchmark/benchmark.h>

#include "common/base/text.h"
#include "common/format/audit.h"
#include "tests/support/sealed_log.h"

namespace orgtrail {
namespace {

void AuditLedger(benchmark::State& state) {
  SealedLog log("bench");
  const int64_t batches = 50;
  for (int64_t b = 0; b < batches; ++b) {
    for (int i = 0; i < 1000; ++i) {
      std::string body = "{\"eventVersion\":\"1.08\",\"eventTime\":\"2026-11-21T08:00:00Z\",\"eventSource\":\"s3.amazonaws.com\",\"eventName\":\"GetObject\","
                         "\"awsRegion\":\"eu-west-1\",\"sourceIPAddress\":\"198.51.100." + std::to_string(i % 250) + "\",\"eventID\":\"" + Hex(log.rng.Bytes(16)) +
                         "\",\"recipientAccountId\":\"111122223333\",\"requestParameters\":{\"bucketName\":\"logs\",\"key\":\"" + Hex(log.rng.Bytes(64)) +
                         "\"},\"userAgent\":\"" + std::string(static_cast<size_t>(state.range(0)), 'a') + "\"}";
      log.Add(body);
    }
    log.Close();
  }
  std::vector<std::string> leaves{log.entries[0]};
  for (const SealedBatch& b : log.batches) leaves.push_back(b.frame);
  const Checkpoint checkpoint{SealedLog::kOrigin, leaves.size(), RootOf(log.Leaves())};
  uint64_t body_bytes = log.batches[1].header.body_bytes;
  for (auto _ : state) {
    Audit audit(1, checkpoint);
    for (const std::string& leaf : leaves) audit.Add(leaf, false);
    const AuditReport report = audit.Finish();
    CHECK(report.findings.empty() && report.events == static_cast<uint64_t>(batches) * 1000);
  }
  state.SetItemsProcessed(state.iterations() * batches * 1000);
  state.counters["record_bytes"] = static_cast<double>(body_bytes) / 1000;
}
BENCHMARK(AuditLedger)->Arg(100)->Arg(550)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace orgtrail

BENCHMARK_MAIN();
