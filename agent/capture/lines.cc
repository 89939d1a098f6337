#include "agent/capture/lines.h"

#include <cstring>

namespace orgtrail {

size_t TakeLines(std::string_view text, size_t max_lines, size_t max_bytes, std::vector<std::string_view>* lines) {
  size_t at = 0;
  for (size_t n = 0; n < max_lines && at < text.size();) {
    const void* end = std::memchr(text.data() + at, '\n', text.size() - at);
    if (end == nullptr) break;
    const size_t length = static_cast<size_t>(static_cast<const char*>(end) - text.data()) - at;
    if (n > 0 && at + length > max_bytes) break;
    const std::string_view line = WithoutCr(text.substr(at, length));
    at += length + 1;
    if (line.empty()) continue;
    lines->push_back(line);
    ++n;
  }
  return at;
}

}  // namespace orgtrail
