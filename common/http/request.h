// Request: what a request's target, headers and addresses mean. Pure functions over hostile text; fuzzed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/http/server.h"

namespace orgtrail {

// %XX decoded; with `plus_is_space` also '+' (query strings). nullopt: a '%' without two hex digits, or a NUL.
std::optional<std::string> PercentDecode(std::string_view text, bool plus_is_space);

// "/a%20b?x=1&y" or "http://host/a" → path and query, decoded. False when it is neither or has more than 256 parameters.
bool ParseTarget(std::string_view target, std::string* path,
                 std::vector<std::pair<std::string, std::string>>* query);

// "Bearer abc" → "abc" (scheme in any case, one or more spaces); nullopt for anything else.
std::optional<std::string_view> BearerToken(std::string_view authorization);

// "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/cloudtrail-data/aws4_request, SignedHeaders=…, Signature=…", taken
// apart and not verified.
struct SigV4 {
  std::string_view access_key, date, region, service;
};
bool IsSigV4(std::string_view authorization);
std::optional<SigV4> ParseSigV4(std::string_view authorization);

// Where a server listens: "127.0.0.1:8787", "[::1]:0", "localhost:80", "unix:/run/x.sock". InvalidArgument says what is allowed.
struct ListenAddress {
  std::string unix_path;       // not empty: a Unix socket
  std::string host;            // numeric IPv4 or IPv6 otherwise
  uint16_t port = 0;
  bool ipv6 = false;
  bool loopback = false;       // 127.0.0.0/8 or ::1; a Unix socket is neither
};
absl::StatusOr<ListenAddress> ParseListen(std::string_view listen);

std::string_view StatusText(int status);  // "Not Found"; "Status" for codes it does not know
// Status line, headers, Content-Length and body. Header names and values that could break a line are left out.
std::string FormatResponse(const HttpResponse& response, bool keep_alive, bool with_body);
HttpResponse JsonError(int status, std::string_view message);  // {"error":"…"}

}  // namespace orgtrail
