#include "common/format/recovery.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/format/note_text.h"

namespace orgtrail {
namespace {

constexpr std::string_view kLabel = "orgtrail/recovery/v1", kMagic = "OTL1";
constexpr uint8_t kVersion = 1;
constexpr size_t kNoteBytes = 8000, kAdmins = 64;

absl::Status NoDeclaration(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("no declaration of a recovery: ", ToAbsl(what)));
}

std::string HeadLine(std::string_view name, uint64_t size, const Hash& root) {
  return std::string(name) + " " + std::to_string(size) + " " + Base64(root.view()) + "\n";
}

bool ReadHead(absl::string_view line, absl::string_view name, uint64_t* size, Hash* root) {
  const std::vector<absl::string_view> parts = absl::StrSplit(line, ' ');
  if (parts.size() != 3 || parts[0] != name || !absl::SimpleAtoi(parts[1], size)) return false;
  const std::optional<std::string> bytes = Unbase64(ToStd(parts[2]));
  if (!bytes || bytes->size() != 32) return false;
  *root = Hash::From(*bytes);
  return true;
}

}  // namespace

absl::StatusOr<GovernanceKeys> GovernanceKeys::OfPolicy(std::string_view policy_note) {
  const auto bad = [](std::string_view what) { return absl::FailedPreconditionError(absl::StrCat("policy: ", ToAbsl(what))); };
  if (!policy_note.starts_with("orgtrail/policy/v1\n")) return bad("not a note of orgtrail/policy/v1");
  for (absl::string_view line : absl::StrSplit(ToAbsl(policy_note.substr(0, policy_note.find("\n\n"))), '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, ' ');
    if (parts[0] != "admins") continue;
    GovernanceKeys keys;
    if (parts.size() < 3 || parts.size() > 2 + kAdmins || !absl::SimpleAtoi(parts[1], &keys.threshold)) return bad("`admins` is: m KEY KEY …");
    for (size_t i = 2; i < parts.size(); ++i) {
      ASSIGN_OR_RETURN(NoteKey key, NoteKey::Decode(ToStd(parts[i])));
      for (const NoteKey& known : keys.admins) {
        if (known.key == key.key) return bad("`admins` names a key twice");
      }
      keys.admins.push_back(std::move(key));
    }
    if (keys.threshold < 1 || keys.threshold > keys.admins.size()) return bad("`admins` wants more signatures than it names keys, or none");
    return keys;
  }
  return bad("it names no admins");
}

std::string Recovery::Text() const {
  return std::string(kLabel) + "\norigin " + origin + "\n" + HeadLine("restored", restored_size, restored_root) +
         HeadLine("lost", lost_size, lost_root) + "time " + std::to_string(time_ns) + "\n";
}

absl::StatusOr<Recovery> Recovery::Decode(std::string_view text) {
  const std::vector<absl::string_view> lines = absl::StrSplit(ToAbsl(text), '\n');
  if (lines.size() != 6 || lines[0] != ToAbsl(kLabel) || !lines[5].empty()) return NoDeclaration("not the five lines of orgtrail/recovery/v1");
  Recovery r;
  if (lines[1].substr(0, 7) != "origin " || lines[1].size() == 7) return NoDeclaration("its second line is `origin NAME`");
  r.origin = std::string(lines[1].substr(7));
  if (!ReadHead(lines[2], "restored", &r.restored_size, &r.restored_root)) return NoDeclaration("its third line is `restored SIZE ROOT`");
  if (!ReadHead(lines[3], "lost", &r.lost_size, &r.lost_root)) return NoDeclaration("its fourth line is `lost SIZE ROOT`");
  if (lines[4].substr(0, 5) != "time " || !absl::SimpleAtoi(lines[4].substr(5), &r.time_ns)) return NoDeclaration("its fifth line is `time NANOSECONDS`");
  if (r.restored_size == 0 || r.lost_size < r.restored_size || r.time_ns <= 0) return NoDeclaration("its numbers contradict each other");
  return r;
}

size_t ValidSignatures(std::string_view note, const GovernanceKeys& keys) {
  return static_cast<size_t>(std::count_if(keys.admins.begin(), keys.admins.end(), [&](const NoteKey& k) { return OpenNote(note, k).ok(); }));
}

absl::StatusOr<Recovery> OpenRecovery(std::string_view note, const GovernanceKeys& keys, std::string_view origin) {
  if (note.size() > kNoteBytes) return NoDeclaration("longer than 8,000 bytes");
  ASSIGN_OR_RETURN(Recovery r, Recovery::Decode(NoteText(note)));
  if (r.origin != origin) return NoDeclaration("it is of the log " + r.origin + ", not " + std::string(origin));
  if (const size_t valid = ValidSignatures(note, keys); valid < keys.threshold) {
    return absl::PermissionDeniedError(absl::StrCat("the declaration of a recovery carries ", valid, " valid signatures of governance; the policy wants ",
                                                    keys.threshold));
  }
  return r;
}

std::string RecoveryLeaf::Encode() const {
  CHECK(note.size() <= kNoteBytes);
  std::string out(kMagic);
  out += static_cast<char>(kVersion);
  PutU64(out, wall_ns);
  PutU16(out, static_cast<uint16_t>(note.size()));
  return out + note;
}

absl::StatusOr<RecoveryLeaf> RecoveryLeaf::Decode(std::string_view bytes) {
  ByteReader in(bytes);
  const auto malformed = [](std::string_view what) { return absl::InvalidArgumentError(absl::StrCat("FRAME_MALFORMED OTL1: ", ToAbsl(what))); };
  if (in.Bytes(4) != kMagic) return malformed("does not start with its magic");
  const uint8_t version = in.U8();
  if (!in.ok()) return malformed("cut short");
  if (version != kVersion) return absl::InvalidArgumentError(absl::StrCat("VERSION_UNKNOWN OTL1 version ", version));
  RecoveryLeaf leaf;
  leaf.wall_ns = in.U64();
  leaf.note = std::string(in.Bytes(in.U16()));
  if (!in.Done()) return malformed("cut short, or bytes behind its end");
  if (leaf.note.empty() || leaf.note.size() > kNoteBytes) return absl::InvalidArgumentError("BOUNDS OTL1: its note is of 1 to 8,000 bytes");
  return leaf;
}

}  // namespace orgtrail
