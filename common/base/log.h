// Log: one line each to stderr, human or JSON. Threads: any. Not for records: those go through the path.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/text.h"

namespace orgtrail {

enum class LogLevel { kDebug, kInfo, kWarn, kError };
enum class LogFormat { kHuman, kJson };

using LogFields = std::initializer_list<std::pair<std::string_view, std::string>>;

void SetLog(LogFormat format, LogLevel least);  // call once, before threads
bool ParseLogLevel(std::string_view text, LogLevel* out);
// "2026-11-21T10:00:00.123Z INFO  listening address=127.0.0.1:7443"
void Log(LogLevel level, std::string_view message, LogFields fields = {});
inline void LogInfo(std::string_view m, LogFields f = {}) { Log(LogLevel::kInfo, m, f); }
inline void LogWarn(std::string_view m, LogFields f = {}) { Log(LogLevel::kWarn, m, f); }
inline void LogError(std::string_view m, LogFields f = {}) { Log(LogLevel::kError, m, f); }
inline void LogDebug(std::string_view m, LogFields f = {}) { Log(LogLevel::kDebug, m, f); }

}  // namespace orgtrail
