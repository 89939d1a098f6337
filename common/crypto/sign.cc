#include "common/crypto/sign.h"

#include <cstring>
#include <utility>

#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "common/crypto/openssl.h"

namespace orgtrail {
namespace {

// The y coordinates of the eight points whose order divides 8: 0, 1, -1 and the two of order 8 (little-endian). With either
// sign bit they are the eight points, and the encodings of x = 0 that RFC 8032 does not allow.
constexpr unsigned char kSmallOrderY[5][32] = {
    {0},
    {1},
    {0xEC, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
     0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F},
    {0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4, 0x89, 0xF2, 0xEF, 0x98, 0xF0,
     0xD5, 0xDF, 0xAC, 0x05, 0xD3, 0xC6, 0x33, 0x39, 0xB1, 0x38, 0x02, 0x88, 0x6D, 0x53, 0xFC, 0x05},
    {0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B, 0x76, 0x0D, 0x10, 0x67, 0x0F,
     0x2A, 0x20, 0x53, 0xFA, 0x2C, 0x39, 0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77, 0x92, 0xAC, 0x03, 0x7A},
};

// y >= p = 2^255 - 19: such encodings name a point that another encoding names too.
bool IsCanonicalY(const unsigned char y[32]) {
  if (y[31] != 0x7F) return true;
  for (int i = 30; i >= 1; --i) {
    if (y[i] != 0xFF) return true;
  }
  return y[0] < 0xED;
}

absl::Status CheckPoint(std::string_view raw) {
  unsigned char y[32];
  std::memcpy(y, raw.data(), sizeof y);
  y[31] &= 0x7F;
  if (!IsCanonicalY(y)) return absl::InvalidArgumentError("Ed25519 public key is not canonical (y >= 2^255 - 19)");
  for (const unsigned char(&small)[32] : kSmallOrderY) {
    if (std::memcmp(y, small, sizeof y) == 0) {
      return absl::InvalidArgumentError("Ed25519 public key is a point of small order: anyone could sign for it");
    }
  }
  return absl::OkStatus();
}

PublicKey RawPublicKey(const EVP_PKEY* key) {
  PublicKey raw;
  size_t n = raw.size();
  CHECK(EVP_PKEY_get_raw_public_key(key, Bytes(raw.data()), &n) == 1);
  CHECK(n == raw.size());
  return raw;
}

std::string Labelled(std::string_view label, std::string_view message) {
  std::string text;
  text.reserve(label.size() + message.size());
  text += label;
  text += message;
  return text;
}

}  // namespace

absl::StatusOr<PublicKey> ParsePublicKey(std::string_view raw) {
  PublicKey key;
  if (raw.size() != key.size()) {
    return absl::InvalidArgumentError(absl::StrCat("an Ed25519 public key is 32 bytes, not ", raw.size()));
  }
  RETURN_IF_ERROR(CheckPoint(raw));
  std::memcpy(key.data(), raw.data(), key.size());
  return key;
}

absl::Status VerifySignature(const PublicKey& key, std::string_view label, std::string_view message,
                             std::string_view signature) {
  if (signature.size() != sizeof(Signature)) {
    return absl::DataLossError(absl::StrCat("an Ed25519 signature is 64 bytes, not ", signature.size()));
  }
  // Keys come through ParsePublicKey; one that did not must not verify what anybody can forge.
  if (!CheckPoint(View(key)).ok()) return absl::DataLossError("signature under a key that proves nothing");
  const PkeyPtr pkey(EVP_PKEY_new_raw_public_key_ex(nullptr, "ED25519", nullptr, Bytes(View(key)), key.size()));
  if (pkey == nullptr) return OpensslError("load Ed25519 public key");
  const MdCtxPtr ctx(EVP_MD_CTX_new());
  CHECK(ctx != nullptr);
  if (EVP_DigestVerifyInit_ex(ctx.get(), nullptr, nullptr, nullptr, nullptr, pkey.get(), nullptr) != 1) {
    return OpensslError("verify");
  }
  const std::string text = Labelled(label, message);
  switch (EVP_DigestVerify(ctx.get(), Bytes(signature), signature.size(), Bytes(text), text.size())) {
    case 1:
      return absl::OkStatus();
    case 0:
      ERR_clear_error();
      return absl::DataLossError("signature does not match");
    default:
      return OpensslError("verify");
  }
}

struct SigningKey::Impl {
  PkeyPtr key;
  PublicKey pub;
};

SigningKey::SigningKey() = default;
SigningKey::~SigningKey() = default;
SigningKey::SigningKey(SigningKey&&) noexcept = default;
SigningKey& SigningKey::operator=(SigningKey&&) noexcept = default;

SigningKey SigningKey::Generate(Rng& rng) {
  std::string seed = rng.Bytes(32);
  SigningKey key = FromSeed(seed);
  Cleanse(seed);
  return key;
}

SigningKey SigningKey::FromSeed(std::string_view seed32) {
  CHECK(seed32.size() == 32);
  SigningKey key;
  key.impl_ = std::make_unique<Impl>();
  key.impl_->key.reset(EVP_PKEY_new_raw_private_key_ex(nullptr, "ED25519", nullptr, Bytes(seed32), seed32.size()));
  CHECK(key.impl_->key != nullptr);
  key.impl_->pub = RawPublicKey(key.impl_->key.get());
  return key;
}

absl::StatusOr<SigningKey> SigningKey::FromPem(std::string_view pem) {
  ASSIGN_OR_RETURN(PkeyPtr pkey, PrivateKeyFromPem(pem));
  if (EVP_PKEY_is_a(pkey.get(), "ED25519") != 1) return absl::InvalidArgumentError("the private key is not Ed25519");
  SigningKey key;
  key.impl_ = std::make_unique<Impl>();
  key.impl_->pub = RawPublicKey(pkey.get());
  key.impl_->key = std::move(pkey);
  return key;
}

std::string SigningKey::ToPem() const {
  CHECK(impl_ != nullptr);
  return PrivateKeyToPem(impl_->key.get());
}

const PublicKey& SigningKey::public_key() const {
  CHECK(impl_ != nullptr);
  return impl_->pub;
}

Signature SigningKey::Sign(std::string_view label, std::string_view message) const {
  CHECK(impl_ != nullptr);
  const MdCtxPtr ctx(EVP_MD_CTX_new());
  CHECK(ctx != nullptr);
  CHECK(EVP_DigestSignInit_ex(ctx.get(), nullptr, nullptr, nullptr, nullptr, impl_->key.get(), nullptr) == 1);
  const std::string text = Labelled(label, message);
  Signature signature;
  size_t n = signature.size();
  CHECK(EVP_DigestSign(ctx.get(), Bytes(signature.data()), &n, Bytes(text), text.size()) == 1);
  CHECK(n == signature.size());
  return signature;
}

std::string PublicKeyToPem(const PublicKey& key) {
  const PkeyPtr pkey(EVP_PKEY_new_raw_public_key_ex(nullptr, "ED25519", nullptr, Bytes(View(key)), key.size()));
  CHECK(pkey != nullptr);
  BioPtr bio = WriteBio();
  CHECK(PEM_write_bio_PUBKEY(bio.get(), pkey.get()) == 1);
  return TextOf(bio.get());
}

absl::StatusOr<PublicKey> PublicKeyFromPem(std::string_view pem) {
  if (pem.size() > (16 << 10)) return absl::InvalidArgumentError("a public key in PEM is at most 16 KiB");
  BioPtr bio = ReadBio(pem);
  const PkeyPtr pkey(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
  if (pkey == nullptr) return absl::InvalidArgumentError("not a public key in PEM (BEGIN PUBLIC KEY): " + DrainErrors());
  if (EVP_PKEY_is_a(pkey.get(), "ED25519") != 1) return absl::InvalidArgumentError("the public key is not Ed25519");
  return ParsePublicKey(View(RawPublicKey(pkey.get())));
}

}  // namespace orgtrail
