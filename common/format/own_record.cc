#include "common/format/own_record.h"

#include "common/base/clock.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

void Member(std::string& out, std::string_view name, std::string_view text) {
  AppendJsonString(out, name);
  out.push_back(':');
  AppendJsonString(out, text);
  out.push_back(',');
}

}  // namespace

std::string OwnRecord::ToJson(const Uuid& event_id) const {
  std::string out;
  out.reserve(640 + details.size());
  out += "{\"eventVersion\":\"1.11\",\"userIdentity\":{";
  if (who.empty()) {
    out += "\"type\":\"AWSService\",\"invokedBy\":\"orgtrail\"},";
  } else {
    const size_t slash = who.rfind('/');
    Member(out, "type", "IAMUser");
    Member(out, "principalId", who);
    Member(out, "arn", who);
    Member(out, "accountId", account);
    Member(out, "userName", slash == std::string_view::npos ? who : who.substr(slash + 1));
    out.back() = '}';
    out.push_back(',');
  }
  Member(out, "eventTime", Rfc3339(time));
  Member(out, "eventSource", "orgtrail");
  Member(out, "eventName", name);
  Member(out, "awsRegion", region);
  Member(out, "sourceIPAddress", source_ip.empty() ? "orgtrail" : source_ip);
  Member(out, "userAgent", "orgtrail");
  if (!error_code.empty()) Member(out, "errorCode", error_code);
  const bool parameters = !who.empty() && !details.empty();  // what a person asked for; what a service found otherwise
  out += "\"requestParameters\":";
  out += parameters ? details : "null";
  out += ",\"responseElements\":null,";
  Member(out, "eventID", event_id.ToString());
  out += read_only ? "\"readOnly\":true," : "\"readOnly\":false,";
  Member(out, "eventType", "AwsServiceEvent");
  out += "\"managementEvent\":true,";
  Member(out, "recipientAccountId", account);
  if (!parameters && !details.empty()) {
    out += "\"serviceEventDetails\":";
    out += details;
    out.push_back(',');
  }
  out += "\"eventCategory\":\"Management\"}";
  return out;
}

}  // namespace orgtrail
