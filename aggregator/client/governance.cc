#include "aggregator/client/governance.h"

#include "common/base/status.h"
#include "common/crypto/sign.h"

namespace orgtrail::client {

absl::Status SignAsGovernance(Fs& fs, const GovernanceKeys& keys, const std::vector<std::string>& key_files, std::string* note) {
  for (const std::string& file : key_files) {
    ASSIGN_OR_RETURN(const std::string pem, ReadFile(fs, file, 64 << 10));
    absl::StatusOr<SigningKey> key = SigningKey::FromPem(pem);
    if (!key.ok()) return Annotate(key.status(), file);
    const NoteKey* admin = nullptr;
    for (const NoteKey& k : keys.admins) {
      if (k.key == key->public_key()) admin = &k;
    }
    if (admin == nullptr) return absl::PermissionDeniedError(file + " is no governance key of this policy");
    if (!OpenNote(*note, *admin).ok()) *note = SignNote(*note, admin->name, *key);
  }
  return absl::OkStatus();
}

}  // namespace orgtrail::client
