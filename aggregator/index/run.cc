#include "aggregator/index/run.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "aggregator/index/ordinals.h"
#include "common/base/status.h"
#include "common/crypto/digest.h"

namespace orgtrail {

using namespace run_format;

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
  if (t.records == 0 || t.records >= kInlineBit || t.records > room / sizeof(HistoryRecord) || t.terms > room / kEntryBytes ||
      t.hashes > t.terms || t.terms_bytes > room) {
    return damaged("counts do not fit the file");
  }
  const uint64_t records_bytes = t.records * sizeof(HistoryRecord);
  const uint64_t parts = (t.terms + kPartTerms - 1) / kPartTerms;
  if (records_bytes + t.terms_bytes + parts * 8 != room) return damaged("sections do not fill the file");
  run->facts_ = {.level = t.level, .records = t.records, .terms = t.terms, .hashes = t.hashes,
                 .min_time_ns = t.min_time_ns, .max_time_ns = t.max_time_ns, .first_leaf = t.first_leaf,
                 .next_leaf = t.next_leaf, .min_logged_ns = t.min_logged_ns, .max_logged_ns = t.max_logged_ns};
  run->records_ = {reinterpret_cast<const HistoryRecord*>(all.data() + sizeof kMagic), static_cast<size_t>(t.records)};
  run->terms_ = all.substr(sizeof kMagic + records_bytes, t.terms_bytes);
  run->parts_ = all.substr(sizeof kMagic + records_bytes + t.terms_bytes, parts * 8);
  for (uint64_t part = 0; part < parts; ++part) {
    const uint64_t bytes = std::min(kPartTerms, t.terms - part * kPartTerms) * kEntryBytes;
    if (bytes > t.terms_bytes || Load<uint64_t>(run->parts_.data() + part * 8) > t.terms_bytes - bytes) {
      return damaged("a part of its dictionary lies elsewhere");
    }
  }
  run->records_crc_ = t.records_crc;
  run->terms_crc_ = t.terms_crc;
  run->parts_crc_ = t.parts_crc;
  return std::shared_ptr<const Run>(std::move(run));
}

absl::Status Run::Verify() const {
  const std::string_view records(reinterpret_cast<const char*>(records_.data()), records_.size_bytes());
  const char* bad = Crc32c(records) != records_crc_ ? "records"
                    : Crc32c(terms_) != terms_crc_  ? "terms"
                    : Crc32c(parts_) != parts_crc_  ? "dictionary"
                                                    : nullptr;
  if (bad == nullptr) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("history run ", path_, ": checksum of its ", bad, " differs"));
}

Postings Run::ListOf(uint32_t reference) const {
  const auto records = static_cast<uint32_t>(facts_.records);
  if ((reference & kInlineBit) != 0) return Postings::One(reference & ~kInlineBit, records);
  const uint64_t offset = uint64_t{reference} * 4;
  return offset < terms_.size() ? Postings::Stored(terms_.substr(offset), records) : Postings();
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
  OrdinalList list(facts_.records);
  list.Begin(found);
  for (uint64_t i = begin; i < end; ++i) {
    const Postings one = PostingsAt(i);
    if (one.DecodeTo(list.Room(one.count()))) list.Add(one.count());   // a damaged one is left out here, and found when its run is merged
  }
  const std::span<const uint32_t> sorted = list.Sorted();
  all.assign(sorted.begin(), sorted.end());
  return all;
}

}  // namespace orgtrail
