// Postings: the ascending ordinals of one term, read in place; whose memory it is outlives it.
// Threads: one. Fails: whatever the bytes are, reading stays within them and gives ordinals of the run.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace orgtrail {

inline constexpr uint32_t kNoOrdinal = UINT32_MAX;

class Postings {
 public:
  Postings() = default;                                             // empty
  static Postings All(uint32_t records);                            // every ordinal
  static Postings One(uint32_t ordinal, uint32_t records);          // empty when there is no such record
  static Postings Of(std::span<const uint32_t> ordinals);           // these, ascending
  static Postings Of(std::span<const uint16_t> ordinals);           // likewise; for DecodeTo and AppendTo only
  // The list `bytes` begin with, as it lies in a run of `records` records; what follows it may be anything. Empty when it is none.
  static Postings Stored(std::string_view bytes, uint32_t records);

  uint32_t count() const { return count_; }
  // The first ordinal >= target, kNoOrdinal when there is none. Targets never decrease from call to call.
  uint32_t Seek(uint32_t target);
  // All count() ordinals at once; instead of Seek, not after it. False when the list is damaged: then what `out` holds means nothing.
  bool DecodeTo(uint32_t* out) const;
  // The same behind what is there; a damaged list appends nothing.
  bool AppendTo(std::vector<uint32_t>* out) const;
  // The bits of a list that is stored as a bitmap; empty for another.
  std::string_view bitmap() const { return kind_ == Kind::kBitmap ? std::string_view(begin_, static_cast<size_t>(end_ - begin_)) : std::string_view(); }

 private:
  enum class Kind : uint8_t { kEmpty, kAll, kOne, kDeltas, kBitmap, kGathered, kShort };
  bool EnterBlock(uint32_t block);
  bool Step();                                           // to the next ordinal of the block
  bool DecodeDeltas(uint32_t* out) const;
  bool DecodeBitmap(uint32_t* out) const;

  Kind kind_ = Kind::kEmpty;
  uint32_t count_ = 0, records_ = 0;
  uint32_t one_ = 0;
  const char* skips_ = nullptr;                          // kDeltas: one entry a block, when there is more than one
  const char* begin_ = nullptr;                          // kDeltas: varints; kBitmap: words
  const char* end_ = nullptr;
  uint32_t blocks_ = 0, block_ = kNoOrdinal;
  const char* at_ = nullptr;
  uint32_t left_ = 0, current_ = 0;
  std::span<const uint32_t> gathered_;                   // kGathered: what is left of it
  const uint16_t* short_ = nullptr;                      // kShort
};

}  // namespace orgtrail
