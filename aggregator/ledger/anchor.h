// Anchor: the newest checkpoint note in a file outside the ledger's directory (anchor/head). A ledger restored from an older copy,
// or replaced, does not contain it, and refuses to start: signing a second history is what a log must never do.
// Threads: one. The file is the note itself (C2SP checkpoint), replaced atomically.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/crypto/sign.h"
#include "common/format/note.h"
#include "common/format/recovery.h"
#include "common/fs/file.h"

namespace orgtrail {

class Anchor {
 public:
  Anchor(std::string dir, Fs& fs);
  const std::string& path() const { return path_; }
  // Nothing: no file yet. DataLoss: it is no checkpoint of `origin`, or, when `key` is given, not signed by it.
  absl::StatusOr<std::optional<Checkpoint>> Load(const std::string& origin, const SigningKey* key) const;
  absl::Status Store(const std::string& note);  // creates the directory when there is none

 private:
  std::string dir_, path_;
  Fs& fs_;
};

// Whether a declared recovery stands in the place of the anchor: its restored head is what is here, or what is here goes on from it with
// the declaration as its first leaf; and it knows of the anchor's head, if that is of the branch it gives up. FailedPrecondition.
absl::Status CheckRecovery(const Recovery& recovery, const std::optional<Checkpoint>& anchored, const std::string& anchor_path, uint64_t size,
                           const std::function<absl::StatusOr<Hash>(uint64_t)>& root_at,
                           const std::function<absl::StatusOr<std::string>(uint64_t)>& entry_at);
// What a person reads when a ledger with leaves has no anchor beside it.
absl::Status AnchorMissingError(const std::string& anchor_path, const std::string& ledger_dir);

// What a person reads when the log is older than its anchor, or another.
absl::Status RollbackError(const std::string& anchor_path, const std::string& ledger_dir, const Checkpoint& anchored, uint64_t size);

}  // namespace orgtrail
