// FetchServerChain: a TLS handshake that trusts nobody, to see which certificates a server shows.
#include <fcntl.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/crypto/certificate.h"
#include "common/crypto/openssl.h"
#include "common/crypto/x509.h"

namespace orgtrail {
namespace {

constexpr int kMostCertificates = 8;

using SslCtxPtr = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;
using SslPtr = std::unique_ptr<SSL, Freed<SSL_free>>;
using AddressesPtr = std::unique_ptr<addrinfo, Freed<freeaddrinfo>>;

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

// OpenSSL writes without MSG_NOSIGNAL: a server that hangs up must not end the process.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoSigpipe() {
    const timespec at_once{};
    while (sigtimedwait(&pipe_, nullptr, &at_once) > 0) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;

 private:
  sigset_t pipe_, before_;
};

struct HostPort {
  std::string host, port;
};

// host:port, 1.2.3.4:port, [::1]:port.
absl::StatusOr<HostPort> SplitHostPort(std::string_view text) {
  HostPort out;
  const size_t colon = text.rfind(':');
  if (colon != std::string_view::npos) {
    std::string_view host = text.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
      host = host.substr(1, host.size() - 2);
    } else if (host.find(':') != std::string_view::npos) {
      host = {};
    }
    out.host = std::string(host);
    out.port = std::string(text.substr(colon + 1));
  }
  const std::optional<uint64_t> port = ParseUint(out.port);
  if (out.host.empty() || !port || *port == 0 || *port > 65535) {
    return absl::InvalidArgumentError("\"" + Printable(text) + "\" is not HOST:PORT");
  }
  return out;
}

// Waits for the socket; Unavailable when the time is over.
absl::Status WaitFor(int fd, short events, Tick deadline) {
  for (;;) {
    const int64_t ms = absl::ToInt64Milliseconds(deadline - SystemClock().Now());
    if (ms <= 0) return absl::UnavailableError("no answer in time");
    pollfd p{fd, events, 0};
    const int n = poll(&p, 1, static_cast<int>(std::min<int64_t>(ms, 60'000)));
    if (n > 0) return absl::OkStatus();
    if (n < 0 && errno != EINTR) return absl::UnavailableError(std::strerror(errno));
  }
}

absl::Status Connect(const Socket& socket, const addrinfo& to, Tick deadline) {
  if (connect(socket.fd(), to.ai_addr, to.ai_addrlen) == 0) return absl::OkStatus();
  if (errno != EINPROGRESS && errno != EINTR) return absl::UnavailableError(std::strerror(errno));
  RETURN_IF_ERROR(WaitFor(socket.fd(), POLLOUT, deadline));
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  return error == 0 ? absl::OkStatus() : absl::UnavailableError(std::strerror(error));
}

absl::Status Handshake(SSL* ssl, int fd, Tick deadline) {
  for (;;) {
    ERR_clear_error();
    const int done = SSL_connect(ssl);
    if (done == 1) return absl::OkStatus();
    switch (SSL_get_error(ssl, done)) {
      case SSL_ERROR_WANT_READ:
        RETURN_IF_ERROR(WaitFor(fd, POLLIN, deadline));
        break;
      case SSL_ERROR_WANT_WRITE:
        RETURN_IF_ERROR(WaitFor(fd, POLLOUT, deadline));
        break;
      case SSL_ERROR_SYSCALL:
        ERR_clear_error();
        return absl::UnavailableError("the server closed the connection during the TLS handshake");
      default:
        return absl::UnavailableError("TLS 1.3 handshake failed (is this the enrolment port?): " + DrainErrors());
    }
  }
}

absl::StatusOr<std::vector<std::string>> ShownChain(const SSL* ssl) {
  const STACK_OF(X509)* const chain = SSL_get_peer_cert_chain(ssl);
  const int n = chain == nullptr ? 0 : sk_X509_num(chain);
  if (n == 0) return absl::UnavailableError("the server showed no certificate");
  std::vector<std::string> pems;
  for (int i = 0; i < std::min(n, kMostCertificates); ++i) {
    BioPtr bio = WriteBio();
    if (PEM_write_bio_X509(bio.get(), sk_X509_value(chain, i)) != 1) return OpensslError("write certificate");
    pems.push_back(TextOf(bio.get()));
  }
  return pems;
}

absl::StatusOr<std::vector<std::string>> FetchFrom(const addrinfo& to, const std::string& host, Tick deadline) {
  const Socket socket(::socket(to.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.fd() < 0) return absl::UnavailableError(std::strerror(errno));
  RETURN_IF_ERROR(Connect(socket, to, deadline));

  const SslCtxPtr ctx(SSL_CTX_new(TLS_client_method()));
  if (ctx == nullptr || SSL_CTX_set_min_proto_version(ctx.get(), TLS1_3_VERSION) != 1) return OpensslError("set up TLS");
  SSL_CTX_set_verify(ctx.get(), SSL_VERIFY_NONE, nullptr);  // the caller decides, before anything is sent
  const SslPtr ssl(SSL_new(ctx.get()));
  constexpr unsigned char kH2[] = {2, 'h', '2'};  // gRPC servers want it
  if (ssl == nullptr || SSL_set_fd(ssl.get(), socket.fd()) != 1 || SSL_set_alpn_protos(ssl.get(), kH2, sizeof kH2) != 0) {
    return OpensslError("set up TLS");
  }
  const bool is_address = host.find_first_not_of("0123456789.") == std::string::npos || host.find(':') != std::string::npos;
  if (!is_address && SSL_set_tlsext_host_name(ssl.get(), host.c_str()) != 1) return OpensslError("set up TLS");
  RETURN_IF_ERROR(Handshake(ssl.get(), socket.fd(), deadline));
  absl::StatusOr<std::vector<std::string>> chain = ShownChain(ssl.get());
  if (SSL_shutdown(ssl.get()) < 0) ERR_clear_error();  // a courtesy; the chain is here
  return chain;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> FetchServerChain(std::string_view host_port, absl::Duration limit) {
  const Tick deadline = SystemClock().Now() + limit;
  ASSIGN_OR_RETURN(const HostPort where, SplitHostPort(host_port));
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(where.host.c_str(), where.port.c_str(), &hints, &found);
  if (code != 0) return absl::UnavailableError("cannot resolve " + Printable(where.host) + ": " + gai_strerror(code));
  const AddressesPtr addresses(found);
  const NoSigpipe no_sigpipe;
  absl::Status last = absl::UnavailableError("no address");
  for (const addrinfo* to = addresses.get(); to != nullptr; to = to->ai_next) {
    absl::StatusOr<std::vector<std::string>> chain = FetchFrom(*to, where.host, deadline);
    if (chain.ok()) return chain;
    last = chain.status();
  }
  return Annotate(last, host_port);
}

}  // namespace orgtrail
