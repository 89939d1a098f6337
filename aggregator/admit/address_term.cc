#include "aggregator/admit/address_term.h"

#include <algorithm>

namespace orgtrail {
namespace {

uint64_t BigEndian(const uint8_t* bytes, int n) {
  uint64_t v = 0;
  for (int i = 0; i < n; ++i) v = v << 8 | bytes[i];
  return v;
}

}  // namespace

uint64_t AddressTerm(const IpBytes& ip) {
  if (IsIpv4(ip)) return kAddressBit | BigEndian(ip.data() + 12, 4) << 30;
  return kAddressBit | kIpv6Bit | BigEndian(ip.data(), 8) >> 2;
}

TermRange AddressTerms(const Cidr& range) {
  const bool v4 = range.bits >= 96 && IsIpv4(range.prefix);
  const int width = v4 ? 32 : 62, fixed = v4 ? range.bits - 96 : std::min(range.bits, width);
  const uint64_t rest = (uint64_t{1} << (width - fixed)) - 1;   // what varies within the range
  const uint64_t term = AddressTerm(range.prefix);
  // A prefix of mapped form with fewer bits is a range of IPv6 addresses.
  if (v4) return {term & ~(rest << 30), term | rest << 30};
  const uint64_t v6 = kAddressBit | kIpv6Bit | BigEndian(range.prefix.data(), 8) >> 2;
  return {v6 & ~rest, v6 | rest};
}

}  // namespace orgtrail
