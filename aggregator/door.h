// Door: the port of agents and people. Mutual TLS 1.3; what one connection, one identity and all of them together may cost is bounded here.
//
// Owns     the server and its allowances. The services, clock and metrics outlive it.
// Threads  gRPC's.
#pragma once

#include <memory>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "absl/status/statusor.h"
#include "aggregator/config.h"
#include "common/base/clock.h"
#include "common/metrics/metrics.h"
#include "common/rpc/allowance.h"

namespace orgtrail {

class Door {
 public:
  // FailedPrecondition: the address is taken.
  static absl::StatusOr<std::unique_ptr<Door>> Open(const AggregatorConfig& config, const std::vector<grpc::Service*>& services, const Clock& clock, Metrics& metrics);
  void Close(absl::Duration limit);   // calls in progress have so long

 private:
  Door() = default;
  // Handshakes of one identity: agents keep a connection, people's commands open one each.
  Allowance agents_{100, 20}, people_{500, 50};
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace orgtrail
