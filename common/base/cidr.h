// Cidr: a range of IPv4 or IPv6 addresses, "10.1.0.0/16", "2001:db8::/32", or one address.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace orgtrail {

// The bytes of an address, IPv4 as ::ffff:a.b.c.d; nullopt for what is no address. A mapped IPv4 address is that IPv4 address.
using IpBytes = std::array<uint8_t, 16>;
std::optional<IpBytes> ParseIp(std::string_view text);
bool IsIpv4(const IpBytes& ip);

struct Cidr {
  IpBytes prefix{};  // IPv4 as ::ffff:a.b.c.d
  int bits = 128;
  // `address` as text, without a port; an IPv4 address mapped into IPv6 is that IPv4 address. False for what is no address.
  bool Contains(std::string_view address) const;
  bool Contains(const IpBytes& ip) const;
};
std::optional<Cidr> ParseCidr(std::string_view text);  // bits beyond the prefix length are ignored

}  // namespace orgtrail
