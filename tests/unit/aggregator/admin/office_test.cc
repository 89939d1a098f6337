#include "aggregator/admin/office.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
#include "common/crypto/x509.h"
#include "common/format/token.h"
#include "tests/support/ingest_world.h"
#include "tests/support/sized_fs.h"

namespace orgtrail {
namespace {

using Kind = Identity::Kind;

Identity Who(Kind kind, std::string account = "", std::string name = "x") {
  Identity who;
  who.kind = kind;
  who.org = "o-demo";
  who.account = std::move(account);
  if (kind == Kind::kAgent || kind == Kind::kAggregator) who.region = "eu-west-1";
  who.name = std::move(name);
  return who;
}

class OfficeTest : public ::testing::Test {
 protected:
  OfficeTest()
      : alarms_("111111111111", "us-east-1", world_.dir / "alarms.json", fs_, world_.clock, world_.builder.rng, world_.metrics) {
    auto authority = CertificateAuthority::Create("o-demo", world_.clock.Wall(), absl::Hours(1000));
    CHECK_OK(authority.status());
    authority_ = std::make_unique<CertificateAuthority>(*std::move(authority));
    world_.builder.Enrol("222222222222", "eu-west-1", "web-1");
    world_.builder.Enrol("333333333333", "eu-west-1", "web-1");
    CHECK_OK(world_.registry.Load(*world_.builder.ledger));
    WatchOptions options;
    options.state_dir = world_.dir.path();
    watch_ = std::make_unique<Watch>(
        options, *world_.builder.ledger, world_.registry, alarms_, [](const IdentityLeaf&) { return absl::OkStatus(); }, [] { return 0; }, [] { return std::vector<FollowerFacts>{}; }, fs_, world_.clock, world_.metrics);
    OfficeParts parts{*authority_, *world_.builder.ledger, world_.registry,
                      [this](const IdentityLeaf& leaf) -> absl::StatusOr<uint64_t> {
                        acts_.push_back("log " + std::string(ActName(leaf.act)));
                        RETURN_IF_ERROR(world_.builder.Append(ControlItem(leaf.Encode())));
                        world_.registry.Apply(leaf, world_.builder.ledger->head().size - 1);
                        return world_.builder.ledger->head().size - 1;
                      },
                      *world_.sessions, alarms_, *watch_,
                      [] { return std::vector<FollowerFacts>{{"history", 1}}; },
                      [] { return 3u; },
                      {"222222222222", "333333333333"},
                      {"eu-west-1"},
                      [this](const Identity& who, std::string_view name, std::string details, std::string_view error) -> absl::Status {
                        acts_.push_back("record " + std::string(name) + (error.empty() ? "" : " " + std::string(error)));
                        who_ = who.ToUri();
                        details_ = std::move(details);
                        return refuse_records_ ? absl::ResourceExhaustedError("disk full") : absl::OkStatus();
                      },
                      Uuid{}, true, world_.clock, world_.builder.rng};
    office_ = std::make_unique<Office>(std::move(parts));
  }
  v1::CreateUserRequest UserRequest(const std::string& kind) {
    v1::CreateUserRequest q;
    q.set_uri_kind(kind);
    q.set_name("bob");
    if (kind == "user") q.set_account("222222222222");
    q.set_csr_pem(*NewCsrPem(*NewTlsKeyPem()));
    q.set_ttl_s(3600);
    return q;
  }

