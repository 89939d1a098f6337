#include "aggregator/enrol/desk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <thread>

#include "common/base/status.h"
#include "common/crypto/server_certificate.h"
#include "common/format/enrolment.h"
#include "common/format/note.h"
#include "tests/support/certificates.h"

namespace orgtrail {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class SetClock final : public Clock {
 public:
  absl::Time Wall() const override { return wall; }
  Tick Now() const override { return tick; }
  ClockQuality Quality() const override { return {}; }
  std::string BootId() const override { return std::string(16, 'b'); }
  absl::Time wall = absl::FromUnixSeconds(1'790'000'000);
  Tick tick{1};
};

constexpr char kAccount[] = "222222222222";
constexpr char kFrom[] = "10.1.2.3:4242";

class DeskTest : public ::testing::Test {
 protected:
  // The log as a counter: what is logged is folded, as the committer does.
  absl::StatusOr<uint64_t> Log(const IdentityLeaf& act) {
    if (racing_) {
      // Leaves a second use of the same token or name time to come this far: the desk must not let it.
      in_log_.With([](int& n) { ++n; });
      in_log_.WhenFor(absl::Milliseconds(100), [](int n) { return n > 1; }, [](int&, bool) {});
    }
    const std::lock_guard lock(mu_);
    if (!log_fails_.ok()) return log_fails_;
    leaves_.push_back(act);
    registry_.Apply(act, leaves_.size() - 1);
    if (racing_) in_log_.With([](int& n) { --n; });
    return leaves_.size() - 1;
  }
  std::unique_ptr<EnrolDesk> MakeDesk() {
    EnrolOptions options;
    options.origin = "orgtrail.orgtrail.internal/o-demo";
    options.log_vkey = "vkey";
    options.attempts_burst = 1000;
    return std::make_unique<EnrolDesk>(
        options, authority_, registry_, [this](const IdentityLeaf& act) { return Log(act); },
        [this](std::string_view code, std::string_view subject, std::string_view) {
          const std::lock_guard lock(mu_);
          alarms_.push_back(std::string(code) + " " + std::string(subject));
        },
        [] { return std::pair<std::string, std::string>("note", "body"); }, clock_, SystemRng());
  }
  // A token that is in the log already.
  std::string Token(CertificateAuthority::TokenOrder order = {}) {
    if (order.account.empty()) order.account = kAccount;
    CertificateAuthority::IssuedToken issued = authority_.IssueToken(order, clock_.wall, SystemRng()).value();
    CHECK_OK(Log(issued.leaf).status());
    return issued.token.secret;
  }
  struct Asking {
    std::string secret = {};
    std::string account = kAccount;
    std::string region = "eu-west-1";
    std::string name = "web-1";
    std::string csr = {};
    const SigningKey* key = nullptr;
  };
  v1::EnrolRequest Request(const Asking& ask) {
    v1::EnrolRequest request;
    request.set_token_secret(ask.secret);
    request.set_account(ask.account);
    request.set_region(ask.region);
    request.set_name(ask.name);
    request.set_csr_pem(ask.csr.empty() ? NewCsrPem(NewTlsKeyPem().value()).value() : ask.csr);
    const SigningKey& key = ask.key == nullptr ? key_ : *ask.key;
    request.set_identity_key(std::string(View(key.public_key())));
    request.set_proof(std::string(View(
        key.Sign(kEnrolLabel, EnrolProofMessage(request.csr_pem(), ask.secret, ask.account, ask.region, ask.name)))));
    return request;
  }
  absl::StatusOr<v1::EnrolResponse> Enrol(const Asking& ask, std::string_view from = kFrom) { return desk_->Enrol(Request(ask), from); }
  v1::RenewRequest RenewRequest(const std::string& uuid, absl::Time wall, const std::string& challenge = "",
                                const SigningKey* key = nullptr) {
    v1::RenewRequest request;
    request.set_agent_uuid(uuid);
    request.set_csr_pem(NewCsrPem(NewTlsKeyPem().value()).value());
    request.set_wall_ns(absl::ToUnixNanos(wall));
    request.set_challenge(challenge);
    request.set_proof(std::string(View((key == nullptr ? key_ : *key).Sign(
        kEnrolLabel, RenewProofMessage(Uuid::FromBytes(uuid), request.csr_pem(), request.wall_ns(), challenge)))));
    return request;
  }
  void ExpectDenied(const absl::Status& status, std::string_view code) {
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(code)));
  }

