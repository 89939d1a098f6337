#include "agent/capture/http_source.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <variant>

#include "agent/capture/put_audit_events.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/crypto/digest.h"
#include "common/http/request.h"
#include "common/json/scanner.h"

namespace orgtrail {
namespace {

constexpr size_t kTokenLeast = 16;
constexpr size_t kIdempotencyKeyBytes = 128;
constexpr char kPaths[] = R"(,"paths":{"POST /records":"NDJSON, one CloudTrail record a line",)"
                          R"("POST /PutAuditEvents":"CloudTrail's PutAuditEvents, ?channelArn=ARN or ID","GET /":"this text"}})";

std::string_view Trim(std::string_view s) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t from = s.find_first_not_of(kSpace);
  if (from == std::string_view::npos) return {};
  return s.substr(from, s.find_last_not_of(kSpace) - from + 1);
}

// Holds idempotency keys while their records are on the way, so that a retry that overtakes its first try finds the reply.
class KeyHold {
 public:
  KeyHold(Guarded<std::set<std::string>>& held, std::vector<std::string> keys) : held_(held), keys_(std::move(keys)) {
    held_.When(  // all at once or none: two requests with keys in common cannot wait for each other
        [this](const std::set<std::string>& s) {
          return std::none_of(keys_.begin(), keys_.end(), [&](const std::string& k) { return s.contains(k); });
        },
        [this](std::set<std::string>& s) { s.insert(keys_.begin(), keys_.end()); });
  }
  ~KeyHold() {
    held_.With([this](std::set<std::string>& s) {
      for (const std::string& k : keys_) s.erase(k);
    });
  }
  KeyHold(const KeyHold&) = delete;

