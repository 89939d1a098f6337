// Anchor: the newest checkpoint note in a file outside the ledger's directory (anchor/head). A ledger restored from an older copy,
// or replaced, does not contain it, and refuses to start: signing a second history is what a log must never do.
// Threads: one. The file is the note itself (C2SP checkpoint), replaced atomically.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/crypto/sign.h"
#include "common/format/note.h"
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

// What a person reads when the log is older than its anchor, or another.
absl::Status RollbackError(const std::string& anchor_path, const std::string& ledger_dir, const Checkpoint& anchored, uint64_t size);

}  // namespace orgtrail
