// Access: what a caller may read. People and agents of an account see that account; auditors and governance see all; operators
// run the aggregator and read no bodies. Threads: any.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/base/ids.h"

namespace orgtrail {

struct Access {
  bool all = false;
  std::string account;        // when not all
  bool Sees(std::string_view of_account) const { return all || account == of_account; }
};

// PermissionDenied for identities that read no records.
absl::StatusOr<Access> AccessOf(const Identity& identity);
// Headers, proofs and completeness hold no bodies: operators may have them too, for every account.
absl::StatusOr<Access> HeaderAccessOf(const Identity& identity);

}  // namespace orgtrail
