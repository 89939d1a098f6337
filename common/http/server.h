// HttpServer: a small HTTP/1.1 server for the agent's http source and both programs' metrics. Boost.Beast in one unit.
//
// Threads  one I/O thread plus `workers` for handlers, so a handler may wait for an fsync. Idle keep-alives cost nothing.
// Bounds   body, header 64 KiB, connections, 30 s per request; over a bound: 413, 431, 503 or a closed connection.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace orgtrail {

struct HttpRequest {
  std::string method;                 // upper case
  std::string path;                   // decoded, without the query
  std::vector<std::pair<std::string, std::string>> query;  // decoded
  std::vector<std::pair<std::string, std::string>> headers;  // names lower case
  std::string body;
  std::string peer;                   // "127.0.0.1:4242", or "unix"
  std::optional<uint32_t> peer_uid;   // of a Unix socket's peer
  std::string_view Header(std::string_view lower_name) const;  // "" when absent
  std::string_view Query(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  // names lower case in an answer a client got
  std::string_view Header(std::string_view name) const {     // "" when absent
    for (const auto& [n, value] : headers) {
      if (n == name) return value;
    }
    return {};
  }
};

struct HttpServerOptions {
  std::string listen;                 // "127.0.0.1:8787", "[::1]:0", or "unix:/run/x.sock" (mode 0660)
  size_t max_body_bytes = 8 << 20;
  int max_connections = 256;
  int workers = 4;
  absl::Duration request_limit = absl::Seconds(30);  // from a request's first byte to its last; and to write the answer
  absl::Duration idle_limit = absl::Minutes(5);      // between requests
};

class HttpServer {
 public:
  using Handler = std::function<HttpResponse(const HttpRequest&)>;  // on a worker; may block; must not throw
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options, Handler handler);
  virtual ~HttpServer() = default;    // stops accepting, finishes what is running, joins
  virtual int port() const = 0;       // the port chosen when 0 was asked; 0 for a Unix socket
};

}  // namespace orgtrail
