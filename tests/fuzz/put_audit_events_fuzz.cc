// A PutAuditEvents body: the first line is the channelArn, the rest the body. What comes out is one clean record on one line.
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/capture/put_audit_events.h"
#include "common/base/status.h"
#include "tests/fuzz/target.h"

namespace orgtrail::fuzz {

std::vector<std::string> Seeds() { return {}; }

void One(std::string_view text) {
  const size_t line = text.find('\n');
  HttpRequest request;
  request.query.emplace_back("channelArn", std::string(text.substr(0, line)));
  if (line != std::string_view::npos) request.body = text.substr(line + 1);
  auto parsed = ParseAuditCall(request, "222222222222", "eu-west-1");
  json::Scanner scanner;
  std::vector<AuditOutcome> outcomes;
  if (const auto* error = std::get_if<AuditCallError>(&parsed)) {
    CHECK(!error->code.empty());
    CHECK(scanner.Validate(AuditErrorResponse(*error).body, false) == json::Flaw::kNone);
    return;
  }
  const AuditCall& call = std::get<AuditCall>(parsed);
  CHECK(!call.events.empty() && call.events.size() <= kAuditCallEvents);
  for (const AuditEvent& event : call.events) {
    auto made = MakeAuditRecord(call, event, "222222222222", "http:loopback", absl::UnixEpoch(), scanner);
    if (const auto* record = std::get_if<AuditRecord>(&made)) {
      CHECK(record->text.find_first_of("\r\n") == std::string::npos);
      json::Fields fields;
      CHECK(scanner.Scan(record->text, &fields) == json::Flaw::kNone);
      CHECK(json::Text(fields.event_id) == record->event_id);
      CHECK(json::Text(fields.recipient_account) == "222222222222");
      CHECK(json::Text(fields.event_category) == "ActivityAuditLog");
      outcomes.push_back({event.id, record->event_id, std::nullopt});
    } else {
      outcomes.push_back({event.id, "", std::get<AuditEventError>(made)});
    }
  }
  CHECK(scanner.Validate(AuditReply(outcomes), false) == json::Flaw::kNone);
}

}  // namespace orgtrail::fuzz
