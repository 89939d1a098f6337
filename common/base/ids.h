// Ids: the names of things, as types, so that one is not passed for another.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/random.h"

namespace orgtrail {

// 16 bytes, RFC 9562. An agent's uuid is drawn at enrolment and never reused.
struct Uuid {
  std::array<char, 16> bytes{};
  auto operator<=>(const Uuid&) const = default;
  std::string_view view() const { return {bytes.data(), bytes.size()}; }
  std::string ToString() const;                            // 8-4-4-4-12, lower case
  static std::optional<Uuid> Parse(std::string_view text);
  static Uuid FromBytes(std::string_view sixteen);         // exactly 16 bytes
  static Uuid Random(Rng& rng);                            // version 4
  static Uuid FromHash(std::string_view hash);             // version 8, from the first 16 bytes of a digest
};

bool IsAccountId(std::string_view text);   // 12 digits
bool IsName(std::string_view text);        // [a-z0-9._-]{1,64}: regions, agent names, org ids, user names

// Who a certificate says its holder is: spiffe://<org>/account/<id>/region/<r>/agent/<name>, …/account/<id>/user/<name>,
// …/role/{governance,auditor,operator}/<name>, …/aggregator/<region>. Anything else does not parse.
struct Identity {
  enum class Kind { kAgent, kUser, kGovernance, kAuditor, kOperator, kAggregator };
  Kind kind = Kind::kAgent;
  std::string org;
  std::string account;  // agents and users
  std::string region;   // agents and aggregators
  std::string name;     // all but aggregators
  bool operator==(const Identity&) const = default;
  std::string ToUri() const;
  static std::optional<Identity> Parse(std::string_view uri);  // exact grammar, lower case, at most 2,048 bytes
};
std::string_view KindName(Identity::Kind kind);  // "agent", "user", "governance", …

// Position of one event in the log. Ordered as the log is.
struct EventRef {
  uint64_t leaf = 0;
  uint32_t event = 0;
  auto operator<=>(const EventRef&) const = default;
};

}  // namespace orgtrail

template <>
struct std::hash<orgtrail::Uuid> {
  size_t operator()(const orgtrail::Uuid& u) const noexcept {
    size_t h;
    std::memcpy(&h, u.bytes.data() + 8, sizeof h);
    return h;
  }
};
