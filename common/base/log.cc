#include "common/base/log.h"

#include <unistd.h>

#include <atomic>

#include "common/base/clock.h"

namespace orgtrail {
namespace {

std::atomic<LogFormat> log_format{LogFormat::kHuman};
std::atomic<LogLevel> least_level{LogLevel::kInfo};

constexpr std::string_view kNames[] = {"DEBUG", "INFO", "WARN", "ERROR"};
constexpr std::string_view kPadded[] = {"DEBUG", "INFO ", "WARN ", "ERROR"};

}  // namespace

void SetLog(LogFormat format, LogLevel least) {
  log_format = format;
  least_level = least;
}

bool ParseLogLevel(std::string_view text, LogLevel* out) {
  if (text == "debug") return *out = LogLevel::kDebug, true;
  if (text == "info") return *out = LogLevel::kInfo, true;
  if (text == "warn") return *out = LogLevel::kWarn, true;
  if (text == "error") return *out = LogLevel::kError, true;
  return false;
}

void Log(LogLevel level, std::string_view message, LogFields fields) {
  if (level < least_level.load(std::memory_order_relaxed)) return;
  const auto index = static_cast<size_t>(level);
  const std::string time = Rfc3339(SystemClock().Wall(), 3);
  std::string line;
  if (log_format.load(std::memory_order_relaxed) == LogFormat::kJson) {
    line = "{\"time\":" + JsonString(time) + ",\"level\":" + JsonString(kNames[index]) + ",\"message\":" + JsonString(message);
    for (const auto& [key, value] : fields) {
      line += ',';
      AppendJsonString(line, key);
      line += ':';
      AppendJsonString(line, value);
    }
    line += "}\n";
  } else {
    line = time + " ";
    line += kPadded[index];
    line += ' ';
    line += Printable(message);
    for (const auto& [key, value] : fields) {
      line += ' ';
      line += key;
      line += '=';
      if (value.empty() || value.find_first_of(" \"=") != std::string::npos) {
        AppendJsonString(line, Printable(value));
      } else {
        line += Printable(value);
      }
    }
    line += '\n';
  }
  // One write, so that lines of threads and processes do not mix. A log that cannot be written has nowhere to say so.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace orgtrail
