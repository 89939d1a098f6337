#include "aggregator/door.h"

#include <string>

#include "common/base/log.h"
#include "common/rpc/call_limit.h"
#include "common/rpc/credentials.h"

namespace orgtrail {

absl::StatusOr<std::unique_ptr<Door>> Door::Open(const AggregatorConfig& config, const std::vector<grpc::Service*>& services, const Clock& clock, Metrics& metrics) {
  std::unique_ptr<Door> door(new Door());
  grpc::ServerBuilder builder;
  int port = 0;
  // Connections without a call are closed after a minute (rpc/credentials.cc): so an identity never has many of them.
  const std::shared_ptr<grpc::ServerCredentials> credentials =
      MutualServerCredentials({config.tls_certificate, config.tls_key, config.ca_certificate}, config.org, [&door = *door, &clock](const Identity& who) {
        Allowance& allowance = who.kind == Identity::Kind::kAgent ? door.agents_ : door.people_;
        return allowance.Take(who.ToUri(), clock.Now()) == Allowance::Took::kOne;
      });
  SetServerLimits(builder);
  // gRPC buffers a message as far as it comes before it compares its length with the limit: beyond this it ends streams instead.
  grpc::ResourceQuota quota("door");
  quota.Resize(config.connection_bytes);
  builder.SetResourceQuota(quota);
  builder.SetMaxSendMessageSize(64 << 20);
  CallLimit calls;
  calls.single = "/orgtrail.v1.Ingest/Push";
  calls.cut = [&cuts = metrics.GetCounter("orgtrail_rpc_connections_cut_total", "Connections closed because they began more calls than anybody needs.")](
                  const std::string& address) {
    cuts.Add();
    LogWarn("A connection began far more calls than anybody needs and was closed.", {{"address", address}});
  };
  credentials->SetAuthMetadataProcessor(MakeCallGate(calls, clock));
  AddCallLimit(builder, std::move(calls), clock);
  builder.AddListeningPort(config.listen, credentials, &port);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 64);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS, 2);
  for (grpc::Service* service : services) builder.RegisterService(service);
  door->server_ = builder.BuildAndStart();
  if (door->server_ == nullptr || port == 0) {
    return absl::FailedPreconditionError("cannot listen on " + config.listen + ": is another aggregator running there? Otherwise choose another `listen`");
  }
  return door;
}

void Door::Close(absl::Duration limit) { server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoSeconds(limit)); }

}  // namespace orgtrail
