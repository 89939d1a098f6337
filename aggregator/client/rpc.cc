#include "aggregator/client/rpc.h"

#include <algorithm>
#include <chrono>
#include <mutex>

#include "common/base/status.h"
#include "common/rpc/credentials.h"
#include "orgtrail/v1/admin.grpc.pb.h"
#include "orgtrail/v1/feed.grpc.pb.h"
#include "orgtrail/v1/query.grpc.pb.h"
#include "orgtrail/v1/transparency.grpc.pb.h"

namespace orgtrail::client {
namespace {

constexpr int kAnswerBytes = 64 << 20;   // what the server sends at most; one record alone may have 16 MiB

constexpr auto kCallLimit = std::chrono::seconds(60);

// gRPC says it in OpenSSL's and the system's words.
std::string_view WhyUnreachable(std::string_view said) {
  const struct {
    std::string_view word, why;
  } known[] = {
      {"Connection refused", "nothing listens there. Is it running, and is this its `listen` port (7443 unless it was changed)?"},
      {"certificate verify failed", "the certificate it shows was not issued by this profile's CA. Is this the profile of its organization?"},
      {"wrong version number", "what listens there does not speak TLS. Is this its `listen` port (7443 unless it was changed)?"},
      {"Socket closed", "it ended the connection, as it does when your certificate ran out, was revoked, or is of another organization"},
      {"DNS resolution failed", "no such host name is known"},
      {"Name or service not known", "no such host name is known"},
      {"No route to host", "there is no way to that address from here"},
      {"imeout", "it does not answer. Is a firewall in between?"},
      {"imed out", "it does not answer. Is a firewall in between?"},
  };
  for (const auto& k : known) {
    if (said.find(k.word) != std::string_view::npos) return k.why;
  }
  return "is it running, and is this certificate of its organization?";
}

// Whether gRPC says so because no aggregator answered; else UNAVAILABLE is the aggregator's own word, and says what to do.
bool IsOfTransport(std::string_view message) {
  constexpr std::string_view kBeginnings[] = {"failed to connect", "connections to all", "DNS", "Socket closed", "Connection ", "recvmsg", "sendmsg",
                                              "GOAWAY", "Transport closed", "keepalive", "Broken pipe", "Endpoint", "endpoint", "empty address"};
  return message.empty() || std::any_of(std::begin(kBeginnings), std::end(kBeginnings), [&](std::string_view b) { return message.starts_with(b); });
}

class GrpcRpc final : public Rpc {
 public:
  GrpcRpc(const Profile& profile, std::shared_ptr<grpc::Channel> channel)
      : server_(profile.server), channel_(std::move(channel)), query_(pb::Query::NewStub(channel_)),
        feed_(pb::Feed::NewStub(channel_)), transparency_(pb::Transparency::NewStub(channel_)), admin_(pb::Admin::NewStub(channel_)) {}

