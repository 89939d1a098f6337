// Run: an immutable file of indexed records: which records have which term. docs/formats/history.md
//
// Threads  any (read only)
// Holds    records are sorted newest first, by (event time, leaf, event) descending; a record's position is its ordinal, and
//          every posting list is ascending, so the newest match comes first.
// Fails    Open checks the trailer; Verify every byte. Reading never leaves the file's bounds, whatever the bytes are.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/admit/address_term.h"
#include "aggregator/index/postings.h"
#include "aggregator/index/run_format.h"
#include "common/base/limits.h"
#include "common/fs/map.h"

namespace orgtrail {

enum HistoryFlag : uint16_t {
  kHistoryQuarantined = 1, kHistoryOwn = 2, kHistoryTombstone = 4,
  kHistoryIpv6 = 8, kHistoryAddress = 16,   // the record has a source address, and it is IPv6
};

struct HistoryRecord {   // as it lies in the file
  int64_t time_ns = 0;   // eventTime
  uint64_t leaf = 0;
  uint16_t event = 0;
  uint16_t flags = 0;    // HistoryFlag
  uint32_t address = 0;  // the first 32 bits of the source address, by which many candidates are told apart without a list
};
static_assert(sizeof(HistoryRecord) == 24 && limits::kBatchEvents <= UINT16_MAX);

// Orders records as AddressKey() (admit/address_term.h) orders their addresses' terms; below all of them without one.
inline uint64_t AddressKey(const HistoryRecord& r) { return uint64_t{r.flags} >> 3 << 32 | r.address; }

// Whether a comes before b in answers: newest first.
inline bool Newer(const HistoryRecord& a, const HistoryRecord& b) {
  if (a.time_ns != b.time_ns) return a.time_ns > b.time_ns;
  if (a.leaf != b.leaf) return a.leaf > b.leaf;
  return a.event > b.event;
}

// What the trailer says of the whole run.
struct RunFacts {
  uint32_t level = 0;                         // how often its records were merged
  uint64_t records = 0, terms = 0;
  uint64_t hashes = 0;                        // of the terms: those that are hashes, and come first; the rest are addresses
  int64_t min_time_ns = 0, max_time_ns = 0;   // eventTime
  uint64_t first_leaf = 0, next_leaf = 0;     // every leaf of [first, next) is in this run
  int64_t min_logged_ns = 0, max_logged_ns = 0;
};

class Run {
 public:
  // DataLoss when the file is not whole.
  static absl::StatusOr<std::shared_ptr<const Run>> Open(std::string_view path);
  const RunFacts& facts() const { return facts_; }
  const std::string& path() const { return path_; }
  uint64_t size_bytes() const { return file_->bytes().size(); }
  std::span<const HistoryRecord> records() const { return records_; }
  Postings Find(uint64_t term) const;
  // The ordinals that have any term of a range of address terms, ascending. Nothing when there are more than `most`; finding that out
  // takes work in proportion to `most`.
  std::optional<std::vector<uint32_t>> Gather(TermRange range, size_t most) const;
  // Dictionary entries in ascending order, for merging. A reference is the term's only ordinal with run_format::kInlineBit, or where
  // its list is.
  uint64_t TermAt(uint64_t i) const { return run_format::Load<uint64_t>(EntryAt(i)); }
  uint32_t ReferenceAt(uint64_t i) const { return run_format::Load<uint32_t>(EntryAt(i) + 8); }
  Postings ListOf(uint32_t reference) const;
  Postings PostingsAt(uint64_t i) const { return ListOf(ReferenceAt(i)); }
  absl::Status Verify() const;  // every section's CRC32C

 private:
  Run() = default;
  uint64_t LowerBound(uint64_t term) const;   // the first address term not below it
  const char* EntryAt(uint64_t i) const {
    const char* const part = terms_.data() + run_format::Load<uint64_t>(parts_.data() + i / run_format::kPartTerms * 8);
    return part + i % run_format::kPartTerms * run_format::kEntryBytes;
  }
  std::string path_;
  std::unique_ptr<MappedFile> file_;
  RunFacts facts_;
  std::span<const HistoryRecord> records_;
  std::string_view terms_;                    // lists, and parts of the dictionary
  std::string_view parts_;                    // where in terms_ each part starts
  uint32_t records_crc_ = 0, terms_crc_ = 0, parts_crc_ = 0;
};

}  // namespace orgtrail
