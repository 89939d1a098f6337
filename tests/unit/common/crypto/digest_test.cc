#include "common/crypto/digest.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "common/base/text.h"

namespace orgtrail {
namespace {

std::string Bin(std::string_view hex) { return Unhex(hex).value(); }

TEST(Sha256, MatchesFips180Vectors) {
  struct Case {
    std::string message;
    std::string_view digest;
  };
  const Case cases[] = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {std::string(1'000'000, 'a'), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(Hex(Sha256(c.message).view()), c.digest);
    const std::string_view text = c.message;
    for (size_t cut : {size_t{0}, text.size() / 3, text.size()}) {
      EXPECT_EQ(Hex(Sha256({text.substr(0, cut), text.substr(cut)}).view()), c.digest) << cut;
      Sha256Stream stream;
      stream.Update(text.substr(0, cut));
      stream.Update(text.substr(cut));
      EXPECT_EQ(Hex(stream.Finish().view()), c.digest) << cut;
    }
  }
}

TEST(Sha256, StreamsDoNotDisturbEachOther) {
  Sha256Stream a, b;
  a.Update("ab");
  b.Update("x");
  EXPECT_EQ(Sha256("abc"), Sha256({"a", "b", "c"}));
  a.Update("c");
  EXPECT_EQ(a.Finish(), Sha256("abc"));
  EXPECT_EQ(b.Finish(), Sha256("x"));
}

TEST(Sha256, ThreadsHaveContextsOfTheirOwn) {
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &wrong] {
      const std::string text(static_cast<size_t>(t * 100), 'x');
      const Hash expected = Sha256(text);
      for (int i = 0; i < 500; ++i) wrong[static_cast<size_t>(t)] += Sha256(text) == expected ? 0 : 1;
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(HmacSha256, MatchesRfc4231) {
  EXPECT_EQ(Hex(HmacSha256(std::string(20, '\x0b'), "Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(Hex(HmacSha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(Hex(HmacSha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
  EXPECT_EQ(Hex(HmacSha256("", "")), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

TEST(Crc32c, MatchesRfc3720InBothImplementations) {
  std::string up, down;
  for (int i = 0; i < 32; ++i) {
    up.push_back(static_cast<char>(i));
    down.push_back(static_cast<char>(31 - i));
  }
  struct Case {
    std::string data;
    uint32_t crc;
  };
  const Case cases[] = {{"", 0},
                        {"123456789", 0xE3069283},
                        {std::string(32, '\0'), 0x8A9136AA},
                        {std::string(32, '\xFF'), 0x62A8AB43},
                        {up, 0x46DD794E},
                        {down, 0x113FDB5C}};
  for (const Case& c : cases) {
    EXPECT_EQ(Crc32c(c.data), c.crc);
    EXPECT_EQ(Crc32cPortable(c.data), c.crc);
  }
}

TEST(Crc32c, ContinuesFromASeedAtAnyCutAndAlignment) {
  std::string data;
  for (int i = 0; i < 97; ++i) data.push_back(static_cast<char>(i * 37));
  const std::string_view all = data;
  for (size_t cut = 0; cut <= all.size(); ++cut) {
    EXPECT_EQ(Crc32c(all.substr(cut), Crc32c(all.substr(0, cut))), Crc32c(all)) << cut;
    EXPECT_EQ(Crc32c(all.substr(cut)), Crc32cPortable(all.substr(cut))) << cut;
  }
}

TEST(ConstantTimeEqual, ComparesContentAndLength) {
  EXPECT_TRUE(ConstantTimeEqual("", ""));
  EXPECT_TRUE(ConstantTimeEqual("abc", "abc"));
  EXPECT_FALSE(ConstantTimeEqual("abc", "abd"));
  EXPECT_FALSE(ConstantTimeEqual("abc", "ab"));
}

TEST(Cleanse, EmptiesTheString) {
  std::string secret = "secret of more than fifteen bytes";
  const char* const where = secret.data();
  const size_t size = secret.size();
  Cleanse(secret);
  EXPECT_TRUE(secret.empty());
  EXPECT_EQ(std::string_view(where, size), std::string(size, '\0'));
}

TEST(SystemRng, FillsAndDoesNotRepeat) {
  EXPECT_NE(SystemRng().Bytes(32), SystemRng().Bytes(32));
  EXPECT_EQ(SystemRng().Bytes(0), "");
  EXPECT_EQ(SystemRng().Bytes((1 << 20) + 3).size(), (1u << 20) + 3);
}

TEST(Hash, IsZeroOrdersAndHashes) {
  EXPECT_TRUE(Hash{}.IsZero());
  EXPECT_FALSE(Sha256("").IsZero());
  EXPECT_EQ(Hash::From(Sha256("a").view()), Sha256("a"));
  EXPECT_LT(Hash{}, Hash::From(Bin("0000000000000000000000000000000000000000000000000000000000000001")));
}

}  // namespace
}  // namespace orgtrail
