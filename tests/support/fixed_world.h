// A clock that stands where it is put and randomness that repeats: what tests need to make the same bytes every time.
#pragma once

#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/crypto/digest.h"

namespace orgtrail {

class FixedClock final : public Clock {
 public:
  absl::Time Wall() const override { return absl::FromUnixNanos(wall_ns); }
  Tick Now() const override { return Tick{boot_ns}; }
  ClockQuality Quality() const override { return {"ntp", true, 120, 4000}; }
  std::string BootId() const override { return std::string(16, '\xAA'); }
  void Pass(absl::Duration d) {
    wall_ns += absl::ToInt64Nanoseconds(d);
    boot_ns += absl::ToInt64Nanoseconds(d);
  }
  int64_t wall_ns = 1763712000'000'000'000;
  int64_t boot_ns = 5000'000'000'000;
};

// SHA-256 of a counter and a name, over and over.
class RepeatingRng final : public Rng {
 public:
  explicit RepeatingRng(std::string_view name) : name_(name) {}
  void Fill(char* out, size_t n) override {
    while (n > 0) {
      std::string block = name_;
      PutU64(block, counter_++);
      const Hash hash = Sha256(block);
      const size_t take = n < 32 ? n : 32;
      std::memcpy(out, hash.bytes.data(), take);
      out += take;
      n -= take;
    }
  }

 private:
  const std::string name_;
  uint64_t counter_ = 0;
};

}  // namespace orgtrail
