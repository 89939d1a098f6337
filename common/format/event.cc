#include "common/format/event.h"

#include <cstring>

#include "common/base/bytes.h"

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

Hash EventLeaf(const EventPrefix& prefix, std::string_view body) {
  char head[1 + kEventPrefixBytes];
  head[0] = 0;  // RFC 6962's leaf byte, beside the prefix: one input less for the hash
  prefix.Encode(head + 1);
  return Sha256({std::string_view(head, sizeof head), body});
}

}  // namespace orgtrail
