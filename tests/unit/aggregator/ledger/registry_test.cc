#include "aggregator/ledger/registry.h"

#include "common/base/status.h"
#include "gtest/gtest.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

using Act = IdentityLeaf::Act;

Uuid Id(char c) { return Uuid::FromBytes(std::string(16, c)); }
constexpr char kUri[] = "spiffe://o-demo/account/111111111111/region/eu-central-1/agent/web-1";
constexpr char kAlice[] = "spiffe://o-demo/account/111111111111/user/alice";

IdentityLeaf Leaf1(Act act, Uuid uuid, std::string uri = kUri, std::string serial = "") {
  IdentityLeaf leaf;
  leaf.act = act;
  leaf.uuid = uuid;
  leaf.uri = std::move(uri);
  leaf.serial = std::move(serial);
  leaf.token_id = act == Act::kEnrolled || act == Act::kTokenCreated ? "00112233aabbccdd" : "";
  if (act == Act::kEnrolled) leaf.identity_key = std::string(32, uuid.bytes[0]);
  leaf.wall_ns = 1'000;
  leaf.not_after_ns = 5'000;
  return leaf;
}

IdentityLeaf At(IdentityLeaf leaf, uint64_t wall_ns) {
  leaf.wall_ns = wall_ns;
  return leaf;
}

IdentityLeaf TokenLeaf(std::string reason) {
  IdentityLeaf leaf = Leaf1(Act::kTokenCreated, Uuid{}, "spiffe://o-demo/account/111111111111/region/eu-central-1/agent/*");
  leaf.reason = std::move(reason);
  leaf.carries = "any";
  return leaf;
}

std::string AdmitAs(const Registry& r, std::string_view uri, std::string_view serial) {
  const absl::Status s = r.Admit(*Identity::Parse(uri), serial);
  return s.ok() ? "ok" : std::string(s.message().substr(0, s.message().find(' ')));
}

