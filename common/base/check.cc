#include <cstdio>
#include <cstdlib>

#include "common/base/status.h"

namespace orgtrail {

void CheckFailed(const char* file, int line, const char* what, std::string_view detail) {
  std::fprintf(stderr, "%s:%d: check failed: %s %.*s\n", file, line, what, static_cast<int>(detail.size()), detail.data());
  std::abort();
}

}  // namespace orgtrail
