#include "common/format/note.h"

#include <array>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/format/note_text.h"

namespace orgtrail {
namespace {

constexpr uint8_t kEd25519 = 0x01;
constexpr uint8_t kCosignature = 0x04;
constexpr std::string_view kDash = "\xE2\x80\x94 ";  // U+2014, space
constexpr size_t kNoteBytes = 64 << 10;
constexpr size_t kSignatures = 100;
constexpr size_t kPolicyBytes = 256 << 10;
constexpr size_t kSignatureBytes = 64;

absl::Status Invalid(std::string_view what) { return absl::InvalidArgumentError(ToAbsl(what)); }

// A key name: not empty, without spaces and plus signs; ASCII, which is what origins are made of.
bool IsKeyName(std::string_view name) {
  if (name.empty() || name.size() > 255) return false;
  for (char c : name) {
    if (c <= ' ' || c > '~' || c == '+') return false;
  }
  return true;
}

bool IsNoteText(std::string_view text) {
  if (text.empty() || text.back() != '\n') return false;
  for (char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n') return false;
  }
  return true;
}

// Where text ends and signatures begin: behind the last empty line, whose newline belongs to neither.
struct Split {
  std::string_view text, signatures;
};
std::optional<Split> SplitNote(std::string_view note) {
  if (note.size() > kNoteBytes) return std::nullopt;
  const size_t gap = note.rfind("\n\n");
  if (gap == std::string_view::npos) return std::nullopt;
  Split split{note.substr(0, gap + 1), note.substr(gap + 2)};
  if (!IsNoteText(split.text) || !split.signatures.starts_with(kDash) || split.signatures.back() != '\n') return std::nullopt;
  return split;
}

struct SignatureLine {
  std::string_view name;
  std::string bytes;  // key id, then the signature
};
absl::StatusOr<std::vector<SignatureLine>> ReadSignatures(std::string_view lines) {
  std::vector<SignatureLine> out;
  while (!lines.empty()) {
    if (out.size() == kSignatures) return Invalid("note has more than 100 signatures");
    const size_t end = lines.find('\n');
    std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end + 1);
    if (!line.starts_with(kDash)) return Invalid("note: a signature line does not start with an em dash");
    line.remove_prefix(kDash.size());
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || !IsKeyName(line.substr(0, space))) {
      return Invalid("note: a signature line has no key name");
    }
    std::optional<std::string> bytes = Unbase64(line.substr(space + 1));
    if (!bytes || bytes->size() <= 4) return Invalid("note: a signature is not base64");
    out.push_back({line.substr(0, space), std::move(*bytes)});
  }
  return out;
}

std::string SignatureText(const NoteKey& key, std::string_view signature) {
  std::string bytes;
  PutU32(bytes, key.Id());
  bytes += signature;
  return std::string(kDash) + key.name + " " + Base64(bytes) + "\n";
}

absl::Status VerifyLine(const NoteKey& key, std::string_view text, std::string_view signature) {
  if (key.type == kEd25519) return VerifySignature(key.key, "", text, signature);
  // Timestamped cosignature: u64 seconds, then Ed25519 over a header and the text.
  if (signature.size() != 8 + kSignatureBytes) return absl::DataLossError("cosignature has the wrong length");
  const std::string message =
      absl::StrCat("cosignature/v1\ntime ", GetU64(signature.data()), "\n", ToAbsl(text));
  return VerifySignature(key.key, "", message, signature.substr(8));
}

std::string_view TakeLine(std::string_view& text) {
  const size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

}  // namespace

uint32_t NoteKey::Id() const {
  const char type_byte = static_cast<char>(type);
  return GetU32(Sha256({name, "\n", std::string_view(&type_byte, 1), View(key)}).bytes.data());
}

std::string NoteKey::Encode() const {
  std::string id;
  PutU32(id, Id());
  return name + "+" + Hex(id) + "+" + Base64(std::string(1, static_cast<char>(type)) + std::string(View(key)));
}

absl::StatusOr<NoteKey> NoteKey::Decode(std::string_view vkey) {
  const size_t first = vkey.find('+');
  const size_t second = first == std::string_view::npos ? first : vkey.find('+', first + 1);
  if (second == std::string_view::npos) return Invalid("verification key is not of the form NAME+HASH+KEY");
  NoteKey key;
  key.name = std::string(vkey.substr(0, first));
  if (!IsKeyName(key.name)) return Invalid("verification key has no valid name");
  const std::optional<std::string> raw = Unbase64(vkey.substr(second + 1));
  if (!raw || raw->size() != 33) return Invalid("verification key: the part behind the second + is not 33 bytes of base64");
  key.type = static_cast<uint8_t>((*raw)[0]);
  if (key.type != kEd25519 && key.type != kCosignature) {
    return absl::InvalidArgumentError(absl::StrCat("verification key of type ", key.type, "; 1 and 4 (Ed25519) are known"));
  }
  ASSIGN_OR_RETURN(key.key, ParsePublicKey(std::string_view(*raw).substr(1)));
  if (key.Encode() != vkey) return Invalid("verification key: the hash in the middle is not that of name and key");
  return key;
}

std::string_view NoteText(std::string_view note) {
  const std::optional<Split> split = SplitNote(note);
  return split ? split->text : note;
}

