// Stage: plain code that never sleeps, spawns or reads a clock. A Worker gives it a thread; a simulator gives all one.
#pragma once

#include "common/base/clock.h"

namespace orgtrail {

class Stage {
 public:
  virtual ~Stage() = default;
  // Does what is due; returns when to be called again: `now` for at once, Tick::Never() for when poked.
  virtual Tick Step(Tick now) = 0;
};

}  // namespace orgtrail
