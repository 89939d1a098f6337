#include "aggregator/index/run_writer.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/crypto/digest.h"

namespace orgtrail {
namespace {

using namespace run_format;

constexpr size_t kFlushBytes = 256 << 10;   // fits a cache beside what it is made from

// Past what it wrote.
char* PutVarint(char* out, uint32_t v) {
  while (v >= 0x80) {
    *out++ = static_cast<char>(v | 0x80);
    v >>= 7;
  }
  *out++ = static_cast<char>(v);
  return out;
}

// Varints of the differences between neighbours, behind the first. Past what it wrote, or null when they do not ascend.
char* PutDeltas(char* out, std::span<const uint32_t> ordinals) {
  bool ascending = true;
  for (size_t i = 1; i < ordinals.size(); ++i) {
    ascending &= ordinals[i] > ordinals[i - 1];
    const uint32_t delta = ordinals[i] - ordinals[i - 1];
    if (delta < 1 << 14) [[likely]] {   // one or two bytes: both are written, and how many count is no jump
      const uint32_t two = delta >= 0x80;
      out[0] = static_cast<char>((delta & 0x7f) | two << 7);
      out[1] = static_cast<char>(delta >> 7);
      out += 1 + two;
    } else {
      out = PutVarint(out, delta);
    }
  }
  return ascending ? out : nullptr;
}

template <class T>
void Put(char* at, T v) {
  std::memcpy(at, &v, sizeof v);
}

absl::Status OutOfOrder() { return absl::DataLossError("history run: terms or records are out of order"); }

}  // namespace

absl::StatusOr<std::unique_ptr<RunWriter>> RunWriter::Create(Fs& fs, std::string path, uint64_t records) {
  CHECK(records > 0 && records < kInlineBit);
  auto writer = std::unique_ptr<RunWriter>(new RunWriter(fs, std::move(path), records));
  const std::string unfinished = writer->path_ + ".tmp";
  if (absl::Status s = fs.Remove(unfinished); !s.ok() && !absl::IsNotFound(s)) return s;
  ASSIGN_OR_RETURN(writer->file_, fs.Open(unfinished, OpenMode::kCreateNew));
  std::memcpy(writer->Room(sizeof kMagic), kMagic, sizeof kMagic);
  writer->buffered_ = sizeof kMagic;
  writer->part_.resize(kPartTerms * kEntryBytes);
  return writer;
}

RunWriter::~RunWriter() {
  if (file_ != nullptr && !finished_) fs_.Remove(path_ + ".tmp").IgnoreError();  // a leftover is removed at the next start
}

char* RunWriter::Room(size_t bytes) {
  if (buffer_.size() - buffered_ < bytes) buffer_.resize(std::max(buffered_ + bytes, 2 * buffer_.size()));
  return buffer_.data() + buffered_;
}

absl::Status RunWriter::Flush() {
  const std::string_view bytes(buffer_.data(), buffered_);
  if (terms_begun_) terms_crc_ = Crc32c(bytes, terms_crc_);
  buffered_ = 0;
  return file_->Append(bytes);
}

absl::Status RunWriter::AddRecords(std::span<const HistoryRecord> records) {
  CHECK(!terms_begun_ && records.size() <= records_ - added_);
  added_ += records.size();
  while (!records.empty()) {
    const std::span<const HistoryRecord> some = records.first(std::min(records.size(), kFlushBytes / sizeof(HistoryRecord)));
    const std::string_view bytes(reinterpret_cast<const char*>(some.data()), some.size_bytes());
    records_crc_ = Crc32c(bytes, records_crc_);
    std::memcpy(Room(bytes.size()), bytes.data(), bytes.size());
    buffered_ += bytes.size();
    if (buffered_ >= kFlushBytes) RETURN_IF_ERROR(Flush());
    records = records.subspan(some.size());
  }
  return absl::OkStatus();
}

absl::Status RunWriter::BeginTerms() {
  if (terms_begun_) return absl::OkStatus();
  CHECK(added_ == records_);
  RETURN_IF_ERROR(Flush());
  terms_begun_ = true;
  return absl::OkStatus();
}

absl::Status RunWriter::Entry(uint64_t term, uint32_t reference) {
  if (terms_ > 0 && term <= last_term_) [[unlikely]] return OutOfOrder();
  last_term_ = term;
  ++terms_;
  hashes_ += (term & kAddressBit) == 0;
  char* const at = part_.data() + part_bytes_;
  Put(at, term);
  Put(at + 8, reference);
  part_bytes_ += kEntryBytes;
  return part_bytes_ < part_.size() ? absl::OkStatus() : EndPart();
}

absl::Status RunWriter::EndPart() {
  parts_.push_back(terms_bytes_);
  std::memcpy(Room(part_bytes_), part_.data(), part_bytes_);
  return EndList(std::exchange(part_bytes_, 0));
}

absl::StatusOr<uint32_t> RunWriter::BeginList() const {
  if (terms_bytes_ / 4 >= kInlineBit) return absl::ResourceExhaustedError("history run: its terms exceed 8 GiB");
  return static_cast<uint32_t>(terms_bytes_ / 4);
}

absl::Status RunWriter::EndList(size_t bytes) {
  const size_t padding = (4 - bytes % 4) % 4;
  std::memset(Room(bytes + padding) + bytes, 0, padding);
  buffered_ += bytes + padding;
  terms_bytes_ += bytes + padding;
  return buffered_ < kFlushBytes ? absl::OkStatus() : Flush();
}

absl::Status RunWriter::AddTerm(uint64_t term, uint32_t ordinal) {
  RETURN_IF_ERROR(BeginTerms());
  return Entry(term, kInlineBit | ordinal);
}

absl::Status RunWriter::AddTerm(uint64_t term, std::span<const uint32_t> ordinals) {
  CHECK(!ordinals.empty());
  if (ordinals.size() == 1) return AddTerm(term, ordinals[0]);
  const auto count = static_cast<uint32_t>(ordinals.size());
  if (count >= records_ / kDense) {  // from here on a bit a record is smaller than a byte a posting, and found faster
    std::vector<uint64_t> bits((records_ + 63) / 64);
    for (const uint32_t o : ordinals) bits[o / 64] |= uint64_t{1} << (o % 64);
    return AddTerm(term, count, bits);
  }
  RETURN_IF_ERROR(BeginTerms());
  ASSIGN_OR_RETURN(const uint32_t reference, BeginList());
  const uint32_t blocks = (count + kBlock - 1) / kBlock;
  char* const list = Room(4 + blocks * kSkipBytes + (size_t{count} + 1) * kVarintBytes);
  Put(list, count);
  char* skip = list + 4;
  char* const varints = blocks > 1 ? skip + blocks * kSkipBytes : skip;
  char* at = varints;
  for (; !ordinals.empty(); ordinals = ordinals.subspan(std::min<size_t>(kBlock, ordinals.size()))) {
    if (blocks > 1) {
      Put(skip, ordinals[0]);
      Put(skip + 4, static_cast<uint32_t>(at - varints));
      skip += kSkipBytes;
    } else {
      at = PutVarint(at, ordinals[0]);
    }
    at = PutDeltas(at, ordinals.first(std::min<size_t>(kBlock, ordinals.size())));
    if (at == nullptr) return OutOfOrder();
  }
  RETURN_IF_ERROR(EndList(static_cast<size_t>(at - list)));
  return Entry(term, reference);
}

absl::Status RunWriter::AddTerm(uint64_t term, uint32_t count, std::span<const uint64_t> bitmap) {
  CHECK(bitmap.size() == (records_ + 63) / 64);
  RETURN_IF_ERROR(BeginTerms());
  ASSIGN_OR_RETURN(const uint32_t reference, BeginList());
  const size_t bytes = BitmapBytes(records_);
  char* const list = Room(4 + bytes);
  Put(list, count | kBitmapBit);
  std::memcpy(list + 4, bitmap.data(), bytes);   // bit o of little-endian 64-bit words is bit o of 32-bit ones
  RETURN_IF_ERROR(EndList(4 + bytes));
  return Entry(term, reference);
}

absl::Status RunWriter::Finish(RunFacts facts) {
  CHECK(added_ == records_);
  if (part_bytes_ > 0) RETURN_IF_ERROR(EndPart());
  RETURN_IF_ERROR(Flush());
  const std::string_view parts(reinterpret_cast<const char*>(parts_.data()), parts_.size() * sizeof(uint64_t));
  Trailer t = {.version = kVersion, .level = facts.level, .records = records_, .terms = terms_,
               .hashes = hashes_, .terms_bytes = terms_bytes_, .min_time_ns = facts.min_time_ns, .max_time_ns = facts.max_time_ns,
               .first_leaf = facts.first_leaf, .next_leaf = facts.next_leaf, .min_logged_ns = facts.min_logged_ns,
               .max_logged_ns = facts.max_logged_ns, .records_crc = records_crc_, .terms_crc = terms_crc_,
               .parts_crc = Crc32c(parts), .trailer_crc = 0, .magic = {}};
  std::memcpy(t.magic, kMagic, sizeof kMagic);
  t.trailer_crc = Crc32c({reinterpret_cast<const char*>(&t), kTrailerCrcOffset});
  RETURN_IF_ERROR(file_->Append(std::string(parts) + std::string(reinterpret_cast<const char*>(&t), sizeof t)));
  RETURN_IF_ERROR(file_->Sync());
  file_.reset();
  finished_ = true;
  return fs_.Rename(path_ + ".tmp", path_, Fsync::kYes);
}

}  // namespace orgtrail
