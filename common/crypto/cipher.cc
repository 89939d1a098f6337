#include "common/crypto/cipher.h"

#include <openssl/crypto.h>

#include <cstring>
#include <utility>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/crypto/openssl.h"

namespace orgtrail {
namespace {

constexpr size_t kNonceBytes = 12;
constexpr size_t kTagBytes = 16;
constexpr size_t kMostBytes = 1 << 30;  // OpenSSL takes int

EVP_CIPHER* Fetched(const char* name) {
  EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, name, nullptr);
  CHECK(cipher != nullptr);
  return cipher;
}
EVP_CIPHER* Ecb() {
  static EVP_CIPHER* const cipher = Fetched("AES-256-ECB");
  return cipher;
}
EVP_CIPHER* Gcm() {
  static EVP_CIPHER* const cipher = Fetched("AES-256-GCM");
  return cipher;
}

EVP_CIPHER_CTX* GcmContext() {
  thread_local const CipherCtxPtr ctx(EVP_CIPHER_CTX_new());
  CHECK(ctx != nullptr);
  return ctx.get();
}

// The key schedule must not outlive the call: the context belongs to the thread, not to the key's owner.
struct ResetAtEnd {
  EVP_CIPHER_CTX* ctx;
  ~ResetAtEnd() { EVP_CIPHER_CTX_reset(ctx); }
};

}  // namespace

SaltCipher::SaltCipher(std::string_view batch_key32) : ctx_(EVP_CIPHER_CTX_new()) {
  CHECK(batch_key32.size() == 32);
  auto* const ctx = static_cast<EVP_CIPHER_CTX*>(ctx_);
  CHECK(ctx != nullptr);
  CHECK(EVP_EncryptInit_ex2(ctx, Ecb(), Bytes(batch_key32), nullptr, nullptr) == 1);
  CHECK(EVP_CIPHER_CTX_set_padding(ctx, 0) == 1);
}
SaltCipher::~SaltCipher() {
  EVP_CIPHER_CTX_free(static_cast<EVP_CIPHER_CTX*>(ctx_));
  OPENSSL_cleanse(salts_, sizeof salts_);
}
SaltCipher::SaltCipher(SaltCipher&& other) noexcept : ctx_(std::exchange(other.ctx_, nullptr)) {}
SaltCipher& SaltCipher::operator=(SaltCipher&& other) noexcept {
  std::swap(ctx_, other.ctx_);
  ready_ = other.ready_ = 0;
  return *this;
}

void SaltCipher::Salt(uint64_t seq, char out[16]) {
  CHECK(ctx_ != nullptr);
  if (seq - first_ >= ready_) {
    char blocks[sizeof salts_] = {};
    for (size_t i = 0; i < kAhead; ++i) {
      const uint64_t be = __builtin_bswap64(seq + i);
      std::memcpy(blocks + 16 * i + 8, &be, sizeof be);
    }
    int n = 0;
    CHECK(EVP_EncryptUpdate(static_cast<EVP_CIPHER_CTX*>(ctx_), Bytes(salts_), &n, Bytes(std::string_view(blocks, sizeof blocks)),
                            sizeof blocks) == 1);
    CHECK(n == sizeof blocks);
    first_ = seq;
    ready_ = kAhead;
  }
  std::memcpy(out, salts_ + 16 * (seq - first_), 16);
}

std::string GcmSeal(std::string_view key32, std::string_view associated, std::string_view plain, Rng& rng) {
  CHECK(key32.size() == 32 && plain.size() <= kMostBytes && associated.size() <= kMostBytes);
  std::string sealed(kNonceBytes + plain.size() + kTagBytes, '\0');
  rng.Fill(sealed.data(), kNonceBytes);
  EVP_CIPHER_CTX* const ctx = GcmContext();
  const ResetAtEnd reset{ctx};
  CHECK(EVP_EncryptInit_ex2(ctx, Gcm(), Bytes(key32), Bytes(sealed), nullptr) == 1);
  int n = 0;
  if (!associated.empty()) {
    CHECK(EVP_EncryptUpdate(ctx, nullptr, &n, Bytes(associated), static_cast<int>(associated.size())) == 1);
  }
  unsigned char* const out = Bytes(sealed.data() + kNonceBytes);
  if (!plain.empty()) {
    CHECK(EVP_EncryptUpdate(ctx, out, &n, Bytes(plain), static_cast<int>(plain.size())) == 1);
  }
  CHECK(EVP_EncryptFinal_ex(ctx, out + plain.size(), &n) == 1);
  CHECK(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, static_cast<int>(kTagBytes), out + plain.size()) == 1);
  return sealed;
}

absl::StatusOr<std::string> GcmOpen(std::string_view key32, std::string_view associated, std::string_view sealed) {
  CHECK(key32.size() == 32 && associated.size() <= kMostBytes);
  if (sealed.size() < kNonceBytes + kTagBytes || sealed.size() > kMostBytes) {
    return absl::InvalidArgumentError(absl::StrCat("sealed text of ", sealed.size(), " bytes: at least 28 and at most 2^30"));
  }
  const std::string_view body = sealed.substr(kNonceBytes, sealed.size() - kNonceBytes - kTagBytes);
  std::string tag(sealed.substr(sealed.size() - kTagBytes));
  std::string plain(body.size(), '\0');
  EVP_CIPHER_CTX* const ctx = GcmContext();
  const ResetAtEnd reset{ctx};
  CHECK(EVP_DecryptInit_ex2(ctx, Gcm(), Bytes(key32), Bytes(sealed), nullptr) == 1);
  int n = 0;
  if (!associated.empty()) {
    CHECK(EVP_DecryptUpdate(ctx, nullptr, &n, Bytes(associated), static_cast<int>(associated.size())) == 1);
  }
  if (!body.empty()) {
    CHECK(EVP_DecryptUpdate(ctx, Bytes(plain.data()), &n, Bytes(body), static_cast<int>(body.size())) == 1);
  }
  CHECK(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, static_cast<int>(kTagBytes), tag.data()) == 1);
  unsigned char rest[16];
  if (EVP_DecryptFinal_ex(ctx, rest, &n) != 1) {
    ERR_clear_error();
    return absl::DataLossError("sealed text was altered, or sealed under another key or for another purpose");
  }
  return plain;
}

}  // namespace orgtrail
