// Registry: identities as the log's OTN1 leaves made them. Derived: folded at start from control leaves, then kept by whoever
// submits one (Apply after its commit). Threads: any.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "aggregator/ledger/reader.h"
#include "common/base/guarded.h"
#include "common/base/ids.h"
#include "common/crypto/sign.h"
#include "common/format/control.h"
#include "common/format/recovery.h"

namespace orgtrail {

struct AgentIdentityRecord {
  Uuid uuid;
  std::string uri;                 // SPIFFE id
  std::string account, region, name;
  PublicKey identity_key{};
  std::string carries;             // "", "any", or ids
  uint64_t enrolled_leaf = 0;
  std::string serial;              // of the newest certificate
  int64_t certificate_expires_ns = 0;
  bool revoked = false, retired = false;
  bool Carries(std::string_view account_id) const;
};

struct TokenRecord {
  std::string id;                  // IdentityLeaf::token_id
  std::string uri_pattern;
  std::string carries;
  int64_t expires_ns = 0;
  uint32_t uses_left = 0;
  std::string cidr;
};

// How a kTokenCreated leaf says what its own fields cannot: IdentityLeaf::reason is "uses=<n>", then " cidr=<text>" when the token is
// good from there only. A leaf without is a token of one use, from anywhere.
std::string TokenTerms(uint32_t uses, std::string_view cidr);

// The fold:
//   kTokenCreated  a token                       kEnrolled  an agent; one use of its token is gone
//   kRenewed       the agent's newest certificate (and identity key, when the leaf has one)
//   kRevoked       the agent with that uuid; with a zero uuid: the token named by token_id, else every agent of that uri
//   kRetired       the agent with that uuid      kUserCreated  a person's certificate
//   kUserRevoked   every certificate of that person made before it
// Nothing un-revokes; an enrolment or renewal applied twice counts once.
// A recovery that governance declared: the leaf is the first behind the head the log went on from.
struct LoggedRecovery {
  Recovery recovery;
  std::string leaf;   // OTL1; its index is recovery.restored_size
};

class Registry {
 public:
  Registry();
  ~Registry();
  // DataLoss: a control leaf of ours that does not decode, by its index.
  absl::Status Load(const LedgerReader& ledger);     // folds every control leaf
  void Apply(const IdentityLeaf& act, uint64_t leaf_index);
  std::optional<AgentIdentityRecord> Agent(const Uuid& uuid) const;
  std::optional<AgentIdentityRecord> LiveAgentByUri(std::string_view uri) const;  // the newest that is not revoked or retired
  std::vector<AgentIdentityRecord> Agents() const;
  std::optional<TokenRecord> Token(std::string_view id) const;
  std::shared_ptr<const std::vector<LoggedRecovery>> Recoveries() const;  // never null; in the order of the log, as of Load: they are logged before everything else
  // Whether a connection of this identity and certificate may exist. Unauthenticated when not, with the reason first:
  // AUTH_REVOKED, AUTH_UNKNOWN. Agents must be enrolled and `serial` (hex) one of their newest four certificates; people and
  // aggregators hold a certificate of the CA, and are known until revoked.
  absl::Status Admit(const Identity& identity, std::string_view serial) const;

 private:
  struct State;
  std::shared_ptr<Guarded<State>> state_;
};

}  // namespace orgtrail
