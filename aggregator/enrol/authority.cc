#include "aggregator/enrol/authority.h"

#include <algorithm>
#include <utility>

#include "common/base/cidr.h"
#include "aggregator/ledger/registry.h"
#include "common/base/clock.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kBackdated = absl::Minutes(5);
constexpr uint32_t kMostUses = 1'000'000;
constexpr absl::Duration kLongestToken = absl::Hours(24 * 30);

bool IsCarries(std::string_view carries) {
  if (carries.empty() || carries == "any") return true;
  for (;;) {
    const size_t comma = carries.find(',');
    if (!IsAccountId(carries.substr(0, comma))) return false;
    if (comma == std::string_view::npos) return true;
    carries.remove_prefix(comma + 1);
  }
}

}  // namespace

absl::StatusOr<CertificateAuthority> CertificateAuthority::Create(std::string_view org, absl::Time now, absl::Duration life) {
  if (!IsName(org)) return absl::InvalidArgumentError("an organization id is 1 to 64 of a-z, 0-9, '.', '_', '-'");
  ASSIGN_OR_RETURN(CaCertificate ca, NewCa(org, now, life));
  return Open(org, std::move(ca));
}

absl::StatusOr<CertificateAuthority> CertificateAuthority::Open(std::string_view org, CaCertificate files) {
  ASSIGN_OR_RETURN(const CertificateFacts facts, ReadCertificate(files.cert_pem));
  if (!facts.is_ca || !facts.can_sign_certs) {
    return absl::FailedPreconditionError("the CA certificate is not one that may sign certificates");
  }
  ASSIGN_OR_RETURN(const Hash key, SpkiHashOfKey(files.key_pem));
  if (key != facts.spki_hash) return absl::FailedPreconditionError("the CA's key does not belong to the CA's certificate");
  return CertificateAuthority(std::string(org), std::move(files), facts.spki_hash);
}

absl::StatusOr<CertificateAuthority::Issued> CertificateAuthority::Issue(const Identity& identity, std::string csr_pem,
                                                                         absl::Time now, absl::Duration life) const {
  Issued issued;
  issued.uri = identity.ToUri();
  // ToUri writes whatever it is given: only what reads back as the same identity is a name.
  if (identity.org != org_ || Identity::Parse(issued.uri) != identity) {
    return absl::InvalidArgumentError("not an identity of organization " + org_ + ": " + Printable(issued.uri.substr(0, 256)));
  }
  ASSIGN_OR_RETURN(issued.certificate_pem,
                   IssueLeafPem(ca_, LeafRequest{std::move(csr_pem), issued.uri, {}, now - kBackdated, now + life}));
  ASSIGN_OR_RETURN(issued.facts, ReadCertificate(issued.certificate_pem));
  return issued;
}

absl::StatusOr<CertificateAuthority::IssuedToken> CertificateAuthority::IssueToken(const TokenOrder& order, absl::Time now,
                                                                                   Rng& rng) const {
  if (!IsAccountId(order.account)) return absl::InvalidArgumentError("the token's account must be 12 digits");
  if (!order.region.empty() && !IsName(order.region)) return absl::InvalidArgumentError("the token's region is not a region name");
  if (!order.name.empty() && !IsName(order.name)) {
    return absl::InvalidArgumentError("the token's agent name must be 1 to 64 of a-z, 0-9, '.', '_', '-'");
  }
  if (!IsCarries(order.carries)) {
    return absl::InvalidArgumentError("what the agent carries must be \"any\" or account ids separated by commas");
  }
  if (order.uses < 1 || order.uses > kMostUses) return absl::InvalidArgumentError("a token has 1 to 1,000,000 uses");
  if (order.life <= absl::ZeroDuration() || order.life > kLongestToken) {
    return absl::InvalidArgumentError("a token lives at most 30 days");
  }
  if (!order.cidr.empty() && !ParseCidr(order.cidr)) {
    return absl::InvalidArgumentError("not an address range such as 10.1.0.0/16: \"" + Printable(order.cidr) + "\"");
  }
  IssuedToken issued;
  issued.token = JoinToken{rng.Bytes(32), spki_};
  issued.leaf.act = IdentityLeaf::Act::kTokenCreated;
  issued.leaf.wall_ns = static_cast<uint64_t>(absl::ToUnixNanos(now));
  issued.leaf.uri = "spiffe://" + org_ + "/account/" + order.account + "/region/" + (order.region.empty() ? "*" : order.region) +
                    "/agent/" + (order.name.empty() ? "*" : order.name);
  issued.leaf.token_id = issued.token.Id();
  issued.leaf.approver = order.approver;
  issued.leaf.carries = order.carries;
  issued.leaf.not_after_ns = static_cast<uint64_t>(absl::ToUnixNanos(now + order.life));
  issued.leaf.reason = TokenTerms(order.uses, order.cidr);
  return issued;
}

bool UriMatches(std::string_view pattern, std::string_view uri) {
  for (;;) {
    const size_t p = pattern.find('/');
    const size_t u = uri.find('/');
    const std::string_view want = pattern.substr(0, p);
    const std::string_view have = uri.substr(0, u);
    if (want != have && (want != "*" || have.empty())) return false;
    if (p == std::string_view::npos || u == std::string_view::npos) return p == u;
    pattern.remove_prefix(p + 1);
    uri.remove_prefix(u + 1);
  }
}

}  // namespace orgtrail