  IngestWorld world_;
  SizedFs fs_;
  Alarms alarms_;
  std::unique_ptr<CertificateAuthority> authority_;
  std::unique_ptr<Watch> watch_;
  std::vector<std::string> acts_;
  std::string who_, details_;
  bool refuse_records_ = false;
  std::unique_ptr<Office> office_;
};

// Every kind of caller × every act: g governance, o operator, a auditor, u a user of 222222222222, v of 333333333333, n agent, r aggregator.
TEST_F(OfficeTest, WhoMayDoWhat) {
  const std::vector<std::pair<char, Identity>> callers = {
      {'g', Who(Kind::kGovernance)}, {'o', Who(Kind::kOperator)},           {'a', Who(Kind::kAuditor)},        {'u', Who(Kind::kUser, "222222222222")},
      {'v', Who(Kind::kUser, "333333333333")}, {'n', Who(Kind::kAgent, "222222222222")}, {'r', Who(Kind::kAggregator)}};
  struct Act {
    const char* name;
    const char* allowed;
    bool act;   // recorded when refused
    std::function<absl::Status(const Identity&)> run;
  };
  const std::vector<Act> acts = {
      {"CreateToken", "gu", true,
       [&](const Identity& who) {
         v1::CreateTokenRequest q;
         q.set_account("222222222222");
         return office_->CreateToken(who, q).status();
       }},
      {"CreateToken", "g", true,
       [&](const Identity& who) {
         v1::CreateTokenRequest q;
         q.set_account("222222222222");
         q.set_carries("any");
         return office_->CreateToken(who, q).status();
       }},
      {"ListAgents", "goauv", false, [&](const Identity& who) { return office_->ListAgents(who, {}).status(); }},
      {"RevokeAgent", "g", true,
       [&](const Identity& who) {
         v1::RevokeAgentRequest q;
         q.set_name("222222222222/eu-west-1/web-1");
         return office_->RevokeAgent(who, q);
       }},
      {"CreateUser", "g", true, [&](const Identity& who) { return office_->CreateUser(who, UserRequest("auditor")).status(); }},
      {"RevokeUser", "g", true,
       [&](const Identity& who) {
         v1::RevokeUserRequest q;
         q.set_uri("spiffe://o-demo/role/auditor/eve");
         return office_->RevokeUser(who, q);
       }},
      {"ListAlarms", "goauv", false, [&](const Identity& who) { return office_->ListAlarms(who, {}).status(); }},
      {"AcknowledgeAlarm", "go", true,
       [&](const Identity& who) {
         alarms_.Raise("A", Severity::kWarn, "s", "");
         v1::AcknowledgeAlarmRequest q;
         q.set_id(alarms_.List(true, 1)[0].id);
         q.set_note("looked");
         return office_->AcknowledgeAlarm(who, q).status();
       }},
      {"Status", "goa", false, [&](const Identity& who) { return office_->Status(who).status(); }},
  };
  for (const Act& act : acts) {
    for (const auto& [letter, who] : callers) {
      SCOPED_TRACE(std::string(act.name) + " by " + letter);
      acts_.clear();
      const absl::Status s = act.run(who);
      if (std::string_view(act.allowed).find(letter) != std::string_view::npos) {
        EXPECT_TRUE(s.ok()) << s;
        EXPECT_TRUE(!act.act || acts_.at(0) == "record " + std::string(act.name));
      } else {
        EXPECT_TRUE(absl::IsPermissionDenied(s)) << s;
        EXPECT_TRUE(std::string(s.message()).starts_with("AccessDenied: ")) << s;
        EXPECT_EQ(acts_, act.act ? std::vector<std::string>{"record " + std::string(act.name) + " AccessDenied"} : std::vector<std::string>{});
        EXPECT_TRUE(!act.act || who_ == who.ToUri());
      }
    }
  }
}

TEST_F(OfficeTest, WhatCannotBeRecordedIsNotDone) {
  refuse_records_ = true;
  const Identity g = Who(Kind::kGovernance);
  v1::CreateTokenRequest token;
  token.set_account("222222222222");
  v1::RevokeAgentRequest agent;
  agent.set_name("222222222222/eu-west-1/web-1");
  v1::RevokeUserRequest user;
  user.set_uri("spiffe://o-demo/role/auditor/eve");
  const uint64_t size = world_.builder.ledger->head().size;
  EXPECT_TRUE(absl::IsResourceExhausted(office_->CreateToken(g, token).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(office_->RevokeAgent(g, agent)));
  EXPECT_TRUE(absl::IsResourceExhausted(office_->CreateUser(g, UserRequest("auditor")).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(office_->RevokeUser(g, user)));
  EXPECT_EQ(world_.builder.ledger->head().size, size);
  EXPECT_TRUE(absl::IsPermissionDenied(office_->RevokeUser(Who(Kind::kAuditor), user)));   // a refusal stays one
}

TEST_F(OfficeTest, ATokenIsInTheLogBeforeItIsShown) {
  v1::CreateTokenRequest q;
  q.set_account("222222222222");
  q.set_region("eu-west-1");
  q.set_uses(3);
  q.set_ttl_s(600);
  q.set_cidr("10.0.0.0/8");
  auto made = office_->CreateToken(Who(Kind::kGovernance), q);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(acts_, (std::vector<std::string>{"record CreateToken", "log token created"}));
  EXPECT_EQ(details_.find(made->token()), std::string::npos);   // the secret is in no record
  const JoinToken token = *JoinToken::Decode(made->token());
  EXPECT_EQ(token.Id(), made->id());
  EXPECT_EQ(token.ca_spki, authority_->spki());
  const TokenRecord known = *world_.registry.Token(made->id());
  EXPECT_EQ(known.uses_left, 3u);
  EXPECT_EQ(known.cidr, "10.0.0.0/8");
  EXPECT_EQ(known.expires_ns, world_.clock.WallNanos() + 600'000'000'000);
  EXPECT_EQ(made->expires_ns(), known.expires_ns);
}

TEST_F(OfficeTest, TokensThatCannotBe) {
  const auto refused = [&](std::function<void(v1::CreateTokenRequest&)> change) {
    v1::CreateTokenRequest q;
    q.set_account("222222222222");
    change(q);
    return absl::IsInvalidArgument(office_->CreateToken(Who(Kind::kGovernance), q).status());
  };
  EXPECT_TRUE(refused([](auto& q) { q.set_account("444444444444"); }));
  EXPECT_TRUE(refused([](auto& q) { q.set_ttl_s(-1); }));
  EXPECT_TRUE(refused([](auto& q) { q.set_ttl_s(366 * 86'400); }));
  EXPECT_TRUE(refused([](auto& q) { q.set_cidr("10.0.0.0/99"); }));
  EXPECT_TRUE(refused([](auto& q) { q.set_region("eu-west-2"); }));
  EXPECT_TRUE(refused([](auto& q) { q.set_name("a/b"); }));
  EXPECT_TRUE(refused([](auto& q) { q.set_carries("some"); }));
  EXPECT_FALSE(refused([](auto&) {}));
}

TEST_F(OfficeTest, RevokingAnAgentEndsIt) {
  const Identity g = Who(Kind::kGovernance);
  v1::RevokeAgentRequest q;
  EXPECT_TRUE(absl::IsNotFound(office_->RevokeAgent(g, q)));
  q.set_name("nobody");
  EXPECT_TRUE(absl::IsNotFound(office_->RevokeAgent(g, q)));
  q.set_name("web-1");
  EXPECT_TRUE(absl::IsFailedPrecondition(office_->RevokeAgent(g, q)));   // two of them
  q.set_name("222222222222/eu-west-1/web-1");
  q.set_reason(std::string(513, 'x'));
  EXPECT_TRUE(absl::IsInvalidArgument(office_->RevokeAgent(g, q)));
  q.set_reason("stolen");
  acts_.clear();
  ASSERT_TRUE(office_->RevokeAgent(g, q).ok());
  EXPECT_EQ(acts_, (std::vector<std::string>{"record RevokeAgent", "log revoked"}));
  EXPECT_TRUE(absl::IsNotFound(office_->RevokeAgent(g, q)));
  const Identity agent = Who(Kind::kAgent, "222222222222", "web-1");
  EXPECT_TRUE(absl::IsUnauthenticated(world_.registry.Admit(agent, "0a")));
  EXPECT_TRUE(world_.registry.Admit(Who(Kind::kAgent, "333333333333", "web-1"), "0a").ok());
  auto list = office_->ListAgents(g, {});
  EXPECT_EQ(list->agents(0).state(), "revoked");
  EXPECT_EQ(list->agents(1).state(), "live");
  EXPECT_EQ(alarms_.List(true, 1)[0].code, "AGENT_REVOKED");
}

TEST_F(OfficeTest, AUserSeesItsOwnAccount) {
  auto list = office_->ListAgents(Who(Kind::kUser, "222222222222"), {});
  ASSERT_EQ(list->agents_size(), 1);
  EXPECT_EQ(list->agents(0).account(), "222222222222");
  v1::ListAgentsRequest other;
  other.set_name("333333333333/eu-west-1/web-1");
  EXPECT_EQ(office_->ListAgents(Who(Kind::kUser, "222222222222"), other)->agents_size(), 0);
  alarms_.Raise("A", Severity::kWarn, "222222222222/eu-west-1/web-1", "");
  alarms_.Raise("B", Severity::kWarn, "333333333333/eu-west-1/web-1", "");
  alarms_.Raise("C", Severity::kWarn, "/disk", "");
  EXPECT_EQ(office_->ListAlarms(Who(Kind::kUser, "222222222222"), {})->alarms_size(), 1);
  EXPECT_EQ(office_->ListAlarms(Who(Kind::kAuditor), {})->alarms_size(), 3);
  v1::ListAlarmsRequest two;
  two.set_max(2);
  EXPECT_EQ(office_->ListAlarms(Who(Kind::kAuditor), two)->alarms_size(), 2);
}

TEST_F(OfficeTest, People) {
  const Identity g = Who(Kind::kGovernance);
  for (const auto& [kind, uri] : {std::pair{"user", "spiffe://o-demo/account/222222222222/user/bob"}, {"auditor", "spiffe://o-demo/role/auditor/bob"},
                                  {"operator", "spiffe://o-demo/role/operator/bob"}, {"governance", "spiffe://o-demo/role/governance/bob"}}) {
    acts_.clear();
    auto made = office_->CreateUser(g, UserRequest(kind));
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_EQ(made->uri(), uri);
    EXPECT_EQ(ReadCertificate(made->certificate_pem())->uris, std::vector<std::string>{uri});
    EXPECT_TRUE(CheckIssued(made->certificate_pem(), made->ca_pem(), world_.clock.Wall()).ok());
    EXPECT_EQ(acts_, (std::vector<std::string>{"record CreateUser", "log user created"}));
  }
  const auto refused = [&](std::function<void(v1::CreateUserRequest&)> change) {
    v1::CreateUserRequest q = UserRequest("user");
    change(q);
    return absl::IsInvalidArgument(office_->CreateUser(g, q).status());
  };
  EXPECT_TRUE(refused([](auto& q) { q.set_uri_kind("agent"); }));
  EXPECT_TRUE(refused([](auto& q) { q.set_uri_kind(""); }));
  EXPECT_TRUE(refused([](auto& q) { q.set_name("Bob/../x"); }));
  EXPECT_TRUE(refused([](auto& q) { q.set_account("999999999999"); }));
  EXPECT_TRUE(refused([](auto& q) { q.set_ttl_s(299); }));
  EXPECT_TRUE(refused([](auto& q) { q.set_ttl_s(826 * 86'400); }));
  EXPECT_TRUE(refused([](auto& q) { q.set_csr_pem("no request"); }));
}

TEST_F(OfficeTest, RevokingAPerson) {
  const Identity g = Who(Kind::kGovernance);
  ASSERT_TRUE(office_->CreateUser(g, UserRequest("auditor")).ok());
  const Identity bob = Who(Kind::kAuditor, "", "bob");
  EXPECT_TRUE(world_.registry.Admit(bob, "b0b").ok());
  v1::RevokeUserRequest q;
  for (const char* uri : {"", "bob", "spiffe://o-other/role/auditor/bob", "spiffe://o-demo/account/222222222222/region/eu-west-1/agent/web-1",
                          "spiffe://o-demo/aggregator/eu-west-1"}) {
    q.set_uri(uri);
    EXPECT_TRUE(absl::IsInvalidArgument(office_->RevokeUser(g, q))) << uri;
  }
  q.set_uri(g.ToUri());
  EXPECT_TRUE(absl::IsFailedPrecondition(office_->RevokeUser(g, q)));   // locking oneself out
  q.set_uri(bob.ToUri());
  q.set_reason(std::string(513, 'x'));
  EXPECT_TRUE(absl::IsInvalidArgument(office_->RevokeUser(g, q)));
  q.set_reason("left");
  ASSERT_TRUE(office_->RevokeUser(g, q).ok());
  EXPECT_TRUE(absl::IsUnauthenticated(world_.registry.Admit(bob, "b0b")));
}

TEST_F(OfficeTest, AnAcknowledgementIsBoundedAndRecorded) {
  alarms_.Raise("A", Severity::kPage, "s", "");
  v1::AcknowledgeAlarmRequest q;
  q.set_id(alarms_.List(false, 1)[0].id);
  q.set_note(std::string(4 << 20, 'x'));
  acts_.clear();
  EXPECT_TRUE(absl::IsInvalidArgument(office_->AcknowledgeAlarm(Who(Kind::kOperator), q).status()));
  EXPECT_TRUE(acts_.empty());    // four megabytes are no record
  q.clear_note();
  EXPECT_TRUE(absl::IsInvalidArgument(office_->AcknowledgeAlarm(Who(Kind::kOperator), q).status()));
  q.set_note("on it");
  q.set_code("A");
  EXPECT_TRUE(absl::IsInvalidArgument(office_->AcknowledgeAlarm(Who(Kind::kOperator), q).status()));   // one or all, not both
  q.clear_code();
  ASSERT_TRUE(office_->AcknowledgeAlarm(Who(Kind::kOperator), q).ok());
  EXPECT_EQ(alarms_.List(true, 1)[0].acknowledged_by, "spiffe://o-demo/role/operator/x");
  EXPECT_EQ(alarms_.List(true, 1)[0].note, "on it");
}

TEST_F(OfficeTest, StatusIsOneScreen) {
  watch_->Step(world_.clock.now);
  alarms_.Raise("A", Severity::kPage, "s", "");
  auto s = office_->Status(Who(Kind::kAuditor));
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(s->org(), "o-demo");
  EXPECT_EQ(s->tree_size(), world_.builder.ledger->head().size);
  EXPECT_EQ(s->followers(0).behind(), s->tree_size() - 1);
  EXPECT_EQ(s->agents_live(), 2u);
  EXPECT_EQ(s->alarms_open(), 1u);
  EXPECT_EQ(s->subscriptions(), 3u);
  EXPECT_TRUE(s->demo());
}

}  // namespace
}  // namespace orgtrail
