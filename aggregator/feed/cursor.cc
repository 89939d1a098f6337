#include "aggregator/feed/cursor.h"

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"

namespace orgtrail {
namespace {

constexpr std::string_view kLabel{"orgtrail/cursor/v1\0", 19};
constexpr size_t kOriginBytes = 8, kMacBytes = 16, kBytes = 1 + 8 + 4 + kOriginBytes + kMacBytes;

std::string OriginTag(std::string_view origin) { return std::string(Sha256(origin).view().substr(0, kOriginBytes)); }

std::string Mac(std::string_view key, const Identity& who, std::string_view payload) {
  std::string data(kLabel);
  data += who.ToUri();
  data += '\0';
  data += payload;
  return HmacSha256(key, data).substr(0, kMacBytes);
}

}  // namespace

std::string FeedCursor::Encode(std::string_view mac_key, const Identity& who, std::string_view origin) const {
  std::string out(1, '\1');
  PutU64(out, leaf);
  PutU32(out, event);
  out += OriginTag(origin);
  out += Mac(mac_key, who, out);
  return Base64Url(out);
}

absl::StatusOr<FeedCursor> FeedCursor::Decode(std::string_view text, std::string_view mac_key, const Identity& who,
                                              std::string_view origin) {
  const std::optional<std::string> bytes = Unbase64Url(text);
  if (!bytes.has_value() || bytes->size() != kBytes || (*bytes)[0] != 1) {
    return absl::InvalidArgumentError("cursor is not one of ours: take one from a feed message or an envelope, whole");
  }
  const std::string_view payload = std::string_view(*bytes).substr(0, kBytes - kMacBytes);
  if (!ConstantTimeEqual(std::string_view(*bytes).substr(payload.size()), Mac(mac_key, who, payload))) {
    return absl::PermissionDeniedError("cursor was not given to " + who.ToUri() +
                                       " by this aggregator: subscribe from start, now or a time");
  }
  ByteReader r(payload.substr(1));
  FeedCursor cursor;
  cursor.leaf = r.U64();
  cursor.event = r.U32();
  if (r.Bytes(kOriginBytes) != OriginTag(origin)) return absl::OutOfRangeError("cursor belongs to another log than " + std::string(origin));
  return cursor;
}

}  // namespace orgtrail