  SetClock clock_;
  const CertificateAuthority authority_ =
      CertificateAuthority::Create("o-demo", clock_.wall, absl::Hours(24 * 3650)).value();
  Registry registry_;
  std::mutex mu_;
  std::vector<IdentityLeaf> leaves_;
  std::vector<std::string> alarms_;
  absl::Status log_fails_;
  bool racing_ = false;
  Guarded<int> in_log_;
  const SigningKey key_ = SigningKey::FromSeed(std::string(32, 'i'));
  const SigningKey other_key_ = SigningKey::FromSeed(std::string(32, 'o'));
  std::unique_ptr<EnrolDesk> desk_ = MakeDesk();
};

TEST_F(DeskTest, AnAgentIsLoggedAndThenCertified) {
  CertificateAuthority::TokenOrder order;
  order.carries = "any";
  const std::string secret = Token(order);
  const v1::EnrolResponse response = Enrol({.secret = secret}).value();
  const CertificateFacts facts = ReadCertificate(response.certificate_pem()).value();
  EXPECT_THAT(facts.uris, ElementsAre("spiffe://o-demo/account/222222222222/region/eu-west-1/agent/web-1"));
  EXPECT_TRUE(CheckIssued(response.certificate_pem(), response.ca_pem(), clock_.wall).ok());
  EXPECT_EQ(facts.not_after, clock_.wall + absl::Hours(24));
  EXPECT_EQ(response.org(), "o-demo");
  EXPECT_EQ(response.carries(), "any");
  EXPECT_EQ(response.policy(), "note");
  EXPECT_EQ(response.enrolment_leaf(), 1u);

  ASSERT_EQ(leaves_.size(), 2u);
  const IdentityLeaf& leaf = leaves_[1];
  EXPECT_EQ(leaf.act, IdentityLeaf::Act::kEnrolled);
  EXPECT_EQ(leaf.uuid.view(), response.agent_uuid());
  EXPECT_EQ(leaf.certificate, facts.der_hash);
  EXPECT_EQ(leaf.serial, facts.serial_hex);
  EXPECT_EQ(leaf.identity_key, View(key_.public_key()));
  EXPECT_EQ(leaf.token_id, (JoinToken{secret, {}}.Id()));
  EXPECT_TRUE(registry_.Admit(*Identity::Parse(leaf.uri), facts.serial_hex).ok());
  EXPECT_THAT(alarms_, IsEmpty());
}

