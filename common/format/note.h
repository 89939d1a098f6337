// Signed notes and checkpoints: C2SP signed-note and tlog-checkpoint, no private variants.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/crypto/digest.h"
#include "common/crypto/sign.h"

namespace orgtrail {

// Note verification key: <name>+<hex key id>+<base64(type || key)>; type 0x01 is Ed25519, 0x04 a timestamped cosignature.
struct NoteKey {
  std::string name;
  uint8_t type = 1;
  PublicKey key{};
  uint32_t Id() const;
  std::string Encode() const;
  static absl::StatusOr<NoteKey> Decode(std::string_view vkey);
};

// Appends "— <name> <base64(id || signature)>\n" to a note whose text ends with a newline and whose signatures, if any, follow
// an empty line. SignNote on bare text adds the empty line.
std::string SignNote(std::string_view text, std::string_view name, const SigningKey& key);
// The text that `key` signed. DataLoss: no valid signature of that key on the note.
absl::StatusOr<std::string_view> OpenNote(std::string_view note, const NoteKey& key);

struct Checkpoint {
  std::string origin;
  uint64_t size = 0;
  Hash root;
  std::string Text() const;                                            // three lines, no extension lines
  static absl::StatusOr<Checkpoint> Decode(std::string_view text);     // text of a note
};
absl::StatusOr<Checkpoint> OpenCheckpoint(std::string_view note, const NoteKey& key);  // origin must equal the key's name

// C2SP tlog-policy as far as this release uses it: lines "log <vkey> [url]", comments, "quorum none"; unknown lines are errors.
struct TrustPolicy {
  std::vector<NoteKey> logs;
  std::string Encode() const;
  static absl::StatusOr<TrustPolicy> Decode(std::string_view text);
};

}  // namespace orgtrail
