#include "aggregator/admin/office.h"

#include <algorithm>

#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

using Kind = Identity::Kind;

constexpr int64_t kMostTtl = 365 * 86'400;
constexpr size_t kReason = 512;
constexpr size_t kShown = 256;   // of what a request said, in the record of its refusal

bool Governs(const Identity& who) { return who.kind == Kind::kGovernance; }
bool Operates(const Identity& who) { return who.kind == Kind::kGovernance || who.kind == Kind::kOperator; }
bool SeesAll(const Identity& who) { return Operates(who) || who.kind == Kind::kAuditor; }

absl::Status Denied(std::string_view act, std::string_view needs) {
  std::string text = "AccessDenied: ";
  text += act;
  text += " needs ";
  text += needs;
  return absl::PermissionDeniedError(text);
}

v1::Alarm ToProto(const AlarmState& a) {
  v1::Alarm out;
  out.set_id(a.id);
  out.set_code(a.code);
  out.set_severity(std::string(SeverityName(a.severity)));
  out.set_subject(a.subject);
  out.set_raised_ns(a.raised_ns);
  out.set_cleared_ns(a.cleared_ns);
  out.set_detail(a.detail);
  out.set_acknowledged_by(a.acknowledged_by);
  out.set_note(a.note);
  out.set_count(a.count);
  out.set_kind(a.kind == AlarmKind::kEvent ? "event" : "condition");
  out.set_state(std::string(a.State()));
  out.set_last_ns(a.last_ns);
  return out;
}

}  // namespace

// Who tried what they may not do is worth knowing; the answer does not depend on whether it could be recorded.
absl::Status Office::Refuse(const Identity& who, std::string_view name, std::string details, std::string_view act, std::string_view needs) {
  if (absl::Status recorded = p_.record(who, name, std::move(details), "AccessDenied"); !recorded.ok()) {
    LogWarn("a refused act could not be recorded", {{"who", who.ToUri()}, {"act", std::string(name)}, {"why", Describe(recorded)}});
  }
  return Denied(act, needs);
}

absl::StatusOr<v1::CreateTokenResponse> Office::CreateToken(const Identity& who, const v1::CreateTokenRequest& request) {
  const bool own_account = who.kind == Kind::kUser && who.account == request.account() && request.carries().empty();
  if (!Governs(who) && !own_account) {
    return Refuse(who, "CreateToken", "{\"account\":" + JsonString(request.account().substr(0, kShown)) + ",\"carries\":" + JsonString(request.carries().substr(0, kShown)) + "}",
                  "a join token", "the governance role, or a user of that account (not for collectors)");
  }
  RETURN_IF_ERROR(CheckAccount(request.account()));
  RETURN_IF_ERROR(CheckRegion(request.region()));
  if (request.ttl_s() < 0 || request.ttl_s() > kMostTtl) return absl::InvalidArgumentError("a token lives at most 365 days");
  CertificateAuthority::TokenOrder order;
  order.account = request.account();
  order.region = request.region();
  order.name = request.name();
  order.carries = request.carries();
  order.uses = request.uses() == 0 ? 1 : request.uses();
  order.life = request.ttl_s() == 0 ? absl::Hours(1) : absl::Seconds(request.ttl_s());
  order.cidr = request.cidr();
  order.approver = who.ToUri();
  ASSIGN_OR_RETURN(CertificateAuthority::IssuedToken issued, p_.authority.IssueToken(order, p_.clock.Wall(), p_.rng));
  RETURN_IF_ERROR(p_.record(who, "CreateToken",
                            "{\"account\":" + JsonString(order.account) + ",\"region\":" + JsonString(order.region) +
                                ",\"name\":" + JsonString(order.name) + ",\"carries\":" + JsonString(order.carries) +
                                ",\"uses\":" + std::to_string(order.uses) + ",\"tokenId\":" + JsonString(issued.token.Id()) + "}",
                            ""));
  RETURN_IF_ERROR(p_.log(issued.leaf).status());
  v1::CreateTokenResponse response;
  response.set_token(issued.token.Encode());
  response.set_id(issued.token.Id());
  response.set_expires_ns(static_cast<int64_t>(issued.leaf.not_after_ns));
  return response;
}

