// Run: an immutable file of indexed records: which records have which term. docs/formats/history.md
//
// Threads  Run: any (read only). RunWriter: one.
// Holds    records are sorted newest first, by (event time, leaf, event) descending; a record's position is its ordinal, and
//          every posting list is ascending, so the newest match comes first.
// Fails    Open checks the trailer; Verify every byte. Reading never leaves the file's bounds, whatever the bytes are.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/admit/address_term.h"
#include "common/base/limits.h"
#include "common/fs/file.h"
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

inline constexpr uint32_t kNoOrdinal = UINT32_MAX;

// What the trailer says of the whole run.
struct RunFacts {
  uint32_t level = 0;                         // how often its records were merged
  uint64_t records = 0, terms = 0, postings_bytes = 0;
  uint64_t hashes = 0;                        // of the terms: those that are hashes, and come first; the rest are addresses
  int64_t min_time_ns = 0, max_time_ns = 0;   // eventTime
  uint64_t first_leaf = 0, next_leaf = 0;     // every leaf of [first, next) is in this run
  int64_t min_logged_ns = 0, max_logged_ns = 0;
};

class Run;

// The ascending ordinals of one term, read in place.
class Postings {
 public:
  Postings() = default;                                  // empty
  static Postings All(uint32_t records);                 // every ordinal
  static Postings Of(std::span<const uint32_t> ordinals);  // these, ascending and borrowed
  uint32_t count() const { return count_; }
  // The first ordinal >= target, kNoOrdinal when there is none. Targets never decrease from call to call.
  uint32_t Seek(uint32_t target);
  // All ordinals, in one go; instead of Seek, not after it. False when the list is damaged; what came before stays appended.
  bool AppendTo(std::vector<uint32_t>* out) const;

 private:
  friend class Run;
  enum class Kind : uint8_t { kEmpty, kAll, kOne, kDeltas, kBitmap, kGathered };
  bool EnterBlock(uint32_t block);
  bool Step();                                           // to the next ordinal of the block

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
  // Dictionary entries in ascending order, for merging.
  uint64_t TermAt(uint64_t i) const;
  Postings PostingsAt(uint64_t i) const;
  absl::Status Verify() const;  // every section's CRC32C

 private:
  Run() = default;
  uint64_t LowerBound(uint64_t term) const;   // the first address term not below it
  std::string path_;
  std::unique_ptr<MappedFile> file_;
  RunFacts facts_;
  std::span<const HistoryRecord> records_;
  std::string_view postings_, dictionary_;
  uint32_t records_crc_ = 0, postings_crc_ = 0, dictionary_crc_ = 0;
};

// Writes one run front to back: all records, then all terms, then Finish. Nothing is visible under `path` before Finish.
class RunWriter {
 public:
  static absl::StatusOr<std::unique_ptr<RunWriter>> Create(Fs& fs, std::string path, uint64_t records);
  ~RunWriter();                                                              // removes what was not finished
  absl::Status AddRecords(std::span<const HistoryRecord> records);           // newest first
  // Terms ascending, ordinals ascending and not empty.
  absl::Status AddTerm(uint64_t term, std::span<const uint32_t> ordinals);
  // fsync, rename, fsync of the directory. `facts` without the counts, which are known here.
  absl::Status Finish(RunFacts facts);

 private:
  RunWriter(Fs& fs, std::string path, uint64_t records) : fs_(fs), path_(std::move(path)), records_(records) {}
  absl::Status Flush(size_t at_least);
  absl::Status SpillDictionary();

  Fs& fs_;
  const std::string path_;
  const uint64_t records_;
  std::unique_ptr<File> file_, spill_;
  std::string buffer_, dictionary_;
  uint64_t added_ = 0, terms_ = 0, hashes_ = 0, postings_bytes_ = 0, spilled_ = 0;
  uint32_t records_crc_ = 0, postings_crc_ = 0, dictionary_crc_ = 0;
  bool finished_ = false;
};

// One occurrence of a term while a run is being built.
struct TermAtOrdinal {
  uint64_t term = 0;
  uint32_t ordinal = 0;
};
// Sorts by (term, ordinal); the input is ascending in ordinal. `scratch` is resized as needed.
void SortTerms(std::vector<TermAtOrdinal>* terms, std::vector<TermAtOrdinal>* scratch);

}  // namespace orgtrail
