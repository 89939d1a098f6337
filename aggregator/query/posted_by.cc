#include "aggregator/query/posted_by.h"

#include <algorithm>

#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr std::string_view kName = "\"eventName\":\"RecordsPosted\",", kBy = "\"serviceEventDetails\":{\"postedBy\":\"",
                           kRanges = ",\"ranges\":[";
constexpr size_t kLongest = 128;

// Whether one of [first,last],[first,last]… holds `seq`. An agent writes it; what is malformed holds nothing.
bool Holds(std::string_view ranges, uint64_t seq) {
  while (!ranges.empty() && ranges.front() == '[') {
    const size_t comma = ranges.find(','), close = ranges.find(']');
    if (comma == std::string_view::npos || close == std::string_view::npos || comma > close) return false;
    const std::optional<uint64_t> first = ParseUint(ranges.substr(1, comma - 1)), last = ParseUint(ranges.substr(comma + 1, close - comma - 1));
    if (!first || !last) return false;
    if (seq >= *first && seq <= *last) return true;
    ranges.remove_prefix(close + 1);
    if (!ranges.empty() && ranges.front() == ',') ranges.remove_prefix(1);
  }
  return false;
}

}  // namespace

std::string PostedBy(const Leaf& leaf, size_t row) {
  const std::vector<Row>& rows = leaf.events.rows;
  if (rows[row].event_class == static_cast<uint16_t>(EventClass::kOwn) || rows[row].seq == 0 || (rows[row].flags & kFlagRecovered) != 0) return "";
  // They stand at the end of the batch.
  for (size_t i = rows.size(); i-- > 0 && rows[i].event_class == static_cast<uint16_t>(EventClass::kOwn);) {
    const std::string_view body = rows[i].body;
    if ((rows[i].flags & kFlagRecovered) != 0) continue;   // it speaks of another epoch's numbers
    const size_t by = body.find(kBy), name = body.find(kName);
    if (name == std::string_view::npos || by == std::string_view::npos) continue;
    const size_t ranges = body.find(kRanges, by), end = body.find('"', by + kBy.size());
    if (ranges == std::string_view::npos || end == std::string_view::npos || !Holds(body.substr(ranges + kRanges.size()), rows[row].seq)) continue;
    const std::string_view who = body.substr(by + kBy.size(), end - by - kBy.size());
    return Printable(who.substr(0, kLongest));
  }
  return "";
}

}  // namespace orgtrail