 private:
  Guarded<std::set<std::string>>& held_;
  const std::vector<std::string> keys_;
};

bool Later(const absl::Status& status) { return absl::IsResourceExhausted(status) || absl::IsUnavailable(status); }

HttpResponse NotTaken(const absl::Status& status) {
  HttpResponse response = JsonError(Later(status) ? 503 : 500, ToStd(status.message()));
  if (Later(status)) response.headers.emplace_back("Retry-After", "1");
  return response;
}

HttpResponse AuditNotTaken(const absl::Status& status) {
  // 503, not CloudTrail's 400 ThrottlingException: every SDK tries again on both, and other clients only on 503.
  HttpResponse response = AuditErrorResponse(
      {Later(status) ? 503 : 500, Later(status) ? "ThrottlingException" : "InternalFailure", std::string(status.message())});
  if (Later(status)) response.headers.emplace_back("Retry-After", "1");
  return response;
}

// Lines that hold something; false when there are more than `most`.
bool SplitLines(std::string_view body, size_t most, std::vector<std::string_view>* lines) {
  while (!body.empty()) {
    const size_t end = body.find('\n');
    std::string_view line = body.substr(0, end);
    body = end == std::string_view::npos ? std::string_view() : body.substr(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (Trim(line).empty()) continue;
    if (lines->size() >= most) return false;
    lines->push_back(line);
  }
  return true;
}

bool IsVisible(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

}  // namespace

HttpSource::HttpSource(HttpSourceOptions options, bool unix_socket, Intake& intake, const Clock& clock)
    : options_(std::move(options)), unix_socket_(unix_socket), intake_(intake), clock_(clock) {}
HttpSource::~HttpSource() { Stop(); }

absl::StatusOr<std::unique_ptr<HttpSource>> HttpSource::Make(HttpSourceOptions options, Intake& intake, const Clock& clock) {
  ASSIGN_OR_RETURN(const ListenAddress where, ParseListen(options.listen));
  const bool unix_socket = !where.unix_path.empty();
  if (options.token) {
    options.token = std::string(Trim(*options.token));
    if (options.token->size() < kTokenLeast || !IsVisible(*options.token)) {
      return absl::InvalidArgumentError("http.token_file must hold one token of at least 16 visible characters, such as: openssl rand -hex 32");
    }
  } else if (!unix_socket && !where.loopback) {
    return absl::InvalidArgumentError("http.listen " + options.listen +
                                      " is not loopback: set http.token_file, or anybody who reaches it could post records");
  }
  if (options.allowed_uids.empty()) options.allowed_uids = {0, geteuid()};
  return std::unique_ptr<HttpSource>(new HttpSource(std::move(options), unix_socket, intake, clock));
}

absl::Status HttpSource::Start() {
  HttpServerOptions server;
  server.listen = options_.listen;
  server.max_body_bytes = options_.max_body_bytes;
  server.workers = options_.workers;
  ASSIGN_OR_RETURN(server_, HttpServer::Start(server, [this](const HttpRequest& request) { return Handle(request); }));
  return absl::OkStatus();
}

void HttpSource::Stop() { server_.reset(); }
int HttpSource::port() const { return server_ == nullptr ? 0 : server_->port(); }

std::optional<std::string> HttpSource::Poster(const HttpRequest& request, std::string* why) const {
  if (options_.token) {
    const std::optional<std::string_view> bearer = BearerToken(request.Header("authorization"));
    const std::string_view token = bearer ? *bearer : request.Header("x-amz-security-token");
    if (ConstantTimeEqual(token, *options_.token)) return "http:token";
  }
  if (unix_socket_) {
    if (request.peer_uid && std::find(options_.allowed_uids.begin(), options_.allowed_uids.end(), *request.peer_uid) !=
                                options_.allowed_uids.end()) {
      return "http:uid=" + std::to_string(*request.peer_uid);
    }
    *why = "user " + (request.peer_uid ? std::to_string(*request.peer_uid) : std::string("unknown")) +
           " may not post here: add it to http.allow_users";
    return std::nullopt;
  }
  if (options_.token) {
    *why = "the token is missing or wrong: send Authorization: Bearer with the content of http.token_file "
           "(AWS SDKs: as the session token)";
    return std::nullopt;
  }
  return "http:loopback";
}

// The poster with the name people know: of the token's file, or of the user.
std::string HttpSource::Named(const std::string& poster) {
  constexpr std::string_view kUid = "http:uid=";
  std::string name = poster == "http:token" ? options_.token_name : "";
  if (const std::optional<uint64_t> uid = poster.starts_with(kUid) ? ParseUint(poster.substr(kUid.size())) : std::nullopt) {
    name = users_.With([&](std::map<uint32_t, std::string>& users) {
      const auto [it, fresh] = users.try_emplace(static_cast<uint32_t>(*uid));
      if (fresh) {
        passwd entry{}, *found = nullptr;
        std::vector<char> room(16 << 10);
        if (getpwuid_r(it->first, &entry, room.data(), room.size(), &found) == 0 && found != nullptr) it->second = found->pw_name;
      }
      return it->second;
    });
  }
  std::erase_if(name, [](char c) { return c <= 0x20 || c >= 0x7F || c == '"' || c == '\\' || c == '(' || c == ')'; });
  return name.empty() ? poster : poster + " (" + name.substr(0, 64) + ")";
}

HttpResponse HttpSource::Handle(const HttpRequest& request) {
  const bool records = request.path == "/records", audit = request.path == "/PutAuditEvents";
  if (request.path == "/" && (request.method == "GET" || request.method == "HEAD")) {
    HttpResponse response;
    response.body = "{\"service\":\"orgtrail-agent http source\",\"version\":\"" ORGTRAIL_VERSION "\",\"account\":" +
                    JsonString(options_.account) + ",\"region\":" + JsonString(options_.region) + kPaths + "\n";
    return response;
  }
  if (!records && !audit) {
    if (request.method == "POST" && (request.path == "/" || !request.Header("x-amz-target").empty())) {
      return AuditErrorResponse({400, "UnsupportedOperationException", "of CloudTrail's calls this takes POST /PutAuditEvents only"});
    }
    HttpResponse response = JsonError(404, "");
    response.body = "{\"error\":" + JsonString("no such path: " + Printable(request.path.substr(0, 200))) + kPaths + "\n";
    return response;
  }
  if (request.method != "POST") {
    HttpResponse response = JsonError(405, request.path + " takes POST only");
    response.headers.emplace_back("Allow", "POST");
    return response;
  }
  if (!request.Header("origin").empty()) return JsonError(403, "requests of web pages are not taken");
  std::string why;
  const std::optional<std::string> poster = Poster(request, &why);
  if (!poster) {
    LogWarn("http source refused a request", {{"peer", request.peer}, {"path", request.path}, {"why", why}});
    if (audit) return AuditErrorResponse({403, "AccessDeniedException", why});
    HttpResponse response = JsonError(unix_socket_ ? 403 : 401, why);
    if (!unix_socket_) response.headers.emplace_back("WWW-Authenticate", "Bearer");
    return response;
  }
  const std::string_view encoding = request.Header("content-encoding");
  if (!encoding.empty() && encoding != "identity") return JsonError(415, "send the body without Content-Encoding");
  return records ? Records(request, *poster) : AuditEvents(request, *poster);
}

HttpResponse HttpSource::Records(const HttpRequest& request, const std::string& poster) {
  RawChunk chunk;
  chunk.source = poster;
  chunk.posted_by = Named(poster);
  chunk.sync = true;
  if (!SplitLines(request.body, options_.max_lines, &chunk.texts)) {
    return JsonError(413, "at most " + std::to_string(options_.max_lines) + " records in one request: send them in smaller parts");
  }
  const std::string_view key = request.Header("idempotency-key");
  if (key.size() > kIdempotencyKeyBytes || !IsVisible(key)) {
    return JsonError(400, "Idempotency-Key must be 1 to 128 visible ASCII characters");
  }
  std::optional<KeyHold> hold;
  if (!key.empty()) {
    chunk.idempotency_key = "records:" + Hex(Sha256({poster, std::string_view("\0", 1), key}).view());
    const std::string digest = Hex(Sha256(request.body).view());
    chunk.idempotent_reply = digest + " " + std::to_string(chunk.texts.size());
    hold.emplace(in_flight_, std::vector<std::string>{chunk.idempotency_key});
    absl::StatusOr<std::string> before = intake_.IdempotentReply(chunk.idempotency_key);
    if (before.ok()) {
      if (!before->starts_with(digest + " ")) return JsonError(422, "this Idempotency-Key was used with another body: take a new key");
      HttpResponse response;
      response.headers.emplace_back("Idempotent-Replayed", "true");
      response.body = "{\"accepted\":" + before->substr(digest.size() + 1) + ",\"replayed\":true}\n";
      return response;
    }
    if (!absl::IsNotFound(before.status())) return NotTaken(before.status());
  }
  Taken taken;
  if (!chunk.texts.empty()) {
    absl::StatusOr<Taken> result = intake_.Take(chunk);
    if (!result.ok()) return NotTaken(result.status());
    taken = *std::move(result);
  }
  HttpResponse response;
  response.body = "{\"accepted\":" + std::to_string(taken.accepted) + ",\"wrapped\":" + std::to_string(taken.wrapped) +
                  ",\"first_seq\":" + std::to_string(taken.first_seq) + "}\n";
  return response;
}

HttpResponse HttpSource::AuditEvents(const HttpRequest& request, const std::string& poster) {
  std::variant<AuditCall, AuditCallError> parsed = ParseAuditCall(request, options_.account, options_.region);
  if (const auto* error = std::get_if<AuditCallError>(&parsed)) return AuditErrorResponse(*error);
  const AuditCall& call = std::get<AuditCall>(parsed);

  const absl::Time now = clock_.Wall();
  json::Scanner scanner;
  std::vector<AuditOutcome> outcomes;
  std::vector<AuditRecord> records(call.events.size());
  std::vector<std::string> keys;
  for (size_t i = 0; i < call.events.size(); ++i) {
    AuditOutcome outcome{call.events[i].id, "", std::nullopt};
    auto made = MakeAuditRecord(call, call.events[i], options_.account, poster, now, scanner);
    if (auto* error = std::get_if<AuditEventError>(&made)) {
      outcome.error = std::move(*error);
    } else {
      records[i] = std::move(std::get<AuditRecord>(made));
      outcome.event_id = records[i].event_id;
      keys.push_back("PutAuditEvents:" + outcome.event_id);
    }
    outcomes.push_back(std::move(outcome));
  }

  const KeyHold hold(in_flight_, keys);
  RawChunk chunk;
  chunk.source = poster;
  chunk.sync = true;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    if (outcomes[i].error) continue;
    const std::string key = "PutAuditEvents:" + outcomes[i].event_id;
    const std::string digest = Hex(Sha256(call.events[i].event_data).view());
    absl::StatusOr<std::string> before = intake_.IdempotentReply(key);
    if (before.ok()) {
      if (*before != digest) {
        outcomes[i].error = AuditEventError{"InvalidData", "this id was used on this channel with other eventData: take a new id"};
      }
    } else if (absl::IsNotFound(before.status())) {
      chunk.texts.push_back(records[i].text);
      chunk.replies.emplace_back(key, digest);
    } else {
      return AuditNotTaken(before.status());
    }
  }
  if (!chunk.texts.empty()) {
    if (absl::StatusOr<Taken> taken = intake_.Take(chunk); !taken.ok()) return AuditNotTaken(taken.status());
  }
  HttpResponse response;
  response.body = AuditReply(outcomes);
  return response;
}

}  // namespace orgtrail
