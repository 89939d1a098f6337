#include "aggregator/client/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "aggregator/client/table.h"

namespace orgtrail::client {

Progress::Progress(std::string what, uint64_t total, const Clock& clock)
    : what_(std::move(what)), total_(total), clock_(clock), start_(clock.Now()), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (visible_) std::fprintf(stderr, "\r\x1b[K");
}

void Progress::At(uint64_t done) {
  if (!terminal_) return;
  const Tick now = clock_.Now();
  const double seconds = absl::ToDoubleSeconds(now - start_);
  if (seconds < 1 || now - shown_ < absl::Milliseconds(100)) return;
  shown_ = now;
  visible_ = true;
  const double rate = static_cast<double>(done) / seconds;
  if (total_ == 0) {
    std::fprintf(stderr, "\r\x1b[K%s  %s  %s/s", what_.c_str(), HumanCount(static_cast<double>(done)).c_str(), HumanCount(rate).c_str());
    return;
  }
  const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
  std::string bar(static_cast<size_t>(share * 30), '#');
  bar.resize(30, '.');
  const double left = rate > 0 ? static_cast<double>(total_ - std::min(done, total_)) / rate : 0;
  std::fprintf(stderr, "\r\x1b[K%s  [%s] %3.0f %%  %s/s  %s left", what_.c_str(), bar.c_str(), share * 100, HumanCount(rate).c_str(), HumanAge(left).c_str());
}

}  // namespace orgtrail::client
