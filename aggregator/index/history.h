// History: which records have which attribute, over the last history.keep days. Follows the ledger; derived, so its directory
// may be removed at any time and is rebuilt.
//
// Path     ledger ⇒ [History] → runs in derived/history; queries read snapshots
// Threads  Step: one (its Worker). merger().Step: one other. snapshot(): any.
// Holds    the cursor on disk is where the runs end, so a crash loses nothing: what was only in memory is read again.
// Fails    a ledger or disk that does not answer is tried again each second. Files that are damaged or belong to another
//          ledger are removed and rebuilt.
// Bytes    docs/formats/history.md
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/index/merge.h"
#include "aggregator/index/recent.h"
#include "aggregator/index/reuse.h"
#include "aggregator/index/run.h"
#include "aggregator/ledger/reader.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/stage.h"
#include "common/fs/file.h"
#include "common/metrics/metrics.h"

namespace orgtrail {

struct HistoryOptions {
  std::string dir;                                 // …/derived/history
  absl::Duration keep = absl::Hours(24 * 90);      // by the time of logging; infinite: for ever
  size_t run_records = 65536;
  absl::Duration run_age = absl::Seconds(60);
  TellReuse tell_reuse;                            // of an event id that two different records have; on the merge thread; may be null
};

// What a reader sees: everything below indexed_to, unchanged while it is held.
struct HistorySnapshot {
  uint64_t indexed_to = 0;                         // leaves [0, indexed_to) have been indexed (and perhaps expired)
  std::vector<std::shared_ptr<const Run>> runs;
  std::vector<std::shared_ptr<const RecentBlock>> recent;
};

class History final : public Stage {
 public:
  static absl::StatusOr<std::unique_ptr<History>> Open(HistoryOptions options, const LedgerReader& ledger, Fs& fs,
                                                       const Clock& clock, Metrics& metrics);
  Tick Step(Tick now) override;
  Merger& merger() { return merger_; }
  HistorySnapshot snapshot() const;
  uint64_t indexed_to() const;                     // O(1)
  // What leaves from this one on say may have changed since they were indexed (bodies that came late): the runs from there on are made again.
  // `done` when that is begun and no restart forgets it. Threads: any.
  void ReadAgain(uint64_t leaf, std::function<void()> done);
  // Writes what is in memory as a run, now. The follower's thread only (shutdown, tests).
  absl::Status Flush();

 private:
  struct View {
    uint64_t indexed_to = 0;
    std::vector<std::shared_ptr<const Run>> runs;  // ascending by leaf, adjacent
    Recent recent;
  };
  struct List;                                     // the run list as it lies on disk

  History(HistoryOptions options, const LedgerReader& ledger, Fs& fs, const Clock& clock, Metrics& metrics);
  absl::Status Load();
  absl::Status Adopt(const List& list);
  absl::Status Reset(std::string_view why);
  absl::Status SaveList(const std::vector<std::shared_ptr<const Run>>& runs, uint64_t next_leaf);
  absl::Status Follow(Tick now);
  absl::Status TakeMerged();
  absl::Status Expire();
  absl::Status GoBack();
  void AskForMerge();
  absl::Status CheckLedger();

  const HistoryOptions options_;
  const LedgerReader& ledger_;
  Fs& fs_;
  const Clock& clock_;
  IdReuse reuse_;
  Merger merger_;
  struct Again {
    uint64_t leaf = UINT64_MAX;
    std::vector<std::function<void()>> done;
  };
  Guarded<Again> again_;
  Guarded<View> view_;
  std::atomic<uint64_t> indexed_to_{0};

  // The follower's own.
  uint64_t next_ = 0;             // the leaf to read next
  uint64_t saved_ = 0;            // the cursor on disk
  std::optional<Hash> first_leaf_;
  Tick oldest_{};                 // when the oldest record in memory, or the cursor, should have been saved
  bool dirty_ = false;            // next_ is ahead of saved_ since oldest_
  Tick expire_at_{};
  Counter& records_total_;
  Gauge& behind_;
  Gauge& runs_gauge_;
  Counter& rebuilt_;
};

}  // namespace orgtrail
