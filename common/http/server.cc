// The one unit that includes Boost.Beast: it parses; sockets' set-up is plain POSIX for exact errors, answers are written whole.
#include "common/http/server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <thread>

#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/worker.h"
#include "common/http/request.h"

namespace orgtrail {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Stream = beast::basic_stream<net::generic::stream_protocol>;
using boost::system::error_code;

constexpr size_t kHeaderBytes = 64 << 10;
constexpr auto kLinger = std::chrono::seconds(2);       // a refused request's rest is read this long, so that the answer arrives
constexpr auto kDrain = std::chrono::seconds(10);       // a stop waits this long for answers to be read
constexpr size_t kLingerBytes = 64 << 20;

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

union SocketAddress {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
  sockaddr_un un;
};

struct Listener {
  Fd fd;
  int port = 0;
  std::string unix_path;
  dev_t device = 0;  // of the socket's file, so that only our own is removed
  ino_t inode = 0;
};

absl::Status Failed(std::string_view what) {
  const int error = errno;
  return absl::InternalError(std::string(what) + ": " + std::strerror(error));
}

// A socket file nobody answers on is what a crash left: it goes. One that answers, or any other file, stays.
absl::Status ClearStaleSocket(const std::string& path, const sockaddr_un& address) {
  struct stat facts {};
  if (lstat(path.c_str(), &facts) != 0) return absl::OkStatus();
  if (!S_ISSOCK(facts.st_mode)) return absl::FailedPreconditionError(path + " is there and is not a socket: remove it or set another listen");
  Fd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (probe.get() < 0) return Failed("socket");
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno == ECONNREFUSED) {
    if (unlink(path.c_str()) != 0) return Failed("remove the stale socket " + path);
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(path + " is in use: another agent, or set http.listen");
}

absl::StatusOr<Listener> Listen(std::string_view listen_on) {
  ASSIGN_OR_RETURN(ListenAddress where, ParseListen(listen_on));
  const bool is_unix = !where.unix_path.empty();
  SocketAddress address;
  std::memset(&address, 0, sizeof address);
  socklen_t size = 0;
  if (is_unix) {
    address.un.sun_family = AF_UNIX;
    std::memcpy(address.un.sun_path, where.unix_path.data(), where.unix_path.size());
    size = sizeof address.un;
    RETURN_IF_ERROR(ClearStaleSocket(where.unix_path, address.un));
  } else if (where.ipv6) {
    address.v6.sin6_family = AF_INET6;
    address.v6.sin6_port = htons(where.port);
    inet_pton(AF_INET6, where.host.c_str(), &address.v6.sin6_addr);
    size = sizeof address.v6;
  } else {
    address.v4.sin_family = AF_INET;
    address.v4.sin_port = htons(where.port);
    inet_pton(AF_INET, where.host.c_str(), &address.v4.sin_addr);
    size = sizeof address.v4;
  }
  Fd fd(socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.get() < 0) return Failed("socket");
  const int on = 1;
  if (!is_unix && setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return Failed("SO_REUSEADDR");
  if (bind(fd.get(), &address.any, size) != 0) {
    const std::string name(listen_on);
    switch (errno) {
      case EADDRINUSE: return absl::FailedPreconditionError(name + " is in use: another agent, or set http.listen");
      case EADDRNOTAVAIL: return absl::FailedPreconditionError(name + " is not an address of this machine: set http.listen");
      case EACCES: return absl::PermissionDeniedError(name + " may not be bound by this user: " + std::strerror(errno));
      case ENOENT: return absl::FailedPreconditionError(name + ": the directory does not exist");
      default: return Failed("bind " + name);
    }
  }
  Listener out{std::move(fd), 0, where.unix_path};
  if (is_unix) {
    struct stat facts {};  // before listen(): nobody can connect to a socket with the wrong mode
    if (chmod(where.unix_path.c_str(), 0660) != 0 || lstat(where.unix_path.c_str(), &facts) != 0) return Failed("chmod " + where.unix_path);
    out.device = facts.st_dev;
    out.inode = facts.st_ino;
  }
  if (listen(out.fd.get(), 512) != 0) {
    if (errno == EADDRINUSE) return absl::FailedPreconditionError(std::string(listen_on) + " is in use: another agent, or set http.listen");
    return Failed("listen " + std::string(listen_on));
  }
  if (!is_unix) {
    size = sizeof address;
    if (getsockname(out.fd.get(), &address.any, &size) != 0) return Failed("getsockname");
    out.port = ntohs(where.ipv6 ? address.v6.sin6_port : address.v4.sin_port);
  }
  return out;
}

std::string PeerName(const SocketAddress& peer) {
  char text[INET6_ADDRSTRLEN] = "";
  if (peer.any.sa_family == AF_INET) {
    inet_ntop(AF_INET, &peer.v4.sin_addr, text, sizeof text);
    return std::string(text) + ":" + std::to_string(ntohs(peer.v4.sin_port));
  }
  if (peer.any.sa_family == AF_INET6) {
    inet_ntop(AF_INET6, &peer.v6.sin6_addr, text, sizeof text);
    return "[" + std::string(text) + "]:" + std::to_string(ntohs(peer.v6.sin6_port));
  }
  return "unix";
}

std::string_view View(beast::string_view s) { return {s.data(), s.size()}; }

class Session;

// What sessions share. Everything here belongs to the I/O thread but for `pool` and `handler`.
struct Shared {
  Shared(HttpServerOptions o, HttpServer::Handler h)
      : options(std::move(o)), handler(std::move(h)), pool(static_cast<size_t>(std::max(1, options.workers))) {}
  const HttpServerOptions options;
  const HttpServer::Handler handler;
  std::set<Session*> sessions;
  bool stopping = false;
  std::function<void()> drained = [] {};  // the last session is gone
  net::io_context io{1};
  net::thread_pool pool;  // at most one job a connection waits here
};

HttpResponse Answer(const HttpServer::Handler& handler, const HttpRequest& request) {
  try {
    return handler(request);
  } catch (const std::exception& e) {
    LogError("http handler threw", {{"path", Printable(request.path)}, {"what", e.what()}});
    return JsonError(500, "internal error");
  }
}

// One connection: wait, read, handle, write, again. All but the handler runs on the I/O thread.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Shared& shared, net::generic::stream_protocol::socket socket, std::string peer, std::optional<uint32_t> uid)
      : shared_(shared), stream_(std::move(socket)), peer_(std::move(peer)), uid_(uid) {
    shared_.sessions.insert(this);
  }
  ~Session() {
    shared_.sessions.erase(this);
    if (shared_.sessions.empty()) shared_.drained();
  }

  void Wait() {
    if (shared_.stopping) return Close();
    busy_ = false;
    if (buffer_.size() > 0) return ReadHeader();  // pipelined: the next request is here already
    stream_.expires_after(absl::ToChronoNanoseconds(shared_.options.idle_limit));
    stream_.async_read_some(buffer_.prepare(4096), [self = shared_from_this()](error_code error, size_t n) {
      if (error) return self->Close();
      self->buffer_.commit(n);
      self->ReadHeader();
    });
  }

  // Finishes what is running; a request that is only half here was not taken and is dropped.
  void Drain() {
    if (!busy_) Close();
  }
  void Close() {
    error_code ignored;
    stream_.socket().shutdown(net::socket_base::shutdown_both, ignored);
    stream_.close();
  }

 private:
  void ReadHeader() {
    parser_.emplace();
    parser_->header_limit(kHeaderBytes);
    parser_->body_limit(shared_.options.max_body_bytes);
    stream_.expires_after(absl::ToChronoNanoseconds(shared_.options.request_limit));  // for header and body together
    http::async_read_header(stream_, buffer_, *parser_, [self = shared_from_this()](error_code error, size_t) {
      if (error) return self->ReadFailed(error);
      self->HeaderRead();
    });
  }

  void HeaderRead() {
    if (parser_->content_length() && *parser_->content_length() > shared_.options.max_body_bytes) {
      return ReadFailed(http::error::body_limit);
    }
    const beast::string_view expect = parser_->get()[http::field::expect];
    if (beast::iequals(expect, "100-continue") && !parser_->is_done()) {
      out_ = "HTTP/1.1 100 Continue\r\n\r\n";
      net::async_write(stream_, net::buffer(out_), [self = shared_from_this()](error_code error, size_t) {
        if (error) return self->Close();
        self->ReadBody();
      });
      return;
    }
    ReadBody();
  }

  void ReadBody() {
    http::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](error_code error, size_t) {
      if (error) return self->ReadFailed(error);
      self->Handle();
    });
  }

  void ReadFailed(error_code error) {
    if (error == http::error::header_limit) {
      return Refuse(JsonError(431, "the request's headers are over 64 KiB"));
    }
    if (error == http::error::body_limit) {
      return Refuse(JsonError(413, "the body is over " + std::to_string(shared_.options.max_body_bytes) +
                                       " bytes: send it in smaller parts"));
    }
    if (error == beast::error::timeout) return Close();
    if (error.category() == http::make_error_code(http::error::bad_method).category() &&
        error != http::error::end_of_stream && error != http::error::partial_message) {
      return Refuse(JsonError(400, "not an HTTP/1.1 request: " + error.message()));
    }
    Close();
  }

  void Handle() {
    http::request<http::string_body> message = parser_->release();
    HttpRequest request;
    request.method = View(message.method_string());
    request.peer = peer_;
    request.peer_uid = uid_;
    const bool head = message.method() == http::verb::head;
    const bool keep_alive = message.keep_alive();
    if (!ParseTarget(View(message.target()), &request.path, &request.query)) {
      return Refuse(JsonError(400, "the request's path or query is not decodable"));
    }
    for (const auto& field : message) {
      std::string name(View(field.name_string()));
      for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
      request.headers.emplace_back(std::move(name), View(field.value()));
    }
    request.body = std::move(message.body());
    parser_.reset();
    busy_ = true;
    stream_.expires_never();
    auto work = net::make_work_guard(shared_.io);  // the I/O thread stays until the answer is back
    net::post(shared_.pool, [self = shared_from_this(), work = std::move(work), request = std::move(request), head,
                             keep_alive]() mutable {
      Shared& shared = self->shared_;
      HttpResponse response = Answer(shared.handler, request);
      net::post(shared.io, [self = std::move(self), response = std::move(response), head, keep_alive] {
        const bool again = keep_alive && !self->shared_.stopping;
        self->Write(FormatResponse(response, again, !head), again);
      });
    });
  }

  void Write(std::string text, bool again) {
    out_ = std::move(text);
    stream_.expires_after(absl::ToChronoNanoseconds(shared_.options.request_limit));
    net::async_write(stream_, net::buffer(out_), [self = shared_from_this(), again](error_code error, size_t) {
      if (error || !again) return self->Close();
      self->out_ = std::string();
      self->Wait();
    });
  }

  // Answers and hangs up; what the peer is still sending is read for a moment, or a reset would destroy the answer.
  void Refuse(const HttpResponse& response) {
    parser_.reset();
    busy_ = true;
    out_ = FormatResponse(response, false, true);
    stream_.expires_after(kLinger);
    net::async_write(stream_, net::buffer(out_), [self = shared_from_this()](error_code error, size_t) {
      if (error) return self->Close();
      error_code ignored;
      self->stream_.socket().shutdown(net::socket_base::shutdown_send, ignored);
      self->buffer_.clear();
      self->busy_ = false;
      self->Linger(0);
    });
  }
  void Linger(size_t read) {
    if (read > kLingerBytes || shared_.stopping) return Close();
    buffer_.clear();
    stream_.async_read_some(buffer_.prepare(64 << 10), [self = shared_from_this(), read](error_code error, size_t n) {
      if (error) return self->Close();
      self->Linger(read + n);
    });
  }

  Shared& shared_;
  Stream stream_;
  const std::string peer_;
  const std::optional<uint32_t> uid_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  std::string out_;
  bool busy_ = false;  // a handler runs or an answer is on its way
};

