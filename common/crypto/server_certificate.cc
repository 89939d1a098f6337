#include "common/crypto/server_certificate.h"

#include <algorithm>
#include <utility>

#include "common/base/clock.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kBackdated = absl::Minutes(5);   // clocks of clients may be a little behind

absl::StatusOr<std::string> Issue(const CaCertificate& ca, std::string_view key_pem, std::string_view spiffe_uri,
                                  std::vector<std::string> hosts, absl::Time now, absl::Duration life) {
  ASSIGN_OR_RETURN(const CertificateFacts issuer, ReadCertificate(ca.cert_pem));
  if (issuer.not_after <= now) {
    return absl::FailedPreconditionError("the CA's certificate ran out at " + Rfc3339(issuer.not_after));
  }
  LeafRequest request{"", std::string(spiffe_uri), std::move(hosts), now - kBackdated, std::min(now + life, issuer.not_after)};
  ASSIGN_OR_RETURN(request.csr_pem, NewCsrPem(key_pem));
  ASSIGN_OR_RETURN(std::string leaf, IssueLeafPem(ca, request));
  return leaf + ca.cert_pem;
}

}  // namespace

absl::StatusOr<ServerCertificate> IssueServerCertificate(const CaCertificate& ca, std::string_view spiffe_uri, std::vector<std::string> hosts,
                                                         absl::Time now, absl::Duration life) {
  std::vector<std::string> names = {"localhost", "127.0.0.1", "::1"};
  for (std::string& host : hosts) {
    if (std::find(names.begin(), names.end(), host) == names.end()) names.push_back(std::move(host));
  }
  ServerCertificate made;
  ASSIGN_OR_RETURN(made.key_pem, NewTlsKeyPem());
  ASSIGN_OR_RETURN(made.certificate_pem, Issue(ca, made.key_pem, spiffe_uri, std::move(names), now, life));
  return made;
}

absl::StatusOr<std::string> RenewServerCertificate(const CaCertificate& ca, std::string_view certificate_pem, std::string_view key_pem,
                                                   absl::Time now, absl::Duration life) {
  ASSIGN_OR_RETURN(const CertificateFacts old, ReadCertificate(certificate_pem));
  // One that has run out was still issued by this CA: what counts is who signed it.
  RETURN_IF_ERROR(CheckIssued(certificate_pem, ca.cert_pem, std::clamp(now, old.not_before, old.not_after - absl::Seconds(1))));
  ASSIGN_OR_RETURN(const Hash key, SpkiHashOfKey(key_pem));
  if (key != old.spki_hash) return absl::FailedPreconditionError("the key is not the certificate's");
  if (old.uris.size() != 1) return absl::FailedPreconditionError("the certificate does not name one aggregator");
  return Issue(ca, key_pem, old.uris.front(), old.dns, now, life);
}

}  // namespace orgtrail
