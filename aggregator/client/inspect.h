// Inspect: any bytes orgtrail ever writes, explained in words. Pure.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace orgtrail::client {

// Recognises by magic: frames, batch entries, epoch objects, control leaves, proofs, notes, trust policies, join tokens,
// certificates. InvalidArgument names what it would have known.
absl::StatusOr<std::string> Explain(std::string_view bytes);

}  // namespace orgtrail::client