class BeastServer final : public HttpServer {
 public:
  BeastServer(const HttpServerOptions& options, Handler handler, Listener listener)
      : port_(listener.port),
        unix_path_(listener.unix_path),
        device_(listener.device),
        inode_(listener.inode),
        shared_(options, std::move(handler)),
        listener_(shared_.io, listener.fd.release()),
        pause_(shared_.io),
        drain_(shared_.io) {
    Accept();
    io_thread_ = std::thread([this] {
      NameThread("http-io");
      shared_.io.run();
    });
  }

  ~BeastServer() override {
    net::post(shared_.io, [this] {
      shared_.stopping = true;
      error_code ignored;
      listener_.close(ignored);
      pause_.cancel();
      const std::vector<Session*> all(shared_.sessions.begin(), shared_.sessions.end());
      for (Session* session : all) session->Drain();
      if (shared_.sessions.empty()) return;
      drain_.expires_after(kDrain);
      drain_.async_wait([this](error_code error) {
        if (error) return;
        const std::vector<Session*> left(shared_.sessions.begin(), shared_.sessions.end());
        for (Session* session : left) session->Close();
      });
      shared_.drained = [this] { drain_.cancel(); };
    });
    io_thread_.join();
    shared_.pool.join();
    RemoveSocketFile();
  }
  int port() const override { return port_; }

