// X.509: the organization's CA, its leaves, and requests for them. P-256 throughout (RFC 5280, SPIFFE X509-SVID).
// Threads: any; values are immutable.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/crypto/digest.h"

namespace orgtrail {

// A P-256 private key in PKCS#8 PEM.
absl::StatusOr<std::string> NewTlsKeyPem();
// SHA-256 of the SubjectPublicKeyInfo of a private key in PEM: equals CertificateFacts::spki_hash of its certificates.
absl::StatusOr<Hash> SpkiHashOfKey(std::string_view key_pem);

struct CaCertificate {
  std::string cert_pem;
  std::string key_pem;
};
// Self-signed, CA:TRUE pathlen 0, keyCertSign, subject "CN=<org> orgtrail CA", subject and authority key identifiers.
absl::StatusOr<CaCertificate> NewCa(std::string_view org, absl::Time now, absl::Duration life);

// A request for `key_pem`; the subject is ignored by the issuer, who sets the SAN himself.
absl::StatusOr<std::string> NewCsrPem(std::string_view key_pem);

struct LeafRequest {
  std::string csr_pem;               // proof of possession is checked; P-256 (or P-384) only
  std::string spiffe_uri;            // the only URI SAN
  std::vector<std::string> dns;      // servers only: names and IP addresses clients dial
  absl::Time not_before;
  absl::Time not_after;
};
// CA=false, digitalSignature, EKU client+server, AKI, random 128-bit serial. InvalidArgument says what is wrong with the CSR.
absl::StatusOr<std::string> IssueLeafPem(const CaCertificate& ca, const LeafRequest& request);

struct CertificateFacts {
  std::vector<std::string> uris;     // every URI SAN
  std::vector<std::string> dns;
  std::string serial_hex;
  absl::Time not_before, not_after;
  bool is_ca = false;
  bool can_sign_certs = false;       // keyCertSign
  Hash der_hash;                     // SHA-256 of the certificate's DER
  Hash spki_hash;                    // SHA-256 of its SubjectPublicKeyInfo
};
absl::StatusOr<CertificateFacts> ReadCertificate(std::string_view pem);  // the first certificate in the text
// Whether `leaf_pem` chains to `ca_pem` at `now` (signature, dates, basic constraints).
absl::Status CheckIssued(std::string_view leaf_pem, std::string_view ca_pem, absl::Time now);

// Dials host:port, completes a TLS 1.3 handshake without checking anything, and returns the certificates shown (PEM, leaf
// first). The caller then compares a key hash: this is how a join token pins the CA before anything is sent.
absl::StatusOr<std::vector<std::string>> FetchServerChain(std::string_view host_port, absl::Duration limit);

}  // namespace orgtrail
