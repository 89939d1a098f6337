#include "common/http/server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>

#include "common/base/guarded.h"
#include "common/http/client.h"
#include "common/http/observability.h"

namespace orgtrail {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// A raw connection, so that a test decides every byte.
class Raw {
 public:
  explicit Raw(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(static_cast<uint16_t>(port));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0;
  }
  ~Raw() { close(fd_); }
  bool connected() const { return connected_; }
  bool Send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      text.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  void EndSending() { shutdown(fd_, SHUT_WR); }
  // Until `text` has come, or the end, or 10 s.
  std::string ReadUntil(std::string_view text) {
    while (text.empty() || got_.find(text) == std::string::npos) {
      pollfd p{fd_, POLLIN, 0};
      if (poll(&p, 1, 10'000) <= 0) return got_ + "<timeout>";
      char b[4096];
      const ssize_t n = recv(fd_, b, sizeof b, 0);
      if (n <= 0) return got_ + "<end>";
      got_.append(b, static_cast<size_t>(n));
    }
    return std::exchange(got_, {});
  }
  std::string ReadAll() { return ReadUntil(""); }

 private:
  int fd_;
  bool connected_ = false;
  std::string got_;
};

HttpResponse Echo(const HttpRequest& r) {
  HttpResponse response;
  response.content_type = "text/plain";
  response.body = r.method + " " + r.path + " " + std::string(r.Query("q")) + " " + r.body;
  return response;
}

std::unique_ptr<HttpServer> MustStart(HttpServerOptions options, HttpServer::Handler handler = Echo) {
  if (options.listen.empty()) options.listen = "127.0.0.1:0";
  auto server = HttpServer::Start(options, std::move(handler));
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

TEST(Server, KeepsAliveAndDecodes) {
  auto server = MustStart({});
  Raw c(server->port());
  for (int i = 0; i < 3; ++i) {
    c.Send("POST /a%20b?q=x%26y HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    EXPECT_THAT(c.ReadUntil("abc"), testing::AllOf(HasSubstr("POST /a b x&y abc"), HasSubstr("Connection: keep-alive")));
  }
  c.Send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(c.ReadAll(), testing::AllOf(HasSubstr("Connection: close"), testing::EndsWith("<end>")));
}

TEST(Server, AnswersPipelinedRequestsInOrder) {
  auto server = MustStart({});
  Raw c(server->port());
  std::string many;
  for (int i = 0; i < 20; ++i) {
    many += "POST /" + std::to_string(i) + " HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nzz";
  }
  many += "GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
  ASSERT_TRUE(c.Send(many));
  const std::string all = c.ReadAll();
  size_t at = 0;
  for (int i = 0; i < 20; ++i) {
    const size_t next = all.find("POST /" + std::to_string(i) + " ", at);
    ASSERT_NE(next, std::string::npos) << i << all;
    at = next;
  }
  EXPECT_NE(all.find("GET /last", at), std::string::npos);
}

TEST(Server, RequestInPiecesAndChunked) {
  auto server = MustStart({});
  Raw c(server->port());
  for (char b : std::string_view("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")) {
    ASSERT_TRUE(c.Send(std::string_view(&b, 1)));
  }
  c.Send("2\r\nde\r\n0\r\n\r\n");
  EXPECT_THAT(c.ReadUntil("abcde"), StartsWith("HTTP/1.1 200 OK"));
}

TEST(Server, BoundsAreAnsweredAndHungUp) {
  HttpServerOptions options;
  options.max_body_bytes = 1000;
  std::atomic<int> handled = 0;
  auto server = MustStart(options, [&](const HttpRequest& r) { return ++handled, Echo(r); });
  const std::string big(2000, 'x');
  struct Case {
    std::string name, request, status;
  };
  const Case cases[] = {
      {"declared body", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n", "HTTP/1.1 413 "},
      {"declared and expecting", "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n",
       "HTTP/1.1 413 "},
      {"chunked body", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + big + "\r\n0\r\n\r\n",
       "HTTP/1.1 413 "},
      {"header", "GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(70'000, 'x') + "\r\n\r\n", "HTTP/1.1 431 "},
      {"garbage", "\x16\x03\x01 hello\r\n\r\n", "HTTP/1.1 400 "},
      {"bad escape", "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 "},
      {"two lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "HTTP/1.1 400 "},
      {"length and chunked", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       "HTTP/1.1 400 "},
      {"negative length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400 "},
  };
  for (const Case& c : cases) {
    Raw raw(server->port());
    raw.Send(c.request);
    raw.EndSending();
    const std::string got = raw.ReadAll();
    EXPECT_THAT(got, StartsWith(c.status)) << c.name;
    EXPECT_THAT(got, testing::EndsWith("<end>")) << c.name;
    EXPECT_THAT(got, HasSubstr("{\"error\":")) << c.name;
  }
  EXPECT_EQ(handled, 0);
}

TEST(Server, OversizedBodyStillBeingSentSeesTheAnswer) {
  HttpServerOptions options;
  options.max_body_bytes = 1000;
  auto server = MustStart(options);
  auto reply = HttpPost("http://127.0.0.1:" + std::to_string(server->port()) + "/", std::string(8 << 20, 'x'));
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->status, 413);
}

TEST(Server, ExpectContinueIsAnsweredBeforeTheBody) {
  auto server = MustStart({});
  Raw c(server->port());
  c.Send("POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(c.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  c.Send("abc");
  EXPECT_THAT(c.ReadUntil("abc"), StartsWith("HTTP/1.1 200"));
}

TEST(Server, HeadHasNoBody) {
  auto server = MustStart({});
  Raw c(server->port());
  c.Send("HEAD /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  const std::string got = c.ReadAll();
  EXPECT_THAT(got, HasSubstr("Content-Length: 9\r\n"));
  EXPECT_THAT(got, testing::EndsWith("\r\n\r\n<end>"));
}

TEST(Server, SlowAndSilentClientsAreHungUpOn) {
  HttpServerOptions options;
  options.request_limit = absl::Milliseconds(50);
  options.idle_limit = absl::Milliseconds(50);
  std::atomic<int> handled = 0;
  auto server = MustStart(options, [&](const HttpRequest& r) { return ++handled, Echo(r); });
  Raw silent(server->port()), half_header(server->port()), half_body(server->port());
  half_header.Send("GET / HTTP/1.1\r\nHo");
  half_body.Send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(silent.ReadAll(), "<end>");
  EXPECT_EQ(half_header.ReadAll(), "<end>");
  EXPECT_EQ(half_body.ReadAll(), "<end>");
  EXPECT_EQ(handled, 0);
}

TEST(Server, HalfARequestIsNotHandled) {
  std::atomic<int> handled = 0;
  auto server = MustStart({}, [&](const HttpRequest& r) { return ++handled, Echo(r); });
  Raw c(server->port());
  c.Send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
  c.EndSending();
  c.ReadAll();
  EXPECT_EQ(handled, 0);
}

TEST(Server, ConnectionsAreBounded) {
  HttpServerOptions options;
  options.max_connections = 2;
  auto server = MustStart(options);
  Raw a(server->port()), b(server->port());
  a.Send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
  b.Send("GET /b HTTP/1.1\r\nHost: h\r\n\r\n");
  a.ReadUntil("GET /a");
  b.ReadUntil("GET /b");
  Raw c(server->port());
  EXPECT_THAT(c.ReadAll(), testing::AllOf(StartsWith("HTTP/1.1 503 "), HasSubstr("Retry-After: 1")));
}

TEST(Server, HandlesConcurrentlyWhileOneWaits) {
  Guarded<bool> release{false};
  auto server = MustStart({}, [&](const HttpRequest& r) {
    if (r.path == "/wait") release.When([](bool go) { return go; }, [](bool) {});
    return Echo(r);
  });
  const std::string url = "http://127.0.0.1:" + std::to_string(server->port());
  auto waiting = std::async(std::launch::async, [&] { return HttpGet(url + "/wait"); });
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        const std::string body = std::to_string(i);
        auto reply = HttpPost(url + "/p", body);
        if (reply.ok() && reply->status == 200 && reply->body == "POST /p  " + body) ++good;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(good, 100);
  release.With([](bool& go) { go = true; });
  EXPECT_EQ(waiting.get()->status, 200);
}

TEST(Server, StopFinishesWhatRunsAndDropsTheRest) {
  Guarded<int> state{0};
  auto server = MustStart({}, [&](const HttpRequest& r) {
    state.With([](int& s) { s = 1; });
    state.When([](int s) { return s == 2; }, [](int) {});
    return Echo(r);
  });
  const int port = server->port();
  Raw busy(port), idle(port), half(port);
  half.Send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
  busy.Send("GET /busy HTTP/1.1\r\nHost: h\r\n\r\n");
  state.When([](int s) { return s == 1; }, [](int) {});
  std::thread stopper([&] { server.reset(); });
  EXPECT_EQ(idle.ReadAll(), "<end>");
  EXPECT_EQ(half.ReadAll(), "<end>");
  state.With([](int& s) { s = 2; });
  EXPECT_THAT(busy.ReadAll(), testing::AllOf(HasSubstr("GET /busy"), HasSubstr("Connection: close"), testing::EndsWith("<end>")));
  stopper.join();
  EXPECT_FALSE(Raw(port).connected());
}

TEST(Server, ThrowingHandlerIs500) {
  auto server = MustStart({}, [](const HttpRequest&) -> HttpResponse { throw std::runtime_error("secret"); });
  auto reply = HttpGet("http://127.0.0.1:" + std::to_string(server->port()) + "/");
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->status, 500);
  EXPECT_THAT(reply->body, testing::Not(HasSubstr("secret")));
}

TEST(Server, TakenPortSaysWhatToDo) {
  auto first = MustStart({});
  const std::string address = "127.0.0.1:" + std::to_string(first->port());
  HttpServerOptions options;
  options.listen = address;
  EXPECT_EQ(HttpServer::Start(options, Echo).status().message(), address + " is in use: another agent, or set http.listen");
}

class UnixSocket : public testing::Test {
 protected:
  void SetUp() override {
    char dir[] = "/tmp/orgtrail-http-XXXXXX";
    ASSERT_NE(mkdtemp(dir), nullptr);
    dir_ = dir;
    path_ = dir_ + "/x.sock";
  }
  void TearDown() override {
    unlink(path_.c_str());
    rmdir(dir_.c_str());
  }
  std::string dir_, path_;
};

TEST_F(UnixSocket, TellsThePeersUser) {
  HttpServerOptions options;
  options.listen = "unix:" + path_;
  auto server = MustStart(options, [](const HttpRequest& r) {
    HttpResponse response;
    response.body = r.peer + " " + (r.peer_uid ? std::to_string(*r.peer_uid) : "none");
    return response;
  });
  EXPECT_EQ(server->port(), 0);
  auto reply = HttpPost(options.listen + ":/records", "x");
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->body, "unix " + std::to_string(getuid()));
  struct stat facts {};
  ASSERT_EQ(stat(path_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0660u);
  EXPECT_THAT(std::string(HttpServer::Start(options, Echo).status().message()), HasSubstr("is in use: another agent"));
  server.reset();
  EXPECT_NE(stat(path_.c_str(), &facts), 0) << "the socket's file is removed at the end";
}

TEST_F(UnixSocket, StaleOneIsReplacedAndAFileIsNot) {
  HttpServerOptions options;
  options.listen = "unix:" + path_;
  {  // what a killed process leaves
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    path_.copy(a.sun_path, sizeof a.sun_path - 1);
    ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
    close(fd);
  }
  auto server = MustStart(options);
  EXPECT_EQ(HttpGet(options.listen)->status, 200);
  server.reset();
  std::fclose(std::fopen(path_.c_str(), "w"));
  EXPECT_THAT(std::string(HttpServer::Start(options, Echo).status().message()), HasSubstr("is not a socket"));
}

TEST(Client, ErrorsSayWhatHappened) {
  EXPECT_EQ(HttpPost("ftp://x/", "").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(HttpPost("unix:/nonexistent.sock:/x", "").status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(HttpPost("http://127.0.0.1/", "", {{"X", "a\r\nb"}}).status().code(), absl::StatusCode::kInvalidArgument);
  auto server = MustStart({}, [](const HttpRequest& r) {
    HttpResponse response;
    response.status = 503;
    response.headers = {{"Retry-After", "7"}};
    response.body = r.path == "/long" ? std::string(2 << 20, 'x') : std::string(r.Header("content-type"));
    return response;
  });
  const std::string url = "http://127.0.0.1:" + std::to_string(server->port());
  auto reply = HttpPost(url + "/", "", {{"Content-Type", "a/b"}});
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->status, 503);
  EXPECT_EQ(reply->Header("retry-after"), "7");
  EXPECT_EQ(reply->body, "a/b");
  EXPECT_EQ(HttpGet(url + "/long").status().code(), absl::StatusCode::kResourceExhausted);
  Guarded<bool> go{false};
  auto slow = MustStart({}, [&](const HttpRequest& r) {
    go.When([](bool g) { return g; }, [](bool) {});
    return Echo(r);
  });
  EXPECT_EQ(HttpGet("http://127.0.0.1:" + std::to_string(slow->port()), {}, absl::Milliseconds(30)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  go.With([](bool& g) { g = true; });
}

TEST(Observability, NamesEachCheck) {
  Metrics metrics;
  metrics.GetCounter("x_total", "X.").Add();
  HealthReport report{{{"spool", true, "3 % full", true}, {"uplink", true, "", false}}};
  auto server = Observability::Start("127.0.0.1:0", "orgtrail-agent", metrics, [&] { return report; });
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string url = "http://127.0.0.1:" + std::to_string((*server)->port());
  EXPECT_THAT(HttpGet(url + "/metrics")->body, HasSubstr("x_total 1"));
  EXPECT_EQ(HttpGet(url + "/readyz")->body,
            "{\"status\":\"ok\",\"checks\":[{\"name\":\"spool\",\"ok\":true,\"detail\":\"3 % full\"},"
            "{\"name\":\"uplink\",\"ok\":true,\"detail\":\"\"}]}\n");
  report.checks[1] = {"uplink", false, "no aggregator answers", false};
  EXPECT_EQ(HttpGet(url + "/readyz")->status, 503);
  EXPECT_THAT(HttpGet(url + "/readyz")->body, HasSubstr("{\"name\":\"uplink\",\"ok\":false,\"detail\":\"no aggregator answers\"}"));
  EXPECT_EQ(HttpGet(url + "/healthz")->status, 200) << "not ready is not dead";
  report.checks[0].ok = false;
  EXPECT_EQ(HttpGet(url + "/healthz")->status, 503);
  EXPECT_EQ(HttpGet(url + "/nope")->status, 404);
  EXPECT_EQ(HttpPost(url + "/metrics", "x")->status, 405);
  auto second = Observability::Start(url.substr(7), "x", metrics, [&] { return report; });
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("is in use: another agent, or set metrics.listen"));
}

}  // namespace
}  // namespace orgtrail