TEST_F(DeskTest, ATokenIsGoodForWhatItWasMadeForOnly) {
  CertificateAuthority::TokenOrder exact;
  exact.region = "eu-west-1";
  exact.name = "web-1";
  CertificateAuthority::TokenOrder network;
  network.cidr = "10.1.0.0/16";
  struct Case {
    CertificateAuthority::TokenOrder order;
    Asking ask;
    std::string_view from;
    bool good;
  };
  const Case cases[] = {
      {exact, {}, kFrom, true},
      {exact, {.account = "333333333333"}, kFrom, false},
      {exact, {.region = "us-east-1"}, kFrom, false},
      {exact, {.name = "web-2"}, kFrom, false},
      {{}, {.region = "us-east-1", .name = "anything"}, kFrom, true},
      {{}, {.account = "333333333333"}, kFrom, false},
      {network, {.name = "n1"}, "10.1.255.255:1", true},
      {network, {.name = "n2"}, "[::ffff:10.1.0.1]:1", true},
      {network, {.name = "n3"}, "10.2.0.1:1", false},
      {network, {.name = "n4"}, "[2001:db8::1]:1", false},
  };
  for (const Case& c : cases) {
    const size_t alarms = alarms_.size();
    Asking ask = c.ask;
    ask.secret = Token(c.order);
    const size_t leaves = leaves_.size();
    const absl::StatusOr<v1::EnrolResponse> response = Enrol(ask, c.from);
    EXPECT_EQ(response.ok(), c.good) << ask.account << ask.region << ask.name << c.from << response.status();
    EXPECT_EQ(leaves_.size(), leaves + (c.good ? 1 : 0));
    EXPECT_EQ(alarms_.size(), alarms + (c.good ? 0 : 1));
    if (!c.good) ExpectDenied(response.status(), "TOKEN_ELSEWHERE");
  }
}

TEST_F(DeskTest, ASecondUseIsRefusedAndRaisesAnAlarm) {
  const std::string secret = Token();
  ASSERT_TRUE(Enrol({.secret = secret}).ok());
  ExpectDenied(Enrol({.secret = secret, .name = "web-2", .key = &other_key_}).status(), "TOKEN_USED");
  EXPECT_THAT(alarms_, ElementsAre("TOKEN_REUSE spiffe://o-demo/account/222222222222/region/eu-west-1/agent/web-2"));
  // The same name under another key is no way in either.
  ExpectDenied(Enrol({.secret = secret, .key = &other_key_}).status(), "TOKEN_USED");
  EXPECT_EQ(registry_.Agents().size(), 1u);
}

