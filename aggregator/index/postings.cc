#include "aggregator/index/postings.h"

#include <algorithm>
#include <bit>

#include "aggregator/index/run_format.h"

namespace orgtrail {
namespace {

using namespace run_format;

// False past the end or beyond five bytes.
bool GetVarint(const char** at, const char* end, uint32_t* out) {
  uint32_t v = 0;
  for (int shift = 0; shift < 35 && *at < end; shift += 7) {
    const auto b = static_cast<uint8_t>(*(*at)++);
    v |= static_cast<uint32_t>(b & 0x7f) << shift;
    if (b < 0x80) {
      *out = v;
      return true;
    }
  }
  return false;
}

}  // namespace

Postings Postings::All(uint32_t records) {
  Postings p;
  p.kind_ = records > 0 ? Kind::kAll : Kind::kEmpty;
  p.count_ = p.records_ = records;
  return p;
}

Postings Postings::One(uint32_t ordinal, uint32_t records) {
  Postings p;
  if (ordinal >= records) return p;
  p.kind_ = Kind::kOne;
  p.count_ = 1;
  p.records_ = records;
  p.one_ = ordinal;
  return p;
}

Postings Postings::Of(std::span<const uint32_t> ordinals) {
  Postings p;
  p.kind_ = ordinals.empty() ? Kind::kEmpty : Kind::kGathered;
  p.count_ = static_cast<uint32_t>(ordinals.size());
  p.gathered_ = ordinals;
  return p;
}

Postings Postings::Of(std::span<const uint16_t> ordinals) {
  Postings p;
  p.kind_ = ordinals.empty() ? Kind::kEmpty : Kind::kShort;
  p.count_ = static_cast<uint32_t>(ordinals.size());
  p.short_ = ordinals.data();
  return p;
}

Postings Postings::Stored(std::string_view bytes, uint32_t records) {
  if (bytes.size() < 4) return Postings();
  Postings p;
  p.records_ = records;
  const uint32_t head = Load<uint32_t>(bytes.data());
  p.count_ = head & ~kBitmapBit;
  if (p.count_ == 0 || p.count_ > records) return Postings();
  bytes.remove_prefix(4);
  if (head & kBitmapBit) {
    if (bytes.size() < BitmapBytes(records)) return Postings();
    p.begin_ = bytes.data();
    p.end_ = p.begin_ + BitmapBytes(records);
    p.kind_ = Kind::kBitmap;
    return p;
  }
  p.blocks_ = (p.count_ + kBlock - 1) / kBlock;
  const size_t skip_bytes = p.blocks_ > 1 ? p.blocks_ * kSkipBytes : 0;
  if (bytes.size() < skip_bytes) return Postings();
  p.skips_ = p.blocks_ > 1 ? bytes.data() : nullptr;
  p.begin_ = bytes.data() + skip_bytes;
  p.end_ = bytes.data() + bytes.size();
  p.kind_ = Kind::kDeltas;
  return p;
}

bool Postings::EnterBlock(uint32_t block) {
  block_ = block;
  if (skips_ != nullptr) {
    current_ = Load<uint32_t>(skips_ + block * kSkipBytes);
    const uint32_t offset = Load<uint32_t>(skips_ + block * kSkipBytes + 4);
    if (offset > static_cast<size_t>(end_ - begin_)) return false;
    at_ = begin_ + offset;
  } else {
    at_ = begin_;
    if (!GetVarint(&at_, end_, &current_)) return false;
  }
  left_ = (block + 1 == blocks_ ? count_ - block * kBlock : kBlock) - 1;
  return current_ < records_;
}

bool Postings::Step() {
  if (left_ == 0) {
    if (block_ + 1 >= blocks_) return false;
    return EnterBlock(block_ + 1);
  }
  --left_;
  uint32_t delta;
  if (!GetVarint(&at_, end_, &delta) || delta == 0 || delta >= records_ - current_) return false;
  current_ += delta;
  return true;
}

uint32_t Postings::Seek(uint32_t target) {
  switch (kind_) {
    case Kind::kEmpty:
    case Kind::kShort:
      return kNoOrdinal;
    case Kind::kAll:
      return target < records_ ? target : kNoOrdinal;
    case Kind::kOne:
      return target <= one_ ? one_ : kNoOrdinal;
    case Kind::kBitmap: {
      if (target >= records_) return kNoOrdinal;
      const uint32_t words = (records_ + 31) / 32;
      uint32_t w = target / 32;
      uint32_t bits = Load<uint32_t>(begin_ + size_t{w} * 4) & (~0u << (target % 32));
      while (bits == 0) {
        if (++w == words) return kNoOrdinal;
        bits = Load<uint32_t>(begin_ + size_t{w} * 4);
      }
      const uint32_t found = w * 32 + static_cast<uint32_t>(std::countr_zero(bits));
      return found < records_ ? found : kNoOrdinal;
    }
    case Kind::kDeltas: {
      bool alive = true;
      if (block_ == kNoOrdinal) alive = EnterBlock(0);
      if (alive && skips_ != nullptr && current_ < target) {
        // The last block that starts at or before the target: gallop from where we are.
        uint32_t low = block_, step = 1;
        while (low + step < blocks_ && Load<uint32_t>(skips_ + (low + step) * kSkipBytes) <= target) {
          low += step;
          step *= 2;
        }
        uint32_t high = std::min(blocks_, low + step);
        while (high - low > 1) {
          const uint32_t mid = low + (high - low) / 2;
          (Load<uint32_t>(skips_ + mid * kSkipBytes) <= target ? low : high) = mid;
        }
        if (low != block_) alive = EnterBlock(low);
      }
      while (alive && current_ < target) alive = Step();
      if (!alive) kind_ = Kind::kEmpty;
      return alive ? current_ : kNoOrdinal;
    }
    case Kind::kGathered: {
      size_t step = 1;   // gallops: targets are mostly near
      while (step < gathered_.size() && gathered_[step] < target) step *= 2;
      const auto from = gathered_.begin() + static_cast<ptrdiff_t>(step / 2);
      const auto to = gathered_.begin() + static_cast<ptrdiff_t>(std::min(step + 1, gathered_.size()));
      gathered_ = gathered_.subspan(static_cast<size_t>(std::lower_bound(from, to, target) - gathered_.begin()));
      if (gathered_.empty()) kind_ = Kind::kEmpty;
      return gathered_.empty() ? kNoOrdinal : gathered_.front();
    }
  }
  return kNoOrdinal;
}

bool Postings::DecodeDeltas(uint32_t* out) const {
  const char* at = begin_;   // the varints of all blocks follow one another
  uint64_t last = 0;
  for (uint32_t block = 0; block < blocks_; ++block) {
    uint32_t left = std::min(kBlock, count_ - block * kBlock);
    uint32_t first;
    if (skips_ != nullptr) {
      first = Load<uint32_t>(skips_ + block * kSkipBytes);
    } else if (!GetVarint(&at, end_, &first)) {
      return false;
    }
    if (block > 0 && first <= last) return false;
    uint64_t current = first;
    *out++ = first;
    --left;
    bool zero = false;
    // Differences of one and two bytes are nearly all there are: both bytes are read, and how many count is no jump.
    for (; left > 0; --left) {
      uint32_t delta;
      const bool room = end_ - at >= 2;
      const uint32_t low = room ? static_cast<uint8_t>(at[0]) : 0x80, high = room ? static_cast<uint8_t>(at[1]) : 0x80;
      const uint32_t two = low >> 7;
      if ((two & high >> 7) == 0) [[likely]] {
        delta = (low & 0x7f) | (high << 7 & (0u - two));
        at += 1 + two;
      } else if (!GetVarint(&at, end_, &delta)) {
        return false;
      }
      zero |= delta == 0;
      current += delta;
      *out++ = static_cast<uint32_t>(current);
    }
    if (zero || current >= records_) return false;
    last = current;
  }
  return true;
}

bool Postings::DecodeBitmap(uint32_t* out) const {
  uint32_t n = 0;
  for (uint32_t w = 0; w < (records_ + 31) / 32; ++w) {
    uint32_t bits = Load<uint32_t>(begin_ + size_t{w} * 4);
    if (static_cast<uint32_t>(std::popcount(bits)) > count_ - n) return false;
    for (; bits != 0; bits &= bits - 1) out[n++] = w * 32 + static_cast<uint32_t>(std::countr_zero(bits));
  }
  return n == count_ && out[n - 1] < records_;
}

bool Postings::DecodeTo(uint32_t* out) const {
  switch (kind_) {
    case Kind::kEmpty:
      return true;
    case Kind::kAll:
      for (uint32_t o = 0; o < records_; ++o) out[o] = o;
      return true;
    case Kind::kOne:
      *out = one_;
      return true;
    case Kind::kBitmap:
      return DecodeBitmap(out);
    case Kind::kDeltas:
      return DecodeDeltas(out);
    case Kind::kGathered:
      std::copy(gathered_.begin(), gathered_.end(), out);
      return true;
    case Kind::kShort:
      std::copy_n(short_, count_, out);
      return true;
  }
  return false;
}

bool Postings::AppendTo(std::vector<uint32_t>* out) const {
  const size_t before = out->size();
  out->resize(before + count_);
  const bool whole = DecodeTo(out->data() + before);
  if (!whole) out->resize(before);
  return whole;
}

}  // namespace orgtrail
