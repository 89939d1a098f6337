#include "aggregator/query/access.h"

#include "common/base/status.h"

namespace orgtrail {

absl::StatusOr<Access> AccessOf(const Identity& identity) {
  switch (identity.kind) {
    case Identity::Kind::kAgent:
    case Identity::Kind::kUser:
      return Access{false, identity.account};
    case Identity::Kind::kGovernance:
    case Identity::Kind::kAuditor:
      return Access{true, ""};
    case Identity::Kind::kOperator:
    case Identity::Kind::kAggregator:
      break;
  }
  return absl::PermissionDeniedError(ToAbsl(identity.ToUri() + " may not read records: ask an auditor, or use a user of the account"));
}

absl::StatusOr<Access> HeaderAccessOf(const Identity& identity) {
  if (identity.kind == Identity::Kind::kOperator) return Access{true, ""};
  return AccessOf(identity);
}

}  // namespace orgtrail
