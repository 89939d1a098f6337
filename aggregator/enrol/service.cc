#include "aggregator/enrol/service.h"

#include <chrono>

#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr int kRequestBytes = 64 << 10;
constexpr int kPollers = 4;

}  // namespace

grpc::Status EnrolService::Enrol(grpc::ServerContext* context, const v1::EnrolRequest* request, v1::EnrolResponse* response) {
  absl::StatusOr<v1::EnrolResponse> answer = desk_.Enrol(*request, AddressOf(context->peer()));
  if (!answer.ok()) return ToGrpc(answer.status());
  *response = *std::move(answer);
  return grpc::Status::OK;
}

grpc::Status EnrolService::Renew(grpc::ServerContext* context, const v1::RenewRequest* request, v1::EnrolResponse* response) {
  absl::StatusOr<v1::EnrolResponse> answer = desk_.Renew(*request, AddressOf(context->peer()));
  if (!answer.ok()) return ToGrpc(answer.status());
  *response = *std::move(answer);
  return grpc::Status::OK;
}

absl::StatusOr<std::unique_ptr<EnrolServer>> EnrolServer::Start(const std::string& address, const TlsFiles& files, EnrolDesk& desk,
                                                                int* port) {
  std::unique_ptr<EnrolServer> server(new EnrolServer(desk));
  grpc::ServerBuilder builder;
  SetServerLimits(builder);
  builder.SetMaxReceiveMessageSize(kRequestBytes);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS, kPollers);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
  int got = 0;
  builder.AddListeningPort(address, ServerOnlyCredentials(files), &got);
  builder.RegisterService(&server->service_);
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr || got == 0) {
    return absl::UnavailableError("cannot listen on " + address + " for enrolment: is the port taken, or the address not this machine's?");
  }
  if (port != nullptr) *port = got;
  return server;
}

EnrolServer::~EnrolServer() { Stop(); }

void EnrolServer::Stop() {
  if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
}

}  // namespace orgtrail
