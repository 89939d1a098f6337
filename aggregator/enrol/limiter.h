// AddressLimiter: how often one network address may ask. A token bucket per address, for the newest few thousand of them.
// Threads: any.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/base/clock.h"
#include "common/base/guarded.h"

namespace orgtrail {

class AddressLimiter {
 public:
  AddressLimiter(double per_second, double burst, size_t addresses = 8192)
      : per_second_(per_second), burst_(burst), most_(addresses) {}
  // One attempt. With more addresses than fit, strangers share one bucket until others' have refilled.
  bool Allow(std::string_view address, Tick now);

 private:
  struct Bucket {
    double left = 0;
    Tick at;
  };
  const double per_second_, burst_;
  const size_t most_;
  Guarded<std::unordered_map<std::string, Bucket>> buckets_;
};

}  // namespace orgtrail
