// Office: what governance, operators and members may do and see of the organization itself: tokens, fleet, people, alarms, status.
// Every act is logged before it takes effect, and every act is a record of the own agent's, those that were refused included.
//
// Threads  any; an act waits for its commit.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/admin/epochs.h"
#include "aggregator/alarms/alarms.h"
#include "aggregator/alarms/watch.h"
#include "aggregator/enrol/authority.h"
#include "aggregator/enrol/desk.h"
#include "aggregator/ingest/session.h"
#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/pruner.h"
#include "aggregator/ledger/registry.h"
#include "orgtrail/v1/admin.pb.h"

namespace orgtrail {

struct OfficeParts {
  const CertificateAuthority& authority;
  const Ledger& ledger;
  const Registry& registry;
  IdentityLog log;
  Sessions& sessions;
  Alarms& alarms;
  const Watch& watch;
  std::function<std::vector<FollowerFacts>()> followers;
  std::function<uint32_t()> subscriptions;
  std::vector<std::string> accounts, regions;                            // the organization's
  // Logs what was done: who, name, details, error code ("" none). Not ok: the act is refused.
  std::function<absl::Status(const Identity& who, std::string_view name, std::string details, std::string_view error_code)> record;
  Uuid own;
  bool demo = false;
  const Clock& clock;
  Rng& rng;
  std::function<RetentionFacts()> retention = {};
};

class Office {
 public:
  explicit Office(OfficeParts parts) : p_(std::move(parts)), epochs_(p_.ledger) {}
  absl::StatusOr<v1::CreateTokenResponse> CreateToken(const Identity& who, const v1::CreateTokenRequest& request);
  absl::StatusOr<v1::ListAgentsResponse> ListAgents(const Identity& who, const v1::ListAgentsRequest& request);
  absl::Status RevokeAgent(const Identity& who, const v1::RevokeAgentRequest& request);
  absl::StatusOr<v1::CreateUserResponse> CreateUser(const Identity& who, const v1::CreateUserRequest& request);
  absl::Status RevokeUser(const Identity& who, const v1::RevokeUserRequest& request);
  absl::StatusOr<v1::ListAlarmsResponse> ListAlarms(const Identity& who, const v1::ListAlarmsRequest& request);
  absl::StatusOr<v1::AcknowledgeAlarmResponse> AcknowledgeAlarm(const Identity& who, const v1::AcknowledgeAlarmRequest& request);
  absl::StatusOr<v1::StatusResponse> Status(const Identity& who);

 private:
  absl::Status CheckAccount(const std::string& account) const;           // that it is the organization's
  absl::Status CheckRegion(const std::string& region) const;             // likewise; empty: any
  absl::Status Refuse(const Identity& who, std::string_view name, std::string details, std::string_view act, std::string_view needs);
  absl::StatusOr<std::vector<AgentIdentityRecord>> Find(const std::string& name, const std::string& account) const;
  const OfficeParts p_;
  Epochs epochs_;
};

}  // namespace orgtrail
