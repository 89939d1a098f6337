// Spool: the agent's only state, an LMDB environment. Batches wait here from fsync to receipt; never evicts what was not acked.
//
// Path     sealer → [Spool] ⇐ uplink
// Threads  Append: the recorder's thread. Acked, SetPin, Repair: the uplink's; writers serialise inside. Reads: any.
// Fails    ResourceExhausted: the map or disk is full; nothing of that transaction was stored. Anything else from Append:
//          the caller ends the process, recovery looks.
// Bytes    docs/formats/spool.md
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/capture/source.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/fs/file.h"
#include "common/lmdb/env.h"
#include "common/seal/sealer.h"

namespace orgtrail {

struct BatchKey {
  uint64_t epoch = 0, batch_seq = 0;
  auto operator<=>(const BatchKey&) const = default;
};
std::string Name(BatchKey key);   // "epoch 3 batch 17"

// What the previous run left: the tail of the chain, for OTO1's `previous`.
struct SpoolTail {
  uint64_t epoch = 0, batch_seq = 0, last_seq = 0;   // epoch 0: a fresh spool
  Hash leaf;
  bool closed = false;                                // its last batch is an epoch_close
  bool retired = false;
};

// What the signature of a batch covers, kept a second time apart from its frame: when the disk damages the frame, the batch can
// still take its place in the log, without its bodies.
struct SignedEntry {
  std::string entry, extension;
};

// The epoch that `opened` begins goes on from `after`: what the spool has strictly between the two is never sent.
struct Branch {
  BatchKey after, opened;
  bool Holds(BatchKey key) const { return after < key && key < opened; }
  auto operator<=>(const Branch&) const = default;
};

struct Pin {                  // the newest head this agent verified of its log, and the policy it follows
  std::string origin, log_vkey, note;
  uint64_t size = 0;
  Hash root;
  std::string policy, policy_body;
  uint64_t policy_version = 0;
  Hash policy_hash;
  int64_t recovered_ns = 0;  // time of the newest recovery of the log that this agent was shown; 0: none
};

struct SpoolOptions {
  uint64_t max_bytes = 0;              // 0: min(8 GiB, 10 % of the disk)
  double min_free = 0.10;              // of the disk: below it, Append refuses
  absl::Duration keep_acked = absl::Hours(24);
};

struct SpoolFacts {
  uint64_t unacked_batches = 0, unacked_bytes = 0, used_bytes = 0, max_bytes = 0;
  absl::Time oldest_unacked;           // InfiniteFuture when none
  BatchKey acked_through;
  bool pressure = false;               // over 80 % of max_bytes
};

class Spool {
 public:
  static absl::StatusOr<std::unique_ptr<Spool>> Open(std::string_view dir, const SpoolOptions& options, Fs& fs,
                                                     const Clock& clock);
  ~Spool();

  // How long the end of each transaction takes: pages written and flushed to the disk. Called on whatever thread commits; set before
  // there are any.
  void OnFsync(std::function<void(absl::Duration)> took);

  SpoolTail tail() const;              // as of Open
  // One transaction: batches, file positions and idempotent replies; fsynced when it returns ok.
  struct Commit {
    std::vector<const SealedBatch*> batches;
    std::vector<FilePosition> positions;
    std::vector<std::pair<std::string, std::string>> replies;   // idempotency key → reply
  };
  absl::Status Append(const Commit& commit);

  // The first batch after `after` in (epoch, batch_seq) order, acked or not; nullopt at the end. DataLoss names a batch whose
  // CRC differs (the uplink then mends it).
  absl::StatusOr<std::optional<std::pair<BatchKey, std::string>>> Next(BatchKey after) const;
  absl::StatusOr<std::string> Read(BatchKey key) const;                 // NotFound when pruned or never there; DataLoss: CRC
  // For the repair of what Next calls DataLoss: the key it met, and the frame as the disk gives it, right or wrong.
  std::optional<BatchKey> KeyAfter(BatchKey after) const;
  absl::StatusOr<std::string> ReadUnchecked(BatchKey key) const;
  absl::StatusOr<SignedEntry> ReadEntry(BatchKey key) const;            // the copy. NotFound; DataLoss: CRC
  // Waits until something after `after` exists, or Wake, or the time is over. One thread waits.
  bool WaitBeyond(BatchKey after, absl::Duration limit) const;
  void Wake();                                                          // ends the wait under way, else the next one

  // Receipts verified up to here; moves the pin with it. Known at once, written with the next Append or when the spool is closed: an
  // append that quotes the pin is never on disk without it, and what a crash forgets is sent again and answered as a repeat.
  absl::Status Acked(BatchKey through, const Pin& pin);
  absl::StatusOr<Pin> pin() const;                                      // empty origin: none yet
  absl::Status SetPin(const Pin& pin);
  // What is never sent, in order; fsynced when it returns ok. Those of which nothing is left here are forgotten.
  std::vector<Branch> branches() const;
  absl::Status SetBranches(std::vector<Branch> branches);
  // Stores a repaired frame (whole again, or without the bodies the disk corrupted) under its key.
  absl::Status Repair(BatchKey key, std::string_view frame);
  // Evidence files: EVIDENCE of a forked log or a dropped leaf, kept under dir/evidence/, never pruned. Returns the path.
  absl::StatusOr<std::string> KeepEvidence(std::string_view name, std::string_view content);

  absl::StatusOr<std::vector<FilePosition>> Positions() const;
  absl::StatusOr<std::string> Reply(std::string_view idempotency_key) const;
  SpoolFacts Facts() const;            // from memory: cheap
  // DataLoss when the directory or its data file is no longer the one that was opened (deleted or replaced while running):
  // what is appended then reaches nobody. Also a commit's error, when it was another than want of space: what reached the disk is
  // known only after opening it anew, and until then nothing more is written. Ask every few seconds; the answer is to end, and to
  // start on a new epoch.
  absl::Status CheckAlive() const;
  const std::string& dir() const;
  // How many commits behind the newest the oldest open read of the spool's file is, whichever process reads: pages that were freed since
  // cannot be used again, so the file grows. Who died reading counts no more.
  uint64_t OldestReaderTxns() const;

 private:
  Spool();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace orgtrail
