// InChild: work that damaged files may kill, in a process of its own. Only before this one has threads, and while it has no store open.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"

namespace orgtrail::client {

struct ChildEnd {
  int code = 0;                   // its exit code
  int signal = 0;                 // it died of; 0: it did not
  std::string output;             // what it said that was not taken by `heard`, at most 64 KiB: its last words
};
// Runs `work(say)` there; its result is the exit code. Each line it says, without the LF, comes to `heard` here; false: it is no such line.
absl::StatusOr<ChildEnd> InChild(const std::function<int(const std::function<void(std::string_view line)>& say)>& work,
                                 const std::function<bool(std::string_view line)>& heard);

}  // namespace orgtrail::client
