// Branches: what the spool holds and this agent never sends. Past damage, or past what the log and the spool both lack, the chain goes on in a
// new epoch from an earlier batch (agent/rejoin.h); what the spool has strictly between the two continues nothing that the log has.
//
// Threads  one at a time.
// Bytes    in the spool's own record: docs/formats/spool.md
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "agent/spool/spool.h"

namespace orgtrail {

// The key just before: what follows it in order is `key` when it is there.
BatchKey Before(BatchKey key);

class Branches {
 public:
  explicit Branches(Spool& spool) : spool_(&spool), all_(spool.branches()) {}
  // The epoch that `opened` begins goes on from `after`. On disk when it returns ok, so that later runs skip the same; else nothing changed.
  absl::Status Abandon(BatchKey after, BatchKey opened);
  bool AbandonedFor(BatchKey opened) const;
  bool Abandoned(BatchKey key) const;                 // in one of them
  BatchKey Past(BatchKey key) const;                  // `key`, or the end of the branch it lies in: what follows is to be sent

 private:
  Spool* spool_;
  std::vector<Branch> all_;                           // in order
};

}  // namespace orgtrail
