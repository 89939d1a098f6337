// Governance: notes that a policy's admins sign: the policy itself, orders of retention, declarations of a recovery.
//
// NAME.note is what aggregator and agents read, and is written once it carries enough signatures. Until then it lies beside its place as
// NAME.unsigned, which only these commands read.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/format/recovery.h"
#include "common/fs/file.h"

namespace CLI {
class App;
}

namespace orgtrail::client {

struct GovernanceFlags {
  std::string policy;                        // the note that names the keys
  std::vector<std::string> key_files;        // private keys, PEM
  std::vector<std::string> signature_files;  // made elsewhere: 64 bytes, raw or in base64
};
void AddPolicyFlag(CLI::App* app, GovernanceFlags* flags, bool required);
void AddSignatureFlags(CLI::App* app, GovernanceFlags* flags);

// Where NAME.note lies while it lacks signatures.
std::string UnsignedPath(std::string_view path);
struct GovernanceNote {
  std::string path;                          // where it lies now
  size_t signatures = 0;                     // valid ones, each of another key
};
// Adds the signatures that the flags give and the note does not carry yet; writes it to `path`, or while fewer than `wanted` keys have signed to
// its UnsignedPath. PermissionDenied: a key, or a signature, that is no admin's.
absl::StatusOr<GovernanceNote> SignAsGovernance(Fs& fs, const GovernanceKeys& keys, const GovernanceFlags& flags, size_t wanted, const std::string& path, std::string note);
// Prints how the others sign the note at `path`.
void AskForSignatures(const std::string& path);

}  // namespace orgtrail::client
