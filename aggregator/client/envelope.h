// Envelope: how records are shown: the stored bytes, or wrapped with where they came from; and table rows. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "orgtrail/v1/query.pb.h"

namespace orgtrail::client {

// {"cursor":…,"account":…,…,"record":<the stored bytes>}.
std::string EnvelopeJson(const orgtrail::v1::Event& event);
std::string EnvelopeOnlyJson(const orgtrail::v1::Envelope& envelope);

// What a person wants on one line.
struct EventLine {
  std::string time, account, region, principal, event, source_ip, error, id;
};
// What stands in the place of a record whose body is gone: why, as far as its envelope says.
std::string BodyGone(const orgtrail::v1::Envelope& envelope);

EventLine LineOf(const orgtrail::v1::Event& event, const absl::TimeZone& zone);

// Values for --count-by: Account, Region, EventName, EventSource, Username, SourceIp, ErrorCode, …
std::string FieldOf(const orgtrail::v1::Event& event, std::string_view field);
// A value for a table, where all are cut: one that the index cut too is followed by how long it is.
std::string Shortened(std::string value);

// One sentence or more: "complete to …; silent: …".
std::string Describe(const orgtrail::v1::Completeness& completeness);
std::string CompletenessJson(const orgtrail::v1::Completeness& completeness);

}  // namespace orgtrail::client
