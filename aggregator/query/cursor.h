// FeedCursor: where a reader of the feed stands: the next event to send. Opaque to readers: MACed, bound to who it was given to, to one
// log, and to what was logged before it: a log that was restored from an older copy does not take it for its own.
// Text: base64url( u8 version 2 || u64 leaf || u32 event || 8 bytes of SHA-256(origin) || 8 bytes of the root of all that was read, the leaf
// of a next event beyond its first included || mac (16) ). Version 1 has no root; it is still taken, unchecked.
// Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "aggregator/ledger/reader.h"
#include "common/base/ids.h"

namespace orgtrail {

struct FeedCursor {
  uint64_t leaf = 0;
  uint32_t event = 0;
  auto operator<=>(const FeedCursor&) const = default;

  // The first leaves this cursor has read from.
  uint64_t tree_size() const { return leaf + (event > 0 ? 1 : 0); }

  // `root`: of the tree of tree_size(); RootTag says it.
  std::string Encode(std::string_view mac_key, const Identity& who, std::string_view origin, std::string_view root_tag) const;
  // InvalidArgument: no cursor at all. PermissionDenied: forged, or given to somebody else. OutOfRange: of another log, beyond this one's
  // end, or of a history this log does not have (any more).
  static absl::StatusOr<FeedCursor> Decode(std::string_view text, std::string_view mac_key, const Identity& who,
                                           const LedgerReader& ledger);
};

// Cursors of one reader: keeps the root of the last tree, because neighbours share it. Threads: one.
class CursorWriter {
 public:
  CursorWriter(std::string mac_key, Identity who, const LedgerReader& ledger)
      : mac_key_(std::move(mac_key)), who_(std::move(who)), ledger_(ledger) {}
  // Empty when the tree cannot be read: whoever reads on will be told by the leaf itself.
  std::string Text(const FeedCursor& cursor);

 private:
  const std::string mac_key_;
  const Identity who_;
  const LedgerReader& ledger_;
  uint64_t size_ = UINT64_MAX;
  std::string tag_;
};

}  // namespace orgtrail
