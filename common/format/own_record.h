// OwnRecord: CloudTrail-shaped records orgtrail writes about itself: alarms, losses, clock steps, reads, administrative acts.
// eventSource "orgtrail", eventType "AwsServiceEvent", eventCategory "Management", readOnly as given; details under
// serviceEventDetails (or requestParameters for acts of people).
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/base/ids.h"

namespace orgtrail {

struct OwnRecord {
  std::string_view name;          // eventName: "Loss", "ClockStep", "SILENT_AGENT", "LookupEvents", "CreateToken", …
  absl::Time time;
  std::string_view account, region;
  std::string_view who;           // SPIFFE id of the person; empty: orgtrail itself
  std::string_view source_ip;     // "" : "orgtrail"
  bool read_only = false;
  std::string_view error_code;    // "" none
  std::string details;            // a JSON object, or empty
  std::string ToJson(const Uuid& event_id) const;  // one compact record
};

}  // namespace orgtrail