absl::Status Office::CheckAccount(const std::string& account) const {
  if (!IsAccountId(account)) return absl::InvalidArgumentError("an account id is 12 digits, such as 222222222222");
  if (std::find(p_.accounts.begin(), p_.accounts.end(), account) != p_.accounts.end()) return absl::OkStatus();
  return absl::InvalidArgumentError("account " + account + " is not of this organization; add it to accounts in aggregator.yaml and restart");
}

absl::Status Office::CheckRegion(const std::string& region) const {
  if (region.empty() || std::find(p_.regions.begin(), p_.regions.end(), region) != p_.regions.end()) return absl::OkStatus();
  return absl::InvalidArgumentError("region " + region + " is not of this organization; add it to regions in aggregator.yaml and restart");
}

absl::StatusOr<std::vector<AgentIdentityRecord>> Office::Find(const std::string& name, const std::string& account) const {
  std::vector<AgentIdentityRecord> found;
  const std::optional<Uuid> uuid = Uuid::Parse(name);
  for (AgentIdentityRecord& a : p_.registry.Agents()) {
    if (a.uuid == p_.own || (!account.empty() && a.account != account)) continue;
    const bool match = name.empty() || (uuid ? a.uuid == *uuid : name == a.name || name == a.account + "/" + a.region + "/" + a.name);
    if (match) found.push_back(std::move(a));
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return std::tie(a.account, a.region, a.name, a.enrolled_leaf) < std::tie(b.account, b.region, b.name, b.enrolled_leaf);
  });
  return found;
}

absl::StatusOr<v1::ListAgentsResponse> Office::ListAgents(const Identity& who, const v1::ListAgentsRequest& request) {
  if (!SeesAll(who) && who.kind != Kind::kUser) return Denied("the fleet", "a person's certificate");
  ASSIGN_OR_RETURN(std::vector<AgentIdentityRecord> found, Find(request.name(), SeesAll(who) ? "" : who.account));
  v1::ListAgentsResponse response;
  for (const AgentIdentityRecord& r : found) {
    const std::optional<AgentHead> head = p_.ledger.HeadOf(r.uuid);
    const std::optional<AgentPresence> live = p_.sessions.Of(r.uuid);
    v1::Agent* a = response.add_agents();
    a->set_uuid(std::string(r.uuid.view()));
    a->set_account(r.account);
    a->set_region(r.region);
    a->set_name(r.name);
    a->set_carries(r.carries);
    a->set_certificate_expires_ns(r.certificate_expires_ns);
    switch (p_.watch.LifeOf(r, head)) {
      case AgentLife::kLive: a->set_state(head->quarantined ? "quarantined" : "live"); break;
      case AgentLife::kSilent: a->set_state("silent"); break;
      case AgentLife::kNever: a->set_state("never"); break;
      case AgentLife::kRetired: a->set_state("retired"); break;
      case AgentLife::kRevoked: a->set_state("revoked"); break;
    }
    if (head) {
      a->set_last_seen_ns(head->logged_ns);
      a->set_lag_ns(std::max<int64_t>(0, head->logged_ns - static_cast<int64_t>(head->wall_close_ns)));
      const EpochTotals earlier = epochs_.Before(*head);
      a->set_events(earlier.events + head->cum_events);
      a->set_lost(earlier.lost + head->cum_lost + head->bodies_missing);
      a->set_epoch_events(head->cum_events);
      a->set_epoch_lost(head->cum_lost);
      a->set_epoch(head->epoch);
      a->set_batch_seq(head->batch_seq);
      a->set_policy_version(head->policy_version);
      a->set_unclean_epochs(head->unclean_epochs);
    }
    if (live) {
      a->set_version(live->version);
      a->set_address(live->address);
    }
  }
  return response;
}

