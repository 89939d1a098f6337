// What an agent's identity key signs at enrolment and renewal, under kEnrolLabel. docs/formats/enrolment.md
#pragma once

#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/crypto/digest.h"

namespace orgtrail {

// "enrol" || SHA-256(csr_pem) || SHA-256(token_secret) || account || region || name, the last three each after a u8 length.
// Ties the identity key to the TLS key of the request and to the one token. Names are at most 255 bytes.
inline std::string EnrolProofMessage(std::string_view csr_pem, std::string_view token_secret, std::string_view account,
                                     std::string_view region, std::string_view name) {
  std::string message = "enrol";
  message += Sha256(csr_pem).view();
  message += Sha256(token_secret).view();
  for (std::string_view part : {account, region, name}) {
    CHECK(part.size() <= 255);
    message += static_cast<char>(part.size());
    message += part;
  }
  return message;
}

// "renew" || uuid || SHA-256(csr_pem) || u64 wall_ns || challenge.
inline std::string RenewProofMessage(const Uuid& uuid, std::string_view csr_pem, int64_t wall_ns, std::string_view challenge) {
  std::string message = "renew";
  message += uuid.view();
  message += Sha256(csr_pem).view();
  PutU64(message, static_cast<uint64_t>(wall_ns));
  message += challenge;
  return message;
}

}  // namespace orgtrail
