// Certificates and requests that our own code never makes: what attackers would present.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/crypto/x509.h"

namespace orgtrail::testing {

struct OddLeaf {
  std::vector<std::string> uris;
  std::vector<std::string> dns;
  std::string basic_constraints = "critical,CA:FALSE";
  std::string key_usage = "critical,digitalSignature";
  absl::Time not_before, not_after;
};
// A leaf of `ca` for the key, with whatever it is told.
std::string OddLeafPem(const CaCertificate& ca, const std::string& key_pem, const OddLeaf& leaf);

struct OddCsr {
  std::string key = "P-256";     // a curve, or "RSA-512", "RSA-2048", "ED25519", "explicit"
  std::string digest = "SHA256";
  std::vector<std::pair<std::string, std::string>> extensions;  // of OpenSSL's configuration: {"basicConstraints", "CA:TRUE"}
  bool wrong_signature = false;
};
std::string OddCsrPem(const OddCsr& csr);

}  // namespace orgtrail::testing
