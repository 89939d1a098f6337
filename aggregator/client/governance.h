// Governance: signatures of a policy's admins on what they order or declare.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/format/recovery.h"
#include "common/fs/file.h"

namespace orgtrail::client {

// Adds to `note` the signature of each private key (PEM files) that it does not carry yet. PermissionDenied: no admin's key.
absl::Status SignAsGovernance(Fs& fs, const GovernanceKeys& keys, const std::vector<std::string>& key_files, std::string* note);

}  // namespace orgtrail::client
