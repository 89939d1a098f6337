#include "common/base/clock.h"

#include <sys/timex.h>
#include <time.h>

#include <cstdio>

#include "common/base/ids.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

class RealClock final : public Clock {
 public:
  RealClock() {
    if (std::FILE* f = std::fopen("/proc/sys/kernel/random/boot_id", "re")) {
      char line[64] = {};
      if (std::fgets(line, sizeof line, f) != nullptr) {
        std::string_view text(line);
        while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
        if (std::optional<Uuid> id = Uuid::Parse(text)) boot_id_ = std::string(id->view());
      }
      std::fclose(f);
    }
  }
  absl::Time Wall() const override {
    timespec t{};
    clock_gettime(CLOCK_REALTIME, &t);
    return absl::TimeFromTimespec(t);
  }
  Tick Now() const override {
    timespec t{};
    clock_gettime(CLOCK_BOOTTIME, &t);
    return Tick{t.tv_sec * 1'000'000'000 + t.tv_nsec};
  }
  ClockQuality Quality() const override {
    timex t{};
    const int state = adjtimex(&t);
    ClockQuality q;
    q.synchronised = state >= 0 && (t.status & STA_UNSYNC) == 0;
    q.source = q.synchronised ? "ntp" : "free-running";
    if (state >= 0) {
      q.estimated_error_us = t.esterror;
      q.max_error_us = t.maxerror;
    }
    return q;
  }
  std::string BootId() const override { return boot_id_; }

 private:
  std::string boot_id_ = std::string(16, '\0');
};

}  // namespace

const Clock& SystemClock() {
  static const RealClock clock;
  return clock;
}

std::string Rfc3339(absl::Time t, int digits) {
  const char* format = "%Y-%m-%dT%H:%M:%SZ";
  if (digits == 3) format = "%Y-%m-%dT%H:%M:%E3SZ";
  if (digits == 6) format = "%Y-%m-%dT%H:%M:%E6SZ";
  if (digits == 9) format = "%Y-%m-%dT%H:%M:%E9SZ";
  return absl::FormatTime(format, t, absl::UTCTimeZone());
}

bool ParseWhen(std::string_view text, absl::Time now, absl::Time* out) {
  if (text == "now") {
    *out = now;
    return true;
  }
  if (!text.empty() && text[0] == '-') {
    std::string rest(text.substr(1));
    int64_t days = 0;
    if (!rest.empty() && rest.back() == 'd') {
      if (std::optional<uint64_t> n = ParseUint(std::string_view(rest).substr(0, rest.size() - 1)); n && *n < 1'000'000) {
        days = static_cast<int64_t>(*n);
        *out = now - absl::Hours(24 * days);
        return true;
      }
      return false;
    }
    absl::Duration d;
    if (!absl::ParseDuration(rest, &d)) return false;
    *out = now - d;
    return true;
  }
  if (std::optional<uint64_t> seconds = ParseUint(text); seconds && text.size() >= 9) {
    *out = absl::FromUnixSeconds(static_cast<int64_t>(*seconds));
    return true;
  }
  std::string error;
  const std::string owned(text);
  return absl::ParseTime(absl::RFC3339_full, owned, out, &error) ||
         absl::ParseTime("%Y-%m-%dT%H:%M:%E*S", owned, absl::UTCTimeZone(), out, &error) ||
         absl::ParseTime("%Y-%m-%d %H:%M:%E*S", owned, absl::UTCTimeZone(), out, &error) ||
         absl::ParseTime("%Y-%m-%dT%H:%M", owned, absl::UTCTimeZone(), out, &error) ||
         absl::ParseTime("%Y-%m-%d", owned, absl::UTCTimeZone(), out, &error);
}

}  // namespace orgtrail
