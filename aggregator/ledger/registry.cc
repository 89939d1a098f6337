#include "aggregator/ledger/registry.h"

#include <algorithm>
#include <deque>
#include <map>
#include <unordered_map>
#include <utility>

#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr size_t kLeavesPerRead = 1024;
constexpr size_t kSerialsKept = 4;  // a renewed stream opens before the old one closes; certificates live 24 h, renewed at half

// Serials are compared as numbers: programs print them in either case, with or without leading zeros.
std::string SerialKey(std::string_view serial) {
  std::string key;
  for (const char c : serial) {
    if (c == ':' || (key.empty() && c == '0')) continue;
    key += (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return key;
}

// Value of `name` in "a=1 b=2".
std::string_view TermOf(std::string_view terms, std::string_view name) {
  while (!terms.empty()) {
    const std::string_view term = terms.substr(0, terms.find(' '));
    if (term.size() > name.size() && term.starts_with(name) && term[name.size()] == '=') return term.substr(name.size() + 1);
    terms.remove_prefix(std::min(terms.size(), term.size() + 1));
  }
  return {};
}

}  // namespace

std::string TokenTerms(uint32_t uses, std::string_view cidr) {
  std::string terms = "uses=" + std::to_string(uses);
  if (!cidr.empty()) {
    terms += " cidr=";
    terms += cidr;
  }
  return terms;
}

bool AgentIdentityRecord::Carries(std::string_view account_id) const {
  if (account_id == account || carries == "any") return true;
  for (std::string_view rest = carries; !rest.empty();) {
    const std::string_view id = rest.substr(0, rest.find(','));
    if (id == account_id) return true;
    rest.remove_prefix(std::min(rest.size(), id.size() + 1));
  }
  return false;
}

struct Registry::State {
  struct Agent {
    AgentIdentityRecord record;
    std::deque<std::string> serials;  // newest last, at most kSerialsKept
  };
  struct Person {
    std::string serial;               // of the newest certificate
    int64_t revoked_ns = INT64_MIN;   // certificates made before are void
    bool renewed = false;             // a certificate was made after that
  };
  std::map<Uuid, Agent> agents;
  std::unordered_map<std::string, std::vector<Uuid>> by_uri;  // in order of enrolment
  std::unordered_map<std::string, TokenRecord> tokens;
  std::unordered_map<std::string, Person> people;
  std::shared_ptr<const std::vector<LoggedRecovery>> recoveries = std::make_shared<std::vector<LoggedRecovery>>();

  void Apply(const IdentityLeaf& act, uint64_t leaf_index);
  void Enrol(const IdentityLeaf& act, uint64_t leaf_index);
  void Renew(const IdentityLeaf& act);
  void Revoke(const IdentityLeaf& act);
  void Certificate(Agent& agent, const IdentityLeaf& act);
};

void Registry::State::Certificate(Agent& agent, const IdentityLeaf& act) {
  if (act.serial.empty()) return;
  agent.record.serial = act.serial;
  agent.record.certificate_expires_ns = static_cast<int64_t>(act.not_after_ns);
  const std::string key = SerialKey(act.serial);
  if (std::find(agent.serials.begin(), agent.serials.end(), key) != agent.serials.end()) return;
  agent.serials.push_back(key);
  if (agent.serials.size() > kSerialsKept) agent.serials.pop_front();
}

void Registry::State::Enrol(const IdentityLeaf& act, uint64_t leaf_index) {
  const auto [it, is_new] = agents.try_emplace(act.uuid);
  if (!is_new) return;  // applied before: a uuid is drawn once and never used again
  Agent& agent = it->second;
  agent.record.uuid = act.uuid;
  agent.record.uri = act.uri;
  if (const std::optional<Identity> identity = Identity::Parse(act.uri); identity.has_value()) {
    agent.record.account = identity->account;
    agent.record.region = identity->region;
    agent.record.name = identity->name;
  }
  if (act.identity_key.size() == agent.record.identity_key.size()) {
    std::copy(act.identity_key.begin(), act.identity_key.end(), agent.record.identity_key.begin());
  }
  agent.record.carries = act.carries;
  agent.record.enrolled_leaf = leaf_index;
  Certificate(agent, act);
  by_uri[act.uri].push_back(act.uuid);
  if (const auto token = tokens.find(act.token_id); token != tokens.end() && token->second.uses_left > 0) --token->second.uses_left;
}

void Registry::State::Renew(const IdentityLeaf& act) {
  const auto it = agents.find(act.uuid);
  if (it == agents.end()) return;
  Certificate(it->second, act);
  PublicKey& key = it->second.record.identity_key;
  if (act.identity_key.size() == key.size()) std::copy(act.identity_key.begin(), act.identity_key.end(), key.begin());
}

void Registry::State::Revoke(const IdentityLeaf& act) {
  if (act.uuid != Uuid{}) {
    if (const auto it = agents.find(act.uuid); it != agents.end()) it->second.record.revoked = true;
  } else if (!act.token_id.empty()) {
    if (const auto it = tokens.find(act.token_id); it != tokens.end()) it->second.uses_left = 0;
  } else if (const auto it = by_uri.find(act.uri); it != by_uri.end()) {
    for (const Uuid& uuid : it->second) agents[uuid].record.revoked = true;
  }
}

void Registry::State::Apply(const IdentityLeaf& act, uint64_t leaf_index) {
  switch (act.act) {
    case IdentityLeaf::Act::kTokenCreated: {
      TokenRecord token;
      token.id = act.token_id;
      token.uri_pattern = act.uri;
      token.carries = act.carries;
      token.expires_ns = static_cast<int64_t>(act.not_after_ns);
      const uint64_t uses = ParseUint(TermOf(act.reason, "uses")).value_or(1);
      token.uses_left = static_cast<uint32_t>(std::min<uint64_t>(uses, UINT32_MAX));
      token.cidr = std::string(TermOf(act.reason, "cidr"));
      tokens.try_emplace(act.token_id, std::move(token));
      return;
    }
    case IdentityLeaf::Act::kEnrolled: return Enrol(act, leaf_index);
    case IdentityLeaf::Act::kRenewed: return Renew(act);
    case IdentityLeaf::Act::kRevoked: return Revoke(act);
    case IdentityLeaf::Act::kRetired:
      if (const auto it = agents.find(act.uuid); it != agents.end()) it->second.record.retired = true;
      return;
    case IdentityLeaf::Act::kUserCreated: {
      Person& person = people[act.uri];
      person.serial = SerialKey(act.serial);
      person.renewed = static_cast<int64_t>(act.wall_ns) > person.revoked_ns;
      return;
    }
    case IdentityLeaf::Act::kUserRevoked: {
      Person& person = people[act.uri];
      person.revoked_ns = std::max(person.revoked_ns, static_cast<int64_t>(act.wall_ns));
      person.renewed = false;
      return;
    }
  }
}

Registry::Registry() : state_(std::make_shared<Guarded<State>>()) {}
Registry::~Registry() = default;

absl::Status Registry::Load(const LedgerReader& ledger) {
  State loaded;
  auto recoveries = std::make_shared<std::vector<LoggedRecovery>>();
  for (uint64_t from = 0;;) {
    const std::vector<uint64_t> leaves = ledger.ControlLeaves(from, kLeavesPerRead);
    if (leaves.empty()) break;
    for (const uint64_t index : leaves) {
      ASSIGN_OR_RETURN(const std::string entry, ledger.ReadEntry(index));
      if (LeafMagic(entry) == "OTL1") {
        ASSIGN_OR_RETURN(const RecoveryLeaf leaf, RecoveryLeaf::Decode(entry));
        ASSIGN_OR_RETURN(Recovery recovery, Recovery::Decode(std::string_view(leaf.note).substr(0, leaf.note.rfind("\n\n") + 1)));
        if (recovery.restored_size == index) recoveries->push_back({std::move(recovery), entry});
      }
      if (LeafMagic(entry) != "OTN1") continue;
      const absl::StatusOr<IdentityLeaf> act = IdentityLeaf::Decode(entry);
      if (!act.ok()) {
        return absl::DataLossError(absl::StrCat("identity leaf ", index, " cannot be read (", act.status().message(),
                                                "): a newer orgtrail wrote it, or the ledger is damaged: run orgtrail fsck"));
      }
      loaded.Apply(*act, index);
    }
    from = leaves.back() + 1;
  }
  loaded.recoveries = std::move(recoveries);
  state_->With([&](State& s) { s = std::move(loaded); });
  return absl::OkStatus();
}

void Registry::Apply(const IdentityLeaf& act, uint64_t leaf_index) {
  state_->With([&](State& s) { s.Apply(act, leaf_index); });
}

std::optional<AgentIdentityRecord> Registry::Agent(const Uuid& uuid) const {
  return state_->Peek([&](const State& s) -> std::optional<AgentIdentityRecord> {
    const auto it = s.agents.find(uuid);
    return it == s.agents.end() ? std::nullopt : std::optional(it->second.record);
  });
}

std::shared_ptr<const std::vector<LoggedRecovery>> Registry::Recoveries() const {
  return state_->Peek([](const State& s) { return s.recoveries; });
}

std::optional<AgentIdentityRecord> Registry::LiveAgentByUri(std::string_view uri) const {
  return state_->Peek([&](const State& s) -> std::optional<AgentIdentityRecord> {
    const auto it = s.by_uri.find(std::string(uri));
    if (it == s.by_uri.end()) return std::nullopt;
    for (auto uuid = it->second.rbegin(); uuid != it->second.rend(); ++uuid) {
      const AgentIdentityRecord& record = s.agents.at(*uuid).record;
      if (!record.revoked && !record.retired) return record;
    }
    return std::nullopt;
  });
}

std::vector<AgentIdentityRecord> Registry::Agents() const {
  return state_->Peek([](const State& s) {
    std::vector<AgentIdentityRecord> agents;
    agents.reserve(s.agents.size());
    for (const auto& [uuid, agent] : s.agents) agents.push_back(agent.record);
    return agents;
  });
}

std::optional<TokenRecord> Registry::Token(std::string_view id) const {
  return state_->Peek([&](const State& s) -> std::optional<TokenRecord> {
    const auto it = s.tokens.find(std::string(id));
    return it == s.tokens.end() ? std::nullopt : std::optional(it->second);
  });
}

absl::Status Registry::Admit(const Identity& identity, std::string_view serial) const {
  const std::string uri = identity.ToUri();
  const std::string key = SerialKey(serial);
  return state_->Peek([&](const State& s) -> absl::Status {
    if (identity.kind != Identity::Kind::kAgent) {
      const auto it = s.people.find(uri);
      const bool revoked = it != s.people.end() && it->second.revoked_ns != INT64_MIN;
      if (!revoked || (it->second.renewed && it->second.serial == key)) return absl::OkStatus();
      return absl::UnauthenticatedError(absl::StrCat("AUTH_REVOKED ", uri, ": this certificate was revoked; ask for a new one"));
    }
    const auto it = s.by_uri.find(uri);
    if (it == s.by_uri.end()) {
      return absl::UnauthenticatedError(absl::StrCat("AUTH_UNKNOWN ", uri, ": this log has no such agent; enrol it with a join token"));
    }
    bool live = false, retired = false;
    for (const Uuid& uuid : it->second) {
      const State::Agent& agent = s.agents.at(uuid);
      const bool here = std::find(agent.serials.begin(), agent.serials.end(), key) != agent.serials.end();
      const bool good = !agent.record.revoked && !agent.record.retired;
      if (here && good) return absl::OkStatus();
      retired = agent.record.retired;
      if (here) break;
      live = live || good;
    }
    if (live) {
      return absl::UnauthenticatedError(absl::StrCat("AUTH_UNKNOWN ", uri, ": certificate ", ToAbsl(serial),
                                                     " is not one this log issued to the agent; renew it"));
    }
    return absl::UnauthenticatedError(
        absl::StrCat("AUTH_REVOKED ", uri, ": the agent was ", retired ? "retired" : "revoked", "; enrol it anew with a join token"));
  });
}

}  // namespace orgtrail
