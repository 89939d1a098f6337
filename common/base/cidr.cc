#include "common/base/cidr.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr std::array<uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

// A dotted quad as inet_pton reads it: four numbers up to 255, no zero in front of another digit.
bool ParseQuad(std::string_view text, uint8_t* out) {
  for (int part = 0; part < 4; ++part) {
    if (part > 0) {
      if (text.empty() || text[0] != '.') return false;
      text.remove_prefix(1);
    }
    unsigned value = 0;
    size_t digits = 0;
    for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits) {
      if (digits == 3 || (digits == 1 && value == 0)) return false;
      value = value * 10 + static_cast<unsigned>(text[digits] - '0');
    }
    if (digits == 0 || value > 255) return false;
    out[part] = static_cast<uint8_t>(value);
    text.remove_prefix(digits);
  }
  return text.empty();
}

}  // namespace

std::optional<IpBytes> ParseIp(std::string_view text) {
  IpBytes bytes{};
  if (text.find(':') == std::string_view::npos) {
    std::copy(kMapped.begin(), kMapped.end(), bytes.begin());
    if (!ParseQuad(text, bytes.data() + kMapped.size())) return std::nullopt;
    return bytes;
  }
  char copy[INET6_ADDRSTRLEN];
  if (text.size() >= sizeof copy) return std::nullopt;
  text.copy(copy, text.size());
  copy[text.size()] = '\0';
  if (inet_pton(AF_INET6, copy, bytes.data()) != 1) return std::nullopt;
  return bytes;
}

bool IsIpv4(const IpBytes& ip) { return std::equal(kMapped.begin(), kMapped.end(), ip.begin()); }

bool Cidr::Contains(std::string_view address) const {
  const std::optional<IpBytes> ip = ParseIp(address);
  return ip.has_value() && Contains(*ip);
}

bool Cidr::Contains(const IpBytes& ip) const {
  if (IsIpv4(ip) && bits < 96) return false;  // ::/0 is every IPv6 address and no IPv4 one
  const auto whole = static_cast<size_t>(bits / 8);
  if (std::memcmp(ip.data(), prefix.data(), whole) != 0) return false;
  if (bits % 8 == 0) return true;
  const int shift = 8 - bits % 8;
  return (ip[whole] >> shift) == (prefix[whole] >> shift);
}

std::optional<Cidr> ParseCidr(std::string_view text) {
  const size_t slash = text.find('/');
  const std::string_view base = text.substr(0, slash);
  const std::optional<IpBytes> address = ParseIp(base);
  if (!address) return std::nullopt;
  Cidr cidr;
  cidr.prefix = *address;
  if (slash == std::string_view::npos) return cidr;
  const bool is_v4 = base.find(':') == std::string_view::npos;   // else bits count from the front of the mapped form
  const std::optional<uint64_t> bits = ParseUint(text.substr(slash + 1));
  if (!bits || *bits > (is_v4 ? 32u : 128u)) return std::nullopt;
  cidr.bits = static_cast<int>(*bits) + (is_v4 ? 96 : 0);
  return cidr;
}

}  // namespace orgtrail