  absl::StatusOr<pb::LookupResponse> Lookup(const pb::LookupRequest& r) override { return Call(*query_, &pb::Query::Stub::Lookup, r); }
  absl::StatusOr<pb::GetEventResponse> GetEvent(const pb::GetEventRequest& r) override {
    return Call(*query_, &pb::Query::Stub::GetEvent, r);
  }
  absl::Status Subscribe(const pb::SubscribeRequest& r, const std::function<bool(const pb::FeedMessage&)>& take) override {
    return Stream<pb::FeedMessage>(r, take, [&](grpc::ClientContext* c) { return feed_->Subscribe(c, r); });
  }
  absl::Status ReadLeaves(const pb::ReadLeavesRequest& r, const std::function<bool(const pb::Leaf&)>& take) override {
    return Stream<pb::Leaf>(r, take, [&](grpc::ClientContext* c) { return transparency_->ReadLeaves(c, r); });
  }
  void Cancel() override {
    std::lock_guard lock(mu_);
    cancelled_ = true;
    if (stream_ != nullptr) stream_->TryCancel();
  }
  absl::StatusOr<pb::CheckpointResponse> Checkpoint() override {
    return Call(*transparency_, &pb::Transparency::Stub::GetCheckpoint, pb::GetCheckpointRequest());
  }
  absl::StatusOr<pb::ConsistencyResponse> Consistency(const pb::GetConsistencyRequest& r) override {
    return Call(*transparency_, &pb::Transparency::Stub::GetConsistency, r);
  }
  absl::StatusOr<pb::InclusionResponse> Inclusion(const pb::GetInclusionRequest& r) override {
    return Call(*transparency_, &pb::Transparency::Stub::GetInclusion, r);
  }
  absl::StatusOr<pb::EventProofResponse> EventProof(const pb::GetEventProofRequest& r) override {
    return Call(*transparency_, &pb::Transparency::Stub::GetEventProof, r);
  }
  absl::StatusOr<pb::CompletenessStatement> Completeness(const pb::GetCompletenessRequest& r) override {
    return Call(*transparency_, &pb::Transparency::Stub::GetCompleteness, r);
  }
  absl::StatusOr<pb::CreateTokenResponse> CreateToken(const pb::CreateTokenRequest& r) override {
    return Call(*admin_, &pb::Admin::Stub::CreateToken, r);
  }
  absl::StatusOr<pb::ListAgentsResponse> ListAgents(const pb::ListAgentsRequest& r) override {
    return Call(*admin_, &pb::Admin::Stub::ListAgents, r);
  }
  absl::Status RevokeAgent(const pb::RevokeAgentRequest& r) override { return Call(*admin_, &pb::Admin::Stub::RevokeAgent, r).status(); }
  absl::StatusOr<pb::CreateUserResponse> CreateUser(const pb::CreateUserRequest& r) override {
    return Call(*admin_, &pb::Admin::Stub::CreateUser, r);
  }
  absl::Status RevokeUser(const pb::RevokeUserRequest& r) override { return Call(*admin_, &pb::Admin::Stub::RevokeUser, r).status(); }
  absl::StatusOr<pb::ListAlarmsResponse> ListAlarms(const pb::ListAlarmsRequest& r) override {
    return Call(*admin_, &pb::Admin::Stub::ListAlarms, r);
  }
  absl::StatusOr<pb::AcknowledgeAlarmResponse> AcknowledgeAlarm(const pb::AcknowledgeAlarmRequest& r) override {
    return Call(*admin_, &pb::Admin::Stub::AcknowledgeAlarm, r);
  }
  absl::StatusOr<pb::StatusResponse> Status() override { return Call(*admin_, &pb::Admin::Stub::GetStatus, pb::GetStatusRequest()); }

 private:
  absl::Status Explain(const grpc::Status& status) const {
    absl::Status s = FromGrpc(status);
    if (absl::IsUnavailable(s) && IsOfTransport(ToStd(s.message()))) {
      return absl::UnavailableError(absl::StrCat("cannot reach the aggregator at ", server_, ": ", ToAbsl(WhyUnreachable(ToStd(s.message()))),
                                                 " (", s.message(), ")"));
    }
    if (s.message().empty()) {
      return absl::Status(s.code(), absl::StrCat(server_, " answers, but not to this call: is it the aggregator's `listen` port (7443), not its "
                                                          "enrolment port, and of this release?"));
    }
    return s;
  }

  template <class Stub, class Request, class Response>
  absl::StatusOr<Response> Call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kCallLimit);
    Response response;
    grpc::Status status = (stub.*method)(&context, request, &response);
    if (!status.ok()) return Explain(status);
    return response;
  }

  template <class Message, class Request, class Open>
  absl::Status Stream(const Request&, const std::function<bool(const Message&)>& take, Open open) {
    grpc::ClientContext context;
    {
      std::lock_guard lock(mu_);
      if (cancelled_) return absl::CancelledError("cancelled");
      stream_ = &context;
    }
    auto reader = open(&context);
    Message message;
    bool stopped = false;
    while (reader->Read(&message)) {
      if (!take(message)) {
        stopped = true;
        context.TryCancel();
        break;
      }
    }
    grpc::Status status = reader->Finish();
    std::lock_guard lock(mu_);
    stream_ = nullptr;
    if (stopped) return absl::OkStatus();
    if (cancelled_) return absl::CancelledError("cancelled");
    return status.ok() ? absl::OkStatus() : Explain(status);
  }

  const std::string server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<pb::Query::Stub> query_;
  std::unique_ptr<pb::Feed::Stub> feed_;
  std::unique_ptr<pb::Transparency::Stub> transparency_;
  std::unique_ptr<pb::Admin::Stub> admin_;
  std::mutex mu_;
  grpc::ClientContext* stream_ = nullptr;
  bool cancelled_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Rpc>> Rpc::Connect(const Profile& profile) {
  InitRpc();
  const TlsFiles files{profile.certificate, profile.key, profile.ca};
  return std::unique_ptr<Rpc>(new GrpcRpc(profile, OpenChannel(profile.server, MutualChannelCredentials(files), kAnswerBytes)));
}

}  // namespace orgtrail::client