 private:
  void Accept() {
    listener_.async_wait(net::posix::stream_descriptor::wait_read, [this](error_code error) {
      if (error || shared_.stopping) return;
      for (int i = 0; i < 64; ++i) {  // then let the others have a turn
        SocketAddress peer;
        std::memset(&peer, 0, sizeof peer);
        socklen_t size = sizeof peer;
        Fd fd(accept4(listener_.native_handle(), &peer.any, &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (fd.get() >= 0) {
          Take(std::move(fd), peer);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
          return Pause();  // the connection stays in the backlog; asking again at once would spin
        } else if (errno != ECONNABORTED && errno != EINTR) {
          break;
        }
      }
      Accept();
    });
  }
  void Pause() {
    LogWarn("http: out of file descriptors or memory, not accepting for 100 ms", {});
    pause_.expires_after(std::chrono::milliseconds(100));
    pause_.async_wait([this](error_code error) {
      if (!error && !shared_.stopping) Accept();
    });
  }
  void Take(Fd fd, const SocketAddress& peer) {
    if (shared_.sessions.size() >= static_cast<size_t>(shared_.options.max_connections)) {
      HttpResponse full = JsonError(503, "too many connections");
      full.headers.emplace_back("Retry-After", "1");
      const std::string text = FormatResponse(full, false, true);
      // Best effort, before the connection is closed either way.
      [[maybe_unused]] const ssize_t sent = send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      return;
    }
    std::optional<uint32_t> uid;
    if (!unix_path_.empty()) {
      ucred credentials{};
      socklen_t size = sizeof credentials;
      if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return;
      uid = credentials.uid;
    } else {
      const int on = 1;  // answers are one write; without it the second of two pipelined ones would wait for an ack
      if (setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) return;
    }
    const std::string name = unix_path_.empty() ? PeerName(peer) : "unix";
    const int family = unix_path_.empty() ? peer.any.sa_family : AF_UNIX;
    net::generic::stream_protocol::socket socket(shared_.io);
    error_code error;
    socket.assign(net::generic::stream_protocol(family, 0), fd.get(), error);
    if (error) return;
    fd.release();
    std::make_shared<Session>(shared_, std::move(socket), name, uid)->Wait();
  }

  void RemoveSocketFile() {
    if (unix_path_.empty()) return;
    struct stat facts {};
    if (lstat(unix_path_.c_str(), &facts) != 0 || facts.st_dev != device_ || facts.st_ino != inode_) return;
    if (unlink(unix_path_.c_str()) != 0) LogWarn("http: the socket's file stays", {{"path", unix_path_}});
  }

  const int port_;
  const std::string unix_path_;
  const dev_t device_;
  const ino_t inode_;
  Shared shared_;
  net::posix::stream_descriptor listener_;
  net::steady_timer pause_, drain_;
  std::thread io_thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options, Handler handler) {
  ASSIGN_OR_RETURN(Listener listener, Listen(options.listen));
  try {
    return std::unique_ptr<HttpServer>(std::make_unique<BeastServer>(options, std::move(handler), std::move(listener)));
  } catch (const std::exception& e) {  // Asio: no epoll or thread to be had
    return absl::ResourceExhaustedError(std::string("start the HTTP server: ") + e.what());
  }
}

}  // namespace orgtrail
