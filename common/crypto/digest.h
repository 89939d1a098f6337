// Digest: SHA-256 and friends. EVP_MD is fetched once per process, contexts are reused per thread (3 x on small inputs).
// Threads: any.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>

#include "common/base/random.h"

namespace orgtrail {

struct Hash {
  std::array<char, 32> bytes{};
  auto operator<=>(const Hash&) const = default;
  std::string_view view() const { return {bytes.data(), bytes.size()}; }
  bool IsZero() const { return *this == Hash{}; }
  static Hash From(std::string_view thirty_two);  // CHECKs the size
};

Hash Sha256(std::string_view data);
Hash Sha256(std::initializer_list<std::string_view> parts);  // of their concatenation, without building it

// For content that comes in pieces.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(const Sha256Stream&) = delete;
  Sha256Stream& operator=(const Sha256Stream&) = delete;
  void Update(std::string_view data);
  Hash Finish();  // once
 private:
  void* ctx_;
};

std::string HmacSha256(std::string_view key, std::string_view data);  // 32 bytes
bool ConstantTimeEqual(std::string_view a, std::string_view b);
void Cleanse(std::string& secret);                                    // overwrites, then clears
uint32_t Crc32c(std::string_view data, uint32_t seed = 0);            // Castagnoli; SSE4.2 where the CPU has it
uint32_t Crc32cPortable(std::string_view data, uint32_t seed = 0);    // the same without SSE4.2

Rng& SystemRng();  // OpenSSL's DRBG; threads: any

}  // namespace orgtrail

template <>
struct std::hash<orgtrail::Hash> {
  size_t operator()(const orgtrail::Hash& h) const noexcept {
    size_t v;
    std::memcpy(&v, h.bytes.data(), sizeof v);
    return v;
  }
};
