// RunWriter: writes one run front to back: all records, then all terms, then Finish. Nothing is visible under its path before Finish.
// Threads: one. Memory: some 2 MiB and the longest list, whatever the run holds. docs/formats/history.md
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/index/run.h"
#include "common/fs/file.h"

namespace orgtrail {

class RunWriter {
 public:
  static absl::StatusOr<std::unique_ptr<RunWriter>> Create(Fs& fs, std::string path, uint64_t records);
  ~RunWriter();                                                              // removes what was not finished
  uint64_t records() const { return records_; }
  absl::Status AddRecords(std::span<const HistoryRecord> records);           // newest first
  // Terms ascending, ordinals ascending and not empty. DataLoss when they are not: they come from files.
  absl::Status AddTerm(uint64_t term, std::span<const uint32_t> ordinals);
  absl::Status AddTerm(uint64_t term, uint32_t ordinal);                     // its only one
  // Bit o % 64 of word o / 64 for each of `count` ordinals, which are at least records() / run_format::kDense.
  absl::Status AddTerm(uint64_t term, uint32_t count, std::span<const uint64_t> bitmap);
  // fsync, rename, fsync of the directory. `facts` without the counts, which are known here.
  absl::Status Finish(RunFacts facts);

 private:
  RunWriter(Fs& fs, std::string path, uint64_t records) : fs_(fs), path_(std::move(path)), records_(records) {}
  char* Room(size_t bytes);                     // at the end of what is buffered
  absl::Status BeginTerms();
  absl::Status Entry(uint64_t term, uint32_t reference);
  absl::StatusOr<uint32_t> BeginList() const;   // its reference
  absl::Status EndList(size_t bytes);
  absl::Status EndPart();
  absl::Status Flush();

  Fs& fs_;
  const std::string path_;
  const uint64_t records_;
  std::unique_ptr<File> file_;
  std::vector<char> buffer_;                    // its size is room; the first buffered_ bytes are to be written
  size_t buffered_ = 0;
  std::vector<char> part_;                      // of the dictionary; likewise
  size_t part_bytes_ = 0;
  std::vector<uint64_t> parts_;                 // where each began
  uint64_t added_ = 0, terms_ = 0, hashes_ = 0, last_term_ = 0;
  uint64_t terms_bytes_ = 0;                    // of lists and parts, buffered ones included
  uint32_t records_crc_ = 0, terms_crc_ = 0;
  bool terms_begun_ = false, finished_ = false;
};

}  // namespace orgtrail
