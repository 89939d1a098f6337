// Two SHA-256 at once. Each round of the processor's SHA instructions waits for the one before; a second message fills the gap,
// so that two cost little more than one. What OpenSSL computes, checked against it by the tests for every length that matters.
// Threads: any.
#pragma once

#include <string_view>

#include "common/crypto/digest.h"

namespace orgtrail {

struct HashInput {
  std::string_view head;     // at most 64 bytes
  std::string_view body;     // follows it
};

// The hashes of both inputs. Falls back to OpenSSL, one after the other, on processors without the instructions.
void Sha256Two(const HashInput& a, const HashInput& b, Hash* hash_a, Hash* hash_b);

}  // namespace orgtrail
