#include "aggregator/index/run.h"

#include <algorithm>
#include <array>
#include <bit>

#include "aggregator/index/ordinals.h"
#include "common/base/status.h"
#include "common/crypto/digest.h"

namespace orgtrail {
namespace {

// A run is read in place by the machine that wrote it and rebuilt elsewhere, so its integers are the machine's.
static_assert(std::endian::native == std::endian::little);

constexpr char kMagic[8] = {'O', 'T', 'H', 'R', 'U', 'N', '0', '1'};
constexpr uint32_t kVersion = 2;
constexpr uint32_t kBlock = 128;                 // ordinals between two skip entries
constexpr uint32_t kBitmapBit = 0x8000'0000u;
constexpr uint32_t kInlineBit = 0x8000'0000u;    // in a dictionary reference: the one ordinal itself
constexpr size_t kEntryBytes = 12;               // u64 term, u32 reference
constexpr size_t kVarintBytes = 5;               // at most
constexpr size_t kFlushBytes = 1 << 20;
constexpr size_t kSpillBytes = 8 << 20;

struct Trailer {
  uint32_t version, level;
  uint64_t records, terms, hashes, postings_bytes;
  int64_t min_time_ns, max_time_ns;
  uint64_t first_leaf, next_leaf;
  int64_t min_logged_ns, max_logged_ns;
  uint32_t records_crc, postings_crc, dictionary_crc, trailer_crc;  // the last over everything before it
  char magic[8];
};
static_assert(sizeof(Trailer) == 112);
constexpr size_t kTrailerCrcOffset = 100;

template <class T>
T Load(const char* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
void Store(std::string& out, T v) {
  out.append(reinterpret_cast<const char*>(&v), sizeof v);
}
// Past what it wrote.
char* PutVarint(char* out, uint32_t v) {
  while (v >= 0x80) {
    *out++ = static_cast<char>(v | 0x80);
    v >>= 7;
  }
  *out++ = static_cast<char>(v);
  return out;
}
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

size_t Padding(uint64_t size, size_t to) { return static_cast<size_t>((to - size % to) % to); }

}  // namespace

Postings Postings::All(uint32_t records) {
  Postings p;
  p.kind_ = records > 0 ? Kind::kAll : Kind::kEmpty;
  p.count_ = p.records_ = records;
  return p;
}

Postings Postings::Of(std::span<const uint32_t> ordinals) {
  Postings p;
  p.kind_ = ordinals.empty() ? Kind::kEmpty : Kind::kGathered;
  p.count_ = static_cast<uint32_t>(ordinals.size());
  p.gathered_ = ordinals;
  return p;
}

bool Postings::EnterBlock(uint32_t block) {
  block_ = block;
  if (skips_ != nullptr) {
    current_ = Load<uint32_t>(skips_ + size_t{block} * 8);
    const uint32_t offset = Load<uint32_t>(skips_ + size_t{block} * 8 + 4);
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
        while (low + step < blocks_ && Load<uint32_t>(skips_ + size_t{low + step} * 8) <= target) {
          low += step;
          step *= 2;
        }
        uint32_t high = std::min(blocks_, low + step);
        while (high - low > 1) {
          const uint32_t mid = low + (high - low) / 2;
          (Load<uint32_t>(skips_ + size_t{mid} * 8) <= target ? low : high) = mid;
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

bool Postings::AppendTo(std::vector<uint32_t>* out) const {
  switch (kind_) {
    case Kind::kEmpty:
      return true;
    case Kind::kAll:
      for (uint32_t o = 0; o < records_; ++o) out->push_back(o);
      return true;
    case Kind::kOne:
      out->push_back(one_);
      return true;
    case Kind::kBitmap: {
      const size_t before = out->size();
      out->resize(before + count_);
      uint32_t n = 0;
      for (uint32_t w = 0; w < (records_ + 31) / 32; ++w) {
        for (uint32_t bits = Load<uint32_t>(begin_ + size_t{w} * 4); bits != 0; bits &= bits - 1) {
          const uint32_t o = w * 32 + static_cast<uint32_t>(std::countr_zero(bits));
          if (o >= records_ || n == count_) {
            out->resize(before + n);
            return false;
          }
          (*out)[before + n++] = o;
        }
      }
      out->resize(before + n);
      return n == count_;
    }
    case Kind::kDeltas: {
      const size_t before = out->size();
      out->resize(before + count_);
      uint32_t* const to = out->data() + before;
      const auto cut = [&](uint32_t n) {
        out->resize(before + n);
        return false;
      };
      const char* at = begin_;
      uint64_t current = 0;
      for (uint32_t i = 0; i < count_; ++i) {
        uint32_t delta;
        if (i % kBlock == 0 && skips_ != nullptr) {
          const uint32_t first = Load<uint32_t>(skips_ + size_t{i / kBlock} * 8);
          if (i > 0 && first <= current) return cut(i);
          current = first;
        } else {  // the varints of all blocks follow one another
          if (at < end_ && static_cast<uint8_t>(*at) < 0x80) {
            delta = static_cast<uint8_t>(*at++);  // nearly all are this short
          } else if (!GetVarint(&at, end_, &delta)) {
            return cut(i);
          }
          if (i > 0 && delta == 0) return cut(i);
          current += delta;
        }
        if (current >= records_) return cut(i);
        to[i] = static_cast<uint32_t>(current);
      }
      return true;
    }
    case Kind::kGathered:
      out->insert(out->end(), gathered_.begin(), gathered_.end());
      return true;
  }
  return false;
}

absl::StatusOr<std::shared_ptr<const Run>> Run::Open(std::string_view path) {
  auto run = std::shared_ptr<Run>(new Run);
  run->path_ = path;
  ASSIGN_OR_RETURN(run->file_, MappedFile::Open(path));
  const std::string_view all = run->file_->bytes();
  const auto damaged = [&](std::string_view why) {
    return absl::DataLossError(ToAbsl("history run " + std::string(path) + ": " + std::string(why) +
                                      "; remove the history directory, it is rebuilt from the ledger"));
  };
  if (all.size() < sizeof kMagic + sizeof(Trailer) || all.substr(0, 8) != std::string_view(kMagic, 8)) {
    return damaged("not a run file");
  }
  const std::string_view tail = all.substr(all.size() - sizeof(Trailer));
  const auto t = Load<Trailer>(tail.data());
  if (std::string_view(t.magic, 8) != std::string_view(kMagic, 8)) return damaged("cut short");
  if (t.trailer_crc != Crc32c(tail.substr(0, kTrailerCrcOffset))) return damaged("trailer checksum differs");
  if (t.version != kVersion) return damaged("of version " + std::to_string(t.version) + ", this release reads " + std::to_string(kVersion));
  const uint64_t room = all.size() - sizeof kMagic - sizeof(Trailer);
  if (t.records == 0 || t.records >= kInlineBit || t.records > room / sizeof(HistoryRecord) ||
      t.terms > room / kEntryBytes || t.hashes > t.terms || t.postings_bytes > room) {
    return damaged("counts do not fit the file");
  }
  const uint64_t records_bytes = t.records * sizeof(HistoryRecord);
  const uint64_t dictionary_bytes = t.terms * kEntryBytes;
  if (records_bytes + t.postings_bytes + dictionary_bytes != room) return damaged("sections do not fill the file");
  run->facts_ = {.level = t.level, .records = t.records, .terms = t.terms, .postings_bytes = t.postings_bytes, .hashes = t.hashes,
                 .min_time_ns = t.min_time_ns, .max_time_ns = t.max_time_ns, .first_leaf = t.first_leaf,
                 .next_leaf = t.next_leaf, .min_logged_ns = t.min_logged_ns, .max_logged_ns = t.max_logged_ns};
  run->records_ = {reinterpret_cast<const HistoryRecord*>(all.data() + sizeof kMagic), static_cast<size_t>(t.records)};
  run->postings_ = all.substr(sizeof kMagic + records_bytes, t.postings_bytes);
  run->dictionary_ = all.substr(sizeof kMagic + records_bytes + t.postings_bytes, dictionary_bytes);
  run->records_crc_ = t.records_crc;
  run->postings_crc_ = t.postings_crc;
  run->dictionary_crc_ = t.dictionary_crc;
  return std::shared_ptr<const Run>(std::move(run));
}

absl::Status Run::Verify() const {
  const std::string_view records(reinterpret_cast<const char*>(records_.data()), records_.size_bytes());
  const char* bad = Crc32c(records) != records_crc_         ? "records"
                    : Crc32c(postings_) != postings_crc_     ? "postings"
                    : Crc32c(dictionary_) != dictionary_crc_ ? "dictionary"
                                                             : nullptr;
  if (bad == nullptr) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("history run ", path_, ": checksum of its ", bad, " differs"));
}

uint64_t Run::TermAt(uint64_t i) const { return Load<uint64_t>(dictionary_.data() + i * kEntryBytes); }

Postings Run::PostingsAt(uint64_t i) const {
  const uint32_t ref = Load<uint32_t>(dictionary_.data() + i * kEntryBytes + 8);
  Postings p;
  p.records_ = static_cast<uint32_t>(facts_.records);
  if (ref & kInlineBit) {
    p.one_ = ref & ~kInlineBit;
    if (p.one_ >= p.records_) return p;
    p.kind_ = Postings::Kind::kOne;
    p.count_ = 1;
    return p;
  }
  const uint64_t offset = uint64_t{ref} * 4;
  if (offset + 4 > postings_.size()) return p;
  const std::string_view list = postings_.substr(offset);
  const uint32_t head = Load<uint32_t>(list.data());
  p.count_ = head & ~kBitmapBit;
  if (p.count_ == 0 || p.count_ > p.records_) return Postings();
  if (head & kBitmapBit) {
    const size_t bytes = size_t{(p.records_ + 31) / 32} * 4;
    if (list.size() < 4 + bytes) return Postings();
    p.begin_ = list.data() + 4;
    p.kind_ = Postings::Kind::kBitmap;
    return p;
  }
  p.blocks_ = (p.count_ + kBlock - 1) / kBlock;
  const size_t skip_bytes = p.blocks_ > 1 ? size_t{p.blocks_} * 8 : 0;
  if (list.size() < 4 + skip_bytes) return Postings();
  p.skips_ = p.blocks_ > 1 ? list.data() + 4 : nullptr;
  p.begin_ = list.data() + 4 + skip_bytes;
  p.end_ = postings_.data() + postings_.size();
  p.kind_ = Postings::Kind::kDeltas;
  return p;
}

uint64_t Run::LowerBound(uint64_t term) const {
  uint64_t low = facts_.hashes, high = facts_.terms;
  while (low < high) {
    const uint64_t mid = low + (high - low) / 2;
    if (TermAt(mid) < term) {
      low = mid + 1;
    } else {
      high = mid;
    }
  }
  return low;
}

Postings Run::Find(uint64_t term) const {
  if ((term & kAddressBit) != 0) {
    const uint64_t at = LowerBound(term);
    return at < facts_.terms && TermAt(at) == term ? PostingsAt(at) : Postings();
  }
  const uint64_t n = facts_.hashes;
  if (n == 0) return Postings();
  // Hashes are spread evenly: start where the term should be and widen until it is enclosed in [low, high).
  const auto guess = std::min<uint64_t>(n - 1, static_cast<uint64_t>((static_cast<unsigned __int128>(term) * n) >> 63));
  uint64_t low = guess, high = guess + 1, step = 16;
  while (low > 0 && TermAt(low) > term) {
    high = low;
    low = low > step ? low - step : 0;
    step *= 2;
  }
  step = 16;
  while (high < n && TermAt(high - 1) < term) {
    low = high - 1;
    high = std::min(n, high + step);
    step *= 2;
  }
  while (low < high) {
    const uint64_t mid = low + (high - low) / 2;
    if (TermAt(mid) < term) {
      low = mid + 1;
    } else {
      high = mid;
    }
  }
  if (low == n || TermAt(low) != term) return Postings();
  return PostingsAt(low);
}

std::optional<std::vector<uint32_t>> Run::Gather(TermRange range, size_t most) const {
  std::vector<uint32_t> all;
  if (range.first > range.last) return all;
  const uint64_t begin = LowerBound(range.first);
  const uint64_t end = range.last == UINT64_MAX ? facts_.terms : LowerBound(range.last + 1);
  if (end - begin > most) return std::nullopt;
  size_t found = 0;
  for (uint64_t i = begin; i < end && found <= most; ++i) found += PostingsAt(i).count();
  if (found > most) return std::nullopt;
  all.reserve(found);
  // Lists of neighbouring terms lie side by side. A damaged one ends early here, and is found when its run is merged.
  for (uint64_t i = begin; i < end; ++i) (void)PostingsAt(i).AppendTo(&all);
  OrdinalSet set(facts_.records);
  set.Begin(all.size());
  set.AddAll(all.size(), [&all](size_t i) { return all[i]; });
  const std::span<const uint32_t> sorted = set.Sorted();
  all.assign(sorted.begin(), sorted.end());
  return all;
}

absl::StatusOr<std::unique_ptr<RunWriter>> RunWriter::Create(Fs& fs, std::string path, uint64_t records) {
  CHECK(records > 0 && records < kInlineBit);
  auto writer = std::unique_ptr<RunWriter>(new RunWriter(fs, std::move(path), records));
  for (const char* suffix : {".tmp", ".terms.tmp"}) {
    if (absl::Status s = fs.Remove(writer->path_ + suffix); !s.ok() && !absl::IsNotFound(s)) return s;
  }
  ASSIGN_OR_RETURN(writer->file_, fs.Open(writer->path_ + ".tmp", OpenMode::kCreateNew));
  writer->buffer_.append(kMagic, sizeof kMagic);
  return writer;
}

RunWriter::~RunWriter() {
  if (file_ != nullptr && !finished_) fs_.Remove(path_ + ".tmp").IgnoreError();  // a leftover is removed at the next start
  if (spill_ != nullptr) fs_.Remove(path_ + ".terms.tmp").IgnoreError();         // likewise
}

absl::Status RunWriter::Flush(size_t at_least) {
  if (buffer_.size() < at_least || buffer_.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(file_->Append(buffer_));
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status RunWriter::SpillDictionary() {
  if (spill_ == nullptr) {
    ASSIGN_OR_RETURN(spill_, fs_.Open(path_ + ".terms.tmp", OpenMode::kCreateNew));
  }
  dictionary_crc_ = Crc32c(dictionary_, dictionary_crc_);
  RETURN_IF_ERROR(spill_->Append(dictionary_));
  spilled_ += dictionary_.size();
  dictionary_.clear();
  return absl::OkStatus();
}

absl::Status RunWriter::AddRecords(std::span<const HistoryRecord> records) {
  CHECK(terms_ == 0 && added_ + records.size() <= records_);
  const std::string_view bytes(reinterpret_cast<const char*>(records.data()), records.size_bytes());
  records_crc_ = Crc32c(bytes, records_crc_);
  buffer_ += bytes;
  added_ += records.size();
  return Flush(kFlushBytes);
}

absl::Status RunWriter::AddTerm(uint64_t term, std::span<const uint32_t> ordinals) {
  CHECK(!ordinals.empty() && added_ == records_);
  ++terms_;
  if ((term & kAddressBit) == 0) ++hashes_;
  Store(dictionary_, term);
  if (ordinals.size() == 1) {
    Store(dictionary_, kInlineBit | ordinals[0]);
  } else {
    if (postings_bytes_ / 4 >= kInlineBit) {
      return absl::ResourceExhaustedError("history run: its posting lists exceed 8 GiB");
    }
    Store(dictionary_, static_cast<uint32_t>(postings_bytes_ / 4));
    const size_t begin = buffer_.size();
    const auto count = static_cast<uint32_t>(ordinals.size());
    if (count >= records_ / 8) {  // from here on a bit a record is smaller than a byte a posting, and found faster
      Store(buffer_, count | kBitmapBit);
      const size_t words = buffer_.size();
      buffer_.resize(words + (records_ + 31) / 32 * 4);
      char* const bits = buffer_.data() + words;
      for (const uint32_t o : ordinals) {  // bit o of little-endian 32-bit words is bit o % 8 of byte o / 8
        bits[o / 8] = static_cast<char>(static_cast<uint8_t>(bits[o / 8]) | (1u << (o % 8)));
      }
    } else {
      Store(buffer_, count);
      const uint32_t blocks = (count + kBlock - 1) / kBlock;
      const size_t skips = buffer_.size();
      if (blocks > 1) buffer_.resize(skips + size_t{blocks} * 8);
      const size_t deltas = buffer_.size();
      for (uint32_t block = 0; block < blocks; ++block) {
        const std::span<const uint32_t> of_block = ordinals.subspan(size_t{block} * kBlock, std::min(kBlock, count - block * kBlock));
        char varints[kBlock * kVarintBytes];
        char* at = varints;
        if (blocks > 1) {
          const uint32_t entry[2] = {of_block[0], static_cast<uint32_t>(buffer_.size() - deltas)};
          std::memcpy(buffer_.data() + skips + size_t{block} * 8, entry, 8);
        } else {
          at = PutVarint(at, of_block[0]);
        }
        for (size_t i = 1; i < of_block.size(); ++i) at = PutVarint(at, of_block[i] - of_block[i - 1]);
        buffer_.append(varints, static_cast<size_t>(at - varints));
      }
      buffer_.append(Padding(buffer_.size() - begin, 4), '\0');
    }
    const std::string_view list = std::string_view(buffer_).substr(begin);
    postings_crc_ = Crc32c(list, postings_crc_);
    postings_bytes_ += list.size();
    RETURN_IF_ERROR(Flush(kFlushBytes));
  }
  return dictionary_.size() < kSpillBytes ? absl::OkStatus() : SpillDictionary();
}

absl::Status RunWriter::Finish(RunFacts facts) {
  CHECK(added_ == records_);
  dictionary_crc_ = Crc32c(dictionary_, dictionary_crc_);
  for (uint64_t at = 0; at < spilled_;) {
    RETURN_IF_ERROR(Flush(0));
    buffer_.resize(static_cast<size_t>(std::min<uint64_t>(kFlushBytes, spilled_ - at)));
    ASSIGN_OR_RETURN(const size_t n, spill_->ReadAt(at, buffer_.data(), buffer_.size()));
    if (n != buffer_.size()) return absl::DataLossError(absl::StrCat(path_, ".terms.tmp is shorter than what was written"));
    at += n;
  }
  buffer_ += dictionary_;
  Trailer t = {.version = kVersion, .level = facts.level, .records = records_, .terms = terms_,
               .hashes = hashes_, .postings_bytes = postings_bytes_, .min_time_ns = facts.min_time_ns, .max_time_ns = facts.max_time_ns,
               .first_leaf = facts.first_leaf, .next_leaf = facts.next_leaf, .min_logged_ns = facts.min_logged_ns,
               .max_logged_ns = facts.max_logged_ns, .records_crc = records_crc_, .postings_crc = postings_crc_,
               .dictionary_crc = dictionary_crc_, .trailer_crc = 0, .magic = {}};
  std::memcpy(t.magic, kMagic, sizeof kMagic);
  t.trailer_crc = Crc32c({reinterpret_cast<const char*>(&t), kTrailerCrcOffset});
  buffer_.append(reinterpret_cast<const char*>(&t), sizeof t);
  RETURN_IF_ERROR(Flush(0));
  RETURN_IF_ERROR(file_->Sync());
  file_.reset();
  finished_ = true;
  return fs_.Rename(path_ + ".tmp", path_, Fsync::kYes);
}

void SortTerms(std::vector<TermAtOrdinal>* terms, std::vector<TermAtOrdinal>* scratch) {
  // Terms are evenly spread hashes. One pass deals them into 256 buckets that fit the cache; two more, within a bucket, order
  // it by the next 16 bits. Each pass keeps the order of equals, so ordinals stay ascending. Few terms then share 24 bits.
  const size_t n = terms->size();
  scratch->resize(n);
  std::array<uint32_t, 257> begin{};
  for (const TermAtOrdinal& t : *terms) ++begin[(t.term >> 56) + 1];
  for (size_t b = 1; b < 257; ++b) begin[b] += begin[b - 1];
  {
    std::array<uint32_t, 256> at;
    std::copy_n(begin.begin(), 256, at.begin());
    for (const TermAtOrdinal& t : *terms) (*scratch)[at[t.term >> 56]++] = t;
  }
  for (size_t b = 0; b < 256; ++b) {
    const std::span<TermAtOrdinal> from(scratch->data() + begin[b], begin[b + 1] - begin[b]);
    TermAtOrdinal* const to = terms->data() + begin[b];
    std::array<uint32_t, 257> low{}, high{};
    for (const TermAtOrdinal& t : from) {
      ++low[((t.term >> 40) & 0xff) + 1];
      ++high[((t.term >> 48) & 0xff) + 1];
    }
    for (size_t i = 1; i < 257; ++i) {
      low[i] += low[i - 1];
      high[i] += high[i - 1];
    }
    for (const TermAtOrdinal& t : from) to[low[(t.term >> 40) & 0xff]++] = t;
    for (size_t i = 0; i < from.size(); ++i) from[high[(to[i].term >> 48) & 0xff]++] = to[i];
  }
  terms->swap(*scratch);
  for (size_t i = 0; i < n;) {
    const uint64_t top = (*terms)[i].term >> 40;
    bool same = true;
    size_t j = i + 1;
    for (; j < n && (*terms)[j].term >> 40 == top; ++j) same &= (*terms)[j].term == (*terms)[i].term;
    if (!same) {
      std::stable_sort(terms->begin() + static_cast<ptrdiff_t>(i), terms->begin() + static_cast<ptrdiff_t>(j),
                       [](const TermAtOrdinal& a, const TermAtOrdinal& b) { return a.term < b.term; });
    }
    i = j;
  }
}

}  // namespace orgtrail