absl::Status Office::RevokeAgent(const Identity& who, const v1::RevokeAgentRequest& request) {
  if (!Governs(who)) {
    return Refuse(who, "RevokeAgent", "{\"agent\":" + JsonString(request.name().substr(0, kShown)) + "}", "revoking an agent", "the governance role");
  }
  if (request.reason().size() > kReason) return absl::InvalidArgumentError("a reason is at most 512 characters");
  ASSIGN_OR_RETURN(std::vector<AgentIdentityRecord> found, Find(request.name(), ""));
  std::erase_if(found, [](const AgentIdentityRecord& a) { return a.revoked || a.retired; });
  if (request.name().empty() || found.empty()) return absl::NotFoundError("no live agent of that name; `orgtrail agents list` shows every one");
  if (found.size() > 1) return absl::FailedPreconditionError("several agents have that name: give ACCOUNT/REGION/NAME or the uuid");
  const AgentIdentityRecord& agent = found.front();
  RETURN_IF_ERROR(p_.record(who, "RevokeAgent", "{\"agent\":" + JsonString(agent.uri) + ",\"reason\":" + JsonString(request.reason()) + "}", ""));
  IdentityLeaf leaf;
  leaf.act = IdentityLeaf::Act::kRevoked;
  leaf.wall_ns = static_cast<uint64_t>(p_.clock.WallNanos());
  leaf.uuid = agent.uuid;
  leaf.uri = agent.uri;
  leaf.approver = who.ToUri();
  leaf.reason = request.reason();
  RETURN_IF_ERROR(p_.log(leaf).status());
  if (std::optional<Identity> identity = Identity::Parse(agent.uri)) p_.sessions.Disconnect(*identity, "AUTH_REVOKED");
  p_.alarms.Raise("AGENT_REVOKED", Severity::kInfo, agent.account + "/" + agent.region + "/" + agent.name, "by " + who.ToUri() + ": " + request.reason());
  return absl::OkStatus();
}

