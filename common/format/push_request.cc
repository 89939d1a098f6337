#include "common/format/push_request.h"

#include <cstdint>

namespace orgtrail {
namespace {

constexpr char kFrameTag = 0x12;   // field 2, length-delimited

}  // namespace

std::string FramePrefix(size_t size) {
  std::string prefix(1, kFrameTag);
  for (; size >= 0x80; size >>= 7) prefix += static_cast<char>(size | 0x80);
  prefix += static_cast<char>(size);
  return prefix;
}

bool CutFrame(std::string& message) {
  if (message.empty() || message[0] != kFrameTag) return false;
  uint64_t length = 0;
  size_t at = 1;
  for (int shift = 0; shift < 35; shift += 7) {
    if (at >= message.size()) return false;
    const uint8_t byte = static_cast<uint8_t>(message[at++]);
    length |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) {
      if (length != message.size() - at) return false;
      message.erase(0, at);
      return true;
    }
  }
  return false;
}

}  // namespace orgtrail
