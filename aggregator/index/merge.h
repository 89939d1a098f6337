// Merge: several runs with adjacent leaf ranges into one. docs/formats/history.md
// Threads: any; the inputs are immutable. Memory: combine.h.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "aggregator/index/reuse.h"
#include "aggregator/index/run.h"
#include "common/base/guarded.h"
#include "common/base/stage.h"
#include "common/fs/file.h"

namespace orgtrail {

inline constexpr size_t kMergeWays = 16;
inline constexpr uint64_t kMergeRecords = 1 << 25;  // a run never grows beyond this: at 4 bytes a record, merging takes at most 128 MiB

// Writes the merged run under `path`; its level is one above the highest. `repeats`: as Combine. DataLoss when an input's checksums differ.
absl::Status MergeRuns(Fs& fs, std::string path, std::span<const std::shared_ptr<const Run>> runs, Repeats* repeats);

// Merges what it is given, one request at a time, on a thread of its own, which also looks at event ids that came twice.
class Merger final : public Stage {
 public:
  Merger(Fs& fs, IdReuse& reuse) : fs_(fs), reuse_(reuse) {}
  Tick Step(Tick now) override;

  struct Request {
    std::string path;
    std::vector<std::shared_ptr<const Run>> runs;   // ascending by leaf
  };
  struct Result {
    std::vector<std::shared_ptr<const Run>> inputs;
    absl::StatusOr<std::shared_ptr<const Run>> merged;
  };
  bool TryGive(Request request);                    // false while one is being worked on or its result was not taken
  std::optional<Result> TakeResult();
  bool idle() const;

 private:
  struct State {
    bool busy = false;
    std::optional<Request> request;
    std::optional<Result> result;
  };
  Fs& fs_;
  IdReuse& reuse_;
  Guarded<State> state_;
};

}  // namespace orgtrail
