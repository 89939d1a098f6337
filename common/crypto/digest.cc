#include "common/crypto/digest.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <algorithm>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#include "common/base/status.h"
#include "common/crypto/openssl.h"

namespace orgtrail {
namespace {

// Fetched once and never freed: implicit fetching costs 0.3 µs a call and takes a lock all threads share.
EVP_MD* Sha256Method() {
  static EVP_MD* const md = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  CHECK(md != nullptr);
  return md;
}

EVP_MD_CTX* ThreadContext() {
  thread_local const MdCtxPtr ctx(EVP_MD_CTX_new());
  CHECK(ctx != nullptr);
  return ctx.get();
}

Hash FinishInto(EVP_MD_CTX* ctx) {
  Hash hash;
  unsigned int n = 0;
  CHECK(EVP_DigestFinal_ex(ctx, Bytes(hash.bytes.data()), &n) == 1);
  CHECK(n == hash.bytes.size());
  return hash;
}

}  // namespace

Hash Hash::From(std::string_view thirty_two) {
  Hash hash;
  CHECK(thirty_two.size() == hash.bytes.size());
  std::memcpy(hash.bytes.data(), thirty_two.data(), hash.bytes.size());
  return hash;
}

Hash Sha256(std::string_view data) {
  EVP_MD_CTX* const ctx = ThreadContext();
  CHECK(EVP_DigestInit_ex2(ctx, Sha256Method(), nullptr) == 1);
  CHECK(EVP_DigestUpdate(ctx, data.data(), data.size()) == 1);
  return FinishInto(ctx);
}

Hash Sha256(std::initializer_list<std::string_view> parts) {
  EVP_MD_CTX* const ctx = ThreadContext();
  CHECK(EVP_DigestInit_ex2(ctx, Sha256Method(), nullptr) == 1);
  for (std::string_view part : parts) CHECK(EVP_DigestUpdate(ctx, part.data(), part.size()) == 1);
  return FinishInto(ctx);
}

Sha256Stream::Sha256Stream() : ctx_(EVP_MD_CTX_new()) {
  CHECK(ctx_ != nullptr);
  CHECK(EVP_DigestInit_ex2(static_cast<EVP_MD_CTX*>(ctx_), Sha256Method(), nullptr) == 1);
}
Sha256Stream::~Sha256Stream() { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(ctx_)); }
void Sha256Stream::Update(std::string_view data) {
  CHECK(EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(ctx_), data.data(), data.size()) == 1);
}
Hash Sha256Stream::Finish() { return FinishInto(static_cast<EVP_MD_CTX*>(ctx_)); }

std::string HmacSha256(std::string_view key, std::string_view data) {
  static EVP_MAC* const method = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  CHECK(method != nullptr);
  thread_local const std::unique_ptr<EVP_MAC_CTX, Freed<EVP_MAC_CTX_free>> ctx(EVP_MAC_CTX_new(method));
  CHECK(ctx != nullptr);
  char digest[] = "SHA256";
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
  CHECK(EVP_MAC_init(ctx.get(), Bytes(key.empty() ? std::string_view("") : key), key.size(), params) == 1);
  CHECK(EVP_MAC_update(ctx.get(), Bytes(data), data.size()) == 1);
  std::string mac(32, '\0');
  size_t n = 0;
  CHECK(EVP_MAC_final(ctx.get(), Bytes(mac.data()), &n, mac.size()) == 1);
  CHECK(n == mac.size());
  return mac;
}

bool ConstantTimeEqual(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void Cleanse(std::string& secret) {
  OPENSSL_cleanse(secret.data(), secret.size());
  secret.clear();
}

namespace {

// Slicing by 8: table[0] is the byte-wise table of the reflected Castagnoli polynomial, table[k] advances it by k zero bytes.
struct Crc32cTables {
  uint32_t t[8][256];
};
constexpr Crc32cTables MakeCrc32cTables() {
  Crc32cTables tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    tables.t[0][i] = crc;
  }
  for (uint32_t i = 0; i < 256; ++i) {
    for (int k = 1; k < 8; ++k) {
      const uint32_t before = tables.t[k - 1][i];
      tables.t[k][i] = (before >> 8) ^ tables.t[0][before & 0xFF];
    }
  }
  return tables;
}
constexpr Crc32cTables kCrc32c = MakeCrc32cTables();

uint32_t Crc32cByTable(uint32_t crc, const char* p, size_t n) {
  for (; n >= 8; p += 8, n -= 8) {
    uint32_t low, high;
    std::memcpy(&low, p, 4);
    std::memcpy(&high, p + 4, 4);
    low ^= crc;
    crc = kCrc32c.t[7][low & 0xFF] ^ kCrc32c.t[6][(low >> 8) & 0xFF] ^ kCrc32c.t[5][(low >> 16) & 0xFF] ^
          kCrc32c.t[4][low >> 24] ^ kCrc32c.t[3][high & 0xFF] ^ kCrc32c.t[2][(high >> 8) & 0xFF] ^
          kCrc32c.t[1][(high >> 16) & 0xFF] ^ kCrc32c.t[0][high >> 24];
  }
  for (; n > 0; ++p, --n) crc = (crc >> 8) ^ kCrc32c.t[0][(crc ^ static_cast<uint8_t>(*p)) & 0xFF];
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t Crc32cBySse42(uint32_t crc, const char* p, size_t n) {
  uint64_t wide = crc;
  for (; n >= 8; p += 8, n -= 8) {
    uint64_t v;
    std::memcpy(&v, p, 8);
    wide = _mm_crc32_u64(wide, v);
  }
  crc = static_cast<uint32_t>(wide);
  for (; n > 0; ++p, --n) crc = _mm_crc32_u8(crc, static_cast<uint8_t>(*p));
  return crc;
}
#endif

}  // namespace

uint32_t Crc32c(std::string_view data, uint32_t seed) {
#if defined(__x86_64__)
  static const bool has_sse42 = __builtin_cpu_supports("sse4.2") != 0;
  if (has_sse42) return ~Crc32cBySse42(~seed, data.data(), data.size());
#endif
  return ~Crc32cByTable(~seed, data.data(), data.size());
}

uint32_t Crc32cPortable(std::string_view data, uint32_t seed) { return ~Crc32cByTable(~seed, data.data(), data.size()); }

namespace {

class OpensslRng final : public Rng {
 public:
  void Fill(char* out, size_t n) override {
    while (n > 0) {
      const size_t part = std::min<size_t>(n, 1 << 20);
      CHECK(RAND_bytes(::orgtrail::Bytes(out), static_cast<int>(part)) == 1);
      out += part;
      n -= part;
    }
  }
};

}  // namespace

Rng& SystemRng() {
  static OpensslRng rng;
  return rng;
}

}  // namespace orgtrail
