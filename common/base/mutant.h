// Mutant: the mistakes the simulator plants to learn whether it would notice them. In the product every hook is the constant
// false; only the simulator's own build of these sources (tests/sim/sim.cmake) can plant one.
#pragma once

namespace orgtrail {

enum class Mutant {
  kNone,
  kAckBeforeCommit,   // a commit returns before it is on disk
  kOffsetApart,       // file positions are stored in another transaction than the batches that hold their lines
  kSkippedPrevHash,   // a batch need not continue the one before it
  kReusedSlot,        // a one-time key signs twice
  kUnverifiedReceipt, // a receipt is believed without its proof
  kPrunedEarly,       // what was only sent counts as acknowledged
  kLostDirSync,       // fsync of a directory does nothing
  kCursorFirst,       // a follower moves its cursor, then stores what it read
  kWrongPrevious,     // an epoch may continue anything
  kIndexRunDropped,   // the index forgets one of its runs
};
inline constexpr int kMutants = 10;

#ifdef ORGTRAIL_MUTANTS
bool Planted(Mutant mutant);
#else
constexpr bool Planted(Mutant) { return false; }
#endif

}  // namespace orgtrail