TEST_F(DeskTest, OneOfManyRacingUsesWins) {
  CertificateAuthority::TokenOrder order;
  order.uses = 2;
  const std::string secret = Token(order);
  std::vector<v1::EnrolRequest> requests;
  std::vector<SigningKey> keys;
  for (int i = 0; i < 8; ++i) keys.push_back(SigningKey::FromSeed(std::string(32, static_cast<char>('a' + i))));
  for (int i = 0; i < 8; ++i) {
    requests.push_back(Request({.secret = secret, .name = "web-" + std::to_string(i), .key = &keys[static_cast<size_t>(i)]}));
  }
  racing_ = true;
  std::atomic<int> won{0};
  std::vector<std::thread> threads;
  for (const v1::EnrolRequest& request : requests) {
    threads.emplace_back([&, request] { won += desk_->Enrol(request, kFrom).ok() ? 1 : 0; });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(won, 2);
  EXPECT_EQ(registry_.Agents().size(), 2u);
  EXPECT_EQ(alarms_.size(), 6u);
}

TEST_F(DeskTest, OneNameIsOneAgent) {
  std::vector<std::thread> threads;
  std::atomic<int> won{0};
  std::vector<SigningKey> keys;
  for (int i = 0; i < 4; ++i) keys.push_back(SigningKey::FromSeed(std::string(32, static_cast<char>('a' + i))));
  std::vector<v1::EnrolRequest> requests;
  for (const SigningKey& key : keys) requests.push_back(Request({.secret = Token(), .key = &key}));
  racing_ = true;
  for (const v1::EnrolRequest& request : requests) {
    threads.emplace_back([&, request] { won += desk_->Enrol(request, kFrom).ok() ? 1 : 0; });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(won, 1);
}

TEST_F(DeskTest, ExpiredAndUnknownTokensAreRefused) {
  const std::string secret = Token();
  clock_.wall += absl::Hours(1) + absl::Seconds(1);
  ExpectDenied(Enrol({.secret = secret}).status(), "TOKEN_EXPIRED");
  ExpectDenied(Enrol({.secret = std::string(32, 'x')}).status(), "TOKEN_UNKNOWN");
  EXPECT_EQ(registry_.Agents().size(), 0u);
  EXPECT_THAT(alarms_, IsEmpty());
}

TEST_F(DeskTest, ALiveNameIsNotTakenOverUntilItIsRevoked) {
  ASSERT_TRUE(Enrol({.secret = Token()}).ok());
  const std::string second = Token();
  const absl::Status taken = Enrol({.secret = second, .key = &other_key_}).status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(taken.message()), HasSubstr("revoke"));
  IdentityLeaf revoked;
  revoked.act = IdentityLeaf::Act::kRevoked;
  revoked.uuid = registry_.Agents()[0].uuid;
  ASSERT_TRUE(Log(revoked).ok());
  EXPECT_TRUE(Enrol({.secret = second, .key = &other_key_}).ok());  // the refusal had not spent it
  EXPECT_EQ(registry_.Agents().size(), 2u);
}

TEST_F(DeskTest, AnAnswerThatWasLostIsGivenAgain) {
  const std::string secret = Token();
  const v1::EnrolResponse first = Enrol({.secret = secret}).value();
  EXPECT_EQ(Enrol({.secret = secret}).status().code(), absl::StatusCode::kResourceExhausted);  // seconds later
  clock_.wall += absl::Minutes(1);
  const v1::EnrolResponse again = Enrol({.secret = secret}).value();
  EXPECT_EQ(again.agent_uuid(), first.agent_uuid());
  EXPECT_EQ(again.enrolment_leaf(), first.enrolment_leaf());
  EXPECT_NE(again.certificate_pem(), first.certificate_pem());
  EXPECT_EQ(leaves_.back().act, IdentityLeaf::Act::kRenewed);
  EXPECT_THAT(alarms_, IsEmpty());
}

TEST_F(DeskTest, NothingIsGivenOutThatIsNotLogged) {
  const std::string secret = Token();
  log_fails_ = absl::ResourceExhaustedError("the ledger's disk is full");
  EXPECT_EQ(Enrol({.secret = secret}).status().code(), absl::StatusCode::kResourceExhausted);
  log_fails_ = absl::OkStatus();
  EXPECT_TRUE(Enrol({.secret = secret}).ok());
}

TEST_F(DeskTest, RefusesRequestsThatProveTooLittle) {
  const std::string secret = Token();
  const v1::EnrolRequest good = Request({.secret = secret});
  const v1::EnrolRequest of_another = Request({.secret = secret, .key = &other_key_});
  testing::OddCsr rsa, stolen;
  rsa.key = "RSA-2048";
  stolen.wrong_signature = true;
  struct Case {
    const char* what;
    v1::EnrolRequest request;
    absl::StatusCode code;
  };
  std::vector<Case> cases;
  const auto add = [&](const char* what, absl::StatusCode code, auto change) {
    Case c{what, good, code};
    change(c.request);
    cases.push_back(std::move(c));
  };
  using enum absl::StatusCode;
  add("another's proof", kPermissionDenied, [&](auto& r) { r.set_proof(of_another.proof()); });
  add("no proof", kPermissionDenied, [](auto& r) { r.clear_proof(); });
  add("another CSR", kPermissionDenied, [](auto& r) { r.set_csr_pem(NewCsrPem(NewTlsKeyPem().value()).value()); });
  add("another name", kPermissionDenied, [](auto& r) { r.set_name("web-2"); });
  add("another token", kPermissionDenied, [](auto& r) { r.set_token_secret(std::string(32, 'x')); });
  add("small-order key", kInvalidArgument, [](auto& r) { r.set_identity_key(std::string(32, '\0')); });
  add("short key", kInvalidArgument, [](auto& r) { r.set_identity_key("k"); });
  add("short token", kInvalidArgument, [](auto& r) { r.set_token_secret("t"); });
  add("traversal", kInvalidArgument, [](auto& r) { r.set_account("../111111111"); });
  add("slash in name", kInvalidArgument, [](auto& r) { r.set_name("a/b"); });
  add("wildcard", kInvalidArgument, [](auto& r) { r.set_name("*"); });
  add("huge CSR", kInvalidArgument, [](auto& r) { r.set_csr_pem(std::string(17 << 10, 'x')); });
  cases.push_back({"RSA", Request({.secret = secret, .csr = testing::OddCsrPem(rsa)}), kInvalidArgument});
  cases.push_back({"forged CSR", Request({.secret = secret, .csr = testing::OddCsrPem(stolen)}), kInvalidArgument});
  cases.push_back({"no CSR", Request({.secret = secret, .csr = "hello"}), kInvalidArgument});
  for (const Case& c : cases) {
    EXPECT_EQ(desk_->Enrol(c.request, kFrom).status().code(), c.code) << c.what;
  }
  EXPECT_TRUE(desk_->Enrol(good, kFrom).ok());  // none of them spent the token
}

TEST_F(DeskTest, RenewsByIdentityKeyForNinetyDays) {
  const std::string uuid = Enrol({.secret = Token()}).value().agent_uuid();
  const absl::Time expiry = clock_.wall + absl::Hours(24);
  clock_.wall += absl::Hours(12);
  const v1::EnrolResponse renewed = desk_->Renew(RenewRequest(uuid, clock_.wall), kFrom).value();
  EXPECT_EQ(renewed.agent_uuid(), uuid);
  EXPECT_EQ(ReadCertificate(renewed.certificate_pem()).value().not_after, clock_.wall + absl::Hours(24));
  EXPECT_EQ(leaves_.back().act, IdentityLeaf::Act::kRenewed);
  EXPECT_TRUE(registry_.Admit(*Identity::Parse(leaves_.back().uri), leaves_.back().serial).ok());

  clock_.wall = expiry + absl::Hours(12) + absl::Hours(24 * 90);  // of the renewed certificate
  EXPECT_TRUE(desk_->Renew(RenewRequest(uuid, clock_.wall), kFrom).ok());
  clock_.wall += absl::Hours(24) + absl::Hours(24 * 90) + absl::Seconds(1);
  ExpectDenied(desk_->Renew(RenewRequest(uuid, clock_.wall), kFrom).status(), "AUTH_EXPIRED");
}

TEST_F(DeskTest, RenewalIsTheAgentsOwn) {
  const std::string uuid = Enrol({.secret = Token()}).value().agent_uuid();
  clock_.wall += absl::Hours(1);
  ExpectDenied(desk_->Renew(RenewRequest(uuid, clock_.wall, "", &other_key_), kFrom).status(), "PROOF_INVALID");
  ExpectDenied(desk_->Renew(RenewRequest(std::string(16, 'u'), clock_.wall), kFrom).status(), "AUTH_UNKNOWN");
  v1::RenewRequest swapped = RenewRequest(uuid, clock_.wall);
  swapped.set_csr_pem(NewCsrPem(NewTlsKeyPem().value()).value());
  ExpectDenied(desk_->Renew(swapped, kFrom).status(), "PROOF_INVALID");
  EXPECT_EQ(desk_->Renew(v1::RenewRequest(), kFrom).status().code(), absl::StatusCode::kInvalidArgument);

  IdentityLeaf revoked;
  revoked.act = IdentityLeaf::Act::kRevoked;
  revoked.uuid = Uuid::FromBytes(uuid);
  ASSERT_TRUE(Log(revoked).ok());
  EXPECT_THAT(alarms_, IsEmpty());
  ExpectDenied(desk_->Renew(RenewRequest(uuid, clock_.wall), kFrom).status(), "AUTH_REVOKED");
  EXPECT_EQ(alarms_.size(), 1u);
}

TEST_F(DeskTest, AWrongClockIsAnsweredWithAChallenge) {
  const std::string uuid = Enrol({.secret = Token()}).value().agent_uuid();
  clock_.wall += absl::Hours(1);
  const absl::Time theirs = clock_.wall - absl::Hours(9);
  const v1::EnrolResponse asked = desk_->Renew(RenewRequest(uuid, theirs), kFrom).value();
  EXPECT_EQ(asked.certificate_pem(), "");
  ASSERT_NE(asked.challenge(), "");
  EXPECT_EQ(asked.wall_ns(), absl::ToUnixNanos(clock_.wall));
  EXPECT_NE(desk_->Renew(RenewRequest(uuid, theirs, asked.challenge()), kFrom).value().certificate_pem(), "");

  clock_.wall += absl::Minutes(3);  // stale: another is asked for
  EXPECT_EQ(desk_->Renew(RenewRequest(uuid, theirs, asked.challenge()), kFrom).value().certificate_pem(), "");
  std::string forged = asked.challenge();
  forged.back() = static_cast<char>(forged.back() ^ 1);
  EXPECT_EQ(desk_->Renew(RenewRequest(uuid, theirs, forged), kFrom).value().certificate_pem(), "");
}

TEST_F(DeskTest, OneAddressCannotTakeEverybodysTurn) {
  EnrolOptions options;
  options.attempts_per_second = 1;
  options.attempts_burst = 3;
  EnrolDesk desk(options, authority_, registry_, [this](const IdentityLeaf& act) { return Log(act); },
                 [](std::string_view, std::string_view, std::string_view) {}, {}, clock_, SystemRng());
  const auto code = [&](std::string_view from) { return desk.Enrol(v1::EnrolRequest(), from).status().code(); };
  for (int i = 0; i < 3; ++i) EXPECT_EQ(code("10.0.0.1:" + std::to_string(i)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code("10.0.0.1:9"), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(code("10.0.0.2:9"), absl::StatusCode::kInvalidArgument);
  clock_.tick = clock_.tick + absl::Seconds(1);
  EXPECT_EQ(code("10.0.0.1:9"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code("10.0.0.1:9"), absl::StatusCode::kResourceExhausted);
}

TEST(AddressLimiterTest, RemembersABoundedNumberOfAddresses) {
  AddressLimiter limiter(1, 2, 2);
  EXPECT_TRUE(limiter.Allow("a", Tick{0}));
  EXPECT_TRUE(limiter.Allow("b", Tick{0}));
  EXPECT_TRUE(limiter.Allow("c", Tick{0}));   // c and d are strangers and share a bucket
  EXPECT_TRUE(limiter.Allow("d", Tick{0}));
  EXPECT_FALSE(limiter.Allow("e", Tick{0}));
  EXPECT_TRUE(limiter.Allow("e", Tick{0} + absl::Seconds(5)));  // the others have refilled and are forgotten
}

TEST(AuthorityTest, MakesCertificatesForPeople) {
  const absl::Time now = absl::FromUnixSeconds(1'790'000'000);
  const CertificateAuthority authority = CertificateAuthority::Create("o-demo", now, absl::Hours(24 * 3650)).value();
  Identity auditor;
  auditor.kind = Identity::Kind::kAuditor;
  auditor.org = "o-demo";
  auditor.name = "alice";
  const std::string csr = NewCsrPem(NewTlsKeyPem().value()).value();
  EXPECT_EQ(authority.Issue(auditor, csr, now, absl::Hours(1)).value().uri, "spiffe://o-demo/role/auditor/alice");
  auditor.name = "alice/../eve";
  EXPECT_EQ(authority.Issue(auditor, csr, now, absl::Hours(1)).status().code(), absl::StatusCode::kInvalidArgument);
  auditor.name = "alice";
  auditor.org = "o-other";
  EXPECT_EQ(authority.Issue(auditor, csr, now, absl::Hours(1)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(AuthorityTest, OpensOnlyACaWithItsOwnKey) {
  const absl::Time now = absl::FromUnixSeconds(1'790'000'000);
  const CertificateAuthority a = CertificateAuthority::Create("o-demo", now, absl::Hours(24)).value();
  const CertificateAuthority b = CertificateAuthority::Create("o-demo", now, absl::Hours(24)).value();
  EXPECT_TRUE(CertificateAuthority::Open("o-demo", a.files()).ok());
  EXPECT_EQ(CertificateAuthority::Open("o-demo", {a.files().cert_pem, b.files().key_pem}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  const ServerCertificate server = IssueServerCertificate(a.files(), "spiffe://o-demo/aggregator/r", {}, now, absl::Hours(1)).value();
  EXPECT_EQ(CertificateAuthority::Open("o-demo", {server.certificate_pem, server.key_pem}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(CertificateAuthority::Create("O Demo", now, absl::Hours(24)).ok());
}

TEST(AuthorityTest, RefusesOrdersForTokensThatCannotBe) {
  const absl::Time now = absl::FromUnixSeconds(1'790'000'000);
  const CertificateAuthority authority = CertificateAuthority::Create("o-demo", now, absl::Hours(24)).value();
  using Order = CertificateAuthority::TokenOrder;
  Order good;
  good.account = kAccount;
  good.carries = "111111111111,333333333333";
  good.cidr = "2001:db8::/32";
  const CertificateAuthority::IssuedToken issued = authority.IssueToken(good, now, SystemRng()).value();
  EXPECT_EQ(issued.leaf.uri, "spiffe://o-demo/account/222222222222/region/*/agent/*");
  EXPECT_EQ(JoinToken::Decode(issued.token.Encode()).value().ca_spki, authority.spki());
  const std::pair<const char*, void (*)(Order&)> bad[] = {
      {"account", [](Order& o) { o.account = "1"; }},       {"region", [](Order& o) { o.region = "EU"; }},
      {"name", [](Order& o) { o.name = "a/b"; }},           {"carries", [](Order& o) { o.carries = "111111111111,"; }},
      {"carries all", [](Order& o) { o.carries = "all"; }}, {"no use", [](Order& o) { o.uses = 0; }},
      {"life", [](Order& o) { o.life = absl::ZeroDuration(); }}, {"long life", [](Order& o) { o.life = absl::Hours(24 * 31); }},
      {"cidr", [](Order& o) { o.cidr = "10.0.0.0/33"; }},   {"cidr text", [](Order& o) { o.cidr = "10.0.0.0/8 uses=9"; }},
  };
  for (const auto& [what, change] : bad) {
    Order order = good;
    change(order);
    EXPECT_EQ(authority.IssueToken(order, now, SystemRng()).status().code(), absl::StatusCode::kInvalidArgument) << what;
  }
}

TEST(UriMatchesTest, StarsAreOneSegment) {
  struct Case {
    std::string_view pattern, uri;
    bool matches;
  };
  for (const Case& c : {Case{"spiffe://o/account/1/region/*/agent/*", "spiffe://o/account/1/region/r/agent/n", true},
                        Case{"spiffe://o/account/1/region/*/agent/*", "spiffe://o/account/1/region/r/agent/n/x", false},
                        Case{"spiffe://o/account/1/region/*/agent/*", "spiffe://o/account/1/region/r/agent", false},
                        Case{"spiffe://o/account/1/region/*/agent/*", "spiffe://o/account/1/region//agent/n", false},
                        Case{"spiffe://o/account/1/region/*/agent/*", "spiffe://o/account/2/region/r/agent/n", false},
                        Case{"spiffe://o/a", "spiffe://o/a", true}, Case{"spiffe://o/a", "spiffe://o/ab", false}}) {
    EXPECT_EQ(UriMatches(c.pattern, c.uri), c.matches) << c.pattern << " " << c.uri;
  }
}

}  // namespace
}  // namespace orgtrail
