// Pruner: lets bodies expire. Nobody does it alone: the operator configures ledger.retention, governance signs an order, the log tells
// everybody a policy's weaken-delay before it takes effect, and tells again, durably, before the first body goes. docs/formats/control.md, OTR2
//
//   state_dir/retention.note → OTR2 announces it → (delay) → shards old enough → OTR2 raises the minimum → their bodies are dropped
//
// Threads  Load, Step: one (its Worker). facts(): any.
// Holds    nothing younger than 400 days by the log's clock goes, nor without an OTR2 that governance signed; whole sealed shards only, from
//          the first one on. A day more than ordered: `verify ledger` goes by agents' clocks.
// Fails    a damaged shard, a full disk: said, tried again an hour later; what is announced stays announced.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "aggregator/ledger/committer.h"
#include "aggregator/ledger/ledger.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/stage.h"
#include "common/format/retention.h"
#include "common/fs/file.h"

namespace orgtrail {

struct PrunerOptions {
  absl::Duration keep;               // ledger.retention; zero: for ever
  std::string order_file;            // where governance's signed order is put
  Uuid own;                          // the aggregator's own agent, whose clock is the aggregator's
  // Somebody should know: code, whether it is a refusal, what.
  std::function<void(std::string_view code, bool refused, std::string_view what)> tell;
};

struct RetentionFacts {
  absl::Duration keep;               // what is configured; zero: for ever
  uint32_t order_days = 0;           // of the newest order in the log; 0: none
  uint64_t order_leaf = 0;
  int64_t effective_ns = 0;
  uint64_t minimum = 0;              // bodies of leaves below are gone, or go now
  uint64_t minimum_leaf = 0;         // the OTR2 that says so
  int64_t oldest_body_ns = 0;        // when the first leaf with a body was logged; 0: there is none
  int64_t next_ns = 0;               // when the next shard may go; 0: unknown, or never
  std::string why;                   // nothing goes, or went wrong: for people
};

class Pruner final : public Stage {
 public:
  Pruner(PrunerOptions options, Ledger& ledger, Committer& committer, Fs& fs, const Clock& clock);
  absl::Status Load();               // what the log says so far; before the first Step
  Tick Step(Tick now) override;
  RetentionFacts facts() const {
    return facts_.Peek([](const RetentionFacts& f) { return f; });
  }

 private:
  absl::Status Follow();
  void ReadOrder();
  absl::Status Submit(const RetentionLeaf& leaf);
  absl::StatusOr<std::optional<int64_t>> SeenAt(uint64_t end);
  absl::StatusOr<std::optional<RetentionLeaf>> NextRaise(absl::Duration keep);
  bool IsClockConfirmed() const;
  void Refuse(const std::string& why);
  void Publish();

  const PrunerOptions options_;
  Ledger& ledger_;
  Committer& committer_;
  Fs& fs_;
  const Clock& clock_;
  RetentionHistory log_;
  uint64_t followed_ = 0;            // control leaves below are in log_
  std::shared_ptr<std::atomic<bool>> submitted_;  // set: an OTR2 is on its way; true: logged
  std::string refused_note_;         // told once
  uint64_t seen_end_ = 0;            // what SeenAt found last
  std::optional<int64_t> seen_ns_;
  int64_t next_ns_ = 0;
  std::string why_;
  Guarded<RetentionFacts> facts_;
};

}  // namespace orgtrail
