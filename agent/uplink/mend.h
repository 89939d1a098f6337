// Mend: a batch of the spool whose checksum is wrong, made fit to be sent. Its entry lies in the spool twice, each with a sum of its own: with a
// sound one the batch takes its place in the log, whole when its rows still lead to the signed root, else without bodies. Without one, no other
// content may stand under this signature: the chain ends before it.
//
// Path     uplink session meets damage → [Mend] → spool, and on to the log
// Threads  the uplink's.
// Fails    DataLoss "SPOOL_TAMPER …": beyond mending. Anything else: the spool could not be read or written.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "agent/spool/spool.h"
#include "common/format/batch.h"

namespace orgtrail {

struct Mended {
  std::string frame;   // as the spool holds it now
  bool whole = false;  // false: what the disk made of the bodies is in the spool's evidence/; `bodies_lost` (may be null) was called before
};
absl::StatusOr<Mended> Mend(Spool& spool, BatchKey key, const std::function<void(const BatchHeader&)>& bodies_lost);

}  // namespace orgtrail
