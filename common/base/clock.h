// Clock: the only source of time. Wall and monotonic are different types, so one cannot be used as the other.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace orgtrail {

struct Tick {  // monotonic, CLOCK_BOOTTIME: counts through suspend, never steps
  int64_t ns = 0;
  auto operator<=>(const Tick&) const = default;
  Tick operator+(absl::Duration d) const { return Tick{ns + absl::ToInt64Nanoseconds(d)}; }
  absl::Duration operator-(Tick other) const { return absl::Nanoseconds(ns - other.ns); }
  static constexpr Tick Never() { return Tick{INT64_MAX}; }
};

// How well the wall clock is kept, as the kernel's adjtimex(2) says.
struct ClockQuality {
  std::string source;           // "ntp" when the kernel clock is disciplined, else "free-running"
  bool synchronised = false;    // not STA_UNSYNC
  int64_t estimated_error_us = -1;  // -1 unknown
  int64_t max_error_us = -1;
};

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Wall() const = 0;
  virtual Tick Now() const = 0;
  virtual ClockQuality Quality() const = 0;
  virtual std::string BootId() const = 0;  // 16 bytes, constant until the next boot
  int64_t WallNanos() const { return absl::ToUnixNanos(Wall()); }
};

const Clock& SystemClock();  // the machine's; threads: any

// RFC 3339 UTC with `digits` of a second (0, 3, 6 or 9): 2026-11-20T09:01:44Z.
std::string Rfc3339(absl::Time t, int digits = 0);
// RFC 3339 (any offset), or "now", or a relative "-2h", or unix seconds; for what people type.
bool ParseWhen(std::string_view text, absl::Time now, absl::Time* out);

}  // namespace orgtrail
