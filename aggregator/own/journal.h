// OwnJournal: records of reads that the ledger cannot take just now (its disk is full), one JSON text a line, until they are logged.
//
// Path     own agent → [OwnJournal: dir/journal.ndjson] → own agent, when the ledger writes again
// Threads  any.
// Holds    Append returns after the fsync. What was appended is replayed exactly once, however often the process dies: before a
//          piece of it is submitted, dir/journal.replay says which sequence numbers it has; after a crash the ledger's head tells
//          how much of the piece was logged.
// Bounds   64 MiB; beyond it Append is ResourceExhausted.
// Bytes    journal.replay: offset, epoch, first sequence number, SHA-256 of the journal's first line; separated by spaces.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/ledger/reader.h"
#include "common/fs/file.h"

namespace orgtrail {

class OwnJournal {
 public:
  // What a crash tore off the end is cut: nobody was answered for it. `head` is where the own agent's chain stands in the ledger.
  static absl::StatusOr<std::unique_ptr<OwnJournal>> Open(Fs& fs, std::string dir, const std::optional<AgentHead>& head);

  absl::Status Append(std::string_view json);
  bool empty() const;
  // The next lines to log, at most 500 or 1 MiB; empty at the end, or while a piece is under way.
  absl::StatusOr<std::vector<std::string>> Next();
  // Before the lines of Next are submitted: they got the sequence numbers from `first_seq` on. Not ok: they may be logged twice if
  // the process dies before they are done.
  absl::Status Begin(uint64_t epoch, uint64_t first_seq);
  // They are in the ledger. The files go when nothing is left.
  absl::Status Done();

 private:
  OwnJournal(Fs& fs, std::string dir);
  absl::Status Cut();
  absl::Status Recover(const std::optional<AgentHead>& head);
  absl::Status Remove();
  absl::StatusOr<std::string> ReadAt(uint64_t offset, size_t most) const;
  std::string Ident() const;

  Fs& fs_;
  const std::string path_, mark_;
  mutable std::mutex mu_;
  uint64_t size_ = 0;         // whole, synced lines
  uint64_t done_ = 0;         // logged up to here
  uint64_t piece_end_ = 0;    // of the piece Next gave out; 0: none
};

}  // namespace orgtrail
