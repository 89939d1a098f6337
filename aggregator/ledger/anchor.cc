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

absl::Status CheckRecovery(const Recovery& recovery, const std::optional<Checkpoint>& anchored, const std::string& anchor_path, uint64_t size,
                           const std::function<absl::StatusOr<Hash>(uint64_t)>& root_at,
                           const std::function<absl::StatusOr<std::string>(uint64_t)>& entry_at) {
  const auto refuse = [](const std::string& why) {
    return absl::FailedPreconditionError(why + ": declare one for this ledger (orgtrail recovery declare)");
  };
  if (recovery.restored_size > size) {
    return refuse(absl::StrCat("the declared recovery is of ", recovery.restored_size, " leaves, the ledger has ", size));
  }
  ASSIGN_OR_RETURN(const Hash root, root_at(recovery.restored_size));
  if (root != recovery.restored_root) return refuse("the declared recovery is of another history than this ledger's");
  if (recovery.restored_size < size) {   // logged, if this is where it was; the process ended before the anchor followed
    ASSIGN_OR_RETURN(const std::string entry, entry_at(recovery.restored_size));
    const absl::StatusOr<RecoveryLeaf> leaf = RecoveryLeaf::Decode(entry);
    if (!leaf.ok() || !leaf->note.starts_with(recovery.Text())) {
      return refuse(absl::StrCat("the declared recovery is of ", recovery.restored_size, " leaves, and other leaves follow them"));
    }
  }
  if (!anchored.has_value()) return absl::OkStatus();
  if (anchored->size <= size) {
    ASSIGN_OR_RETURN(const Hash at_anchor, root_at(anchored->size));
    if (at_anchor == anchored->root) return absl::OkStatus();
  }
  if (anchored->size < recovery.lost_size || (anchored->size == recovery.lost_size && anchored->root == recovery.lost_root)) return absl::OkStatus();
  return refuse(absl::StrCat("the declared recovery gives up a branch of ", recovery.lost_size, " leaves, but ", anchor_path, " records ",
                             anchored->size, " of another; with --lost ", anchor_path));
}

absl::Status AnchorMissingError(const std::string& anchor_path, const std::string& ledger_dir) {
  return absl::FailedPreconditionError(absl::StrCat(
      "ANCHOR_MISSING there are leaves in ", ledger_dir, " and no ", anchor_path, " to say whether they are all: an older copy would look the same. "
      "Nothing is signed. Put the file back, or let governance declare that the log goes on from here (orgtrail recovery declare)"));
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
      "gone for good, let governance declare that the log goes on from here (orgtrail recovery declare), and tell those who verify it";
  return absl::FailedPreconditionError(what);
}

}  // namespace orgtrail