std::string SignNote(std::string_view text, std::string_view name, const SigningKey& key) {
  CHECK(IsKeyName(name));
  const std::optional<Split> split = SplitNote(text);
  CHECK(split || IsNoteText(text));
  const NoteKey note_key{std::string(name), kEd25519, key.public_key()};
  return std::string(text) + (split ? "" : "\n") + SignatureText(note_key, View(key.Sign("", split ? split->text : text)));
}

absl::StatusOr<std::string> AttachSignature(std::string_view note, const NoteKey& key, std::string_view signature) {
  const std::optional<Split> split = SplitNote(note);
  if (!split && !IsNoteText(note)) return Invalid("not a note: lines of text are expected, then, if it is signed, an empty line and signature lines");
  RETURN_IF_ERROR(VerifySignature(key.key, "", split ? split->text : note, signature));
  return std::string(note) + (split ? "" : "\n") + SignatureText(key, signature);
}

absl::StatusOr<std::string_view> OpenNote(std::string_view note, const NoteKey& key) {
  const std::optional<Split> split = SplitNote(note);
  if (!split) return Invalid("not a signed note: text, an empty line and signature lines are expected");
  ASSIGN_OR_RETURN(std::vector<SignatureLine> lines, ReadSignatures(split->signatures));
  std::string id;
  PutU32(id, key.Id());
  for (const SignatureLine& line : lines) {
    if (line.name != key.name || !line.bytes.starts_with(id)) continue;
    if (!VerifyLine(key, split->text, std::string_view(line.bytes).substr(4)).ok()) {
      return absl::DataLossError(absl::StrCat("note: the signature by ", key.name, " does not match its text"));
    }
    return split->text;
  }
  return absl::DataLossError(absl::StrCat("note: no signature by ", key.name, "+", Hex(id)));
}

std::string Checkpoint::Text() const {
  return origin + "\n" + std::to_string(size) + "\n" + Base64(root.view()) + "\n";
}

absl::StatusOr<Checkpoint> Checkpoint::Decode(std::string_view text) {
  if (!IsNoteText(text)) return Invalid("checkpoint: not lines of text");
  Checkpoint checkpoint;
  checkpoint.origin = std::string(TakeLine(text));
  const std::string_view size = TakeLine(text);
  const std::optional<std::string> root = Unbase64(TakeLine(text));
  if (!IsKeyName(checkpoint.origin)) return Invalid("checkpoint: the first line is not an origin");
  const std::optional<uint64_t> parsed = ParseUint(size);
  if (!parsed || std::to_string(*parsed) != size) return Invalid("checkpoint: the second line is not a size");
  if (!root || root->size() != 32) return Invalid("checkpoint: the third line is not a root hash in base64");
  if (!text.empty()) return Invalid("checkpoint: more than three lines");
  checkpoint.size = *parsed;
  checkpoint.root = Hash::From(*root);
  return checkpoint;
}

absl::StatusOr<Checkpoint> OpenCheckpoint(std::string_view note, const NoteKey& key) {
  ASSIGN_OR_RETURN(std::string_view text, OpenNote(note, key));
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Decode(text));
  if (checkpoint.origin != key.name) {
    return absl::DataLossError(absl::StrCat("checkpoint of ", checkpoint.origin, " signed by the key of ", key.name));
  }
  return checkpoint;
}

std::string TrustPolicy::Encode() const {
  std::string out;
  for (const NoteKey& log : logs) out += "log " + log.Encode() + "\n";
  return out + "quorum none\n";
}

absl::StatusOr<TrustPolicy> TrustPolicy::Decode(std::string_view text) {
  if (text.size() > kPolicyBytes) return Invalid("trust policy is larger than 256 KiB");
  TrustPolicy policy;
  bool quorum = false;
  for (int number = 1; !text.empty(); ++number) {
    std::string_view rest = TakeLine(text);
    std::array<std::string_view, 3> words;  // every known line has at most three
    size_t n = 0;
    bool more = false;
    for (;;) {
      const size_t begin = rest.find_first_not_of(" \t");
      if (begin == std::string_view::npos) break;
      rest.remove_prefix(begin);
      const std::string_view word = rest.substr(0, rest.find_first_of(" \t"));
      if (n == 0 && word.starts_with('#')) break;
      if (n == words.size()) {
        more = true;
        break;
      }
      words[n++] = word;
      rest.remove_prefix(word.size());
    }
    if (n == 0) continue;
    const std::string where = absl::StrCat("trust policy line ", number);
    if (words[0] == "log" && n >= 2 && !more) {
      absl::StatusOr<NoteKey> key = NoteKey::Decode(words[1]);
      if (!key.ok()) return Annotate(key.status(), where);
      if (key->type != kEd25519) return Invalid(where + ": a log's key is of type 1");
      for (const NoteKey& other : policy.logs) {
        if (other.key == key->key) return Invalid(where + ": the same key is listed twice");
      }
      policy.logs.push_back(*std::move(key));
    } else if (words[0] == "quorum" && n == 2 && words[1] == "none" && !quorum) {
      quorum = true;
    } else {
      return Invalid(where + ": expected 'log VKEY [URL]' or one 'quorum none'");
    }
  }
  if (!quorum) return Invalid("trust policy: add a line 'quorum none'");
  return policy;
}

}  // namespace orgtrail
