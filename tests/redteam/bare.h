// Bare: a TLS 1.3 connection and HTTP/2 frames by hand, for what no client library would send.
// Threads: one an object.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace orgtrail::e2e {

// A TCP connection to loopback; -1 when refused.
int Dial(int port);

class BareTls {
 public:
  // Completes the handshake with ALPN h2; the files are PEM; no certificate when it is empty. connected() says whether it did.
  BareTls(int port, const std::string& certificate, const std::string& key, const std::string& ca);
  ~BareTls();
  BareTls(const BareTls&) = delete;

  bool connected() const { return connected_; }
  bool Write(std::string_view bytes);                // false: the other side is gone
  // Some bytes, within `limit`; empty: nothing came. closed() says whether more can.
  std::string Read(absl::Duration limit);
  bool closed() const { return closed_; }

 private:
  int fd_ = -1;
  SSL_CTX* context_ = nullptr;
  SSL* ssl_ = nullptr;
  bool connected_ = false, closed_ = false;
};

namespace h2 {

enum Type : uint8_t { kData = 0, kHeaders = 1, kReset = 3, kSettings = 4, kPing = 6, kGoAway = 7, kWindow = 8, kContinuation = 9 };
inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

std::string Frame(Type type, uint8_t flags, uint32_t stream, std::string_view payload);
std::string Settings(std::initializer_list<std::pair<uint16_t, uint32_t>> values);
// The header block of a gRPC call, and further headers, without Huffman and without the dynamic table.
std::string CallHeaders(std::string_view path, const std::string& authority, std::initializer_list<std::pair<std::string, std::string>> more = {});
std::string Message(std::string_view bytes);         // gRPC's five bytes, then the message

struct Seen {
  uint8_t type = 0, flags = 0;
  uint32_t stream = 0;
  std::string payload;
};
// What arrives, frame by frame.
class Reader {
 public:
  explicit Reader(BareTls& tls) : tls_(tls) {}
  std::optional<Seen> Next(absl::Duration limit);    // nullopt: nothing within the limit, or the connection is over

 private:
  BareTls& tls_;
  std::string buffer_;
};

}  // namespace h2
}  // namespace orgtrail::e2e
