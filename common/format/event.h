// Event: one record as a leaf of its batch (EV1). docs/formats/event.md
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/crypto/digest.h"

namespace orgtrail {

enum class EventClass : uint16_t {
  kManagement = 1, kData = 2, kNetwork = 3, kInsight = 4, kOwn = 5, kLoss = 6, kCanary = 7, kChunk = 8,
};
enum EventFlag : uint16_t {
  kFlagSync = 1, kFlagBlob = 2, kFlagWrapped = 4, kFlagClockUnsynced = 8, kFlagRecovered = 16,  // 16 is reserved
};

inline constexpr size_t kEventPrefixBytes = 52;

struct EventPrefix {
  char salt[16] = {};
  uint64_t seq = 0;        // per epoch, from 1, assigned before any drop decision
  uint64_t wall_ns = 0;    // CLOCK_REALTIME, strictly increasing within an epoch (clamped)
  uint64_t boot_ns = 0;    // CLOCK_BOOTTIME
  uint16_t event_class = 0;
  uint16_t flags = 0;
  uint32_t body_len = 0;
  void Encode(char out[kEventPrefixBytes]) const;
  static bool Decode(std::string_view bytes, EventPrefix* out);  // 52 bytes with the magic "OTE1"
};

Hash EventLeaf(const EventPrefix& prefix, std::string_view body);  // H(00 || EV1 || body)
// Two leaves for little more than the time of one.
void EventLeaves(const EventPrefix& prefix_a, std::string_view body_a, const EventPrefix& prefix_b, std::string_view body_b, Hash* leaf_a,
                 Hash* leaf_b);

}  // namespace orgtrail
