#include "common/format/event.h"

#include <cstring>

#include "common/base/bytes.h"
#include "common/crypto/sha256_pair.h"

namespace orgtrail {
namespace {

constexpr std::string_view kMagic = "OTE1";

template <class T>
char* Put(char* out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out[i] = static_cast<char>(value >> (8 * (sizeof(T) - 1 - i)));
  return out + sizeof(T);
}

}  // namespace

void EventPrefix::Encode(char out[kEventPrefixBytes]) const {
  std::memcpy(out, kMagic.data(), 4);
  std::memcpy(out + 4, salt, 16);
  char* p = Put(out + 20, seq);
  p = Put(p, wall_ns);
  p = Put(p, boot_ns);
  p = Put(p, event_class);
  p = Put(p, flags);
  Put(p, body_len);
}

bool EventPrefix::Decode(std::string_view bytes, EventPrefix* out) {
  if (bytes.size() != kEventPrefixBytes || !bytes.starts_with(kMagic)) return false;
  std::memcpy(out->salt, bytes.data() + 4, 16);
  out->seq = GetU64(bytes.data() + 20);
  out->wall_ns = GetU64(bytes.data() + 28);
  out->boot_ns = GetU64(bytes.data() + 36);
  out->event_class = GetU16(bytes.data() + 44);
  out->flags = GetU16(bytes.data() + 46);
  out->body_len = GetU32(bytes.data() + 48);
  return true;
}

namespace {

// What stands before the body: RFC 6962's leaf byte, then the prefix; one input less for the hash.
struct Head {
  explicit Head(const EventPrefix& prefix) {
    bytes[0] = 0;
    prefix.Encode(bytes + 1);
  }
  std::string_view view() const { return {bytes, sizeof bytes}; }
  char bytes[1 + kEventPrefixBytes];
};

}  // namespace

Hash EventLeaf(const EventPrefix& prefix, std::string_view body) { return Sha256({Head(prefix).view(), body}); }

void EventLeaves(const EventPrefix& prefix_a, std::string_view body_a, const EventPrefix& prefix_b, std::string_view body_b, Hash* leaf_a,
                 Hash* leaf_b) {
  const Head a(prefix_a), b(prefix_b);
  Sha256Two({a.view(), body_a}, {b.view(), body_b}, leaf_a, leaf_b);
}

}  // namespace orgtrail
