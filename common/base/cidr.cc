#include "common/base/cidr.h"

#include <arpa/inet.h>

#include <cstring>
#include <string>

#include "common/base/text.h"

namespace orgtrail {
namespace {

std::optional<std::array<uint8_t, 16>> ParseAddress(std::string_view text, bool* is_v4) {
  std::array<uint8_t, 16> bytes{};
  const std::string owned(text);
  *is_v4 = inet_pton(AF_INET, owned.c_str(), bytes.data() + 12) == 1;
  if (*is_v4) {
    bytes[10] = bytes[11] = 0xFF;
    return bytes;
  }
  if (inet_pton(AF_INET6, owned.c_str(), bytes.data()) == 1) return bytes;
  return std::nullopt;
}

}  // namespace

bool Cidr::Contains(std::string_view address) const {
  bool is_v4 = false;
  const std::optional<std::array<uint8_t, 16>> bytes = ParseAddress(address, &is_v4);
  if (!bytes) return false;
  constexpr std::array<uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  const bool mapped = std::memcmp(bytes->data(), kMapped.data(), kMapped.size()) == 0;
  if (mapped && bits < 96) return false;  // ::/0 is every IPv6 address and no IPv4 one
  const auto whole = static_cast<size_t>(bits / 8);
  if (std::memcmp(bytes->data(), prefix.data(), whole) != 0) return false;
  if (bits % 8 == 0) return true;
  const int shift = 8 - bits % 8;
  return ((*bytes)[whole] >> shift) == (prefix[whole] >> shift);
}

std::optional<Cidr> ParseCidr(std::string_view text) {
  const size_t slash = text.find('/');
  bool is_v4 = false;
  const std::optional<std::array<uint8_t, 16>> address = ParseAddress(text.substr(0, slash), &is_v4);
  if (!address) return std::nullopt;
  Cidr cidr;
  cidr.prefix = *address;
  if (slash == std::string_view::npos) return cidr;
  const std::optional<uint64_t> bits = ParseUint(text.substr(slash + 1));
  if (!bits || *bits > (is_v4 ? 32u : 128u)) return std::nullopt;
  cidr.bits = static_cast<int>(*bits) + (is_v4 ? 96 : 0);
  return cidr;
}

}  // namespace orgtrail
