// EnrolService: the enrolment port's gRPC face. Its server has no other service: nobody who calls it is known yet.
// Threads: gRPC's; calls wait for the log, at most 64 at a time (desk.cc), so the synchronous API.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "absl/status/statusor.h"
#include "aggregator/enrol/desk.h"
#include "common/rpc/credentials.h"
#include "orgtrail/v1/enrol.grpc.pb.h"

namespace orgtrail {

class EnrolService final : public v1::Enrol::Service {
 public:
  explicit EnrolService(EnrolDesk& desk) : desk_(desk) {}
  grpc::Status Enrol(grpc::ServerContext* context, const v1::EnrolRequest* request, v1::EnrolResponse* response) override;
  grpc::Status Renew(grpc::ServerContext* context, const v1::RenewRequest* request, v1::EnrolResponse* response) override;

 private:
  EnrolDesk& desk_;
};

// Listens on `address` with server-side TLS 1.3; `files.cert` must hold the leaf and then the CA. The port it got, when asked
// for port 0, is in *port (may be null). The desk outlives the server.
class EnrolServer {
 public:
  static absl::StatusOr<std::unique_ptr<EnrolServer>> Start(const std::string& address, const TlsFiles& files, EnrolDesk& desk,
                                                            int* port);
  ~EnrolServer();
  void Stop();  // calls in progress have five seconds

 private:
  explicit EnrolServer(EnrolDesk& desk) : service_(desk) {}
  EnrolService service_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace orgtrail
