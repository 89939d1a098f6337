// What lies where in a shard's file, for tests that damage it as a disk does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "aggregator/ledger/shard.h"
#include "common/base/bytes.h"

namespace orgtrail::e2e {

// Whether a whole leaf lies around the frame at `frame`, in a page of its table as it is or was: else what follows may be another table's by now.
inline bool IsLeaf(const std::string& bytes, size_t frame) {
  constexpr size_t kKey = 8, kNode = 8;   // LMDB: u16 size, u16 size's upper half, u16 flags, u16 key's size
  const auto u16 = [&](size_t at) { return static_cast<size_t>(static_cast<uint8_t>(bytes[at])) | static_cast<size_t>(static_cast<uint8_t>(bytes[at + 1])) << 8; };
  for (const size_t before : {kLeafHeaderBytes, kLeafHeaderBytes + kSealedKeyBytes}) {
    if (frame < before + kKey + kNode) continue;
    const size_t value = frame - before, node = value - kKey - kNode, size = u16(node) | u16(node + 2) << 16;
    if (u16(node + 6) == kKey && size > before && value + size <= bytes.size() &&
        ReadLeaf(GetU64(&bytes[value - kKey]), std::string_view(bytes).substr(value, size), Crc::kCheck).ok()) {
      return true;
    }
  }
  return false;
}

}  // namespace orgtrail::e2e
