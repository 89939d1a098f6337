// A certificate as OpenSSL holds it. Included only from common/crypto.
#pragma once

#include <openssl/x509.h>

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/crypto/openssl.h"

namespace orgtrail {

using X509Ptr = std::unique_ptr<X509, Freed<X509_free>>;
absl::StatusOr<X509Ptr> CertificateFromPem(std::string_view pem);  // the first in the text

}  // namespace orgtrail
