#include "common/crypto/sha256_pair.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace orgtrail {
namespace {

TEST(Sha256Two, IsWhatOpensslComputes) {
  std::mt19937 random(7);
  std::string bytes(4096, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  const std::string_view all(bytes);
  // Every length around the edges of three blocks, beside a second message of any length, with every length of head.
  for (size_t size = 0; size <= 200; ++size) {
    for (size_t head = 0; head <= std::min<size_t>(size, 64); ++head) {
      const size_t other = random() % 300, other_head = random() % 65;
      const HashInput a{all.substr(3, head), all.substr(100, size - head)};
      const HashInput b{all.substr(11, other_head), all.substr(501, other)};
      Hash hash_a, hash_b;
      Sha256Two(a, b, &hash_a, &hash_b);
      ASSERT_EQ(hash_a, Sha256({a.head, a.body})) << size << " bytes, " << head << " of them head";
      ASSERT_EQ(hash_b, Sha256({b.head, b.body})) << other << " bytes after a head of " << other_head;
    }
  }
}

TEST(Sha256Two, TakesLongMessages) {
  const std::string a(1 << 20, 'a'), b((1 << 20) + 12345, 'b');
  Hash hash_a, hash_b;
  Sha256Two({"head", a}, {"", b}, &hash_a, &hash_b);
  EXPECT_EQ(hash_a, Sha256({"head", a}));
  EXPECT_EQ(hash_b, Sha256(b));
}

}  // namespace
}  // namespace orgtrail