absl::StatusOr<v1::CreateUserResponse> Office::CreateUser(const Identity& who, const v1::CreateUserRequest& request) {
  if (!Governs(who)) {
    return Refuse(who, "CreateUser", "{\"kind\":" + JsonString(request.uri_kind().substr(0, kShown)) + ",\"name\":" + JsonString(request.name().substr(0, kShown)) + "}",
                  "a person's certificate", "the governance role");
  }
  Identity identity;
  identity.org = p_.authority.org();
  identity.name = request.name();
  if (!IsName(request.name())) return absl::InvalidArgumentError("a name is a-z, 0-9, '.', '_' and '-', at most 64 characters");
  if (request.uri_kind() == "user") {
    identity.kind = Kind::kUser;
    identity.account = request.account();
    if (const absl::Status known = CheckAccount(request.account()); !known.ok()) return Annotate(known, "--account");
  } else if (request.uri_kind() == "governance") {
    identity.kind = Kind::kGovernance;
  } else if (request.uri_kind() == "auditor") {
    identity.kind = Kind::kAuditor;
  } else if (request.uri_kind() == "operator") {
    identity.kind = Kind::kOperator;
  } else {
    return absl::InvalidArgumentError("a person is a user, auditor, operator or governance");
  }
  if (request.ttl_s() < 300 || request.ttl_s() > 825 * 86'400) return absl::InvalidArgumentError("a certificate lives between 5 minutes and 825 days");
  ASSIGN_OR_RETURN(CertificateAuthority::Issued issued,
                   p_.authority.Issue(identity, request.csr_pem(), p_.clock.Wall(), absl::Seconds(request.ttl_s())));
  RETURN_IF_ERROR(p_.record(who, "CreateUser", "{\"user\":" + JsonString(issued.uri) + ",\"serial\":" + JsonString(issued.facts.serial_hex) + "}", ""));
  IdentityLeaf leaf;
  leaf.act = IdentityLeaf::Act::kUserCreated;
  leaf.wall_ns = static_cast<uint64_t>(p_.clock.WallNanos());
  leaf.uri = issued.uri;
  leaf.certificate = issued.facts.der_hash;
  leaf.serial = issued.facts.serial_hex;
  leaf.approver = who.ToUri();
  leaf.not_after_ns = static_cast<uint64_t>(absl::ToUnixNanos(issued.facts.not_after));
  RETURN_IF_ERROR(p_.log(leaf).status());
  v1::CreateUserResponse response;
  response.set_certificate_pem(issued.certificate_pem);
  response.set_ca_pem(p_.authority.files().cert_pem);
  response.set_uri(issued.uri);
  return response;
}

absl::Status Office::RevokeUser(const Identity& who, const v1::RevokeUserRequest& request) {
  if (!Governs(who)) {
    return Refuse(who, "RevokeUser", "{\"user\":" + JsonString(request.uri().substr(0, kShown)) + "}", "revoking a person", "the governance role");
  }
  if (request.reason().size() > kReason) return absl::InvalidArgumentError("a reason is at most 512 characters");
  std::optional<Identity> identity = Identity::Parse(request.uri());
  if (!identity || identity->org != p_.authority.org() || identity->kind == Kind::kAgent || identity->kind == Kind::kAggregator) {
    return absl::InvalidArgumentError("not a person of this organization: spiffe://ORG/account/ID/user/NAME or spiffe://ORG/role/ROLE/NAME");
  }
  if (*identity == who) return absl::FailedPreconditionError("you would lock yourself out; let another governance admin do it");
  RETURN_IF_ERROR(p_.record(who, "RevokeUser", "{\"user\":" + JsonString(request.uri()) + ",\"reason\":" + JsonString(request.reason()) + "}", ""));
  IdentityLeaf leaf;
  leaf.act = IdentityLeaf::Act::kUserRevoked;
  leaf.wall_ns = static_cast<uint64_t>(p_.clock.WallNanos());
  leaf.uri = request.uri();
  leaf.approver = who.ToUri();
  leaf.reason = request.reason();
  return p_.log(leaf).status();
}

absl::StatusOr<v1::ListAlarmsResponse> Office::ListAlarms(const Identity& who, const v1::ListAlarmsRequest& request) {
  if (!SeesAll(who) && who.kind != Kind::kUser) return Denied("alarms", "a person's certificate");
  v1::ListAlarmsResponse response;
  const size_t max = request.max() == 0 ? 100 : std::min<uint32_t>(request.max(), 10'000);
  for (const AlarmState& a : p_.alarms.List(request.all(), 10'000)) {
    if (!SeesAll(who) && !a.subject.starts_with(who.account + "/")) continue;
    if (static_cast<size_t>(response.alarms_size()) == max) break;
    *response.add_alarms() = ToProto(a);
  }
  return response;
}

absl::StatusOr<v1::AcknowledgeAlarmResponse> Office::AcknowledgeAlarm(const Identity& who, const v1::AcknowledgeAlarmRequest& request) {
  const std::string which = request.code().empty() ? "{\"id\":" + JsonString(request.id().substr(0, kShown))
                                                   : "{\"code\":" + JsonString(request.code().substr(0, kShown));
  if (!Operates(who)) return Refuse(who, "AcknowledgeAlarm", which + "}", "acknowledging an alarm", "the operator or governance role");
  if (request.id().empty() == request.code().empty()) return absl::InvalidArgumentError("an alarm's id, or --code for all of a code");
  if (request.note().empty()) return absl::InvalidArgumentError("say what was found or done, for those who come after: --note TEXT");
  if (request.id().size() > kShown || request.note().size() > 2 * kReason) return absl::InvalidArgumentError("a note is at most 1,024 characters");
  RETURN_IF_ERROR(p_.record(who, "AcknowledgeAlarm", which + ",\"note\":" + JsonString(request.note()) + "}", ""));
  std::vector<AlarmState> done;
  if (request.code().empty()) {
    ASSIGN_OR_RETURN(AlarmState one, p_.alarms.Acknowledge(request.id(), who.ToUri(), request.note()));
    done.push_back(std::move(one));
  } else {
    done = p_.alarms.AcknowledgeAll(request.code(), who.ToUri(), request.note());
    if (done.empty()) return absl::NotFoundError("no open alarm has that code; `orgtrail alarms --all` lists every one");
  }
  v1::AcknowledgeAlarmResponse response;
  for (size_t i = 0; i < done.size() && i < 100; ++i) *response.add_alarms() = ToProto(done[i]);
  return response;
}

absl::StatusOr<v1::StatusResponse> Office::Status(const Identity& who) {
  if (!SeesAll(who)) return Denied("status", "the auditor, operator or governance role");
  const WatchFacts facts = p_.watch.facts();
  const SignedHead head = p_.ledger.head();
  const Ledger::Stats stats = p_.ledger.stats();
  v1::StatusResponse s;
  s.set_version(ORGTRAIL_VERSION);
  s.set_org(p_.authority.org());
  s.set_origin(p_.ledger.origin());
  s.set_demo(p_.demo);
  s.set_started_ns(facts.started_ns);
  s.set_tree_size(head.size);
  s.set_checkpoint(head.note);
  s.set_events(head.events);
  s.set_events_per_second(facts.events_per_second);
  s.set_ledger_bytes(stats.used_bytes);
  s.set_disk_free_bytes(facts.disk_free);
  s.set_days_left(facts.days_left);
  for (const FollowerFacts& f : p_.followers()) {
    v1::StatusResponse::Follower* out = s.add_followers();
    out->set_name(f.name);
    out->set_cursor(f.cursor);
    out->set_behind(head.size > f.cursor ? head.size - f.cursor : 0);
  }
  for (const ShardFacts& shard : p_.ledger.shard_facts()) {
    v1::StatusResponse::Shard* out = s.add_shards();
    out->set_number(shard.number);
    out->set_first_leaf(shard.first);
    out->set_end_leaf(shard.end);
    out->set_last_logged_ns(shard.last_logged_ns);
    out->set_bytes(shard.bytes);
    out->set_sealed(shard.sealed);
    out->set_repacked(shard.repacked);
  }
  s.set_agents_live(facts.live);
  s.set_agents_silent(facts.silent);
  s.set_agents_total(facts.total);
  s.set_alarms_open(static_cast<uint32_t>(p_.alarms.open()));
  s.set_alarms_acknowledged(static_cast<uint32_t>(p_.alarms.acknowledged()));
  for (const AlarmState& a : p_.alarms.List(false, 5)) *s.add_alarms() = ToProto(a);
  s.set_subscriptions(p_.subscriptions());
  s.set_ledger_full_since_ns(facts.full_since_ns);
  s.set_ledger_full_why(facts.full_why);
  if (p_.retention) {
    const RetentionFacts r = p_.retention();
    v1::StatusResponse::Retention* out = s.mutable_retention();
    out->set_keep_s(absl::ToInt64Seconds(r.keep));
    out->set_order_days(r.order_days);
    out->set_order_leaf(r.order_leaf);
    out->set_effective_ns(r.effective_ns);
    out->set_minimum(r.minimum);
    out->set_minimum_leaf(r.minimum_leaf);
    out->set_oldest_body_ns(r.oldest_body_ns);
    out->set_next_ns(r.next_ns);
    out->set_why(r.why);
  }
  return s;
}

}  // namespace orgtrail
