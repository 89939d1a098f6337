#include "aggregator/ledger/anchor.h"

#include <utility>

#include "common/base/status.h"

namespace orgtrail {

Anchor::Anchor(std::string dir, Fs& fs) : dir_(std::move(dir)), path_(JoinPath(dir_, "head")), fs_(fs) {}

absl::StatusOr<std::optional<Checkpoint>> Anchor::Load(const std::string& origin, const SigningKey* key) const {
  const absl::StatusOr<std::string> note = ReadFile(fs_, path_, 64 << 10);
  if (absl::IsNotFound(note.status())) return std::optional<Checkpoint>();
  if (!note.ok()) return note.status();
  absl::StatusOr<Checkpoint> checkpoint;
  if (key != nullptr) {
    checkpoint = OpenCheckpoint(*note, NoteKey{origin, 1, key->public_key()});
  } else {
    checkpoint = Checkpoint::Decode(std::string_view(*note).substr(0, note->find("\n\n") + 1));
  }
  if (!checkpoint.ok() || checkpoint->origin != origin) {
    return absl::DataLossError(absl::StrCat(
        "anchor file ", path_, " is no checkpoint of log ", origin,
        checkpoint.ok() ? absl::StrCat(": it names ", checkpoint->origin) : absl::StrCat(": ", Describe(checkpoint.status())),
        ". If the log key or origin was changed by mistake, put the old one back; otherwise compare the file with a checkpoint that an "
        "agent or auditor holds before moving it away"));
  }
  return std::optional<Checkpoint>(*std::move(checkpoint));
}

absl::Status Anchor::Store(const std::string& note) {
  RETURN_IF_ERROR(fs_.MakeDirs(dir_, 0700));
  return WriteFileAtomically(fs_, path_, note);
}

absl::Status RollbackError(const std::string& anchor_path, const std::string& ledger_dir, const Checkpoint& anchored, uint64_t size) {
  std::string what = absl::StrCat("LOG_ROLLBACK the ledger in ", ledger_dir, " has ", size, " leaves, but ", anchor_path, " records ");
  if (anchored.size > size) {
    absl::StrAppend(&what, anchored.size, ": leaves that were signed are missing. ");
  } else {
    absl::StrAppend(&what, "another root at size ", anchored.size, ": this is not the same history. ");
  }
  what +=
      "Nothing is signed. Put the newest copy of the ledger in place; agents then send again what it lacks. Only if that history is "
      "gone for good, keep the anchor file as evidence elsewhere, start without it, and tell those who verify this log";
  return absl::FailedPreconditionError(what);
}

}  // namespace orgtrail
