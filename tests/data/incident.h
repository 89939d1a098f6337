// Incident: half an hour in which somebody with a leaked key widens a role, reconfigures a function, opens a bucket, takes invoices
// out of it, comes in without MFA and fails to stop the trail; then a responder undoes it. Spread over three accounts and two regions.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/data/record_maker.h"

namespace orgtrail::data {

struct Line {
  absl::Time when;
  Place place;  // whose agent captures it
  std::string record;
};

// accounts: management, web, data; regions: home, second. Ends a minute before `now`. In no order.
std::vector<Line> Incident(RecordMaker& maker, const std::vector<std::string>& accounts, const std::vector<std::string>& regions, absl::Time now);

}  // namespace orgtrail::data
