#include "common/crypto/sign.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include "common/base/text.h"
#include "common/crypto/digest.h"

namespace orgtrail {
namespace {

std::string Bin(std::string_view hex) { return Unhex(hex).value(); }

PublicKey Unchecked(std::string_view raw) {
  PublicKey key;
  std::copy(raw.begin(), raw.end(), key.begin());
  return key;
}

TEST(Ed25519, MatchesRfc8032) {
  struct Case {
    std::string_view seed, pub, message, signature;
  };
  const Case cases[] = {
      {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
       "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
       "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141"
       "438e7a100b"},
      {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
       "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
       "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d29"
       "1612bb0c00"},
      {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
       "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
       "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027be"
       "ceea1ec40a"},
  };
  for (const Case& c : cases) {
    const SigningKey key = SigningKey::FromSeed(Bin(c.seed));
    EXPECT_EQ(Hex(View(key.public_key())), c.pub);
    EXPECT_EQ(Hex(View(key.Sign("", Bin(c.message)))), c.signature);
    const absl::StatusOr<PublicKey> pub = ParsePublicKey(Bin(c.pub));
    ASSERT_TRUE(pub.ok()) << pub.status();
    EXPECT_TRUE(VerifySignature(*pub, "", Bin(c.message), Bin(c.signature)).ok());
  }
}

TEST(Ed25519, RefusesEveryFlippedBitAndAnotherLabel) {
  const SigningKey key = SigningKey::FromSeed(std::string(32, 's'));
  const Signature signature = key.Sign(kBatchLabel, "message");
  ASSERT_TRUE(VerifySignature(key.public_key(), kBatchLabel, "message", View(signature)).ok());
  EXPECT_EQ(VerifySignature(key.public_key(), kEpochLabel, "message", View(signature)).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(VerifySignature(key.public_key(), kBatchLabel, "massage", View(signature)).code(), absl::StatusCode::kDataLoss);
  for (size_t bit = 0; bit < 512; bit += 7) {
    std::string forged(View(signature));
    forged[bit / 8] = static_cast<char>(forged[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_EQ(VerifySignature(key.public_key(), kBatchLabel, "message", forged).code(), absl::StatusCode::kDataLoss) << bit;
  }
  const SigningKey other = SigningKey::FromSeed(std::string(32, 'o'));
  EXPECT_EQ(VerifySignature(other.public_key(), kBatchLabel, "message", View(signature)).code(), absl::StatusCode::kDataLoss);
  for (size_t n : {0, 63, 65}) {
    EXPECT_EQ(VerifySignature(key.public_key(), kBatchLabel, "message", std::string(n, '\0')).code(),
              absl::StatusCode::kDataLoss);
  }
  EXPECT_EQ(VerifySignature(key.public_key(), kBatchLabel, "message", std::string(64, '\0')).code(),
            absl::StatusCode::kDataLoss);
}

TEST(Ed25519, RefusesAScalarPlusTheGroupOrder) {
  const SigningKey key = SigningKey::FromSeed(std::string(32, 's'));
  std::string signature(View(key.Sign(kBatchLabel, "message")));
  const std::string order = Bin("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
  int carry = 0;
  for (size_t i = 0; i < 32; ++i) {
    const int sum = static_cast<uint8_t>(signature[32 + i]) + static_cast<uint8_t>(order[i]) + carry;
    signature[32 + i] = static_cast<char>(sum);
    carry = sum >> 8;
  }
  EXPECT_EQ(VerifySignature(key.public_key(), kBatchLabel, "message", signature).code(), absl::StatusCode::kDataLoss);
}

// The eight points of small order, and every other encoding that names one of them.
constexpr std::string_view kSmallOrder[] = {
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
};
constexpr std::string_view kOddEncodings[] = {
    "0100000000000000000000000000000000000000000000000000000000000080",  // x = 0 with the sign bit
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  // y = p, that is 0
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  // y = p + 1, that is 1
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  // y >= p of no small order
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

TEST(ParsePublicKey, RefusesSmallOrderAndNonCanonicalPoints) {
  for (std::string_view hex : kSmallOrder) {
    EXPECT_EQ(ParsePublicKey(Bin(hex)).status().code(), absl::StatusCode::kInvalidArgument) << hex;
  }
  for (std::string_view hex : kOddEncodings) {
    EXPECT_EQ(ParsePublicKey(Bin(hex)).status().code(), absl::StatusCode::kInvalidArgument) << hex;
  }
  for (size_t n : {0, 31, 33}) EXPECT_FALSE(ParsePublicKey(std::string(n, 'k')).ok()) << n;
  // Next to the bounds: y = p - 2 and y = 2 are of large order or no points at all, and stay.
  EXPECT_TRUE(ParsePublicKey(Bin("ebffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")).ok());
}

// Under a key of small order OpenSSL accepts (R, S = 0) for about one message in eight, without any private key. This shows
// that the list above names the right points, and that VerifySignature does not.
TEST(ParsePublicKey, TheRefusedPointsAreForgeable) {
  for (std::string_view hex : kSmallOrder) {
    const std::string raw = Bin(hex);
    EVP_PKEY* const pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr,
                                                       reinterpret_cast<const unsigned char*>(raw.data()), raw.size());
    ASSERT_NE(pkey, nullptr);
    bool forged = false;
    for (int i = 0; i < 64 && !forged; ++i) {
      const std::string message = "pay " + std::to_string(i);
      for (std::string_view r : kSmallOrder) {
        const std::string signature = Bin(r) + std::string(32, '\0');
        EVP_MD_CTX* const ctx = EVP_MD_CTX_new();
        ASSERT_EQ(EVP_DigestVerifyInit(ctx, nullptr, nullptr, nullptr, pkey), 1);
        const bool accepted =
            EVP_DigestVerify(ctx, reinterpret_cast<const unsigned char*>(signature.data()), signature.size(),
                             reinterpret_cast<const unsigned char*>(message.data()), message.size()) == 1;
        EVP_MD_CTX_free(ctx);
        forged = forged || accepted;
        EXPECT_EQ(VerifySignature(Unchecked(raw), "", message, signature).code(), absl::StatusCode::kDataLoss);
      }
    }
    EXPECT_TRUE(forged) << hex;
    EVP_PKEY_free(pkey);
  }
}

TEST(SigningKey, SurvivesPem) {
  const SigningKey key = SigningKey::Generate(SystemRng());
  const std::string pem = key.ToPem();
  EXPECT_TRUE(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
  const absl::StatusOr<SigningKey> again = SigningKey::FromPem(pem);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->public_key(), key.public_key());
  EXPECT_EQ(again->Sign("l", "m"), key.Sign("l", "m"));

  const std::string public_pem = PublicKeyToPem(key.public_key());
  EXPECT_TRUE(public_pem.starts_with("-----BEGIN PUBLIC KEY-----\n"));
  EXPECT_EQ(PublicKeyFromPem(public_pem).value(), key.public_key());
}

TEST(SigningKey, RefusesWhatIsNotAnEd25519KeyInPem) {
  const std::string pem = SigningKey::FromSeed(std::string(32, 'x')).ToPem();
  for (const std::string& bad : {std::string(), std::string("hello"), pem.substr(0, pem.size() / 2), std::string(1 << 20, 'x'),
                                 PublicKeyToPem(SigningKey::FromSeed(std::string(32, 'x')).public_key())}) {
    EXPECT_EQ(SigningKey::FromPem(bad).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(PublicKeyFromPem(pem).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(PublicKeyFromPem(PublicKeyToPem(Unchecked(Bin(kSmallOrder[4])))).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SigningKey, MovesLeaveAnEmptyKey) {
  SigningKey a = SigningKey::FromSeed(std::string(32, 'x'));
  SigningKey b = std::move(a);
  EXPECT_TRUE(b);
  EXPECT_FALSE(a);
  EXPECT_DEATH(a.Sign("", ""), "impl_");
}

}  // namespace
}  // namespace orgtrail
