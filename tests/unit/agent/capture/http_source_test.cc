#include "agent/capture/http_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <map>
#include <thread>

#include "agent/capture/put_audit_events.h"
#include "common/base/ids.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "common/http/client.h"

namespace orgtrail {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr char kAccount[] = "222222222222";
constexpr char kToken[] = "0123456789abcdef0123456789abcdef";

// The recorder's door as it promises to be: what Take took is stored together with its replies, or nothing is.
class FakeIntake final : public Intake {
 public:
  absl::StatusOr<Taken> Take(const RawChunk& chunk) override {
    // Time for another request's lookup, which must not come while this one's records are on the way.
    if (linger_for_lookups > 0) {
      lookups.WhenFor(absl::Milliseconds(30), [&](int n) { return n >= linger_for_lookups; }, [](int, bool) {});
    }
    std::lock_guard lock(mu);
    ++takes;
    if (!refuse.ok()) return refuse;
    EXPECT_TRUE(chunk.sync);
    EXPECT_TRUE(chunk.positions.empty());
    Taken taken;
    taken.first_seq = stored.size() + 1;
    for (std::string_view text : chunk.texts) {
      stored.emplace_back(text);
      sources.emplace_back(chunk.source);
      posters.push_back(chunk.posted_by);
      if (!text.starts_with('{')) ++taken.wrapped;
    }
    taken.accepted = chunk.texts.size();
    if (!chunk.idempotency_key.empty()) replies[chunk.idempotency_key] = chunk.idempotent_reply;
    for (const auto& [key, reply] : chunk.replies) replies[key] = reply;
    if (!after_storing.ok()) return after_storing;
    return taken;
  }
  absl::StatusOr<std::vector<FilePosition>> Positions() override { return std::vector<FilePosition>(); }
  absl::StatusOr<std::string> IdempotentReply(std::string_view key) override {
    lookups.With([](int& n) { ++n; });
    std::lock_guard lock(mu);
    if (!lookup.ok()) return lookup;
    auto found = replies.find(std::string(key));
    if (found == replies.end()) return absl::NotFoundError("never seen");
    return found->second;
  }
  void Lost(std::string_view, std::string_view, uint32_t, std::string_view) override { FAIL() << "nothing is lost here"; }

