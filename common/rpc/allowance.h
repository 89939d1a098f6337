// Allowance: so many at once and so many a second, for each of many names: calls of a connection, handshakes of an identity.
//
// Threads  any.
// Bounds   16,384 names; one that took nothing for a minute is forgotten. Beyond that newcomers are not counted.
#pragma once

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

#include "common/base/clock.h"
#include "common/base/guarded.h"

namespace orgtrail {

class Allowance {
 public:
  Allowance(double burst, double per_second) : burst_(burst), per_second_(per_second) {}

  enum class Took { kOne, kTooMany, kStillTooMany };   // kTooMany: the first time since it was in order
  Took Take(const std::string& name, Tick now) {
    return names_.With([&](Names& names) {
      if (names.size() >= kNames && !names.contains(name)) {
        std::erase_if(names, [&](const auto& item) { return now - item.second.at > kForgotten; });
        if (names.size() >= kNames) return Took::kOne;
      }
      Left& left = names.try_emplace(name, Left{burst_, now, false}).first->second;
      left.n = std::min(burst_, left.n + per_second_ * absl::ToDoubleSeconds(now - left.at));
      left.at = now;
      if (left.n < 1) return std::exchange(left.over, true) ? Took::kStillTooMany : Took::kTooMany;
      left.n -= 1;
      left.over = false;
      return Took::kOne;
    });
  }

 private:
  struct Left {
    double n;
    Tick at;
    bool over;
  };
  using Names = std::unordered_map<std::string, Left>;
  static constexpr size_t kNames = 16384;
  static constexpr absl::Duration kForgotten = absl::Minutes(1);
  const double burst_, per_second_;
  Guarded<Names> names_;
};

}  // namespace orgtrail
