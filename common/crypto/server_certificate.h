// The certificate a server of the organization shows: the leaf and, behind it, the CA, so that who holds only a join token finds the CA's
// key in what is shown. Made by `orgtrail org init` and `org server-cert`, renewed by the aggregator while it runs.
// Threads: any.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/crypto/x509.h"

namespace orgtrail {

inline constexpr absl::Duration kServerCertificateLife = absl::Hours(24 * 825);   // never longer than the CA's own

struct ServerCertificate {
  std::string certificate_pem;   // leaf, then CA
  std::string key_pem;
};
// With a new key. `hosts` are the names and addresses clients dial; localhost, 127.0.0.1 and ::1 are added.
// FailedPrecondition: the CA has run out, or its key is another's.
absl::StatusOr<ServerCertificate> IssueServerCertificate(const CaCertificate& ca, std::string_view spiffe_uri, std::vector<std::string> hosts,
                                                         absl::Time now, absl::Duration life = kServerCertificateLife);

// The same key and names, a new term: only one file changes, so that whoever reads it while it does sees a pair that fits.
// FailedPrecondition: this CA did not issue it, the key is not the certificate's, or the CA has run out.
absl::StatusOr<std::string> RenewServerCertificate(const CaCertificate& ca, std::string_view certificate_pem, std::string_view key_pem,
                                                   absl::Time now, absl::Duration life = kServerCertificateLife);

}  // namespace orgtrail
