// What people may ask of the organization itself: requests of Admin as they come off the wire. The first byte says which, the second who.
// Only governance changes anything, and an operator an alarm; no act takes effect that was not recorded.
#include <google/protobuf/stubs/logging.h>

#include "aggregator/admin/office.h"
#include "common/json/scanner.h"
#include "tests/fuzz/call_seeds.h"
#include "tests/fuzz/target.h"
#include "tests/support/ingest_world.h"
#include "tests/support/sized_fs.h"

namespace orgtrail::fuzz {
namespace {

using Kind = Identity::Kind;
const Identity kPeople[] = {{Kind::kGovernance, "o-demo", "", "", "gov"},       {Kind::kOperator, "o-demo", "", "", "olga"},
                            {Kind::kAuditor, "o-demo", "", "", "ann"},          {Kind::kUser, "o-demo", "222222222222", "", "uma"},
                            {Kind::kAgent, "o-demo", "222222222222", "eu-west-1", "web-1"}};

class World {
 public:
  World() : alarms_("111111111111", "us-east-1", world_.dir / "alarms.json", fs_, world_.clock, world_.builder.rng, world_.metrics) {
    absl::StatusOr<CertificateAuthority> authority = CertificateAuthority::Create("o-demo", world_.clock.Wall(), absl::Hours(1000));
    CHECK_OK(authority.status());
    authority_ = std::make_unique<CertificateAuthority>(*std::move(authority));
    world_.builder.Enrol("222222222222", "eu-west-1", "web-1");
    CHECK_OK(world_.registry.Load(*world_.builder.ledger));
    WatchOptions options;
    options.state_dir = world_.dir.path();
    watch_ = std::make_unique<Watch>(options, *world_.builder.ledger, world_.registry, alarms_, [](const IdentityLeaf&) { return absl::OkStatus(); },
                                     [] { return 0; }, [] { return std::vector<FollowerFacts>{}; }, fs_, world_.clock, world_.metrics);
    alarms_.Raise("SILENT_AGENT", Severity::kWarn, "222222222222/eu-west-1/web-1", "");
    office_ = std::make_unique<Office>(OfficeParts{
        *authority_, *world_.builder.ledger, world_.registry,
        [this](const IdentityLeaf& leaf) -> absl::StatusOr<uint64_t> {
          CHECK(IdentityLeaf::Decode(leaf.Encode()).ok());
          ++logged_;
          return absl::ResourceExhaustedError("this log takes no more");   // each input meets the same organization
        },
        *world_.sessions, alarms_, *watch_, [] { return std::vector<FollowerFacts>{{"history", 1}}; }, [] { return 3u; },
        {"222222222222"}, {"eu-west-1"},
        [this](const Identity&, std::string_view, std::string details, std::string_view) -> absl::Status {
          CHECK(scanner_.Validate(details, false) == json::Flaw::kNone);
          ++recorded_;
          return absl::OkStatus();
        },
        Uuid{}, true, world_.clock, world_.builder.rng});
  }

  void Run(std::string_view in) {
    Input input(in);
    const uint8_t which = input.Byte();
    const Identity& who = kPeople[input.Byte() % 5];
    const std::string_view rest = input.Rest();
    logged_ = recorded_ = 0;
    switch (which % 8) {
      case 0: Ask<v1::CreateTokenRequest>(rest, [&](const auto& r) { return office_->CreateToken(who, r).status(); }); break;
      case 1: Ask<v1::ListAgentsRequest>(rest, [&](const auto& r) { return office_->ListAgents(who, r).status(); }); break;
      case 2: Ask<v1::RevokeAgentRequest>(rest, [&](const auto& r) { return office_->RevokeAgent(who, r); }); break;
      case 3: Ask<v1::CreateUserRequest>(rest, [&](const auto& r) { return office_->CreateUser(who, r).status(); }); break;
      case 4: Ask<v1::RevokeUserRequest>(rest, [&](const auto& r) { return office_->RevokeUser(who, r); }); break;
      case 5: Ask<v1::ListAlarmsRequest>(rest, [&](const auto& r) { return office_->ListAlarms(who, r).status(); }); break;
      case 6: Ask<v1::AcknowledgeAlarmRequest>(rest, [&](const auto& r) { return office_->AcknowledgeAlarm(who, r).status(); }); break;
      default: static_cast<void>(office_->Status(who)); break;
    }
    CHECK(logged_ == 0 || who.kind == Kind::kGovernance || (which % 8 == 0 && who.kind == Kind::kUser));   // a user: a token for the own account
    CHECK(logged_ == 0 || recorded_ > 0);
  }

 private:
  template <class Request, class F>
  void Ask(std::string_view bytes, F answer) {
    Request request;
    if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
    const absl::Status status = answer(request);
    CHECK(status.code() != absl::StatusCode::kInternal && status.code() != absl::StatusCode::kDataLoss && status.code() != absl::StatusCode::kUnknown);
  }

  IngestWorld world_;
  SizedFs fs_;
  Alarms alarms_;
  std::unique_ptr<CertificateAuthority> authority_;
  std::unique_ptr<Watch> watch_;
  std::unique_ptr<Office> office_;
  json::Scanner scanner_;
  int logged_ = 0, recorded_ = 0;
};

}  // namespace

void One(std::string_view in) {
  static google::protobuf::LogSilencer quiet;   // about text that is not UTF-8, and fields that do not end
  static World world;
  world.Run(in);
}

std::vector<std::string> Seeds() {
  CallSeeds seeds;
  v1::CreateTokenRequest token;
  token.set_account("222222222222");
  token.set_region("eu-west-1");
  token.set_cidr("192.0.2.0/24");
  token.set_uses(3);
  for (char who = 0; who < 5; ++who) seeds.Add(0, who, token);
  token.set_carries("222222222222");
  seeds.Add(0, 0, token);
  v1::ListAgentsRequest agents;
  agents.set_name("222222222222/eu-west-1/web-1");
  seeds.Add(1, 1, agents);
  v1::RevokeAgentRequest revoke;
  revoke.set_name("web-1");
  revoke.set_reason("lost");
  seeds.Add(2, 0, revoke);
  seeds.Add(2, 3, revoke);
  v1::CreateUserRequest user;
  user.set_uri_kind("auditor");
  user.set_name("bob");
  user.set_csr_pem("-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n");
  seeds.Add(3, 0, user);
  v1::RevokeUserRequest gone;
  gone.set_uri("spiffe://o-demo/role/auditor/eve");
  seeds.Add(4, 0, gone);
  v1::ListAlarmsRequest alarms;
  alarms.set_all(true);
  seeds.Add(5, 3, alarms);
  v1::AcknowledgeAlarmRequest acknowledge;
  acknowledge.set_code("SILENT_AGENT");
  acknowledge.set_note("looked");
  seeds.Add(6, 1, acknowledge);
  seeds.all.push_back(std::string("\7\0", 2));
  return seeds.all;
}

}  // namespace orgtrail::fuzz
