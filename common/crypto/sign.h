// Ed25519 (RFC 8032). One key, one purpose, one label: every signed message starts with a domain label ended by NUL,
// except C2SP notes, which sign their text. Threads: any; a SigningKey is immutable after construction.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/base/random.h"

namespace orgtrail {

inline constexpr std::string_view kBatchLabel{"orgtrail/batch/v1\0", 18};
inline constexpr std::string_view kEpochLabel{"orgtrail/epoch/v1\0", 18};
inline constexpr std::string_view kEnrolLabel{"orgtrail/enrol/v1\0", 18};

using PublicKey = std::array<char, 32>;
using Signature = std::array<char, 64>;
inline std::string_view View(const PublicKey& k) { return {k.data(), k.size()}; }
inline std::string_view View(const Signature& s) { return {s.data(), s.size()}; }

// InvalidArgument for a key that is not 32 bytes, not canonical or of small order (OpenSSL accepts those).
absl::StatusOr<PublicKey> ParsePublicKey(std::string_view raw);

// DataLoss when the signature does not match (S+L and wrong keys included).
absl::Status VerifySignature(const PublicKey& key, std::string_view label, std::string_view message,
                             std::string_view signature);

class SigningKey {
 public:
  SigningKey();  // empty: Sign() CHECKs
  ~SigningKey();
  SigningKey(SigningKey&&) noexcept;
  SigningKey& operator=(SigningKey&&) noexcept;
  static SigningKey Generate(Rng& rng);
  static SigningKey FromSeed(std::string_view seed32);
  static absl::StatusOr<SigningKey> FromPem(std::string_view pem);  // PKCS#8
  std::string ToPem() const;
  const PublicKey& public_key() const;
  Signature Sign(std::string_view label, std::string_view message) const;
  explicit operator bool() const { return impl_ != nullptr; }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::string PublicKeyToPem(const PublicKey& key);  // SubjectPublicKeyInfo
absl::StatusOr<PublicKey> PublicKeyFromPem(std::string_view pem);

}  // namespace orgtrail
