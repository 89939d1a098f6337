// Control: leaves of the log that are not batches. Each starts with a 4-byte magic of its own. docs/formats/control.md
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/ids.h"
#include "common/crypto/digest.h"
#include "common/crypto/sign.h"

namespace orgtrail {

// OTN1: everything that makes, changes or ends an identity.
struct IdentityLeaf {
  enum class Act : uint8_t {
    kTokenCreated = 1, kEnrolled = 2, kRenewed = 3, kRevoked = 4, kRetired = 5, kUserCreated = 6, kUserRevoked = 7,
  };
  Act act = Act::kEnrolled;
  uint64_t wall_ns = 0;          // the aggregator's clock
  Uuid uuid;                     // agents; zero for tokens and people
  std::string uri;               // SPIFFE id (for tokens: account/region/name pattern as a SPIFFE id with name "*" allowed)
  Hash certificate;              // SHA-256 of the DER issued; zero where none is
  std::string identity_key;      // 32 bytes for agents, else empty
  std::string token_id;          // first 8 bytes of SHA-256 of the token, hex
  std::string approver;          // who asked (SPIFFE id)
  std::string carries;           // "", "any" or comma-separated account ids
  uint64_t not_after_ns = 0;     // of token or certificate
  std::string serial;            // of the certificate, hex
  std::string reason;            // free text, at most 512 bytes
  std::string Encode() const;
  static absl::StatusOr<IdentityLeaf> Decode(std::string_view bytes);
};
std::string_view ActName(IdentityLeaf::Act act);

// OTV1: evidence of something that must not be: a refused or conflicting batch, kept whole up to 60 KiB of it.
struct EvidenceLeaf {
  std::string code;              // EQUIVOCATION, EPOCH_CONFLICT, EPOCH_STALE, MONO_ROLLBACK, SIG_INVALID, …
  uint64_t wall_ns = 0;
  std::string uri;               // of the connection that brought it
  uint64_t related_leaf = UINT64_MAX;  // the leaf it contradicts, if any
  std::string detail;            // for people
  std::string object;            // header and signatures, or the first bytes
  std::string Encode() const;
  static absl::StatusOr<EvidenceLeaf> Decode(std::string_view bytes);
};

// OTP1: a policy bundle (signed note) as applied.
struct PolicyLeaf {
  uint64_t wall_ns = 0;
  std::string note;
  std::string body;              // at most 60 KiB here; larger only by the hash in the note
  std::string Encode() const;
  static absl::StatusOr<PolicyLeaf> Decode(std::string_view bytes);
};

// "OTB1", "OTN1", …; empty when the bytes have none of our magics.
std::string_view LeafMagic(std::string_view entry);

}  // namespace orgtrail
