// Join token: ot1.<base64url(secret 32)>.<base64url(sha256 of the CA's SPKI)>. The server keeps only SHA-256 of the secret.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/crypto/digest.h"

namespace orgtrail {

struct JoinToken {
  std::string secret;   // 32 bytes
  Hash ca_spki;
  std::string Encode() const;
  std::string Id() const;                 // hex of the first 8 bytes of SHA-256(secret): names it without giving it away
  Hash SecretHash() const;
  static absl::StatusOr<JoinToken> Decode(std::string_view text);  // says what is wrong: truncated, wrong version, pasted twice
};

}  // namespace orgtrail
