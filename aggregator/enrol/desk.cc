#include "aggregator/enrol/desk.h"

#include <memory>
#include <optional>

#include "common/base/cidr.h"
#include "aggregator/ledger/committer.h"
#include "common/base/bytes.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/format/enrolment.h"

namespace orgtrail {
namespace {

constexpr size_t kCsrBytes = 16 << 10;
constexpr size_t kVersionBytes = 64;
constexpr int kMostInProgress = 64;
constexpr absl::Duration kTurn = absl::Seconds(15);             // the longest wait for another use of the same token
constexpr absl::Duration kChallengeLife = absl::Minutes(2);
constexpr size_t kChallengeBytes = 8 + 16;                      // time, MAC

std::string_view HostOf(std::string_view address) {
  std::string_view host = address.substr(0, address.rfind(':'));
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return host;
}

absl::Status Denied(std::string_view code, std::string_view text) {
  return absl::PermissionDeniedError(absl::StrCat(ToAbsl(code), ": ", ToAbsl(text)));
}

class Counted {
 public:
  explicit Counted(std::atomic<int>& n) : n_(n), now_(++n) {}
  ~Counted() { --n_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  int now() const { return now_; }

 private:
  std::atomic<int>& n_;
  const int now_;
};

}  // namespace

// Holds names (a token, a SPIFFE id, a uuid) for as long as it lives; nobody else holds any of them meanwhile.
class EnrolDesk::Turn {
 public:
  static absl::StatusOr<std::unique_ptr<Turn>> Take(Guarded<std::set<std::string>>& busy, std::vector<std::string> names) {
    const bool taken = busy.WhenFor(
        kTurn,
        [&](const std::set<std::string>& held) {
          for (const std::string& name : names) {
            if (held.contains(name)) return false;
          }
          return true;
        },
        [&](std::set<std::string>& held, bool free) {
          if (free) held.insert(names.begin(), names.end());
          return free;
        });
    if (!taken) return absl::UnavailableError("another enrolment with this token or name is still waiting for the log; try again");
    return std::unique_ptr<Turn>(new Turn(busy, std::move(names)));
  }
  ~Turn() {
    busy_.With([&](std::set<std::string>& held) {
      for (const std::string& name : names_) held.erase(name);
    });
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Turn(Guarded<std::set<std::string>>& busy, std::vector<std::string> names) : busy_(busy), names_(std::move(names)) {}
  Guarded<std::set<std::string>>& busy_;
  const std::vector<std::string> names_;
};

IdentityLog LogThrough(Committer& committer, Registry& registry, absl::Duration limit) {
  return [&committer, &registry, limit](const IdentityLeaf& act) {
    Admitted item;
    item.leaf = std::make_shared<Leaf>();
    item.leaf->bytes = act.Encode();
    item.then = [&registry, act](const SignedHead&, uint64_t leaf_index) { registry.Apply(act, leaf_index); };
    return committer.SubmitAndWait(std::move(item), limit);
  };
}

EnrolDesk::EnrolDesk(EnrolOptions options, const CertificateAuthority& authority, const Registry& registry, IdentityLog log,
                     EnrolAlarm alarm, PolicyInForce policy, const Clock& clock, Rng& rng)
    : options_(std::move(options)),
      authority_(authority),
      registry_(registry),
      log_(std::move(log)),
      alarm_(std::move(alarm)),
      policy_(std::move(policy)),
      clock_(clock),
      rng_(rng),
      challenge_key_(rng.Bytes(32)),
      limiter_(options_.attempts_per_second, options_.attempts_burst) {}

absl::Status EnrolDesk::CheckToken(const TokenRecord& token, const std::string& uri, std::string_view host) {
  const std::string where = "token " + token.id + " used from " + std::string(host);
  if (!UriMatches(token.uri_pattern, uri)) {
    alarm_("TOKEN_MISUSE", uri, where + " is for " + token.uri_pattern);
    return Denied("TOKEN_ELSEWHERE", "this join token is for " + token.uri_pattern + ", not for " + uri +
                                         "; correct account, region and name in the agent's configuration, or make a token for them");
  }
  if (!token.cidr.empty()) {
    const std::optional<Cidr> cidr = ParseCidr(token.cidr);
    if (!cidr || !cidr->Contains(host)) {
      alarm_("TOKEN_MISUSE", uri, where + " is good only from " + token.cidr);
      return Denied("TOKEN_ELSEWHERE", "this join token is good only from " + token.cidr + ", not from " + std::string(host));
    }
  }
  if (clock_.WallNanos() > token.expires_ns) {
    return Denied("TOKEN_EXPIRED", "this join token expired at " + Rfc3339(absl::FromUnixNanos(token.expires_ns)) +
                                       "; make another with 'orgtrail agent token'");
  }
  if (token.uses_left == 0) {
    alarm_("TOKEN_REUSE", uri, where + " has no uses left");
    return Denied("TOKEN_USED",
                  "this join token was used up or withdrawn. If you did not use it, somebody else did: look at 'orgtrail agents "
                  "list', then make another with 'orgtrail agent token'");
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::EnrolResponse> EnrolDesk::Enrol(const v1::EnrolRequest& request, std::string_view address) {
  const std::string_view host = HostOf(address);
  if (!limiter_.Allow(host, clock_.Now())) return absl::ResourceExhaustedError("RATE_LIMIT: too many attempts; wait a few seconds");
  const Counted counted(in_progress_);
  if (counted.now() > kMostInProgress) return absl::ResourceExhaustedError("RATE_LIMIT: enrolment is busy; try again shortly");

  Identity identity;
  identity.kind = Identity::Kind::kAgent;
  identity.org = authority_.org();
  identity.account = request.account();
  identity.region = request.region();
  identity.name = request.name();
  if (!IsAccountId(identity.account) || !IsName(identity.region) || !IsName(identity.name)) {
    return absl::InvalidArgumentError(
        "account must be 12 digits, region and name 1 to 64 of a-z, 0-9, '.', '_', '-': got " +
        Printable(identity.account.substr(0, 64) + "/" + identity.region.substr(0, 64) + "/" + identity.name.substr(0, 64)));
  }
  if (request.csr_pem().size() > kCsrBytes) return absl::InvalidArgumentError("the certificate request is longer than 16 KiB");
  if (request.version().size() > kVersionBytes) return absl::InvalidArgumentError("the agent's version is longer than 64 bytes");
  if (request.token_secret().size() != 32) return absl::InvalidArgumentError("the join token's secret is not 32 bytes");
  ASSIGN_OR_RETURN(const PublicKey key, ParsePublicKey(request.identity_key()));
  const std::string proof_of = EnrolProofMessage(request.csr_pem(), request.token_secret(), request.account(), request.region(), request.name());
  if (!VerifySignature(key, kEnrolLabel, proof_of, request.proof()).ok()) {
    return Denied("PROOF_INVALID", "the identity key did not sign this request");
  }

  const std::string token_id = JoinToken{request.token_secret(), Hash{}}.Id();
  const std::string uri = identity.ToUri();
  ASSIGN_OR_RETURN(const std::unique_ptr<Turn> turn, Turn::Take(busy_, {token_id, uri}));
  const std::optional<TokenRecord> token = registry_.Token(token_id);
  if (!token) {
    LogWarn("Enrolment with an unknown token.", {{"address", std::string(address)}, {"agent", uri}});
    return Denied("TOKEN_UNKNOWN", "this organization never made that join token; make one with 'orgtrail agent token'");
  }
  std::optional<AgentIdentityRecord> live = registry_.LiveAgentByUri(uri);
  if (live && options_.said_goodbye && options_.said_goodbye(live->uuid)) live.reset();
  // The agent of before, which did not hear the answer: it gets a certificate, and the token is not asked for another use.
  if (live && live->identity_key == key && UriMatches(token->uri_pattern, uri)) return Reissue(*live, request.csr_pem(), "enrolment repeated");
  RETURN_IF_ERROR(CheckToken(*token, uri, host));
  if (live) {
    return absl::AlreadyExistsError(
        "an agent " + identity.account + "/" + identity.region + "/" + identity.name + " is enrolled (" + live->uuid.ToString() +
        "). Choose another name; or if that machine is gone for good, 'orgtrail agents revoke' it first");
  }
  return Admit(request, identity, key, *token);
}

absl::StatusOr<v1::EnrolResponse> EnrolDesk::Admit(const v1::EnrolRequest& request, const Identity& identity,
                                                   const PublicKey& key, const TokenRecord& token) {
  const absl::Time now = clock_.Wall();
  ASSIGN_OR_RETURN(const CertificateAuthority::Issued issued,
                   authority_.Issue(identity, request.csr_pem(), now, options_.certificate_life));
  IdentityLeaf leaf;
  leaf.act = IdentityLeaf::Act::kEnrolled;
  leaf.wall_ns = static_cast<uint64_t>(absl::ToUnixNanos(now));
  leaf.uuid = Uuid::Random(rng_);
  leaf.uri = issued.uri;
  leaf.certificate = issued.facts.der_hash;
  leaf.identity_key = std::string(View(key));
  leaf.token_id = token.id;
  leaf.carries = token.carries;
  leaf.not_after_ns = static_cast<uint64_t>(absl::ToUnixNanos(issued.facts.not_after));
  leaf.serial = issued.facts.serial_hex;
  ASSIGN_OR_RETURN(const uint64_t index, log_(leaf));
  LogInfo("An agent is enrolled.", {{"agent", issued.uri}, {"uuid", leaf.uuid.ToString()}, {"version", request.version()}});
  return Answer(leaf.uuid, issued, index, token.carries);
}

absl::StatusOr<v1::EnrolResponse> EnrolDesk::Reissue(const AgentIdentityRecord& agent, const std::string& csr_pem,
                                                     std::string_view why) {
  const absl::Time now = clock_.Wall();
  const absl::Duration since = now + options_.certificate_life - absl::FromUnixNanos(agent.certificate_expires_ns);
  if (since >= absl::ZeroDuration() && since < options_.between_renewals) {
    return absl::ResourceExhaustedError("RATE_LIMIT: this agent's certificate was issued seconds ago; try again in " +
                                        absl::FormatDuration(options_.between_renewals));
  }
  const std::optional<Identity> identity = Identity::Parse(agent.uri);
  if (!identity) return absl::InternalError("the log holds an agent whose name does not parse: " + Printable(agent.uri));
  ASSIGN_OR_RETURN(const CertificateAuthority::Issued issued,
                   authority_.Issue(*identity, csr_pem, now, options_.certificate_life));
  IdentityLeaf leaf;
  leaf.act = IdentityLeaf::Act::kRenewed;
  leaf.wall_ns = static_cast<uint64_t>(absl::ToUnixNanos(now));
  leaf.uuid = agent.uuid;
  leaf.uri = agent.uri;
  leaf.certificate = issued.facts.der_hash;
  leaf.identity_key = std::string(View(agent.identity_key));
  leaf.carries = agent.carries;
  leaf.not_after_ns = static_cast<uint64_t>(absl::ToUnixNanos(issued.facts.not_after));
  leaf.serial = issued.facts.serial_hex;
  leaf.reason = std::string(why);
  RETURN_IF_ERROR(log_(leaf).status());
  return Answer(agent.uuid, issued, agent.enrolled_leaf, agent.carries);
}

v1::EnrolResponse EnrolDesk::Answer(const Uuid& uuid, const CertificateAuthority::Issued& issued, uint64_t enrolled_leaf,
                                    const std::string& carries) {
  v1::EnrolResponse response;
  response.set_agent_uuid(std::string(uuid.view()));
  response.set_certificate_pem(issued.certificate_pem);
  response.set_ca_pem(authority_.files().cert_pem);
  response.set_org(authority_.org());
  response.set_origin(options_.origin);
  response.set_log_vkey(options_.log_vkey);
  response.set_enrolment_leaf(enrolled_leaf);
  response.set_carries(carries);
  if (policy_) {
    auto [note, body] = policy_();
    response.set_policy(std::move(note));
    response.set_policy_body(std::move(body));
  }
  response.set_wall_ns(clock_.WallNanos());
  return response;
}

std::string EnrolDesk::Challenge(const Uuid& uuid, int64_t wall_ns) const {
  std::string challenge;
  PutU64(challenge, static_cast<uint64_t>(wall_ns));
  challenge += HmacSha256(challenge_key_, challenge + std::string(uuid.view())).substr(0, kChallengeBytes - 8);
  return challenge;
}

bool EnrolDesk::IsChallenge(const Uuid& uuid, std::string_view challenge) const {
  if (challenge.size() != kChallengeBytes) return false;
  const auto made_ns = static_cast<int64_t>(GetU64(challenge.data()));
  if (!ConstantTimeEqual(challenge, Challenge(uuid, made_ns))) return false;
  const absl::Duration age = clock_.Wall() - absl::FromUnixNanos(made_ns);
  return age >= absl::ZeroDuration() && age <= kChallengeLife;
}

absl::StatusOr<v1::EnrolResponse> EnrolDesk::Renew(const v1::RenewRequest& request, std::string_view address) {
  const std::string_view host = HostOf(address);
  if (!limiter_.Allow(host, clock_.Now())) return absl::ResourceExhaustedError("RATE_LIMIT: too many attempts; wait a few seconds");
  const Counted counted(in_progress_);
  if (counted.now() > kMostInProgress) return absl::ResourceExhaustedError("RATE_LIMIT: enrolment is busy; try again shortly");
  if (request.agent_uuid().size() != 16) return absl::InvalidArgumentError("an agent's uuid is 16 bytes");
  if (request.csr_pem().size() > kCsrBytes) return absl::InvalidArgumentError("the certificate request is longer than 16 KiB");
  if (request.challenge().size() > kChallengeBytes) return absl::InvalidArgumentError("the challenge is not one of ours");

  const Uuid uuid = Uuid::FromBytes(request.agent_uuid());
  ASSIGN_OR_RETURN(const std::unique_ptr<Turn> turn, Turn::Take(busy_, {uuid.ToString()}));
  const std::optional<AgentIdentityRecord> agent = registry_.Agent(uuid);
  if (!agent) return Denied("AUTH_UNKNOWN", "this log has no agent " + uuid.ToString() + "; enrol with a join token");
  const std::string proof_of = RenewProofMessage(uuid, request.csr_pem(), request.wall_ns(), request.challenge());
  if (!VerifySignature(agent->identity_key, kEnrolLabel, proof_of, request.proof()).ok()) {
    return Denied("PROOF_INVALID", "the agent's identity key did not sign this request");
  }
  // Only now is it the agent itself that hears why, and its holder whom an alarm names.
  if (agent->revoked || agent->retired) {
    if (agent->revoked) alarm_("REVOKED_RENEWAL", agent->uri, "a revoked agent asked for a certificate from " + std::string(host));
    return Denied("AUTH_REVOKED", "this agent was " + std::string(agent->revoked ? "revoked" : "retired") +
                                      "; enrol it anew with a join token if it is to go on");
  }
  const absl::Time now = clock_.Wall();
  const absl::Time expired = absl::FromUnixNanos(agent->certificate_expires_ns);
  if (now > expired + options_.renew_after_expiry) {
    return Denied("AUTH_EXPIRED", "the certificate expired at " + Rfc3339(expired) + ", longer ago than renewal is possible; " +
                                      "enrol the agent anew with a join token");
  }
  const bool on_time = absl::AbsDuration(now - absl::FromUnixNanos(request.wall_ns())) <= options_.clock_tolerance;
  if (!on_time && !IsChallenge(uuid, request.challenge())) {
    v1::EnrolResponse response;  // no certificate: sign this, then it is known to be a request of now
    response.set_challenge(Challenge(uuid, absl::ToUnixNanos(now)));
    response.set_wall_ns(absl::ToUnixNanos(now));
    return response;
  }
  return Reissue(*agent, request.csr_pem(), on_time ? "" : "the agent's clock is off");
}

}  // namespace orgtrail
