// Rpc: one connection to an aggregator for people's commands. The only unit of the client with gRPC in it; messages are protobuf.
// Threads: one.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "orgtrail/v1/admin.pb.h"
#include "orgtrail/v1/feed.pb.h"
#include "orgtrail/v1/query.pb.h"
#include "orgtrail/v1/transparency.pb.h"

namespace orgtrail::client {

namespace pb = ::orgtrail::v1;

struct Profile {
  std::string path;                // of the file it came from
  std::string server, ca, certificate, key, trust;
};

class Rpc {
 public:
  static absl::StatusOr<std::unique_ptr<Rpc>> Connect(const Profile& profile);
  virtual ~Rpc() = default;

  // Every call: Unavailable says which server could not be reached and why, Unauthenticated what is wrong with the certificate.
  virtual absl::StatusOr<pb::LookupResponse> Lookup(const pb::LookupRequest& request) = 0;
  virtual absl::StatusOr<pb::GetEventResponse> GetEvent(const pb::GetEventRequest& request) = 0;
  // Until the stream ends or `take` returns false. Cancelled by Cancel() from a signal's thread.
  virtual absl::Status Subscribe(const pb::SubscribeRequest& request, const std::function<bool(const pb::FeedMessage&)>& take) = 0;
  virtual absl::Status ReadLeaves(const pb::ReadLeavesRequest& request, const std::function<bool(const pb::Leaf&)>& take) = 0;
  virtual void Cancel() = 0;
  virtual absl::StatusOr<pb::CheckpointResponse> Checkpoint() = 0;
  virtual absl::StatusOr<pb::ConsistencyResponse> Consistency(const pb::GetConsistencyRequest& request) = 0;
  virtual absl::StatusOr<pb::InclusionResponse> Inclusion(const pb::GetInclusionRequest& request) = 0;
  virtual absl::StatusOr<pb::EventProofResponse> EventProof(const pb::GetEventProofRequest& request) = 0;
  virtual absl::StatusOr<pb::CompletenessStatement> Completeness(const pb::GetCompletenessRequest& request) = 0;
  virtual absl::StatusOr<pb::CreateTokenResponse> CreateToken(const pb::CreateTokenRequest& request) = 0;
  virtual absl::StatusOr<pb::ListAgentsResponse> ListAgents(const pb::ListAgentsRequest& request) = 0;
  virtual absl::Status RevokeAgent(const pb::RevokeAgentRequest& request) = 0;
  virtual absl::StatusOr<pb::CreateUserResponse> CreateUser(const pb::CreateUserRequest& request) = 0;
  virtual absl::Status RevokeUser(const pb::RevokeUserRequest& request) = 0;
  virtual absl::StatusOr<pb::ListAlarmsResponse> ListAlarms(const pb::ListAlarmsRequest& request) = 0;
  virtual absl::StatusOr<pb::AcknowledgeAlarmResponse> AcknowledgeAlarm(const pb::AcknowledgeAlarmRequest& request) = 0;
  virtual absl::StatusOr<pb::StatusResponse> Status() = 0;
};

}  // namespace orgtrail::client
