// Branches: what the spool holds and this agent never sends. Past damage, or past what a restored log and the spool both lack, the chain goes on in
// a new epoch from an earlier batch (agent/rejoin.h); what the spool has strictly between the two continues nothing that the log has.
//
// Threads  one at a time.
#pragma once

#include <vector>

#include "agent/spool/spool.h"

namespace orgtrail {

// The key just before: what follows it in order is `key` when it is there.
BatchKey Before(BatchKey key);

class Branches {
 public:
  void Abandon(BatchKey after, BatchKey opened);      // the epoch that `opened` begins goes on from `after`
  bool AbandonedFor(BatchKey opened) const;
  BatchKey Past(BatchKey key) const;                  // `key`, or the end of the branch it lies in: what follows is to be sent
  // The log's newest batch of this agent is `head`, and is the spool's: from there back each epoch says which batch it goes on from.
  void Load(const Spool& spool, BatchKey head);

 private:
  struct Branch {
    BatchKey after, opened;
  };
  std::vector<Branch> all_;                           // in order
};

}  // namespace orgtrail