TEST(RegistryTest, FoldsConnections) {
  const struct {
    const char* name;
    std::vector<IdentityLeaf> acts;
    const char* uri;
    const char* serial;
    const char* want;
  } cases[] = {
      {"nobody", {}, kUri, "a1", "AUTH_UNKNOWN"},
      {"enrolled", {Leaf1(Act::kEnrolled, Id('a'), kUri, "a1")}, kUri, "a1", "ok"},
      {"serials are numbers", {Leaf1(Act::kEnrolled, Id('a'), kUri, "00A1")}, kUri, "a1", "ok"},
      {"another certificate", {Leaf1(Act::kEnrolled, Id('a'), kUri, "a1")}, kUri, "a2", "AUTH_UNKNOWN"},
      {"renewed, old stream", {Leaf1(Act::kEnrolled, Id('a'), kUri, "a1"), Leaf1(Act::kRenewed, Id('a'), kUri, "a2")}, kUri, "a1", "ok"},
      {"renewed, new stream", {Leaf1(Act::kEnrolled, Id('a'), kUri, "a1"), Leaf1(Act::kRenewed, Id('a'), kUri, "a2")}, kUri, "a2", "ok"},
      {"revoked", {Leaf1(Act::kEnrolled, Id('a'), kUri, "a1"), Leaf1(Act::kRevoked, Id('a'))}, kUri, "a1", "AUTH_REVOKED"},
      {"revoked, then renewed: stays so",
       {Leaf1(Act::kEnrolled, Id('a'), kUri, "a1"), Leaf1(Act::kRevoked, Id('a')), Leaf1(Act::kRenewed, Id('a'), kUri, "a2")}, kUri, "a2",
       "AUTH_REVOKED"},
      {"all of a name revoked",
       {Leaf1(Act::kEnrolled, Id('a'), kUri, "a1"), Leaf1(Act::kEnrolled, Id('b'), kUri, "b1"), Leaf1(Act::kRevoked, Uuid{})}, kUri, "b1",
       "AUTH_REVOKED"},
      {"retired", {Leaf1(Act::kEnrolled, Id('a'), kUri, "a1"), Leaf1(Act::kRetired, Id('a'))}, kUri, "a1", "AUTH_REVOKED"},
      {"enrolled anew, new certificate",
       {Leaf1(Act::kEnrolled, Id('a'), kUri, "a1"), Leaf1(Act::kRevoked, Id('a')), Leaf1(Act::kEnrolled, Id('b'), kUri, "b1")}, kUri, "b1", "ok"},
      {"enrolled anew, old certificate",
       {Leaf1(Act::kEnrolled, Id('a'), kUri, "a1"), Leaf1(Act::kRevoked, Id('a')), Leaf1(Act::kEnrolled, Id('b'), kUri, "b1")}, kUri, "a1",
       "AUTH_REVOKED"},
      {"a person", {}, kAlice, "1", "ok"},
      {"a person revoked", {Leaf1(Act::kUserRevoked, Uuid{}, kAlice)}, kAlice, "1", "AUTH_REVOKED"},
      {"a person's next certificate",
       {Leaf1(Act::kUserRevoked, Uuid{}, kAlice), At(Leaf1(Act::kUserCreated, Uuid{}, kAlice, "2"), 2'000)}, kAlice, "2", "ok"},
      {"a person's old certificate",
       {Leaf1(Act::kUserRevoked, Uuid{}, kAlice), At(Leaf1(Act::kUserCreated, Uuid{}, kAlice, "2"), 2'000)}, kAlice, "1", "AUTH_REVOKED"},
      {"another person revoked", {Leaf1(Act::kUserRevoked, Uuid{}, "spiffe://o-demo/account/111111111111/user/bob")}, kAlice, "1", "ok"},
      {"a region's aggregator", {}, "spiffe://o-demo/aggregator/eu-central-1", "1", "ok"},
  };
  for (const auto& c : cases) {
    Registry registry;
    for (size_t i = 0; i < c.acts.size(); ++i) registry.Apply(c.acts[i], i);
    EXPECT_EQ(AdmitAs(registry, c.uri, c.serial), c.want) << c.name;
  }
}

TEST(RegistryTest, KnowsAgentsByUuidAndName) {
  Registry registry;
  IdentityLeaf enrolled = Leaf1(Act::kEnrolled, Id('a'), kUri, "a1");
  enrolled.carries = "222222222222,333333333333";
  registry.Apply(enrolled, 7);
  registry.Apply(Leaf1(Act::kEnrolled, Id('b'), kUri, "b1"), 9);
  EXPECT_EQ(registry.LiveAgentByUri(kUri)->uuid, Id('b'));
  registry.Apply(Leaf1(Act::kRevoked, Id('b')), 10);
  const auto agent = registry.LiveAgentByUri(kUri);
  ASSERT_TRUE(agent.has_value());
  EXPECT_EQ(agent->uuid, Id('a'));
  EXPECT_EQ(agent->account, "111111111111");
  EXPECT_EQ(agent->region, "eu-central-1");
  EXPECT_EQ(agent->name, "web-1");
  EXPECT_EQ(agent->enrolled_leaf, 7u);
  EXPECT_EQ(agent->certificate_expires_ns, 5'000);
  EXPECT_TRUE(registry.Agent(Id('b'))->revoked);
  EXPECT_EQ(registry.Agents().size(), 2u);
  EXPECT_EQ(registry.Agent(Id('c')), std::nullopt);
  const struct { const char* account; bool carries; } cases[] = {
      {"111111111111", true}, {"222222222222", true}, {"333333333333", true}, {"444444444444", false}, {"2222", false}, {"", false}};
  for (const auto& c : cases) EXPECT_EQ(agent->Carries(c.account), c.carries) << c.account;
}

TEST(RegistryTest, TokensAreUsedUp) {
  const struct { std::string reason; uint32_t uses; const char* cidr; } cases[] = {
      {"", 1, ""}, {TokenTerms(1, ""), 1, ""}, {TokenTerms(40, "10.0.0.0/8"), 40, "10.0.0.0/8"}, {"uses=x", 1, ""}, {"cidr=::1/128", 1, "::1/128"}};
  for (const auto& c : cases) {
    Registry registry;
    registry.Apply(TokenLeaf(c.reason), 0);
    const auto token = registry.Token("00112233aabbccdd");
    ASSERT_TRUE(token.has_value());
    EXPECT_EQ(token->uses_left, c.uses) << c.reason;
    EXPECT_EQ(token->cidr, c.cidr) << c.reason;
    EXPECT_EQ(token->carries, "any");
    EXPECT_EQ(token->expires_ns, 5'000);
  }
  Registry registry;
  registry.Apply(TokenLeaf(TokenTerms(2, "")), 0);
  registry.Apply(Leaf1(Act::kEnrolled, Id('a'), kUri, "a1"), 1);
  registry.Apply(Leaf1(Act::kEnrolled, Id('a'), kUri, "a1"), 1);  // told twice
  EXPECT_EQ(registry.Token("00112233aabbccdd")->uses_left, 1u);
  registry.Apply(Leaf1(Act::kEnrolled, Id('b'), kUri, "b1"), 2);
  registry.Apply(Leaf1(Act::kEnrolled, Id('c'), kUri, "c1"), 3);
  EXPECT_EQ(registry.Token("00112233aabbccdd")->uses_left, 0u);
  Registry other;
  other.Apply(TokenLeaf(TokenTerms(9, "")), 0);
  IdentityLeaf revoked = Leaf1(Act::kRevoked, Uuid{}, "");
  revoked.token_id = "00112233aabbccdd";
  other.Apply(revoked, 1);
  EXPECT_EQ(other.Token("00112233aabbccdd")->uses_left, 0u);
}

TEST(RegistryTest, LoadsFromTheLedger) {
  TempDir dir;
  StillClock clock;
  LedgerBuilder built(dir.path(), clock);
  ASSERT_EQ(Describe(built.Open()), "ok");
  TestAgent& agent = built.Enrol("111111111111", "eu-central-1", "web-1", "any");
  ASSERT_EQ(Describe(built.Fill(agent, 2)), "ok");
  ASSERT_EQ(Describe(built.Append(ControlItem("OTP1 not an identity"))), "ok");
  Registry registry;
  ASSERT_EQ(Describe(registry.Load(*built.ledger)), "ok");
  ASSERT_EQ(registry.Agents().size(), 1u);
  EXPECT_EQ(registry.LiveAgentByUri(agent.uri())->uuid, agent.identity().uuid);
  EXPECT_EQ(registry.Agent(agent.identity().uuid)->enrolled_leaf, 0u);
  EXPECT_EQ(registry.Agent(agent.identity().uuid)->identity_key, agent.key().public_key());
  EXPECT_EQ(AdmitAs(registry, agent.uri(), "0a"), "ok");

  ASSERT_EQ(Describe(built.Append(ControlItem("OTN1 torn"))), "ok");
  const absl::Status damaged = registry.Load(*built.ledger);
  EXPECT_EQ(damaged.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(damaged.message().find("identity leaf 4"), absl::string_view::npos) << damaged;
  EXPECT_EQ(registry.Agents().size(), 1u);  // as it was
}

}  // namespace
}  // namespace orgtrail
