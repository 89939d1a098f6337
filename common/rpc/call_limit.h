// CallLimit: how many calls one connection may begin. One that opens streams only to reset them costs memory for each, faster than it can
// be given back: it is closed.
//
// Threads  gRPC's, any; `cut` is called on one of them.
// Bounds   allowance.h
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "common/base/clock.h"

namespace orgtrail {

struct CallLimit {
  double burst = 2000, per_second = 5000;   // who waits for each answer does not come near it
  // A method of which a connection needs one call: "/orgtrail.v1.Ingest/Push". Empty: none.
  std::string single;
  double single_burst = 200, single_per_second = 1;
  std::function<void(const std::string& address)> cut;   // a connection was closed, "127.0.0.1:4242"; may be null
};

// For all calls of the server that `builder` will start. The clock outlives the server.
void AddCallLimit(grpc::ServerBuilder& builder, CallLimit limit, const Clock& clock);

// The same count once more, where gRPC has read a call's headers and nothing of it waits for anybody yet: what a connection begins beyond
// twice the limit is refused there, RATE_LIMIT, so that it costs no more while the connection is being closed. For credentials with
// client certificates. The clock outlives the server.
std::shared_ptr<grpc::AuthMetadataProcessor> MakeCallGate(const CallLimit& limit, const Clock& clock);

// Closes this process's connection to `address`, whoever in it owns the socket: what was received is dropped, the owner reads its end.
// false: there is none.
bool CutConnection(const std::string& address);

}  // namespace orgtrail
