// What the child process that reads the stores says to the aggregator, one line each, tabs between: where it is, what it found. Any other
// line is its last words, if it dies after it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "aggregator/ledger/fsck.h"

namespace orgtrail {

struct ScrubLine {
  enum class Kind { kEntering, kAt, kFound, kLacking } kind = Kind::kAt;
  uint32_t shard = 0;                              // kEntering: 0 when it is no shard
  std::string file;                                // kEntering
  uint64_t leaf = 0, leaves = 0, read_bytes = 0;   // kAt; of kLacking the first
  Finding finding;                                 // kFound
  bool is_bodiless = false;                        // kLacking
  static ScrubLine Entering(uint32_t shard, std::string file);
  static ScrubLine At(uint64_t leaf, uint64_t leaves, uint64_t read_bytes);
  static ScrubLine Found(Finding finding);
  static ScrubLine Lacking(uint64_t leaf, bool is_bodiless);
  std::string Encode() const;                      // with its LF
  static std::optional<ScrubLine> Decode(std::string_view line);  // without
};

}  // namespace orgtrail
