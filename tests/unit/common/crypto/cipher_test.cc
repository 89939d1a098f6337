#include "common/crypto/cipher.h"

#include <gtest/gtest.h>

#include <set>

#include "common/base/text.h"
#include "common/crypto/digest.h"

namespace orgtrail {
namespace {

std::string Bin(std::string_view hex) { return Unhex(hex).value(); }

class FixedRng final : public Rng {
 public:
  explicit FixedRng(std::string bytes) : bytes_(std::move(bytes)) {}
  void Fill(char* out, size_t n) override {
    for (size_t i = 0; i < n; ++i) out[i] = bytes_[i % bytes_.size()];
  }

 private:
  std::string bytes_;
};

std::string SaltOf(SaltCipher& cipher, uint64_t seq) {
  char out[16];
  cipher.Salt(seq, out);
  return std::string(out, sizeof out);
}

TEST(SaltCipher, IsAes256OfTheSequence) {
  // FIPS 197 C.3's key; the blocks are 0 and 1, computed with another implementation of AES.
  SaltCipher cipher(Bin("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"));
  EXPECT_EQ(Hex(SaltOf(cipher, 0)), "f29000b62a499fd0a9f39a6add2e7780");
  EXPECT_EQ(Hex(SaltOf(cipher, 1)), "f05d76ae4ab99fe5a6f69b3148c2363d");
  EXPECT_EQ(Hex(SaltOf(cipher, 0)), "f29000b62a499fd0a9f39a6add2e7780");  // order and repetition do not matter
  std::set<std::string> seen;
  for (uint64_t seq : {uint64_t{0}, uint64_t{1}, uint64_t{256}, uint64_t{1} << 63, UINT64_MAX}) seen.insert(SaltOf(cipher, seq));
  EXPECT_EQ(seen.size(), 5u);
}

TEST(SaltCipher, Moves) {
  SaltCipher a(std::string(32, 'a'));
  const std::string of_a = SaltOf(a, 7);
  SaltCipher b = std::move(a);
  EXPECT_EQ(SaltOf(b, 7), of_a);
  SaltCipher c(std::string(32, 'c'));
  c = std::move(b);
  EXPECT_EQ(SaltOf(c, 7), of_a);
}

TEST(Gcm, MatchesNistVectors) {
  FixedRng zero_nonce(std::string(12, '\0'));
  const std::string zero_key(32, '\0');
  EXPECT_EQ(Hex(GcmSeal(zero_key, "", "", zero_nonce)), "000000000000000000000000" "530f8afbc74536b9a963b4f1c4cb738b");
  EXPECT_EQ(Hex(GcmSeal(zero_key, "", std::string(16, '\0'), zero_nonce)),
            "000000000000000000000000" "cea7403d4d606b6e074ec5d3baf39d18" "d0d1c8a799996bf0265b98b5d48ab919");
  FixedRng nonce(Bin("cafebabefacedbaddecaf888"));
  EXPECT_EQ(Hex(GcmSeal(Bin("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
                        Bin("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
                        Bin("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
                            "b16aedf5aa0de657ba637b39"),
                        nonce)),
            "cafebabefacedbaddecaf888"
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0a"
            "bcc9f662" "76fc6ece0f4e1768cddf8853bb2d551b");
}

TEST(Gcm, OpensWhatItSealedAndNothingElse) {
  const std::string key(32, 'k');
  const std::string sealed = GcmSeal(key, "for this", "attack at dawn", SystemRng());
  EXPECT_EQ(GcmOpen(key, "for this", sealed).value(), "attack at dawn");
  EXPECT_EQ(GcmOpen(key, "", GcmSeal(key, "", "", SystemRng())).value(), "");
  EXPECT_NE(GcmSeal(key, "for this", "attack at dawn", SystemRng()), sealed);
  for (size_t i = 0; i < sealed.size(); ++i) {
    std::string altered = sealed;
    altered[i] = static_cast<char>(altered[i] ^ 1);
    EXPECT_EQ(GcmOpen(key, "for this", altered).status().code(), absl::StatusCode::kDataLoss) << i;
  }
  EXPECT_EQ(GcmOpen(key, "for that", sealed).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(GcmOpen(std::string(32, 'l'), "for this", sealed).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(GcmOpen(key, "for this", sealed.substr(0, sealed.size() - 1)).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(GcmOpen(key, "for this", sealed.substr(0, 27)).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace orgtrail
