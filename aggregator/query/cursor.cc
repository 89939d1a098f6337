#include "aggregator/query/cursor.h"

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"

namespace orgtrail {
namespace {

constexpr std::string_view kLabel{"orgtrail/cursor/v1\0", 19};
constexpr size_t kOriginBytes = 8, kRootBytes = 8, kMacBytes = 16, kBytes1 = 1 + 8 + 4 + kOriginBytes + kMacBytes, kBytes2 = kBytes1 + kRootBytes;

std::string OriginTag(std::string_view origin) { return std::string(Sha256(origin).view().substr(0, kOriginBytes)); }

std::string Mac(std::string_view key, const Identity& who, std::string_view payload) {
  std::string data(kLabel);
  data += who.ToUri();
  data += '\0';
  data += payload;
  return HmacSha256(key, data).substr(0, kMacBytes);
}

}  // namespace

std::string FeedCursor::Encode(std::string_view mac_key, const Identity& who, std::string_view origin, std::string_view root_tag) const {
  CHECK(root_tag.size() == kRootBytes);
  std::string out(1, '\2');
  PutU64(out, leaf);
  PutU32(out, event);
  out += OriginTag(origin);
  out += root_tag;
  out += Mac(mac_key, who, out);
  return Base64Url(out);
}

absl::StatusOr<FeedCursor> FeedCursor::Decode(std::string_view text, std::string_view mac_key, const Identity& who,
                                              const LedgerReader& ledger) {
  const std::optional<std::string> bytes = Unbase64Url(text);
  if (!bytes.has_value() || bytes->empty() || bytes->size() != ((*bytes)[0] == 1 ? kBytes1 : kBytes2) || ((*bytes)[0] != 1 && (*bytes)[0] != 2)) {
    return absl::InvalidArgumentError("cursor is not one of ours: take one from a feed message or an envelope, whole");
  }
  const std::string_view payload = std::string_view(*bytes).substr(0, bytes->size() - kMacBytes);
  if (!ConstantTimeEqual(std::string_view(*bytes).substr(payload.size()), Mac(mac_key, who, payload))) {
    return absl::PermissionDeniedError("cursor was not given to " + who.ToUri() +
                                       " by this aggregator: subscribe from start, now or a time");
  }
  ByteReader r(payload.substr(1));
  FeedCursor cursor;
  cursor.leaf = r.U64();
  cursor.event = r.U32();
  if (r.Bytes(kOriginBytes) != OriginTag(ledger.origin())) return absl::OutOfRangeError("cursor belongs to another log than " + ledger.origin());
  const uint64_t size = ledger.head().size;
  if (cursor.leaf > size || cursor.tree_size() > size) {
    return absl::OutOfRangeError(absl::StrCat("cursor is at leaf ", cursor.leaf, ", the log has ", size, ": it was restored from a backup"));
  }
  if (payload[0] == 2) {
    ASSIGN_OR_RETURN(const Hash root, ledger.Root(cursor.tree_size()));
    if (r.Bytes(kRootBytes) != root.view().substr(0, kRootBytes)) {
      return absl::OutOfRangeError(absl::StrCat("what was read up to leaf ", cursor.leaf, " is not what the log has there now: it was restored from a "
                                                "backup since, and logged on from there; some records would be skipped, others come twice"));
    }
  }
  return cursor;
}

std::string CursorWriter::Text(const FeedCursor& cursor) {
  if (size_ != cursor.tree_size()) {
    const absl::StatusOr<Hash> root = ledger_.Root(cursor.tree_size());
    if (!root.ok()) return {};
    tag_ = std::string(root->view().substr(0, kRootBytes));
    size_ = cursor.tree_size();
  }
  return cursor.Encode(mac_key_, who_, ledger_.origin(), tag_);
}

}  // namespace orgtrail
