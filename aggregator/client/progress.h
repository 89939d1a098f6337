// Progress: a bar on a terminal's stderr for work that takes longer than a second; silent elsewhere. Threads: one.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/clock.h"

namespace orgtrail::client {

class Progress {
 public:
  Progress(std::string what, uint64_t total, const Clock& clock);   // total 0: unknown
  ~Progress();                                                      // clears the line
  void At(uint64_t done);

 private:
  const std::string what_;
  const uint64_t total_;
  const Clock& clock_;
  const Tick start_;
  Tick shown_{};
  bool visible_ = false;
  const bool terminal_;
};

}  // namespace orgtrail::client
