// EnrolDesk: decides who becomes an agent of the organization and says so in the log before it says so to the agent.
//
// Path     gRPC (service.h) → [EnrolDesk] → committer; registry
// Threads  any; an enrolment waits for its commit. One token, one name and one agent are dealt with one at a time.
// Holds    a certificate leaves only after the leaf that names it is committed. A token's use is spent by that commit.
// Fails    ledger full or slow: nothing is given out; the same request may be made again and finds its enrolment if it was logged.
// Bytes    docs/formats/enrolment.md
#pragma once

#include <atomic>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "aggregator/enrol/authority.h"
#include "aggregator/enrol/limiter.h"
#include "aggregator/ledger/registry.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "orgtrail/v1/enrol.pb.h"

namespace orgtrail {

class Committer;

// Commits an identity leaf, folds it into the registry, returns its index.
using IdentityLog = std::function<absl::StatusOr<uint64_t>(const IdentityLeaf&)>;
// The real one. The fold happens with the commit, also when the wait for it was given up. Both outlive it and its commits.
IdentityLog LogThrough(Committer& committer, Registry& registry, absl::Duration limit);

// TOKEN_REUSE, TOKEN_MISUSE, REVOKED_RENEWAL; the subject is the SPIFFE id asked for.
using EnrolAlarm = std::function<void(std::string_view code, std::string_view subject, std::string_view detail)>;
// The policy in force: signed note and body; both empty when there is none.
using PolicyInForce = std::function<std::pair<std::string, std::string>()>;

struct EnrolOptions {
  std::string origin, log_vkey;                          // of the log agents will send to
  absl::Duration certificate_life = absl::Hours(24);
  absl::Duration renew_after_expiry = absl::Hours(24 * 90);
  absl::Duration clock_tolerance = absl::Minutes(5);     // a renewal signed further off gets a challenge instead
  absl::Duration between_renewals = absl::Seconds(10);   // of one agent
  // Whether an agent's last logged words were its goodbye: its name is free then, also before the registry says so. May be null.
  std::function<bool(const Uuid&)> said_goodbye;
  double attempts_per_second = 10, attempts_burst = 50;  // per network address
};

class EnrolDesk {
 public:
  EnrolDesk(EnrolOptions options, const CertificateAuthority& authority, const Registry& registry, IdentityLog log,
            EnrolAlarm alarm, PolicyInForce policy, const Clock& clock, Rng& rng);

  // `address` is the caller's "host:port". PermissionDenied: TOKEN_UNKNOWN, TOKEN_EXPIRED, TOKEN_USED, TOKEN_ELSEWHERE (another
  // account, region, name or network), PROOF_INVALID; AlreadyExists: a live agent has the name; InvalidArgument: the request;
  // ResourceExhausted and DeadlineExceeded: later.
  absl::StatusOr<v1::EnrolResponse> Enrol(const v1::EnrolRequest& request, std::string_view address);
  // PermissionDenied: AUTH_UNKNOWN, AUTH_REVOKED, AUTH_EXPIRED, PROOF_INVALID.
  absl::StatusOr<v1::EnrolResponse> Renew(const v1::RenewRequest& request, std::string_view address);

 private:
  class Turn;

  absl::Status CheckToken(const TokenRecord& token, const std::string& uri, std::string_view host);
  absl::StatusOr<v1::EnrolResponse> Admit(const v1::EnrolRequest& request, const Identity& identity, const PublicKey& key,
                                          const TokenRecord& token);
  absl::StatusOr<v1::EnrolResponse> Reissue(const AgentIdentityRecord& agent, const std::string& csr_pem, std::string_view why);
  v1::EnrolResponse Answer(const Uuid& uuid, const CertificateAuthority::Issued& issued, uint64_t enrolled_leaf,
                           const std::string& carries);
  std::string Challenge(const Uuid& uuid, int64_t wall_ns) const;
  bool IsChallenge(const Uuid& uuid, std::string_view challenge) const;

  const EnrolOptions options_;
  const CertificateAuthority& authority_;
  const Registry& registry_;
  const IdentityLog log_;
  const EnrolAlarm alarm_;
  const PolicyInForce policy_;
  const Clock& clock_;
  Rng& rng_;
  const std::string challenge_key_;
  AddressLimiter limiter_;
  Guarded<std::set<std::string>> busy_;
  std::atomic<int> in_progress_{0};
};

}  // namespace orgtrail
