// How a run's parts lie in its file; for those who read and write them. docs/formats/history.md
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace orgtrail::run_format {

// A run is read in place by the machine that wrote it and rebuilt elsewhere, so its integers are the machine's.
static_assert(std::endian::native == std::endian::little);

inline constexpr char kMagic[8] = {'O', 'T', 'H', 'R', 'U', 'N', '0', '1'};
inline constexpr uint32_t kVersion = 4;
inline constexpr uint32_t kBlock = 128;                 // ordinals between two skip entries
inline constexpr size_t kSkipBytes = 8;                 // u32 first ordinal, u32 offset into the varints
inline constexpr uint32_t kBitmapBit = 0x8000'0000u;    // in a list's count
inline constexpr uint32_t kInlineBit = 0x8000'0000u;    // in a reference: the one ordinal itself
inline constexpr size_t kEntryBytes = 12;               // u64 term, u32 reference
inline constexpr uint64_t kPartTerms = 1 << 16;         // entries of each part of the dictionary but the last
inline constexpr size_t kVarintBytes = 5;               // at most
inline constexpr uint64_t kDense = 8;                   // a list of at least 1 in so many records is a bitmap

// A bit a record, in 32-bit words.
inline constexpr size_t BitmapBytes(uint64_t records) { return static_cast<size_t>((records + 31) / 32 * 4); }

struct Trailer {
  uint32_t version, level;
  uint64_t records, terms, hashes, terms_bytes;
  int64_t min_time_ns, max_time_ns;
  uint64_t first_leaf, next_leaf;
  int64_t min_logged_ns, max_logged_ns;
  uint32_t records_crc, terms_crc, parts_crc, trailer_crc;  // the last over everything before it
  char magic[8];
};
static_assert(sizeof(Trailer) == 112);
inline constexpr size_t kTrailerCrcOffset = 100;

template <class T>
T Load(const char* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

}  // namespace orgtrail::run_format
