// FeedCursor: where a reader of the feed stands: the next event to send. Opaque to readers: MACed, and bound to who it was given
// to and to one log. Text: base64url( u8 version || u64 leaf || u32 event || 8 bytes of SHA-256(origin) || mac (16) ).
// Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/base/ids.h"

namespace orgtrail {

struct FeedCursor {
  uint64_t leaf = 0;
  uint32_t event = 0;
  auto operator<=>(const FeedCursor&) const = default;

  std::string Encode(std::string_view mac_key, const Identity& who, std::string_view origin) const;
  // InvalidArgument: no cursor at all. PermissionDenied: forged, or given to somebody else. OutOfRange: of another log.
  static absl::StatusOr<FeedCursor> Decode(std::string_view text, std::string_view mac_key, const Identity& who,
                                           std::string_view origin);
};

}  // namespace orgtrail
