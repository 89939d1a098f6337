// Symmetric ciphers. Threads: one object, one thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/base/random.h"

namespace orgtrail {

// Salts of one batch: AES-256(batch_key, 8 zero bytes || u64 seq), some 10 ns each. Makes leaves hiding.
class SaltCipher {
 public:
  explicit SaltCipher(std::string_view batch_key32);
  ~SaltCipher();
  SaltCipher(SaltCipher&&) noexcept;
  SaltCipher& operator=(SaltCipher&&) noexcept;
  void Salt(uint64_t seq, char out[16]);

 private:
  static constexpr size_t kAhead = 32;  // salts computed at once: a batch asks for one after another
  void* ctx_;
  uint64_t first_ = 0;
  size_t ready_ = 0;                    // salts_ holds those of [first_, first_ + ready_)
  char salts_[kAhead * 16];
};

// AES-256-GCM with a random 96-bit nonce in front: nonce || ciphertext || tag.
std::string GcmSeal(std::string_view key32, std::string_view associated, std::string_view plain, Rng& rng);
absl::StatusOr<std::string> GcmOpen(std::string_view key32, std::string_view associated, std::string_view sealed);

}  // namespace orgtrail
