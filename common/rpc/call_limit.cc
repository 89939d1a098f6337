#include "common/rpc/call_limit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include <grpcpp/security/auth_metadata_processor.h>
#include <grpcpp/support/server_interceptor.h>

#include "common/rpc/allowance.h"
#include "common/rpc/credentials.h"

namespace orgtrail {
namespace {

constexpr int kMostFiles = 1 << 20;

// As AddressOf writes it; empty: not a connected socket of the internet.
std::string PeerAddressOf(int fd) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return "";
  char text[INET6_ADDRSTRLEN] = "";
  if (peer.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(peer);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return std::string(text) + ":" + std::to_string(ntohs(v4.sin_port));
  }
  if (peer.ss_family != AF_INET6) return "";
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(peer);
  const std::string port = ":" + std::to_string(ntohs(v6.sin6_port));
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], text, sizeof text);
    return text + port;
  }
  inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
  return "[" + std::string(text) + "]" + port;
}

// Asked once for each call, before it reaches its service; takes no part in what the call does.
class Counter final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  Counter(CallLimit limit, const Clock& clock)
      : allowance_(limit.burst, limit.per_second),
        single_allowance_(limit.single_burst, limit.single_per_second),
        single_(std::move(limit.single)),
        cut_(std::move(limit.cut)),
        clock_(clock) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    if (std::string peer = info->server_context()->peer(); !peer.empty()) {
      Count(AddressOf(std::move(peer)), *info);
      return nullptr;
    }
    return new Late(*this, *info);
  }

 private:
  // A synchronous service's call says where it comes from only a step later.
  class Late final : public grpc::experimental::Interceptor {
   public:
    Late(Counter& counter, grpc::experimental::ServerRpcInfo& info) : counter_(counter), info_(info) {}
    void Intercept(grpc::experimental::InterceptorBatchMethods* step) override {
      if (std::string peer = counted_ ? "" : info_.server_context()->peer(); !peer.empty()) {
        counted_ = true;
        counter_.Count(AddressOf(std::move(peer)), info_);
      }
      step->Proceed();
    }

   private:
    Counter& counter_;
    grpc::experimental::ServerRpcInfo& info_;
    bool counted_ = false;
  };
  void Count(const std::string& address, const grpc::experimental::ServerRpcInfo& info) {
    Allowance& allowance = !single_.empty() && single_ == info.method() ? single_allowance_ : allowance_;
    // Calls that began before the end was read still come by: once is enough.
    if (allowance.Take(address, clock_.Now()) == Allowance::Took::kTooMany && CutConnection(address) && cut_) cut_(address);
  }

  Allowance allowance_, single_allowance_;
  const std::string single_;
  const std::function<void(const std::string&)> cut_;
  const Clock& clock_;
};

// Asked for each call on the thread that reads the connection.
class Gate final : public grpc::AuthMetadataProcessor {
 public:
  Gate(const CallLimit& limit, const Clock& clock)
      : allowance_(2 * limit.burst, limit.per_second),
        single_allowance_(2 * limit.single_burst, limit.single_per_second),
        single_(limit.single),
        clock_(clock) {}

  bool IsBlocking() const override { return false; }   // else gRPC hands each to a thread pool, which is the queue that must not be
  grpc::Status Process(const InputMetadata& headers, grpc::AuthContext* connection, OutputMetadata*, OutputMetadata*) override {
    const auto path = headers.find(":path");
    const bool single = path != headers.end() && std::string_view(path->second.data(), path->second.size()) == single_;
    Allowance& allowance = single ? single_allowance_ : allowance_;
    if (allowance.Take(NameOf(*connection), clock_.Now()) == Allowance::Took::kOne) return grpc::Status::OK;
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "RATE_LIMIT this connection began more calls than anybody needs");
  }

 private:
  // A name for the connection, kept with it. Its first call writes it before anybody else looks.
  std::string NameOf(grpc::AuthContext& connection) {
    const std::vector<grpc::string_ref> names = connection.FindPropertyValues(kProperty);
    if (!names.empty()) return std::string(names[0].data(), names[0].size());
    const std::string name = std::to_string(next_.fetch_add(1));
    connection.AddProperty(kProperty, name);
    return name;
  }

  static constexpr char kProperty[] = "orgtrail_connection";
  Allowance allowance_, single_allowance_;
  const std::string single_;
  const Clock& clock_;
  std::atomic<uint64_t> next_{1};
};

}  // namespace

std::shared_ptr<grpc::AuthMetadataProcessor> MakeCallGate(const CallLimit& limit, const Clock& clock) {
  return std::make_shared<Gate>(limit, clock);
}

void AddCallLimit(grpc::ServerBuilder& builder, CallLimit limit, const Clock& clock) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> one;
  one.push_back(std::make_unique<Counter>(std::move(limit), clock));
  builder.experimental().SetInterceptorCreators(std::move(one));
}

// gRPC has no way to close a server's connection. Its socket is found by the other end; a copy of the descriptor is looked at, because
// the number may belong to something else a moment later.
bool CutConnection(const std::string& address) {
  rlimit files{};
  if (address.empty() || getrlimit(RLIMIT_NOFILE, &files) != 0) return false;
  const int end = static_cast<int>(std::min<rlim_t>(files.rlim_cur, kMostFiles));
  for (int fd = 0; fd < end; ++fd) {
    if (PeerAddressOf(fd) != address) continue;
    const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) return false;
    const bool same = PeerAddressOf(copy) == address && shutdown(copy, SHUT_RDWR) == 0;
    close(copy);
    if (same) return true;
  }
  return false;
}

}  // namespace orgtrail
