// Terms: what a record can be found by, as 64-bit hashes of (attribute, value); source addresses in order (address_term.h). One pass over the record finds every field
// admission and index need; a match by hash is always checked against the record itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/json/scanner.h"

namespace orgtrail {

enum class Attribute : uint8_t {
  kEventId = 1, kEventName, kReadOnly, kUsername, kResourceType, kResourceName, kEventSource, kAccessKeyId,  // CloudTrail's eight
  kAccount, kRegion, kErrorCode, kSourceIp, kPrincipal, kHasError, kOwn,
};
std::optional<Attribute> ParseAttribute(std::string_view name);   // "EventId" …; exact case, as CloudTrail's API
std::string_view AttributeName(Attribute attribute);

// The term by which records with exactly this value are found: a hash with kAddressBit clear, or an IPv4 source address's own
// term (address_term.h). kIdBit tells the hashes of event ids from all others, so that whoever reads terms alone knows them: no two
// records should share one. Values longer than 256 bytes count as their first 256 bytes. Stable: written into index runs.
inline constexpr uint64_t kIdBit = uint64_t{1} << 62;
inline constexpr bool IsIdTerm(uint64_t term) { return term >> 62 == 1; }
uint64_t TermHash(Attribute attribute, std::string_view value);

// An address in the one spelling that is indexed: IPv6 as RFC 5952 prints it, an IPv4-mapped one as IPv4; anything else
// ("AWS Internal", a service's name) as it is. The answer is `text` or lies in `out`.
inline constexpr size_t kIpTextBytes = 46;   // INET6_ADDRSTRLEN
std::string_view CanonicalIp(std::string_view text, char (&out)[kIpTextBytes]);

// Every (attribute, value) of a record, computed as cloudtrail LookupEvents presents them: Username (userName; "root" for
// Root; the session name of an assumed role), ReadOnly as text (from eventName's verb when absent), resources from
// `resources` and from well-known request and response members. HasError and Own have the value "true" or are absent.
// Account and Region are not among them: where a record belongs is admission's answer (RowFacts), not the record's.
struct Term {
  Attribute attribute;
  std::string value;
};
std::vector<Term> TermsOf(const json::Fields& fields);           // each once
// TermHash() of the same, each once, after what is there; an IPv6 source address's hash is followed by its address term.
void AppendTermHashes(const json::Fields& fields, std::vector<uint64_t>* hashes);

}  // namespace orgtrail
