// Recovery: governance says that the log goes on from an older head, because what came after it is gone. docs/formats/control.md
//
// A signed note of m of the policy's admins. It is the first leaf behind the restored head (OTL1), so everybody who reads the log reads
// it; agents give up a newer head they verified for nothing less.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/crypto/digest.h"
#include "common/format/note.h"

namespace orgtrail {

// Who may declare: the `admins` line of a policy note, orgtrail/policy/v1.
struct GovernanceKeys {
  uint32_t threshold = 0;
  std::vector<NoteKey> admins;
  // FailedPrecondition: the note has no such line, or one that nobody could satisfy.
  static absl::StatusOr<GovernanceKeys> OfPolicy(std::string_view policy_note);
};

struct Recovery {
  std::string origin;
  uint64_t restored_size = 0;    // the log goes on from here
  Hash restored_root;
  uint64_t lost_size = 0;        // the newest head known of the branch that is given up; never less than restored_size
  Hash lost_root;
  int64_t time_ns = 0;           // of the declaration; each is later than the one before

  std::string Text() const;      // of the note, without signatures
  static absl::StatusOr<Recovery> Decode(std::string_view text);
};

// How many of the keys have signed the note's text.
size_t ValidSignatures(std::string_view note, const GovernanceKeys& keys);
// The declaration, when enough of the keys signed it and it is of this log. PermissionDenied: not enough; InvalidArgument: no declaration.
absl::StatusOr<Recovery> OpenRecovery(std::string_view note, const GovernanceKeys& keys, std::string_view origin);

// OTL1: a declaration as logged. The leaf's index is its restored_size.
struct RecoveryLeaf {
  uint64_t wall_ns = 0;
  std::string note;              // at most 8,000 bytes
  std::string Encode() const;
  static absl::StatusOr<RecoveryLeaf> Decode(std::string_view bytes);
};

}  // namespace orgtrail
