#include "agent/capture/put_audit_events.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <set>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "common/http/request.h"
#include "common/json/members.h"

namespace orgtrail {
namespace {

constexpr size_t kParameterBytes = 100 << 10;  // requestParameters, responseElements
constexpr size_t kAdditionalBytes = 28 << 10;
constexpr size_t kMessageBytes = 1024;

enum class Shape { kText, kObject, kAny };
struct Rule {
  std::string_view key;
  Shape shape;
  bool required;
  size_t most;  // characters of a text, bytes of anything else; 0: no bound of its own
};
constexpr Rule kRules[] = {
    {"version", Shape::kText, true, 256},
    {"userIdentity", Shape::kObject, true, 0},
    {"userAgent", Shape::kText, false, 1024},
    {"eventSource", Shape::kText, true, 1024},
    {"eventName", Shape::kText, true, 1024},
    {"eventTime", Shape::kText, true, 64},
    {"UID", Shape::kText, true, 1024},
    {"requestParameters", Shape::kAny, false, kParameterBytes},
    {"responseElements", Shape::kAny, false, kParameterBytes},
    {"errorCode", Shape::kText, false, 256},
    {"errorMessage", Shape::kText, false, 256},
    {"sourceIPAddress", Shape::kText, false, 64},
    {"recipientAccountId", Shape::kText, true, 64},
    {"additionalEventData", Shape::kAny, false, kAdditionalBytes},
};
constexpr Rule kIdentityRules[] = {
    {"type", Shape::kText, true, 128},
    {"principalId", Shape::kText, true, 1024},
    {"details", Shape::kObject, false, 0},
};

// A member's value: unescaped when it is a text, as it stands otherwise.
struct Found {
  enum class Kind { kAbsent, kText, kObject, kOther } kind = Kind::kAbsent;
  std::string text;
};

AuditEventError Failure(std::string_view code, std::string message) {
  if (message.size() > kMessageBytes) message.resize(kMessageBytes);
  return AuditEventError{std::string(code), std::move(message)};
}

size_t Characters(std::string_view utf8) {
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// The members the rules name, of a `json` the scanner accepted. False: not an object.
template <size_t N>
bool ReadMembers(std::string_view json, const Rule (&rules)[N], std::array<Found, N>* out) {
  if (json::Whole(json).type != json::Value::Type::kObject) return false;
  json::MemberWalk walk(json);
  std::string scratch;
  for (json::Value name, value; walk.Next(&name, &value);) {
    const std::string_view key = json::Text(name, scratch);
    const auto rule = std::find_if(std::begin(rules), std::end(rules), [&](const Rule& r) { return r.key == key; });
    if (rule == std::end(rules) || value.type == json::Value::Type::kNull) continue;  // null is absent
    const Found::Kind kind = value.type == json::Value::Type::kString   ? Found::Kind::kText
                             : value.type == json::Value::Type::kObject ? Found::Kind::kObject
                                                                        : Found::Kind::kOther;
    (*out)[static_cast<size_t>(rule - std::begin(rules))] = {kind, json::Text(value)};
  }
  return true;
}

template <size_t N>
std::optional<AuditEventError> CheckMembers(const Rule (&rules)[N], const std::array<Found, N>& found, std::string_view where) {
  for (size_t i = 0; i < N; ++i) {
    const Rule& rule = rules[i];
    const std::string name = std::string(where) + std::string(rule.key);
    if (found[i].kind == Found::Kind::kAbsent) {
      if (rule.required) return Failure("FieldNotFound", name + " is missing");
      continue;
    }
    if (rule.shape == Shape::kText && found[i].kind != Found::Kind::kText) return Failure("InvalidData", name + " must be a string");
    if (rule.shape == Shape::kObject && found[i].kind != Found::Kind::kObject) return Failure("InvalidData", name + " must be an object");
    if (rule.required && found[i].text.empty()) return Failure("FieldNotFound", name + " is empty");
    const size_t length = rule.shape == Shape::kText ? Characters(found[i].text) : found[i].text.size();
    if (rule.most != 0 && length > rule.most) {
      return Failure("FieldTooLong", name + " has " + std::to_string(length) + (rule.shape == Shape::kText ? " characters" : " bytes") +
                                         ", at most " + std::to_string(rule.most) + " are allowed");
    }
  }
  return std::nullopt;
}

const Found& At(const std::array<Found, std::size(kRules)>& found, std::string_view key) {
  for (size_t i = 0; i < std::size(kRules); ++i) {
    if (kRules[i].key == key) return found[i];
  }
  return found[0];  // not reached: keys are literals of the table
}

// yyyy-MM-ddTHH:mm:ss, with or without Z, in UTC, a moment that exists. Gives it with Z.
std::optional<std::string> EventTime(std::string_view text) {
  if (text.ends_with('Z')) text.remove_suffix(1);
  constexpr std::string_view kPattern = "dddd-dd-ddTdd:dd:dd";
  if (text.size() != kPattern.size()) return std::nullopt;
  for (size_t i = 0; i < kPattern.size(); ++i) {
    if (kPattern[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != kPattern[i]) return std::nullopt;
  }
  const std::string whole = std::string(text) + "Z";
  absl::Time t;
  std::string why;
  if (!absl::ParseTime("%Y-%m-%dT%H:%M:%SZ", whole, &t, &why) || Rfc3339(t) != whole) return std::nullopt;
  return whole;
}

bool IsIpAddress(const std::string& text) {
  unsigned char bytes[16];
  return text.find('\0') == std::string::npos &&
         (inet_pton(AF_INET, text.c_str(), bytes) == 1 || inet_pton(AF_INET6, text.c_str(), bytes) == 1);
}

bool IsEventSource(std::string_view text) {  // shown in lists and matched in rules: no control characters, not blank
  if (text.find_first_not_of(' ') == std::string_view::npos) return false;
  return std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

bool IsId(std::string_view text) {
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

bool IsExternalId(std::string_view text) {
  return text.size() >= 2 && text.size() <= 1224 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_+=,.@:/-").find(c) != std::string_view::npos;
  });
}

std::vector<std::string_view> Split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (size_t from = 0;;) {
    const size_t to = text.find(at, from);
    parts.push_back(text.substr(from, to - from));
    if (to == std::string_view::npos) return parts;
    from = to + 1;
  }
}

// arn:<partition>:cloudtrail:<region>:<account>:channel/<id>, or <id>. Empty code: fine, and *arn is whole.
AuditCallError JudgeChannel(std::string_view text, std::string_view account, std::string_view region, std::string* arn) {
  const auto invalid = [&](std::string_view why) {
    return AuditCallError{400, "InvalidChannelARN", "channelArn " + JsonString(text.substr(0, 256)) + ": " + std::string(why)};
  };
  if (text.empty()) return {400, "InvalidChannelARN", "the channelArn query parameter is missing: PutAuditEvents?channelArn=ARN or ID"};
  if (!text.starts_with("arn:")) {
    if (!IsId(text)) return invalid("expected a channel's ARN or its id");
    *arn = "arn:aws:cloudtrail:" + std::string(region) + ":" + std::string(account) + ":channel/" + std::string(text);
    return {};
  }
  const std::vector<std::string_view> parts = Split(text, ':');
  if (parts.size() != 6 || !parts[1].starts_with("aws") || !IsName(parts[1]) || parts[2] != "cloudtrail" || !IsName(parts[3]) ||
      !IsAccountId(parts[4]) || !parts[5].starts_with("channel/") || !IsId(parts[5].substr(8))) {
    return invalid("expected arn:aws:cloudtrail:REGION:ACCOUNT:channel/ID");
  }
  if (parts[4] != account) {
    return {400, "ChannelInsufficientPermission",
            "the channel belongs to account " + std::string(parts[4]) + ", this agent captures account " + std::string(account)};
  }
  *arn = text;
  return {};
}

// The first member of that name.
json::Value Member(std::string_view object, std::string_view name) {
  json::MemberWalk walk(object);
  std::string scratch;
  for (json::Value key, value; walk.Next(&key, &value);) {
    if (json::Text(key, scratch) == name) return value;
  }
  return {};
}

AuditCallError ParseBody(std::string_view body, std::vector<AuditEvent>* events) {
  using Type = json::Value::Type;
  const auto wrong = [](std::string message) { return AuditCallError{400, "ValidationException", std::move(message)}; };
  json::Scanner scanner;
  if (scanner.Validate(body, true) != json::Flaw::kNone) {
    return {400, "SerializationException", "the body is not JSON: expected {\"auditEvents\":[{\"id\":…,\"eventData\":…}]}"};
  }
  const json::Value list = Member(body, "auditEvents");
  if (list.type != Type::kArray) return wrong("auditEvents is missing or not an array");
  size_t count = 0;
  json::ElementWalk counting(list.raw);
  for (json::Value element; counting.Next(&element);) ++count;
  if (count < 1 || count > kAuditCallEvents) {
    return wrong("auditEvents must have 1 to 100 elements, it has " + std::to_string(count));
  }
  std::set<std::string> seen;
  json::ElementWalk elements(list.raw);
  for (json::Value element; elements.Next(&element);) {
    const std::string name = "auditEvents[" + std::to_string(events->size()) + "]";
    const json::Value id = Member(element.raw, "id"), data = Member(element.raw, "eventData"), sum = Member(element.raw, "eventDataChecksum");
    AuditEvent event;
    event.id = json::Text(id);
    if (id.type != Type::kString || !IsId(event.id)) return wrong(name + ".id must be 1 to 128 characters of A-Z, a-z, 0-9, '-' and '_'");
    if (data.type != Type::kString) return wrong(name + ".eventData must be a JSON document in a string");
    if (sum.type != Type::kAbsent && sum.type != Type::kNull) {
      if (sum.type != Type::kString) return wrong(name + ".eventDataChecksum must be a string");
      event.checksum = json::Text(sum);
    }
    if (!seen.insert(event.id).second) {
      return {400, "DuplicatedAuditEventId", "id " + event.id + " occurs more than once in this call; nothing of it was taken"};
    }
    event.event_data = json::Text(data);
    events->push_back(std::move(event));
  }
  return {};
}

}  // namespace

std::variant<AuditCall, AuditCallError> ParseAuditCall(const HttpRequest& request, std::string_view account,
                                                       std::string_view region) {
  AuditCall call;
  call.region = region;
  const std::string_view authorization = request.Header("authorization");
  if (IsSigV4(authorization)) {
    const std::optional<SigV4> signature = ParseSigV4(authorization);
    if (!signature) return AuditCallError{400, "IncompleteSignatureException", "the Authorization header is not a whole SigV4 signature"};
    if (signature->service != "cloudtrail-data") {
      return AuditCallError{403, "InvalidSignatureException", "the credential is scoped to service " + JsonString(signature->service) +
                                                                  ", expected cloudtrail-data"};
    }
    if (IsName(signature->region)) call.region = signature->region;
  }
  if (AuditCallError error = JudgeChannel(request.Query("channelArn"), account, call.region, &call.channel_arn); !error.code.empty()) {
    return error;
  }
  for (const auto& [name, value] : request.query) {
    if (name == "externalId" && !IsExternalId(value)) {
      return AuditCallError{400, "ValidationException", "externalId must be 2 to 1224 characters of A-Z, a-z, 0-9 and _+=,.@:/-"};
    }
  }
  if (request.body.size() > kAuditCallBytes) {
    return AuditCallError{413, "RequestEntityTooLargeException", "a call is at most 1 MB: send the events in several calls"};
  }
  if (AuditCallError error = ParseBody(request.body, &call.events); !error.code.empty()) return error;
  return call;
}

std::variant<AuditRecord, AuditEventError> MakeAuditRecord(const AuditCall& call, const AuditEvent& event,
                                                           std::string_view account, std::string_view posted_by,
                                                           absl::Time ingestion, json::Scanner& scanner) {
  if (event.checksum && *event.checksum != Base64(Sha256(event.event_data).view())) {
    return Failure("InvalidChecksum", "eventDataChecksum is not the base64 of SHA-256 over eventData's bytes");
  }
  if (json::Flaw flaw = scanner.Validate(event.event_data, false); flaw != json::Flaw::kNone) {
    return Failure("InvalidData", "eventData is not clean JSON: " + std::string(json::FlawName(flaw)) + " at byte " +
                                      std::to_string(scanner.offset()));
  }
  std::array<Found, std::size(kRules)> found;
  if (!ReadMembers(event.event_data, kRules, &found)) return Failure("InvalidData", "eventData is not a JSON object");
  if (std::optional<AuditEventError> error = CheckMembers(kRules, found, "")) return *std::move(error);
  std::array<Found, std::size(kIdentityRules)> identity;
  if (!ReadMembers(At(found, "userIdentity").text, kIdentityRules, &identity)) return Failure("InvalidData", "userIdentity is not an object");
  if (std::optional<AuditEventError> error = CheckMembers(kIdentityRules, identity, "userIdentity.")) return *std::move(error);
  const std::optional<std::string> time = EventTime(At(found, "eventTime").text);
  if (!time) return Failure("InvalidData", "eventTime must be UTC as yyyy-MM-ddTHH:mm:ssZ");
  if (At(found, "recipientAccountId").text != account) {
    return Failure("InvalidRecipient", "recipientAccountId must be the channel's account " + std::string(account));
  }
  if (!IsEventSource(At(found, "eventSource").text)) return Failure("InvalidEventSource", "eventSource is blank or has control characters");
  const Found& ip = At(found, "sourceIPAddress");
  if (ip.kind != Found::Kind::kAbsent && !IsIpAddress(ip.text)) return Failure("InvalidData", "sourceIPAddress must be an IPv4 or IPv6 address");

  constexpr std::string_view kLabel = "orgtrail/put-audit-events/v1";
  const std::string_view nul("\0", 1);
  AuditRecord record;
  record.event_id =
      Uuid::FromHash(Sha256({kLabel, nul, account, nul, std::string_view(call.channel_arn), nul, std::string_view(event.id)}).view())
          .ToString();
  std::string& out = record.text;
  out.reserve(event.event_data.size() + 512);
  out += R"({"eventVersion":"1.0","eventCategory":"ActivityAuditLog","eventType":"ActivityLog","eventID":)";
  AppendJsonString(out, record.event_id);
  out += ",\"eventTime\":";
  AppendJsonString(out, *time);
  out += ",\"awsRegion\":";
  AppendJsonString(out, call.region);
  out += ",\"recipientAccountId\":";
  AppendJsonString(out, account);
  out += ",\"metadata\":{\"ingestionTime\":";
  AppendJsonString(out, Rfc3339(ingestion));
  out += ",\"channelARN\":";
  AppendJsonString(out, call.channel_arn);
  out += ",\"postedBy\":";
  AppendJsonString(out, posted_by);
  out += "},\"eventData\":";
  const size_t data_at = out.size();
  out += event.event_data;
  // In valid JSON a line end stands between tokens only, so a space there means the same.
  for (size_t i = data_at; i < out.size(); ++i) {
    if (out[i] == '\n' || out[i] == '\r') out[i] = ' ';
  }
  out += '}';
  json::Fields fields;
  if (json::Flaw flaw = scanner.Scan(record.text, &fields); flaw != json::Flaw::kNone) {  // one level deeper than eventData alone
    return Failure("InvalidData", "eventData does not fit into a record: " + std::string(json::FlawName(flaw)));
  }
  return record;
}

HttpResponse AuditErrorResponse(const AuditCallError& error) {
  HttpResponse response;
  response.status = error.status;
  response.headers.emplace_back("x-amzn-ErrorType", error.code);
  response.body = "{\"__type\":" + JsonString(error.code) + ",\"message\":" + JsonString(error.message) + "}";
  return response;
}

std::string AuditReply(const std::vector<AuditOutcome>& outcomes) {
  std::string out = "{\"successful\":[";
  bool first = true;
  for (const AuditOutcome& o : outcomes) {
    if (o.error) continue;
    if (!first) out += ',';
    first = false;
    out += "{\"id\":" + JsonString(o.id) + ",\"eventID\":" + JsonString(o.event_id) + "}";
  }
  out += "],\"failed\":[";
  first = true;
  for (const AuditOutcome& o : outcomes) {
    if (!o.error) continue;
    if (!first) out += ',';
    first = false;
    out += "{\"id\":" + JsonString(o.id) + ",\"errorCode\":" + JsonString(o.error->code) +
           ",\"errorMessage\":" + JsonString(o.error->message) + "}";
  }
  out += "]}";
  return out;
}

}  // namespace orgtrail
