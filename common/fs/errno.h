// errno → Status, in one place: the code says the caller's next move, the text says operation, path, why and what to do.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace orgtrail {

// ENOENT NotFound · ENOSPC, EDQUOT, EFBIG, EMFILE, ENFILE ResourceExhausted · EACCES, EPERM, EROFS PermissionDenied · EIO DataLoss ·
// EEXIST AlreadyExists · ENOTDIR, EISDIR, ENOTEMPTY FailedPrecondition · ENAMETOOLONG, ELOOP InvalidArgument · others Internal.
absl::Status ErrnoStatus(std::string_view operation, std::string_view path, int error);

}  // namespace orgtrail
