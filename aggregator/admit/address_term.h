// Address terms: source addresses in the index, in order, so that a range of addresses is a range of terms.
//
// Bit 63 tells them from hashes, bit 62 IPv6 from IPv4. Below it stand the 32 bits of an IPv4 address and 30 zeros, or the first 62
// bits of an IPv6 address; what an IPv6 network tells apart beyond those, the record tells. Written into index runs.
#pragma once

#include <cstdint>

#include "common/base/cidr.h"

namespace orgtrail {

inline constexpr uint64_t kAddressBit = uint64_t{1} << 63, kIpv6Bit = uint64_t{1} << 62;

struct TermRange {   // inclusive; empty when first > last
  uint64_t first = 0, last = 0;
};

uint64_t AddressTerm(const IpBytes& ip);
TermRange AddressTerms(const Cidr& range);   // of every address in the range, and of no other IPv4 address

// What a record of the index keeps of its address term: the two bits and the 32 after them.
inline constexpr uint64_t AddressKey(uint64_t term) { return term >> 30; }

}  // namespace orgtrail
