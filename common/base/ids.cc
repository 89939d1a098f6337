#include "common/base/ids.h"

#include <vector>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail {

std::string Uuid::ToString() const {
  const std::string hex = Hex(view());
  return hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-" + hex.substr(12, 4) + "-" + hex.substr(16, 4) + "-" + hex.substr(20);
}

std::optional<Uuid> Uuid::Parse(std::string_view text) {
  if (text.size() != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-') return std::nullopt;
  std::string hex;
  for (char c : text) {
    if (c != '-') hex.push_back(c);
  }
  std::optional<std::string> bytes = Unhex(hex);
  if (!bytes || bytes->size() != 16) return std::nullopt;
  return FromBytes(*bytes);
}

Uuid Uuid::FromBytes(std::string_view sixteen) {
  CHECK(sixteen.size() == 16);
  Uuid u;
  std::memcpy(u.bytes.data(), sixteen.data(), 16);
  return u;
}

Uuid Uuid::Random(Rng& rng) {
  Uuid u;
  rng.Fill(u.bytes.data(), 16);
  u.bytes[6] = static_cast<char>((u.bytes[6] & 0x0F) | 0x40);
  u.bytes[8] = static_cast<char>((u.bytes[8] & 0x3F) | 0x80);
  return u;
}

Uuid Uuid::FromHash(std::string_view hash) {
  Uuid u = FromBytes(hash.substr(0, 16));
  u.bytes[6] = static_cast<char>((u.bytes[6] & 0x0F) | 0x80);
  u.bytes[8] = static_cast<char>((u.bytes[8] & 0x3F) | 0x80);
  return u;
}

bool IsAccountId(std::string_view text) {
  if (text.size() != 12) return false;
  for (char c : text) {
    if (c < '0' || c > '9') return false;
  }
  return true;
}

bool IsName(std::string_view text) {
  if (text.empty() || text.size() > limits::kNameBytes) return false;
  for (char c : text) {
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-')) return false;
  }
  return text != "." && text != "..";
}

std::string_view KindName(Identity::Kind kind) {
  switch (kind) {
    case Identity::Kind::kAgent: return "agent";
    case Identity::Kind::kUser: return "user";
    case Identity::Kind::kGovernance: return "governance";
    case Identity::Kind::kAuditor: return "auditor";
    case Identity::Kind::kOperator: return "operator";
    case Identity::Kind::kAggregator: return "aggregator";
  }
  return "?";
}

std::string Identity::ToUri() const {
  const std::string base = "spiffe://" + org;
  switch (kind) {
    case Kind::kAgent: return base + "/account/" + account + "/region/" + region + "/agent/" + name;
    case Kind::kUser: return base + "/account/" + account + "/user/" + name;
    case Kind::kAggregator: return base + "/aggregator/" + region;
    default: return base + "/role/" + std::string(KindName(kind)) + "/" + name;
  }
}

std::optional<Identity> Identity::Parse(std::string_view uri) {
  constexpr std::string_view kScheme = "spiffe://";
  if (uri.size() > limits::kSpiffeBytes || !uri.starts_with(kScheme)) return std::nullopt;
  std::vector<std::string_view> parts;
  for (std::string_view rest = uri.substr(kScheme.size());;) {
    const size_t slash = rest.find('/');
    parts.push_back(rest.substr(0, slash));
    if (slash == std::string_view::npos) break;
    rest.remove_prefix(slash + 1);
  }
  for (std::string_view p : parts) {
    if (!IsName(p)) return std::nullopt;  // refuses %, .., empty, ports, queries and upper case alike
  }
  Identity id;
  id.org = std::string(parts[0]);
  if (parts.size() == 7 && parts[1] == "account" && parts[3] == "region" && parts[5] == "agent" && IsAccountId(parts[2])) {
    id.kind = Kind::kAgent;
    id.account = std::string(parts[2]);
    id.region = std::string(parts[4]);
    id.name = std::string(parts[6]);
    return id;
  }
  if (parts.size() == 5 && parts[1] == "account" && parts[3] == "user" && IsAccountId(parts[2])) {
    id.kind = Kind::kUser;
    id.account = std::string(parts[2]);
    id.name = std::string(parts[4]);
    return id;
  }
  if (parts.size() == 3 && parts[1] == "aggregator") {
    id.kind = Kind::kAggregator;
    id.region = std::string(parts[2]);
    return id;
  }
  if (parts.size() == 4 && parts[1] == "role") {
    for (Kind kind : {Kind::kGovernance, Kind::kAuditor, Kind::kOperator}) {
      if (parts[2] == KindName(kind)) {
        id.kind = kind;
        id.name = std::string(parts[3]);
        return id;
      }
    }
  }
  return std::nullopt;
}

}  // namespace orgtrail
