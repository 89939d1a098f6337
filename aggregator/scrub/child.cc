#include "aggregator/scrub/child.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "aggregator/index/run.h"
#include "aggregator/ledger/fsck.h"
#include "aggregator/scrub/lines.h"
#include "common/base/guarded.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kMostFindings = 10'000;   // a block of a repacked shard has hundreds of leaves
constexpr absl::Duration kBetweenLines = absl::Milliseconds(200);
constexpr std::string_view kRemakeHistory = "stop the aggregator, remove derived/history, start it: the index is made again from the ledger";

// Who reads it is gone when a line cannot be written; then this process is too, by SIGPIPE.
void Say(const ScrubLine& line) {
  const std::string text = line.Encode();
  [[maybe_unused]] const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
}

// Rests so that the rate is kept, and at least as long as the work took.
class Pace {
 public:
  Pace(uint64_t bytes_per_second, const Clock& clock) : rate_(bytes_per_second), clock_(clock), since_(clock.Now()) {}
  void Worked(uint64_t read_bytes) {
    const absl::Duration took = clock_.Now() - since_;
    if (rate_ != 0) {
      const absl::Duration due = absl::Seconds(static_cast<double>(read_bytes - bytes_) / static_cast<double>(rate_));
      Rest(std::max(due - took, took));
    }
    bytes_ = read_bytes;
    since_ = clock_.Now();
  }

 private:
  void Rest(absl::Duration length) {
    nothing_.WhenFor(length, [](bool) { return false; }, [](bool, bool) {});
  }
  const uint64_t rate_;
  const Clock& clock_;
  Tick since_;
  uint64_t bytes_ = 0;
  Guarded<bool> nothing_;
};

void ReadHistory(const std::string& dir, Fs& fs, Pace& pace, FsckTotals* totals) {
  const absl::StatusOr<std::vector<std::string>> paths = fs.Glob(JoinPath(dir, "*.run"));
  if (!paths.ok()) return;   // nothing was indexed yet
  for (const std::string& path : *paths) {
    Say(ScrubLine::Entering(0, path));
    const absl::StatusOr<std::shared_ptr<const Run>> run = Run::Open(path);
    if (absl::IsNotFound(run.status())) continue;   // merged meanwhile
    const absl::Status sound = run.ok() ? (*run)->Verify() : run.status();
    if (run.ok()) totals->read_bytes += (*run)->size_bytes();
    if (!sound.ok() && fs.Facts(path).ok()) {
      Say(ScrubLine::Found(Finding{UINT64_MAX, path, std::string(sound.message()), std::string(kRemakeHistory)}));
    }
    Say(ScrubLine::At(totals->leaves, totals->leaves, totals->read_bytes));
    pace.Worked(totals->read_bytes);
  }
}

}  // namespace

void TakeTheLastPlace() {
  constexpr int kIoprioWhoProcess = 1, kIoprioIdle = 3 << 13;
  (void)::setpriority(PRIO_PROCESS, 0, 19);
  (void)::syscall(SYS_ioprio_set, kIoprioWhoProcess, 0, kIoprioIdle);
}

int RunScrubChild(const ScrubOrder& order, Fs& fs, const Clock& clock) {
  TakeTheLastPlace();
  std::vector<Finding> findings;
  FsckTotals totals;
  size_t said = 0;
  Tick spoke = clock.Now();
  Pace pace(order.bytes_per_second, clock);
  const auto tell = [&] {
    for (; said < findings.size(); ++said) Say(ScrubLine::Found(findings[said]));
  };
  FsckOptions options;
  options.dir = order.ledger_dir;
  options.from_shard = order.from_shard;
  options.max_findings = kMostFindings;
  options.lacking = [](uint64_t leaf, bool is_bodiless) { Say(ScrubLine::Lacking(leaf, is_bodiless)); };
  if (!order.kek_file.empty()) {
    absl::StatusOr<std::string> kek = ReadFile(fs, order.kek_file, 1024);
    if (kek.ok()) options.kek = *std::move(kek);   // else the aggregator says so at its next start; all but the records is looked at
  }
  options.entering = [&](uint32_t shard, const std::string& file) {
    tell();
    Say(ScrubLine::At(totals.leaves, totals.leaves, totals.read_bytes));
    Say(ScrubLine::Entering(shard, file));
  };
  Say(ScrubLine::Entering(0, order.ledger_dir));
  const absl::Status read = Fsck(
      options,
      [&](uint64_t done, uint64_t total) {
        tell();
        if (clock.Now() - spoke >= kBetweenLines) {
          Say(ScrubLine::At(done, total, totals.read_bytes));
          spoke = clock.Now();
        }
        pace.Worked(totals.read_bytes);
      },
      &findings, &totals);
  tell();
  if (!read.ok()) {
    const std::string words = Describe(read) + "\n";
    [[maybe_unused]] const ssize_t written = ::write(STDOUT_FILENO, words.data(), words.size());
    return 1;
  }
  ReadHistory(order.history_dir, fs, pace, &totals);
  Say(ScrubLine::At(totals.leaves, totals.leaves, totals.read_bytes));
  return 0;
}

}  // namespace orgtrail
