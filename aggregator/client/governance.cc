#include "aggregator/client/governance.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/sign.h"
#include "common/format/note_text.h"

namespace orgtrail::client {
namespace {

constexpr size_t kSignatureBytes = 64;

// The note with a signature of whichever admin it is of; as it was when that one has signed. Nothing: it is of none.
absl::StatusOr<std::optional<std::string>> Attach(std::string_view note, const GovernanceKeys& keys, std::string_view signature) {
  for (const NoteKey& admin : keys.admins) {
    absl::StatusOr<std::string> attached = AttachSignature(note, admin, signature);
    if (attached.ok()) return OpenNote(note, admin).ok() ? std::string(note) : *std::move(attached);
    if (!absl::IsDataLoss(attached.status())) return attached.status();
  }
  return std::optional<std::string>();
}

absl::StatusOr<std::string> ReadSignature(Fs& fs, const std::string& file) {
  ASSIGN_OR_RETURN(std::string bytes, ReadFile(fs, file, 4096));
  if (bytes.size() == kSignatureBytes) return bytes;
  const std::optional<std::string> decoded = Unbase64(std::string_view(bytes).substr(0, bytes.find_last_not_of(" \r\n") + 1));
  if (decoded && decoded->size() == kSignatureBytes) return *decoded;
  return absl::InvalidArgumentError(file + ": an Ed25519 signature is expected, 64 bytes, raw or in base64");
}

}  // namespace

void AddPolicyFlag(CLI::App* app, GovernanceFlags* flags, bool required) {
  app->add_option("--policy", flags->policy, "The policy's note (aggregator.yaml: policy.note): it names the governance keys")->required(required);
}

void AddSignatureFlags(CLI::App* app, GovernanceFlags* flags) {
  app->add_option("--governance-key-file", flags->key_files, "A governance key, PEM; repeat for several. Others sign later: the same command again");
  app->add_option("--signature", flags->signature_files,
                  "A signature that a governance key kept elsewhere made of what `orgtrail policy text` prints; 64 bytes, raw or in base64; repeat for several");
}

std::string UnsignedPath(std::string_view path) {
  constexpr std::string_view kNote = ".note";
  if (path.ends_with(kNote)) path.remove_suffix(kNote.size());
  return std::string(path) + ".unsigned";
}

absl::StatusOr<GovernanceNote> SignAsGovernance(Fs& fs, const GovernanceKeys& keys, const GovernanceFlags& flags, size_t wanted, const std::string& path, std::string note) {
  for (const std::string& file : flags.key_files) {
    ASSIGN_OR_RETURN(const std::string pem, ReadFile(fs, file, 64 << 10));
    const absl::StatusOr<SigningKey> key = SigningKey::FromPem(pem);
    if (!key.ok()) return Annotate(key.status(), file);
    ASSIGN_OR_RETURN(std::optional<std::string> attached, Attach(note, keys, View(key->Sign("", NoteText(note)))));
    if (!attached) return absl::PermissionDeniedError(file + " is no governance key of this policy");
    note = *std::move(attached);
  }
  for (const std::string& file : flags.signature_files) {
    ASSIGN_OR_RETURN(const std::string signature, ReadSignature(fs, file));
    ASSIGN_OR_RETURN(std::optional<std::string> attached, Attach(note, keys, signature));
    if (!attached) return absl::PermissionDeniedError(file + " is no signature of a governance key of this policy over what `orgtrail policy text` prints");
    note = *std::move(attached);
  }
  const size_t valid = ValidSignatures(note, keys);
  if (valid < wanted) {
    RETURN_IF_ERROR(WriteFileAtomically(fs, UnsignedPath(path), note, 0644));
    return GovernanceNote{UnsignedPath(path), valid};
  }
  RETURN_IF_ERROR(WriteFileAtomically(fs, path, note, 0644));
  if (fs.Facts(UnsignedPath(path)).ok()) RETURN_IF_ERROR(fs.Remove(UnsignedPath(path)));
  return GovernanceNote{path, valid};
}

void AskForSignatures(const std::string& path) {
  std::printf("  More governance keys must sign: the same command with --governance-key-file; or, for keys kept elsewhere, with --signature of what\n"
              "  `orgtrail policy text %s` prints.\n", path.c_str());
}

}  // namespace orgtrail::client
