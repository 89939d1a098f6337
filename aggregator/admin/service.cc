#include "aggregator/admin/service.h"

#include "common/base/status.h"
#include "common/base/text.h"
#include "common/rpc/credentials.h"
#include "orgtrail/v1/admin.grpc.pb.h"

namespace orgtrail {

struct AdminService::Impl final : public v1::Admin::Service {
  Impl(Office& o, const Registry& r, ReadJournal& j) : office(o), registry(r), reads(j) {}

  absl::StatusOr<Peer> Admitted(grpc::ServerContext* context) const {
    ASSIGN_OR_RETURN(Peer peer, PeerOf(*context));
    RETURN_IF_ERROR(registry.Admit(peer.identity, peer.serial_hex));
    return peer;
  }

  template <class Response, class Read>
  grpc::Status Show(grpc::ServerContext* context, Response* response, std::string_view name, std::string details, Read read) {
    const absl::Status shown = [&]() -> absl::Status {
      ASSIGN_OR_RETURN(const Peer peer, Admitted(context));
      ASSIGN_OR_RETURN(Response answer, read(peer.identity));
      RETURN_IF_ERROR(reads.Record(peer, name, std::move(details)));
      *response = std::move(answer);
      return absl::OkStatus();
    }();
    return ToGrpc(shown);
  }

  template <class Response, class Act>
  grpc::Status Answer(grpc::ServerContext* context, Response* response, Act act) {
    absl::StatusOr<Peer> peer = Admitted(context);
    if (!peer.ok()) return ToGrpc(peer.status());
    auto result = act(peer->identity);
    if constexpr (std::is_same_v<decltype(result), absl::Status>) {
      return ToGrpc(result);
    } else {
      if (!result.ok()) return ToGrpc(result.status());
      *response = *std::move(result);
      return grpc::Status::OK;
    }
  }

  grpc::Status CreateToken(grpc::ServerContext* c, const v1::CreateTokenRequest* q, v1::CreateTokenResponse* r) override {
    return Answer(c, r, [&](const Identity& who) { return office.CreateToken(who, *q); });
  }
  grpc::Status ListAgents(grpc::ServerContext* c, const v1::ListAgentsRequest* q, v1::ListAgentsResponse* r) override {
    std::string details = q->name().empty() ? "{}" : "{\"agent\":" + JsonString(q->name().substr(0, 256)) + "}";
    return Show(c, r, "ListAgents", std::move(details), [&](const Identity& who) { return office.ListAgents(who, *q); });
  }
  grpc::Status RevokeAgent(grpc::ServerContext* c, const v1::RevokeAgentRequest* q, v1::Done* r) override {
    return Answer(c, r, [&](const Identity& who) { return office.RevokeAgent(who, *q); });
  }
  grpc::Status CreateUser(grpc::ServerContext* c, const v1::CreateUserRequest* q, v1::CreateUserResponse* r) override {
    return Answer(c, r, [&](const Identity& who) { return office.CreateUser(who, *q); });
  }
  grpc::Status RevokeUser(grpc::ServerContext* c, const v1::RevokeUserRequest* q, v1::Done* r) override {
    return Answer(c, r, [&](const Identity& who) { return office.RevokeUser(who, *q); });
  }
  grpc::Status ListAlarms(grpc::ServerContext* c, const v1::ListAlarmsRequest* q, v1::ListAlarmsResponse* r) override {
    return Show(c, r, "ListAlarms", q->all() ? "{\"all\":true}" : "{}", [&](const Identity& who) { return office.ListAlarms(who, *q); });
  }
  grpc::Status AcknowledgeAlarm(grpc::ServerContext* c, const v1::AcknowledgeAlarmRequest* q, v1::AcknowledgeAlarmResponse* r) override {
    return Answer(c, r, [&](const Identity& who) { return office.AcknowledgeAlarm(who, *q); });
  }
  grpc::Status GetStatus(grpc::ServerContext* c, const v1::GetStatusRequest*, v1::StatusResponse* r) override {
    return Show(c, r, "GetStatus", "{}", [&](const Identity& who) { return office.Status(who); });
  }

  Office& office;
  const Registry& registry;
  ReadJournal& reads;
};

AdminService::AdminService(Office& office, const Registry& registry, ReadJournal& reads)
    : impl_(std::make_unique<Impl>(office, registry, reads)) {}
AdminService::~AdminService() = default;
grpc::Service* AdminService::service() { return impl_.get(); }

}  // namespace orgtrail
