#include "tests/redteam/bare.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>

#include "absl/time/clock.h"
#include "common/base/bytes.h"

namespace orgtrail::e2e {

int Dial(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd >= 0 && connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

BareTls::BareTls(int port, const std::string& certificate, const std::string& key, const std::string& ca) : fd_(Dial(port)) {
  std::signal(SIGPIPE, SIG_IGN);   // OpenSSL writes to what the other side closed
  context_ = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context_, TLS1_3_VERSION);
  static const unsigned char kAlpn[] = {2, 'h', '2'};
  SSL_CTX_set_alpn_protos(context_, kAlpn, sizeof kAlpn);
  const bool ready = (certificate.empty() || (SSL_CTX_use_certificate_chain_file(context_, certificate.c_str()) == 1 &&
                                              SSL_CTX_use_PrivateKey_file(context_, key.c_str(), SSL_FILETYPE_PEM) == 1)) &&
                     SSL_CTX_load_verify_locations(context_, ca.c_str(), nullptr) == 1;
  ssl_ = SSL_new(context_);
  const timeval patience{15, 0};
  if (!ready || fd_ < 0 || setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
      setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0) {
    return;
  }
  SSL_set_fd(ssl_, fd_);
  connected_ = SSL_connect(ssl_) == 1;
}

BareTls::~BareTls() {
  SSL_free(ssl_);
  SSL_CTX_free(context_);
  if (fd_ >= 0) close(fd_);
}

bool BareTls::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const int n = SSL_write(ssl_, bytes.data(), static_cast<int>(std::min<size_t>(bytes.size(), 1 << 20)));
    if (n <= 0) {
      closed_ = true;
      return false;
    }
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

std::string BareTls::Read(absl::Duration limit) {
  std::string out(64 << 10, '\0');
  if (SSL_pending(ssl_) == 0) {
    pollfd ready{fd_, POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(limit))) <= 0) return "";
  }
  const int n = SSL_read(ssl_, out.data(), static_cast<int>(out.size()));
  if (n <= 0) {
    closed_ = true;
    return "";
  }
  out.resize(static_cast<size_t>(n));
  return out;
}

namespace h2 {
namespace {

std::string Length(uint8_t first, size_t prefix_bits, size_t n) {
  const size_t most = (1u << prefix_bits) - 1;
  if (n < most) return std::string(1, static_cast<char>(first | n));
  std::string out(1, static_cast<char>(first | most));
  for (n -= most; n >= 128; n >>= 7) out += static_cast<char>((n & 127) | 128);
  return out + static_cast<char>(n);
}
std::string Literal(std::string_view name, std::string_view value) {
  std::string out(1, '\0');
  out += Length(0, 7, name.size());
  out += name;
  out += Length(0, 7, value.size());
  out += value;
  return out;
}

}  // namespace

std::string Frame(Type type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string out;
  for (const int shift : {16, 8, 0}) out += static_cast<char>(payload.size() >> shift);
  out += static_cast<char>(type);
  out += static_cast<char>(flags);
  PutU32(out, stream);
  out += payload;
  return out;
}

std::string Settings(std::initializer_list<std::pair<uint16_t, uint32_t>> values) {
  std::string payload;
  for (const auto& [id, value] : values) {
    PutU16(payload, id);
    PutU32(payload, value);
  }
  return Frame(kSettings, 0, 0, payload);
}

std::string CallHeaders(std::string_view path, const std::string& authority, std::initializer_list<std::pair<std::string, std::string>> more) {
  std::string block = Literal(":method", "POST") + Literal(":scheme", "https") + Literal(":path", path) + Literal(":authority", authority) +
                      Literal("content-type", "application/grpc") + Literal("te", "trailers");
  for (const auto& [name, value] : more) block += Literal(name, value);
  return block;
}

std::string Message(std::string_view bytes) {
  std::string out(1, '\0');
  PutU32(out, static_cast<uint32_t>(bytes.size()));
  out += bytes;
  return out;
}

std::optional<Seen> Reader::Next(absl::Duration limit) {
  const absl::Time until = absl::Now() + limit;
  for (;;) {
    if (buffer_.size() >= 9) {
      const size_t size = static_cast<size_t>(static_cast<uint8_t>(buffer_[0])) << 16 | static_cast<size_t>(static_cast<uint8_t>(buffer_[1])) << 8 |
                          static_cast<uint8_t>(buffer_[2]);
      if (buffer_.size() >= 9 + size) {
        Seen seen{static_cast<uint8_t>(buffer_[3]), static_cast<uint8_t>(buffer_[4]), GetU32(buffer_.data() + 5) & 0x7fffffff, buffer_.substr(9, size)};
        buffer_.erase(0, 9 + size);
        return seen;
      }
    }
    const absl::Duration left = until - absl::Now();
    if (left <= absl::ZeroDuration() || tls_.closed()) return std::nullopt;
    buffer_ += tls_.Read(left);
  }
}

}  // namespace h2
}  // namespace orgtrail::e2e
