// The text of a note, and signatures of it that are made elsewhere: on a token, on a machine of the key's owner. In note.cc.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/format/note.h"

namespace orgtrail {

// What is signed of a note: all of it before the empty line in front of the signatures; the whole while there are none.
std::string_view NoteText(std::string_view note);
// The note with one more signature: Ed25519 over NoteText(note), 64 bytes. DataLoss: it is not `key`'s of that text; InvalidArgument: the text
// cannot be a note's.
absl::StatusOr<std::string> AttachSignature(std::string_view note, const NoteKey& key, std::string_view signature);

}  // namespace orgtrail
