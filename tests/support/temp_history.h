// TempHistory: a real ledger and its history in a directory that goes away. For tests of what reads both.
#pragma once

#include <memory>
#include <string>

#include "aggregator/index/history.h"
#include "aggregator/ledger/registry.h"
#include "common/base/status.h"
#include "common/fs/file.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {

class TempHistory {
 public:
  explicit TempHistory(size_t run_records = 40, uint64_t seed = 1) : builder(dir / "ledger", clock, seed) {
    options.dir = dir / "derived/history";
    options.run_records = run_records;
    CHECK_OK(builder.Open());
    Reopen();
  }
  // As after a crash: nothing is flushed first.
  void Reopen() {
    history.reset();
    absl::StatusOr<std::unique_ptr<History>> opened = History::Open(options, *builder.ledger, PosixFs(), clock, metrics);
    CHECK_OK(opened.status());
    history = std::move(*opened);
  }
  // Until everything is indexed and nothing is left to merge.
  void Settle() {
    for (int i = 0; i < 10'000; ++i) {
      const Tick next = history->Step(clock.now);
      history->merger().Step(clock.now);
      if (next > clock.now && history->merger().idle()) {
        history->Step(clock.now);
        if (history->merger().idle()) return;
      }
    }
    CHECK(false);
  }

  TempDir dir;
  StillClock clock;
  LedgerBuilder builder;
  Metrics metrics;
  HistoryOptions options;
  std::unique_ptr<History> history;
};

}  // namespace orgtrail
