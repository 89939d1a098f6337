#include "common/base/status.h"

#include <cstdio>
#include <cstdlib>

namespace orgtrail {

absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(ToAbsl(context), ": ", status.message()));
}

std::string Describe(const absl::Status& status) {
  if (status.ok()) return "ok";
  return absl::StrCat(absl::StatusCodeToString(status.code()), ": ", status.message());
}

void CheckFailed(const char* file, int line, const char* what, std::string_view detail) {
  std::fprintf(stderr, "%s:%d: check failed: %s %.*s\n", file, line, what, static_cast<int>(detail.size()), detail.data());
  std::abort();
}

}  // namespace orgtrail
