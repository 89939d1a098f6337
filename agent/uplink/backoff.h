// Backoff: how long to wait before dialling again. Full jitter between nothing and a ceiling that doubles from 0.2 s to 30 s; a
// connection that stayed healthy for a minute starts over.
//
// Threads  one.
#pragma once

#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/random.h"

namespace orgtrail {

class Backoff {
 public:
  static constexpr absl::Duration kFirst = absl::Milliseconds(200);
  static constexpr absl::Duration kMost = absl::Seconds(30);
  static constexpr absl::Duration kHealthy = absl::Minutes(1);

  explicit Backoff(Rng& rng) : rng_(rng) {}
  // A connection ended that had worked for `healthy_for` (zero: it never worked). How long to wait now.
  absl::Duration Next(absl::Duration healthy_for);
  absl::Duration ceiling() const { return ceiling_; }

 private:
  Rng& rng_;
  absl::Duration ceiling_ = kFirst;
};

}  // namespace orgtrail
