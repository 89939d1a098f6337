// CertificateAuthority: the organization's CA at work: certificates for agents and people, and join tokens that pin it.
// Who may have one is decided by others; every identity it certifies is logged by the caller before the certificate is given out.
// Threads: any; immutable. Times are certificate validity; a certificate begins five minutes early, for clocks that are behind.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/ids.h"
#include "common/crypto/x509.h"
#include "common/format/control.h"
#include "common/format/token.h"

namespace orgtrail {

class CertificateAuthority {
 public:
  // A new CA, for `orgtrail org init`. The key is in files().key_pem and nowhere else until the caller writes it.
  static absl::StatusOr<CertificateAuthority> Create(std::string_view org, absl::Time now, absl::Duration life);
  // FailedPrecondition: the key is not the certificate's, or the certificate is no CA's.
  static absl::StatusOr<CertificateAuthority> Open(std::string_view org, CaCertificate files);

  const std::string& org() const { return org_; }
  const CaCertificate& files() const { return ca_; }
  const Hash& spki() const { return spki_; }

  struct Issued {
    std::string certificate_pem;   // the leaf alone
    std::string uri;
    CertificateFacts facts;
  };
  // For the holder of the request's key, whoever `identity` says. InvalidArgument says what is wrong with the request.
  absl::StatusOr<Issued> Issue(const Identity& identity, std::string csr_pem, absl::Time now, absl::Duration life) const;

  struct TokenOrder {
    std::string account;           // exact
    std::string region, name;      // exact, or empty for any
    std::string carries;           // "", "any", or account ids separated by commas
    uint32_t uses = 1;
    absl::Duration life = absl::Hours(1);
    std::string cidr;              // empty: from anywhere
    std::string approver;          // SPIFFE id of who asked
  };
  struct IssuedToken {
    JoinToken token;               // to be shown once
    IdentityLeaf leaf;             // to be logged first
  };
  // InvalidArgument says which part of the order cannot be.
  absl::StatusOr<IssuedToken> IssueToken(const TokenOrder& order, absl::Time now, Rng& rng) const;

 private:
  CertificateAuthority(std::string org, CaCertificate ca, Hash spki) : org_(std::move(org)), ca_(std::move(ca)), spki_(spki) {}

  std::string org_;
  CaCertificate ca_;
  Hash spki_;
};

// Whether `uri` is one of those `pattern` stands for: equal segment by segment, where "*" in the pattern is any one segment.
bool UriMatches(std::string_view pattern, std::string_view uri);

}  // namespace orgtrail
