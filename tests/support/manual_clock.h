// ManualClock: time moves when a test says so.
#pragma once

#include <string>

#include "common/base/clock.h"

namespace orgtrail {

class ManualClock final : public Clock {
 public:
  absl::Time Wall() const override { return wall_; }
  Tick Now() const override { return now_; }
  ClockQuality Quality() const override { return {}; }
  std::string BootId() const override { return std::string(16, 'b'); }
  void Advance(absl::Duration d) {
    wall_ += d;
    now_ = now_ + d;
  }

 private:
  absl::Time wall_ = absl::FromUnixSeconds(1'700'000'000);
  Tick now_{1'000'000'000};
};

}  // namespace orgtrail
