#include "common/crypto/sha256_pair.h"

#include <cstring>

#include "common/base/status.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace orgtrail {

#if defined(__x86_64__)
namespace {

constexpr size_t kBlock = 64;

alignas(16) constexpr uint32_t kInitial[8] = {  // as the instructions want them: F E B A, H G D C (FIPS 180-4 §5.3.3)
    0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667, 0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372};
alignas(16) constexpr uint32_t kRounds[64] = {  // FIPS 180-4 §4.2.2
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// A message as blocks: one that holds the head and what follows, blocks of the body where it lies, and one or two with the padding.
struct Message {
  explicit Message(const HashInput& in) {
    const size_t size = in.head.size() + in.body.size();
    whole = size / kBlock;
    size_t tail_from = 0;            // of the body, behind the whole blocks
    char* tail = last;
    if (whole > 0) {
      const size_t taken = kBlock - in.head.size();
      std::memcpy(first, in.head.data(), in.head.size());
      if (taken > 0) std::memcpy(first + in.head.size(), in.body.data(), taken);
      body = in.body.data() + taken;
      tail_from = whole * kBlock - in.head.size();
    } else {
      if (!in.head.empty()) std::memcpy(last, in.head.data(), in.head.size());
      tail += in.head.size();
    }
    const size_t left = in.body.size() - tail_from;
    if (left > 0) std::memcpy(tail, in.body.data() + tail_from, left);
    tail += left;
    *tail++ = static_cast<char>(0x80);
    const auto used = static_cast<size_t>(tail - last);
    const size_t padded = used <= kBlock - 8 ? kBlock : 2 * kBlock;
    std::memset(tail, 0, padded - used - 8);
    const uint64_t bits = __builtin_bswap64(uint64_t{size} * 8);
    std::memcpy(last + padded - 8, &bits, 8);
    blocks = whole + padded / kBlock;
  }
  const char* Block(size_t i) const {
    if (i >= whole) return last + (i - whole) * kBlock;
    return i == 0 ? first : body + (i - 1) * kBlock;
  }
  size_t whole = 0, blocks = 0;
  const char* body = nullptr;
  char first[kBlock];
  char last[2 * kBlock];
};

struct alignas(16) State {
  State() { std::memcpy(words, kInitial, sizeof words); }
  Hash Digest() const {
    static constexpr int kOrder[8] = {3, 2, 7, 6, 1, 0, 5, 4};  // where A … H stand
    Hash hash;
    for (int i = 0; i < 8; ++i) {
      const uint32_t word = __builtin_bswap32(words[kOrder[i]]);
      std::memcpy(hash.bytes.data() + 4 * i, &word, 4);
    }
    return hash;
  }
  uint32_t words[8];
};

#define ORGTRAIL_SHA __attribute__((target("sha,sse4.1,ssse3"), always_inline)) inline

// One message's registers, and the parts of four rounds of it; two of these are interleaved below.
struct Lane {
  __m128i abef, cdgh, w0, w1, w2, w3, k;
};
ORGTRAIL_SHA __m128i LoadBlock(const char* p) {
  return _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)),
                          _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
}
ORGTRAIL_SHA void Begin(Lane& l, const State& s, const char* block) {
  l.abef = _mm_load_si128(reinterpret_cast<const __m128i*>(s.words));
  l.cdgh = _mm_load_si128(reinterpret_cast<const __m128i*>(s.words + 4));
  l.w0 = LoadBlock(block);
  l.w1 = LoadBlock(block + 16);
  l.w2 = LoadBlock(block + 32);
  l.w3 = LoadBlock(block + 48);
}
ORGTRAIL_SHA void End(const Lane& l, State& s) {
  auto* const words = reinterpret_cast<__m128i*>(s.words);
  _mm_store_si128(words, _mm_add_epi32(l.abef, _mm_load_si128(words)));
  _mm_store_si128(words + 1, _mm_add_epi32(l.cdgh, _mm_load_si128(words + 1)));
}
ORGTRAIL_SHA void Add(Lane& l, __m128i w, int group) {
  l.k = _mm_add_epi32(w, _mm_load_si128(reinterpret_cast<const __m128i*>(kRounds + 4 * group)));
}
ORGTRAIL_SHA void FirstHalf(Lane& l) { l.cdgh = _mm_sha256rnds2_epu32(l.cdgh, l.abef, l.k); }
ORGTRAIL_SHA void SecondHalf(Lane& l) { l.abef = _mm_sha256rnds2_epu32(l.abef, l.cdgh, _mm_shuffle_epi32(l.k, 0x0E)); }
// The four words that follow w0 … w3.
ORGTRAIL_SHA __m128i Schedule(__m128i w0, __m128i w1, __m128i w2, __m128i w3) {
  return _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4)), w3);
}

#define ORGTRAIL_FOUR(group, w) \
  Add(a, a.w, group);           \
  Add(b, b.w, group);           \
  FirstHalf(a);                 \
  FirstHalf(b);                 \
  SecondHalf(a);                \
  SecondHalf(b)
#define ORGTRAIL_NEXT(w0, w1, w2, w3)          \
  a.w0 = Schedule(a.w0, a.w1, a.w2, a.w3);     \
  b.w0 = Schedule(b.w0, b.w1, b.w2, b.w3)

__attribute__((target("sha,sse4.1,ssse3"))) void CompressTwo(State& sa, const char* block_a, State& sb, const char* block_b) {
  Lane a, b;
  Begin(a, sa, block_a);
  Begin(b, sb, block_b);
  ORGTRAIL_FOUR(0, w0);
  ORGTRAIL_FOUR(1, w1);
  ORGTRAIL_FOUR(2, w2);
  ORGTRAIL_FOUR(3, w3);
  for (int group = 4; group < 16; group += 4) {
    ORGTRAIL_NEXT(w0, w1, w2, w3);
    ORGTRAIL_FOUR(group, w0);
    ORGTRAIL_NEXT(w1, w2, w3, w0);
    ORGTRAIL_FOUR(group + 1, w1);
    ORGTRAIL_NEXT(w2, w3, w0, w1);
    ORGTRAIL_FOUR(group + 2, w2);
    ORGTRAIL_NEXT(w3, w0, w1, w2);
    ORGTRAIL_FOUR(group + 3, w3);
  }
  End(a, sa);
  End(b, sb);
}

#undef ORGTRAIL_FOUR
#undef ORGTRAIL_NEXT

bool HasShaInstructions() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3") && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 &&
         (b & (1u << 29)) != 0;
}

}  // namespace
#endif

void Sha256Two(const HashInput& a, const HashInput& b, Hash* hash_a, Hash* hash_b) {
#if defined(__x86_64__)
  static const bool fast = HasShaInstructions();
  if (fast) {
    CHECK(a.head.size() <= kBlock && b.head.size() <= kBlock);
    const Message ma(a), mb(b);
    State sa, sb, unused;
    const size_t both = ma.blocks < mb.blocks ? ma.blocks : mb.blocks;
    size_t i = 0;
    for (; i < both; ++i) CompressTwo(sa, ma.Block(i), sb, mb.Block(i));
    // The rest of the longer one; the other lane's work is thrown away.
    for (; i < ma.blocks; ++i) CompressTwo(sa, ma.Block(i), unused, ma.Block(i));
    for (; i < mb.blocks; ++i) CompressTwo(unused, mb.Block(i), sb, mb.Block(i));
    *hash_a = sa.Digest();
    *hash_b = sb.Digest();
    return;
  }
#endif
  *hash_a = Sha256({a.head, a.body});
  *hash_b = Sha256({b.head, b.body});
}

}  // namespace orgtrail
