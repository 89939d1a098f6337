// OwnJournal: records of reads that the ledger cannot take just now (its disk is full), one JSON text a line, until they are logged.
//
// Path     own agent → [OwnJournal: dir/journal.ndjson] → own agent, when the ledger writes again
// Threads  any.
// Holds    Append returns after the fsync. What was appended is replayed exactly once, however often the process dies: before a
//          piece of it is submitted, dir/journal.replay says which sequence numbers it has; after a crash the ledger's head tells
//          how much of the piece was logged. A record whose batch waited for the disk when it was journalled names that batch:
//          it is left out when the ledger has it.
// Bounds   64 MiB; beyond it Append is ResourceExhausted. 4 MiB of disk are taken in advance: a disk without a free byte does not
//          stop the first thousands of reads.
// Bytes    journal.ndjson: a line is [+epoch:batch_seq, space] and the JSON text. journal.replay: offset, epoch, first sequence
//          number, SHA-256 of the journal's first line, records in the piece; separated by spaces.
#pragma once

#include <cstdint>
#include <functional>
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
  struct Batch {                       // of the own agent's chain
    uint64_t epoch = 0, batch_seq = 0;
  };
  using IsLogged = std::function<bool(const Batch&)>;   // asked of the ledger; the same answer for ever once the batch's process ended

  // What a crash tore off the end is cut: nobody was answered for it. `head` is where the own agent's chain stands in the ledger.
  static absl::StatusOr<std::unique_ptr<OwnJournal>> Open(Fs& fs, std::string dir, const std::optional<AgentHead>& head, IsLogged logged);
  // Takes the room on the disk now. Without it the journal is made when it is needed, if the disk has room then.
  absl::Status Reserve();

  // `waiting`: the batch that holds this record already and waits for the ledger.
  absl::Status Append(std::string_view json, std::optional<Batch> waiting = std::nullopt);
  bool empty() const;
  // The next records to log, at most 500 or 1 MiB; empty at the end, or while a piece is under way. Those whose batch waited when
  // they were journalled must be decided by now: logged, or never.
  absl::StatusOr<std::vector<std::string>> Next();
  // Before the lines of Next are submitted: they got the sequence numbers from `first_seq` on. Not ok: they may be logged twice if
  // the process dies before they are done.
  absl::Status Begin(uint64_t epoch, uint64_t first_seq);
  // They are in the ledger. The files go when nothing is left.
  absl::Status Done();

 private:
  OwnJournal(Fs& fs, std::string dir, IsLogged logged);
  absl::Status Cut();
  absl::Status Recover(const std::optional<AgentHead>& head);
  absl::Status Remove();
  absl::StatusOr<std::string> ReadAt(uint64_t offset, size_t most) const;
  std::string Ident() const;
  std::optional<std::string_view> Due(std::string_view line) const;

  Fs& fs_;
  const IsLogged logged_;
  const std::string path_, mark_;
  mutable std::mutex mu_;
  uint64_t size_ = 0;         // whole, synced lines
  uint64_t done_ = 0;         // logged up to here
  uint64_t piece_end_ = 0;    // of the piece Next gave out; 0: none
  size_t piece_records_ = 0;
  bool reserve_ = false;
  uint64_t reserved_ = 0;     // the file may grow to here without asking the disk
};

}  // namespace orgtrail