  std::mutex mu;
  std::vector<std::string> stored, sources, posters;
  std::map<std::string, std::string> replies;
  absl::Status refuse, after_storing, lookup;
  int takes = 0;
  int linger_for_lookups = 0;
  Guarded<int> lookups{0};
};

class FixedClock final : public Clock {
 public:
  absl::Time Wall() const override { return absl::FromUnixSeconds(1'763'712'000); }  // 2025-11-21T08:00:00Z
  Tick Now() const override { return Tick{1}; }
  ClockQuality Quality() const override { return {}; }
  std::string BootId() const override { return std::string(16, 'b'); }
};

class HttpSourceTest : public testing::Test {
 protected:
  std::unique_ptr<HttpSource> Make(HttpSourceOptions options = {}) {
    if (options.listen.empty()) options.listen = "127.0.0.1:0";
    options.account = kAccount;
    options.region = "eu-west-1";
    auto source = HttpSource::Make(std::move(options), intake_, clock_);
    EXPECT_TRUE(source.ok()) << source.status();
    return source.ok() ? *std::move(source) : nullptr;
  }
  static HttpRequest Post(std::string path, std::string body, std::vector<std::pair<std::string, std::string>> headers = {}) {
    HttpRequest r;
    r.method = "POST";
    r.path = std::move(path);
    r.body = std::move(body);
    r.headers = std::move(headers);
    r.peer = "127.0.0.1:1";
    return r;
  }
  static HttpRequest Audit(std::string body, std::string channel = "ch-1") {
    HttpRequest r = Post("/PutAuditEvents", std::move(body));
    r.query = {{"channelArn", std::move(channel)}};
    return r;
  }
  static std::string EventData(std::string_view more = "") {
    return R"({"version":"1","userIdentity":{"type":"User","principalId":"u1"},"eventSource":"app.example","eventName":"Login",)"
           R"("eventTime":"2025-11-21T07:59:00Z","UID":"x-1","recipientAccountId":"222222222222")" + std::string(more) + "}";
  }
  static std::string Event(std::string_view id, std::string_view data, std::string_view more = "") {
    return "{\"id\":" + JsonString(id) + ",\"eventData\":" + JsonString(data) + std::string(more) + "}";
  }
  static std::string Events(std::initializer_list<std::string> events) {
    std::string out = "{\"auditEvents\":[";
    for (const std::string& e : events) out += (out.back() == '[' ? "" : ",") + e;
    return out + "]}";
  }

  FakeIntake intake_;
  FixedClock clock_;
};

TEST_F(HttpSourceTest, RecordsAreTakenLineByLineAsTheyCame) {
  auto source = Make();
  const HttpResponse r = source->Handle(Post("/records", "{\"a\":1}\r\n\n  \n{\"b\": 2 }\nnot json\n"));
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.body, "{\"accepted\":3,\"wrapped\":1,\"first_seq\":1}\n");
  EXPECT_EQ(intake_.stored, (std::vector<std::string>{"{\"a\":1}", "{\"b\": 2 }", "not json"}));
  EXPECT_EQ(intake_.sources[0], "http:loopback");
  EXPECT_EQ(source->Handle(Post("/records", "{\"c\":3}")).body, "{\"accepted\":1,\"wrapped\":0,\"first_seq\":4}\n");
  EXPECT_EQ(source->Handle(Post("/records", "\r\n\n")).body, "{\"accepted\":0,\"wrapped\":0,\"first_seq\":0}\n");
  EXPECT_EQ(intake_.takes, 2);
}

TEST_F(HttpSourceTest, LinesAreBounded) {
  HttpSourceOptions options;
  options.max_lines = 2;
  auto source = Make(options);
  EXPECT_EQ(source->Handle(Post("/records", "{}\n{}\n")).status, 200);
  EXPECT_EQ(source->Handle(Post("/records", "{}\n{}\n{}")).status, 413);
  EXPECT_EQ(intake_.stored.size(), 2u);
}

TEST_F(HttpSourceTest, BackpressureIs503AndNothingElseIs) {
  auto source = Make();
  struct Case {
    absl::Status status;
    int http;
    std::string_view audit_code;
  };
  const Case cases[] = {{absl::ResourceExhaustedError("the spool is full"), 503, "ThrottlingException"},
                        {absl::UnavailableError("stopping"), 503, "ThrottlingException"},
                        {absl::InternalError("broken"), 500, "InternalFailure"}};
  for (const Case& c : cases) {
    intake_.refuse = c.status;
    const HttpResponse records = source->Handle(Post("/records", "{}\n", {{"idempotency-key", "k"}}));
    EXPECT_EQ(records.status, c.http);
    EXPECT_EQ(records.Header("Retry-After"), c.http == 503 ? "1" : "");
    EXPECT_THAT(records.body, HasSubstr(std::string(c.status.message())));
    const HttpResponse audit = source->Handle(Audit(Events({Event("1", EventData())})));
    EXPECT_EQ(audit.status, c.http);
    EXPECT_EQ(audit.Header("Retry-After"), c.http == 503 ? "1" : "");
    EXPECT_EQ(audit.Header("x-amzn-ErrorType"), c.audit_code);
  }
  EXPECT_TRUE(intake_.stored.empty());
  intake_.refuse = absl::OkStatus();  // and the same request goes through afterwards
  EXPECT_EQ(source->Handle(Post("/records", "{}\n", {{"idempotency-key", "k"}})).status, 200);
  intake_.lookup = absl::InternalError("disk");
  EXPECT_EQ(source->Handle(Post("/records", "{}\n", {{"idempotency-key", "k2"}})).status, 500);
  EXPECT_EQ(source->Handle(Audit(Events({Event("2", EventData())}))).status, 500);
  EXPECT_EQ(intake_.stored.size(), 1u);
}

TEST_F(HttpSourceTest, IdempotencyKeyStoresOnce) {
  auto source = Make();
  const auto post = [&](std::string body, std::string key) {
    return source->Handle(Post("/records", std::move(body), {{"idempotency-key", std::move(key)}}));
  };
  EXPECT_EQ(post("{}\n{}", "k1").status, 200);
  const HttpResponse again = post("{}\n{}", "k1");
  EXPECT_EQ(again.status, 200);
  EXPECT_EQ(again.body, "{\"accepted\":2,\"replayed\":true}\n");
  EXPECT_EQ(again.Header("Idempotent-Replayed"), "true");
  EXPECT_EQ(intake_.stored.size(), 2u);
  EXPECT_EQ(post("{\"other\":1}", "k1").status, 422);
  EXPECT_EQ(post("{}\n{}", "k2").status, 200);
  EXPECT_EQ(intake_.stored.size(), 4u);
  EXPECT_EQ(post("{}", std::string(129, 'k')).status, 400);
  EXPECT_EQ(post("{}", "a b").status, 400);
}

TEST_F(HttpSourceTest, ACrashBetweenStoringAndAnsweringStoresOnce) {
  const std::string call = Events({Event("1", EventData()), Event("2", EventData())});
  intake_.after_storing = absl::UnavailableError("not known to be stored");
  EXPECT_EQ(Make()->Handle(Post("/records", "{}", {{"idempotency-key", "k"}})).status, 503);
  EXPECT_EQ(Make()->Handle(Audit(call)).status, 503);
  intake_.after_storing = absl::OkStatus();
  auto restarted = Make();  // what it knows is in the spool
  EXPECT_EQ(restarted->Handle(Post("/records", "{}", {{"idempotency-key", "k"}})).body, "{\"accepted\":1,\"replayed\":true}\n");
  EXPECT_EQ(restarted->Handle(Audit(call)).status, 200);
  EXPECT_EQ(intake_.stored.size(), 3u);
}

TEST_F(HttpSourceTest, RetriesThatOvertakeStoreOnce) {
  auto source = Make();
  const std::string call = Events({Event("1", EventData()), Event("2", EventData())});
  const std::string other = Events({Event("2", EventData()), Event("1", EventData()), Event("3", EventData())});
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(source->Handle(Audit(t % 2 ? call : other)).status, 200);
        EXPECT_EQ(source->Handle(Post("/records", "{}", {{"idempotency-key", "k"}})).status, 200);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(intake_.stored.size(), 4u);
}

TEST_F(HttpSourceTest, AnEqualRequestWaitsForTheOneOnItsWay) {
  auto source = Make();
  intake_.linger_for_lookups = 2;
  std::thread first([&] { EXPECT_EQ(source->Handle(Post("/records", "{}", {{"idempotency-key", "k"}})).status, 200); });
  std::thread second([&] { EXPECT_EQ(source->Handle(Post("/records", "{}", {{"idempotency-key", "k"}})).status, 200); });
  first.join();
  second.join();
  EXPECT_EQ(intake_.stored.size(), 1u);
}

TEST_F(HttpSourceTest, WhoMayPost) {
  HttpSourceOptions tcp, tcp_token, sock, sock_token, sock_uid;
  tcp_token.token = sock_token.token = std::string(" ") + kToken + "\n";
  tcp_token.token_name = sock_token.token_name = "c(i)\n\"";   // a file's name may be anything
  sock.listen = sock_token.listen = sock_uid.listen = "unix:/run/x.sock";
  sock_uid.allowed_uids = {1234};
  const std::string bearer = std::string("Bearer ") + kToken;
  struct Case {
    std::string name;
    HttpSourceOptions options;
    std::optional<uint32_t> uid;
    std::vector<std::pair<std::string, std::string>> headers;
    int status;
    std::string source;
  };
  const Case cases[] = {
      {"loopback", tcp, {}, {}, 200, "http:loopback"},
      {"web page", tcp, {}, {{"origin", "http://evil.example"}}, 403, ""},
      {"token", tcp_token, {}, {{"authorization", bearer}}, 200, "http:token"},
      {"token of an SDK", tcp_token, {}, {{"x-amz-security-token", kToken}}, 200, "http:token"},
      {"no token", tcp_token, {}, {}, 401, ""},
      {"wrong token", tcp_token, {}, {{"authorization", bearer + "x"}}, 401, ""},
      {"empty token", tcp_token, {}, {{"authorization", "Bearer "}}, 401, ""},
      {"own user", sock, geteuid(), {}, 200, "http:uid=" + std::to_string(geteuid())},
      {"root", sock, 0, {}, 200, "http:uid=0"},
      {"another user", sock, 4321, {}, 403, ""},
      {"listed user", sock_uid, 1234, {}, 200, "http:uid=1234"},
      {"unlisted user", sock_uid, 4321, {}, 403, ""},
      {"root when a list is given", sock_uid, 0, {}, 403, ""},
      {"user unknown", sock, {}, {}, 403, ""},
      {"another user with the token", sock_token, 4321, {{"authorization", bearer}}, 200, "http:token"},
  };
  for (const Case& c : cases) {
    auto source = Make(c.options);
    intake_.stored.clear();
    intake_.sources.clear();
    HttpRequest r = Post("/records", "{}", c.headers);
    r.peer_uid = c.uid;
    EXPECT_EQ(source->Handle(r).status, c.status) << c.name;
    EXPECT_EQ(intake_.stored.size(), c.status == 200 ? 1u : 0u) << c.name;
    if (c.status == 200) {
      EXPECT_EQ(intake_.sources[0], c.source) << c.name;
      const std::string known = c.source == "http:token" ? " (ci)" : c.source == "http:uid=0" ? " (root)" : "";
      EXPECT_THAT(intake_.posters[0], StartsWith(c.source + known)) << c.name;
    }
    intake_.posters.clear();
    r = Audit(Events({Event("who-" + std::to_string(&c - cases), EventData())}));
    r.headers = c.headers;
    r.peer_uid = c.uid;
    const HttpResponse audit = source->Handle(r);
    EXPECT_EQ(audit.status, c.status == 401 ? 403 : c.status) << c.name;
    for (const std::string& poster : intake_.posters) EXPECT_EQ(poster, "") << c.name;   // its records name the poster themselves
    intake_.posters.clear();
  }
}

TEST_F(HttpSourceTest, ConfigurationMistakes) {
  struct Case {
    std::string listen;
    std::optional<std::string> token;
    std::string why;  // empty: fine
  };
  const Case cases[] = {
      {"127.0.0.1:8787", {}, ""},
      {"[::1]:8787", {}, ""},
      {"unix:/run/x", {}, ""},
      {"0.0.0.0:8787", {}, "http.listen 0.0.0.0:8787 is not loopback: set http.token_file, or anybody who reaches it could post records"},
      {"[::]:8787", {}, "http.listen [::]:8787 is not loopback"},
      {"0.0.0.0:8787", kToken, ""},
      {"127.0.0.1:8787", "short", "http.token_file must hold one token"},
      {"127.0.0.1:8787", "\n", "http.token_file must hold one token"},
      {"127.0.0.1:8787", std::string("two tokens are not one token"), "http.token_file must hold one token"},
      {"somewhere", {}, "listen address \"somewhere\": expected ADDRESS:PORT"},
  };
  for (const Case& c : cases) {
    HttpSourceOptions options;
    options.listen = c.listen;
    options.token = c.token;
    const absl::Status status = HttpSource::Make(options, intake_, clock_).status();
    EXPECT_EQ(status.ok(), c.why.empty()) << c.listen << status;
    if (!c.why.empty()) {
      EXPECT_THAT(std::string(status.message()), StartsWith(c.why));
    }
  }
}

TEST_F(HttpSourceTest, OtherPathsSayWhatExists) {
  auto source = Make();
  HttpRequest get;
  get.method = "GET";
  get.path = "/";
  EXPECT_THAT(source->Handle(get).body, testing::AllOf(HasSubstr("\"service\":\"orgtrail-agent http source\""),
                                                       HasSubstr("POST /PutAuditEvents")));
  EXPECT_EQ(source->Handle(Post("/record", "")).status, 404);
  EXPECT_THAT(source->Handle(Post("/record", "")).body, HasSubstr("POST /records"));
  get.path = "/records";
  EXPECT_EQ(source->Handle(get).status, 405);
  EXPECT_EQ(source->Handle(get).Header("Allow"), "POST");
  const HttpResponse other = source->Handle(Post("/", "{}", {{"x-amz-target", "CloudTrail_20131101.LookupEvents"}}));
  EXPECT_EQ(other.status, 400);
  EXPECT_EQ(other.Header("x-amzn-ErrorType"), "UnsupportedOperationException");
  EXPECT_EQ(source->Handle(Post("/records", "\x1f\x8b", {{"content-encoding", "gzip"}})).status, 415);
}

TEST_F(HttpSourceTest, AuditEventBecomesARecord) {
  auto source = Make();
  const std::string data = EventData(R"(,"requestParameters":{"n":1e400,"big":123456789012345678901234567890},"note":"é\n\"")");
  HttpRequest r = Audit(Events({Event("e-1", data, ",\"eventDataChecksum\":" + JsonString(Base64(Sha256(data).view())))}));
  r.headers = {{"authorization", "AWS4-HMAC-SHA256 Credential=AKID/20251121/us-east-2/cloudtrail-data/aws4_request, "
                                 "SignedHeaders=host, Signature=" + std::string(64, '0')}};
  const HttpResponse response = source->Handle(r);
  ASSERT_EQ(response.status, 200);
  ASSERT_EQ(intake_.stored.size(), 1u) << response.body;
  const std::string hashed = std::string("orgtrail/put-audit-events/v1") + '\0' + kAccount + '\0' +
                             "arn:aws:cloudtrail:us-east-2:222222222222:channel/ch-1" + '\0' + "e-1";
  const std::string id = Uuid::FromHash(Sha256(hashed).view()).ToString();
  EXPECT_EQ(intake_.stored[0],
            "{\"eventVersion\":\"1.0\",\"eventCategory\":\"ActivityAuditLog\",\"eventType\":\"ActivityLog\",\"eventID\":\"" + id +
                "\",\"eventTime\":\"2025-11-21T07:59:00Z\",\"awsRegion\":\"us-east-2\",\"recipientAccountId\":\"222222222222\","
                "\"metadata\":{\"ingestionTime\":\"2025-11-21T08:00:00Z\",\"channelARN\":"
                "\"arn:aws:cloudtrail:us-east-2:222222222222:channel/ch-1\",\"postedBy\":\"http:loopback\"},\"eventData\":" + data + "}");
  EXPECT_EQ(id[14], '8');
  EXPECT_EQ(response.body, "{\"successful\":[{\"id\":\"e-1\",\"eventID\":\"" + id + "\"}],\"failed\":[]}");
}

TEST_F(HttpSourceTest, ARecordIsOneLineWhateverTheCallerSends) {
  auto source = Make();
  const std::string data = EventData(",\"a\":\n{\"eventVersion\":\"1.08\"}\r\n");
  EXPECT_THAT(source->Handle(Audit(Events({Event("1", data)}))).body, HasSubstr("\"failed\":[]"));
  ASSERT_EQ(intake_.stored.size(), 1u);
  EXPECT_THAT(intake_.stored[0], HasSubstr(",\"a\": {\"eventVersion\":\"1.08\"}  }"));
}

TEST_F(HttpSourceTest, RetriesGetTheSameIdAndAreStoredOnce) {
  auto source = Make();
  const std::string first = source->Handle(Audit(Events({Event("1", EventData())}))).body;
  EXPECT_EQ(source->Handle(Audit(Events({Event("1", EventData())}))).body, first);
  EXPECT_EQ(intake_.stored.size(), 1u);
  // Another mix, another channel, other content.
  EXPECT_THAT(source->Handle(Audit(Events({Event("2", EventData()), Event("1", EventData())}))).body, HasSubstr("\"failed\":[]"));
  EXPECT_EQ(intake_.stored.size(), 2u);
  EXPECT_NE(source->Handle(Audit(Events({Event("1", EventData())}), "ch-2")).body, first);
  EXPECT_EQ(intake_.stored.size(), 3u);
  EXPECT_EQ(source->Handle(Audit(Events({Event("1", EventData(",\"x\":1"))}))).body,
            "{\"successful\":[],\"failed\":[{\"id\":\"1\",\"errorCode\":\"InvalidData\",\"errorMessage\":"
            "\"this id was used on this channel with other eventData: take a new id\"}]}");
  // The bare id and the ARN name the same channel.
  EXPECT_EQ(source->Handle(Audit(Events({Event("1", EventData())}), "arn:aws:cloudtrail:eu-west-1:222222222222:channel/ch-1")).body, first);
  EXPECT_EQ(intake_.stored.size(), 3u);
}

TEST_F(HttpSourceTest, CallLevelErrors) {
  auto source = Make();
  const std::string good = Events({Event("1", EventData())});
  const std::string sig(64, 'a');
  std::string many = "{\"auditEvents\":[";
  for (int i = 0; i < 101; ++i) many += (i ? "," : "") + Event(std::to_string(i), "{}");
  many += "]}";
  struct Case {
    std::string name, body, channel, authorization, external_id;
    int status;
    std::string code;
  };
  const Case cases[] = {
      {"no channel", good, "", "", "", 400, "InvalidChannelARN"},
      {"bad id", good, "a b", "", "", 400, "InvalidChannelARN"},
      {"a trail", good, "arn:aws:cloudtrail:eu-west-1:222222222222:trail/x", "", "", 400, "InvalidChannelARN"},
      {"short ARN", good, "arn:aws:cloudtrail", "", "", 400, "InvalidChannelARN"},
      {"another account", good, "arn:aws:cloudtrail:eu-west-1:333333333333:channel/x", "", "", 400, "ChannelInsufficientPermission"},
      {"other partition", good, "arn:aws-cn:cloudtrail:cn-north-1:222222222222:channel/x", "", "", 200, ""},
      {"external id", good, "c", "", "a@b.c:/-_+=,", 200, ""},
      {"short external id", good, "c", "", "a", 400, "ValidationException"},
      {"bad external id", good, "c", "", "a b", 400, "ValidationException"},
      {"broken signature", good, "c", "AWS4-HMAC-SHA256 Credential=x", "", 400, "IncompleteSignatureException"},
      {"other service", good, "c", "AWS4-HMAC-SHA256 Credential=A/20251121/r/s3/aws4_request,SignedHeaders=h,Signature=" + sig, "", 403,
       "InvalidSignatureException"},
      {"not JSON", "{", "c", "", "", 400, "SerializationException"},
      {"not an object", "[]", "c", "", "", 400, "ValidationException"},
      {"no events", "{}", "c", "", "", 400, "ValidationException"},
      {"none", Events({}), "c", "", "", 400, "ValidationException"},
      {"101", many, "c", "", "", 400, "ValidationException"},
      {"no id", "{\"auditEvents\":[{\"eventData\":\"{}\"}]}", "c", "", "", 400, "ValidationException"},
      {"bad id characters", Events({Event("a b", "{}")}), "c", "", "", 400, "ValidationException"},
      {"long id", Events({Event(std::string(129, 'a'), "{}")}), "c", "", "", 400, "ValidationException"},
      {"no data", "{\"auditEvents\":[{\"id\":\"1\"}]}", "c", "", "", 400, "ValidationException"},
      {"data not text", "{\"auditEvents\":[{\"id\":\"1\",\"eventData\":{}}]}", "c", "", "", 400, "ValidationException"},
      {"checksum not text", Events({Event("1", "{}", ",\"eventDataChecksum\":1")}), "c", "", "", 400, "ValidationException"},
      {"duplicate", Events({Event("1", EventData()), Event("1", EventData())}), "c", "", "", 400, "DuplicatedAuditEventId"},
      {"too big", Events({Event("1", std::string(kAuditCallBytes, ' '))}), "c", "", "", 413, "RequestEntityTooLargeException"},
  };
  for (const Case& c : cases) {
    intake_.stored.clear();
    intake_.replies.clear();
    HttpRequest r = Post("/PutAuditEvents", c.body);
    if (!c.channel.empty()) r.query.emplace_back("channelArn", c.channel);
    if (!c.external_id.empty()) r.query.emplace_back("externalId", c.external_id);
    if (!c.authorization.empty()) r.headers.emplace_back("authorization", c.authorization);
    const HttpResponse response = source->Handle(r);
    EXPECT_EQ(response.status, c.status) << c.name << response.body;
    EXPECT_EQ(response.Header("x-amzn-ErrorType"), c.code) << c.name;
    EXPECT_EQ(intake_.stored.size(), c.code.empty() ? 1u : 0u) << c.name;
    if (!c.code.empty()) {
      EXPECT_THAT(response.body, StartsWith("{\"__type\":\"" + c.code + "\",\"message\":\"")) << c.name;
    }
  }
}

TEST_F(HttpSourceTest, PerEventErrors) {
  auto source = Make();
  // Replaces one member of a good event, or removes it.
  const auto with = [](std::string_view key, std::string_view value) {
    std::string data = EventData();
    const size_t at = data.find("\"" + std::string(key) + "\":");
    size_t end = at;
    for (int depth = 0; end < data.size(); ++end) {
      if (data[end] == '{') ++depth;
      if (data[end] == '}' && depth-- == 0) break;
      if (data[end] == ',' && depth == 0) break;
    }
    std::string member = value.empty() ? "\"unused\":0" : "\"" + std::string(key) + "\":" + std::string(value);
    return data.substr(0, at) + member + data.substr(end);
  };
  const auto quoted = [](size_t n) { return "\"" + std::string(n, 'x') + "\""; };
  std::string deep;
  for (int i = 0; i < 63; ++i) deep += "[";
  deep += std::string(63, ']');
  struct Case {
    std::string name, data, code, message;
  };
  const std::string two_byte_256 = [] {
    std::string s;
    for (int i = 0; i < 256; ++i) s += "é";
    return "\"" + s + "\"";
  }();
  std::vector<Case> cases = {
      {"good", EventData(), "", ""},
      {"all optional", EventData(R"(,"userAgent":"a","sourceIPAddress":"::1","errorCode":"e","errorMessage":"m","requestParameters":[1],)"
                                 R"("responseElements":null,"additionalEventData":{"a":1},"anything":true)"), "", ""},
      {"not JSON", "{", "InvalidData", "eventData is not clean JSON: SYNTAX"},
      {"not an object", "[]", "InvalidData", "eventData is not a JSON object"},
      {"a text", "\"x\"", "InvalidData", "eventData is not a JSON object"},
      {"empty", "", "InvalidData", "eventData is not clean JSON"},
      {"duplicate key", EventData(",\"UID\":\"y\""), "InvalidData", "eventData is not clean JSON: DUP_KEY"},
      {"deep", EventData(",\"d\":" + deep), "InvalidData", "eventData does not fit into a record: DEPTH"},
      {"version long", with("version", quoted(257)), "FieldTooLong", "version has 257 characters, at most 256 are allowed"},
      {"version at its bound in characters", with("version", two_byte_256), "", ""},
      {"eventSource long", with("eventSource", quoted(1025)), "FieldTooLong", "eventSource has 1025"},
      {"eventName long", with("eventName", quoted(1025)), "FieldTooLong", "eventName has 1025"},
      {"UID long", with("UID", quoted(1025)), "FieldTooLong", "UID has 1025"},
      {"userAgent long", EventData(",\"userAgent\":" + quoted(1025)), "FieldTooLong", "userAgent has 1025"},
      {"errorCode long", EventData(",\"errorCode\":" + quoted(257)), "FieldTooLong", "errorCode has 257"},
      {"errorMessage long", EventData(",\"errorMessage\":" + quoted(257)), "FieldTooLong", "errorMessage has 257"},
      {"requestParameters at its bound", EventData(",\"requestParameters\":{\"a\":" + quoted((100 << 10) - 8) + "}"), "", ""},
      {"requestParameters long", EventData(",\"requestParameters\":{\"a\":" + quoted((100 << 10) - 7) + "}"), "FieldTooLong",
       "requestParameters has 102401 bytes, at most 102400 are allowed"},
      {"responseElements long", EventData(",\"responseElements\":[" + quoted(100 << 10) + "]"), "FieldTooLong", "responseElements has"},
      {"additionalEventData long", EventData(",\"additionalEventData\":{\"a\":" + quoted(28 << 10) + "}"), "FieldTooLong",
       "additionalEventData has"},
      {"version number", with("version", "1"), "InvalidData", "version must be a string"},
      {"version null", with("version", "null"), "FieldNotFound", "version is missing"},
      {"version empty", with("version", "\"\""), "FieldNotFound", "version is empty"},
      {"userIdentity text", with("userIdentity", "\"u\""), "InvalidData", "userIdentity must be an object"},
      {"userIdentity.type", with("userIdentity", "{\"principalId\":\"p\"}"), "FieldNotFound", "userIdentity.type is missing"},
      {"userIdentity.principalId", with("userIdentity", "{\"type\":\"p\"}"), "FieldNotFound", "userIdentity.principalId is missing"},
      {"userIdentity.type long", with("userIdentity", "{\"type\":" + quoted(129) + ",\"principalId\":\"p\"}"), "FieldTooLong",
       "userIdentity.type has 129"},
      {"userIdentity.details", with("userIdentity", "{\"type\":\"t\",\"principalId\":\"p\",\"details\":[]}"), "InvalidData",
       "userIdentity.details must be an object"},
      {"recipient", with("recipientAccountId", "\"333333333333\""), "InvalidRecipient", "recipientAccountId must be the channel's account"},
      {"event source blank", with("eventSource", "\" \""), "InvalidEventSource", "eventSource is blank"},
      {"event source control", with("eventSource", "\"a\\nb\""), "InvalidEventSource", "eventSource is blank or has control"},
      {"ip", EventData(",\"sourceIPAddress\":\"1.2.3\""), "InvalidData", "sourceIPAddress must be"},
      {"ip number", EventData(",\"sourceIPAddress\":1"), "InvalidData", "sourceIPAddress must be a string"},
      {"escaped key counts", with("UID", "") .insert(1, "\"\\u0055ID\":\"x\","), "", ""},
  };
  for (const char* key : {"version", "userIdentity", "eventSource", "eventName", "eventTime", "UID", "recipientAccountId"}) {
    cases.push_back({std::string("no ") + key, with(key, ""), "FieldNotFound", std::string(key) + " is missing"});
  }
  for (const char* time : {"2025-11-21", "2025-11-21T07:59:00+01:00", "2025-11-21T07:59:00.5Z", "2025-02-30T00:00:00Z",
                           "2025-11-21T24:00:00Z", "2025-11-21T23:59:60Z", "2025-11-21 07:59:00"}) {
    cases.push_back({time, with("eventTime", JsonString(time)), "InvalidData", "eventTime must be UTC"});
  }
  cases.push_back({"time without Z", with("eventTime", "\"2025-11-21T07:59:00\""), "", ""});
  int n = 0;
  for (const Case& c : cases) {
    intake_.stored.clear();
    const std::string id = "id-" + std::to_string(n++);
    // A good neighbour is taken whatever happens to this one.
    const HttpResponse r = source->Handle(Audit(Events({Event(id, c.data), Event("good-" + id, EventData())})));
    ASSERT_EQ(r.status, 200) << c.name << r.body;
    EXPECT_EQ(intake_.stored.size(), c.code.empty() ? 2u : 1u) << c.name << r.body;
    if (c.code.empty()) {
      EXPECT_THAT(r.body, testing::EndsWith("\"failed\":[]}")) << c.name;
    } else {
      EXPECT_THAT(r.body, HasSubstr("\"failed\":[{\"id\":\"" + id + "\",\"errorCode\":\"" + c.code + "\",\"errorMessage\":\"" + c.message))
          << c.name;
    }
  }
}

TEST_F(HttpSourceTest, Checksums) {
  auto source = Make();
  const std::string data = EventData();
  const std::string good = Base64(Sha256(data).view());
  struct Case {
    std::string sum;
    bool ok;
  };
  for (const Case& c : {Case{JsonString(good), true}, Case{"null", true}, Case{"\"\"", false}, Case{JsonString(good.substr(1)), false},
                        Case{JsonString(Hex(Sha256(data).view())), false}, Case{JsonString(Base64(Sha256(data + " ").view())), false}}) {
    const std::string body = source->Handle(Audit(Events({Event("1", data, ",\"eventDataChecksum\":" + c.sum)}))).body;
    EXPECT_THAT(body, HasSubstr(c.ok ? "\"failed\":[]" : "\"errorCode\":\"InvalidChecksum\"")) << c.sum;
  }
}

TEST_F(HttpSourceTest, OverTheWire) {
  char dir[] = "/tmp/orgtrail-src-XXXXXX";
  ASSERT_NE(mkdtemp(dir), nullptr);
  HttpSourceOptions options;
  options.listen = std::string("unix:") + dir + "/a.sock";
  auto source = Make(options);
  ASSERT_TRUE(source->Start().ok());
  auto reply = HttpPost(options.listen + ":/PutAuditEvents?channelArn=arn%3Aaws%3Acloudtrail%3Aeu-west-1%3A222222222222%3Achannel%2Fc",
                        Events({Event("1", EventData())}));
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->status, 200);
  ASSERT_EQ(intake_.stored.size(), 1u) << reply->body;
  EXPECT_THAT(intake_.stored[0], HasSubstr("\"postedBy\":\"http:uid=" + std::to_string(getuid()) + "\""));
  source->Stop();
  EXPECT_FALSE(HttpPost(options.listen, "").ok());
  rmdir(dir);
}

}  // namespace
}  // namespace orgtrail
