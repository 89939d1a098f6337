// Branches: the ends of a chain that split, of an agent in quarantine. Two processes write as one agent, each of them in order: a batch
// continues whatever leaf its prev_hash names.
//
// Threads  one, its lane's.
// Bounds   8 ends in memory, of 32 KiB of keys each, used last at the end; others are found in the ledger.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "aggregator/ledger/reader.h"
#include "aggregator/verify/slot_keys.h"
#include "aggregator/verify/verdict.h"
#include "common/crypto/digest.h"
#include "common/format/batch.h"

namespace orgtrail {

struct Branch {
  Hash tip;                               // its newest leaf
  uint64_t epoch = 0, batch_seq = 0;      // of the tip
  std::shared_ptr<const SlotKeys> tree;   // signs what follows the tip
  StreamId from = 0;                      // the stream that brought the tip; 0: not of this process's time
};

class Branches {
 public:
  void Add(Branch branch);
  // The one that the batch continues; null: neither here nor in the ledger. Valid until the next call.
  const Branch* Of(const LedgerReader& ledger, const BatchHeader& h);
  // The branch that the batch continues ends with it now: with `leaf`, brought by `from`. `tree`: of its own, or null.
  void Grow(const LedgerReader& ledger, const BatchHeader& h, const Hash& leaf, std::shared_ptr<const SlotKeys> tree, StreamId from);
  // What follows the newest batch that the stream brought of the epoch; 0: it brought none.
  uint64_t NextOf(StreamId from, uint64_t epoch) const;

 private:
  std::deque<Branch> ends_;
};

}  // namespace orgtrail
