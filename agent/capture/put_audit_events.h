// PutAuditEvents: CloudTrail's own call for events of other programs (rest-json), from its text to records and back. Pure: no
// clock, no sockets, no state. Fuzzed.
//
// Identity  eventID = UUIDv8 of SHA-256("orgtrail/put-audit-events/v1", account, channel ARN, id): a retry gets the same one.
// Record    {"eventVersion","eventCategory":"ActivityAuditLog","eventType":"ActivityLog","eventID","eventTime","awsRegion",
//           "recipientAccountId","metadata":{"ingestionTime","channelARN","postedBy"},"eventData":…}
//           eventData is the caller's text byte for byte, except that line ends between its tokens become spaces: a record is
//           one line everywhere, and a caller must not be able to put a line of its own making into somebody's JSON Lines.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "common/http/server.h"
#include "common/json/scanner.h"

namespace orgtrail {

inline constexpr size_t kAuditCallBytes = 1 << 20;  // of a whole call
inline constexpr size_t kAuditCallEvents = 100;

struct AuditEvent {
  std::string id, event_data;
  std::optional<std::string> checksum;  // base64 of SHA-256 over event_data
};

struct AuditCall {
  std::string channel_arn;  // whole, also when the caller gave a bare channel id
  std::string region;       // of the call: as the credential scope says, else the agent's
  std::vector<AuditEvent> events;
};

// What fails a whole call: HTTP status, CloudTrail's error code (x-amzn-ErrorType), and what to do.
struct AuditCallError {
  int status = 400;
  std::string code, message;
};

// Per event: CloudTrail's code, and which field and rule.
struct AuditEventError {
  std::string code, message;
};

struct AuditRecord {
  std::string event_id, text;  // text: one record, one line
};

// Judges channelArn, externalId, Authorization (SigV4: taken apart, not verified) and the body. `account`, `region`: the agent's.
std::variant<AuditCall, AuditCallError> ParseAuditCall(const HttpRequest& request, std::string_view account,
                                                       std::string_view region);

// Judges one event by every rule of eventData and makes its record. `scanner` is scratch.
std::variant<AuditRecord, AuditEventError> MakeAuditRecord(const AuditCall& call, const AuditEvent& event,
                                                           std::string_view account, std::string_view posted_by,
                                                           absl::Time ingestion, json::Scanner& scanner);

HttpResponse AuditErrorResponse(const AuditCallError& error);

struct AuditOutcome {
  std::string id;
  std::string event_id;                  // of a successful one
  std::optional<AuditEventError> error;  // of a failed one
};
std::string AuditReply(const std::vector<AuditOutcome>& outcomes);  // both arrays always, each in the order sent

}  // namespace orgtrail
