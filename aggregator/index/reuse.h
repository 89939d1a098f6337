// IdReuse: reads records that share an event id and says which of them are two records under one id, not one that came twice.
//
// Path     history (runs being combined) → [IdReuse] → alarms
// Threads  Give: any. Check: one (the merge thread): it reads leaves, so it is nothing for the one who follows the ledger.
// Bounds   16 combinations wait; what more come, and what a combination left out, is counted and not looked at.
// Fails    what cannot be read is not compared: its body is gone, or the scrub tells. A crash forgets what waits.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "aggregator/index/repeats.h"
#include "aggregator/ledger/reader.h"
#include "common/base/guarded.h"
#include "common/metrics/metrics.h"

namespace orgtrail {

// Who sent the later of the two, as alarms name agents; the id, and where both lie.
using TellReuse = std::function<void(std::string_view subject, std::string_view detail)>;

class IdReuse {
 public:
  IdReuse(const LedgerReader& ledger, TellReuse tell, Metrics& metrics);   // `tell` may be null
  void Give(Repeats repeats);
  void Check();

 private:
  absl::Status Compare(const Repeats& repeats);
  const LedgerReader& ledger_;
  const TellReuse tell_;
  Counter& unchecked_;
  Guarded<std::vector<Repeats>> waiting_;
};

}  // namespace orgtrail
