#include "agent/enrol/enrolment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>

#include "aggregator/enrol/service.h"
#include "aggregator/ledger/committer.h"
#include "aggregator/ledger/ledger.h"
#include "common/base/status.h"
#include "common/base/worker.h"
#include "common/crypto/server_certificate.h"
#include "common/crypto/x509.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

using ::testing::HasSubstr;

constexpr char kOrigin[] = "orgtrail.orgtrail.internal/o-demo";
constexpr char kServerUri[] = "spiffe://o-demo/aggregator/eu-west-1";
constexpr char kAccount[] = "222222222222";

// The machine's clock, set off by as much as the test says.
class OffClock final : public Clock {
 public:
  absl::Time Wall() const override { return SystemClock().Wall() + absl::Seconds(off_s.load()); }
  Tick Now() const override { return SystemClock().Now(); }
  ClockQuality Quality() const override { return {}; }
  std::string BootId() const override { return std::string(16, 'b'); }
  std::atomic<int64_t> off_s{0};
};

struct NoCommits final : Commits {
  void Committed(const Flush&) override {}
};

// An aggregator's enrolment, whole: real ledger, committer, registry and port.
class Aggregator {
 public:
  explicit Aggregator(const std::string& org)
      : authority_(CertificateAuthority::Create(org, SystemClock().Wall(), absl::Hours(24 * 365)).value()) {
    LedgerOptions options;
    options.dir = dir_ / "ledger";
    options.map_bytes = 64 << 20;
    ledger_ = Ledger::Open(options, kOrigin, &log_key_, PosixFs(), SystemClock()).value();
    committer_ = std::make_unique<Committer>(*ledger_, commits_, 16, SystemClock());
    worker_ = std::make_unique<Worker>("commit", *committer_, SystemClock());
    committer_->Poked([this] { worker_->Poke(); });
    worker_->Start();
    EnrolOptions enrol;
    enrol.origin = kOrigin;
    enrol.log_vkey = NoteKey{kOrigin, 1, log_key_.public_key()}.Encode();
    enrol.between_renewals = absl::ZeroDuration();
    log_ = LogThrough(*committer_, registry_, absl::Seconds(10));
    desk_ = std::make_unique<EnrolDesk>(
        enrol, authority_, registry_, log_, [](std::string_view, std::string_view, std::string_view) {}, PolicyInForce(), clock,
        SystemRng());
    Serve(IssueServerCertificate(authority_.files(), kServerUri, {}, SystemClock().Wall(), absl::Hours(24)).value());
  }
  ~Aggregator() {
    server_.reset();
    worker_->Stop();
  }
  // Shows other certificates from now on, at the same or another port.
  void Serve(const ServerCertificate& certificate) {
    server_.reset();
    CHECK_OK(WriteFileAtomically(PosixFs(), dir_ / "server.crt", certificate.certificate_pem));
    CHECK_OK(WriteFileAtomically(PosixFs(), dir_ / "server.key", certificate.key_pem));
    int port = 0;
    server_ = EnrolServer::Start("127.0.0.1:0", TlsFiles{dir_ / "server.crt", dir_ / "server.key", ""}, *desk_, &port).value();
    endpoint = "127.0.0.1:" + std::to_string(port);
  }
  std::string Token(uint32_t uses = 1) {
    CertificateAuthority::TokenOrder order;
    order.account = kAccount;
    order.uses = uses;
    const CertificateAuthority::IssuedToken issued = authority_.IssueToken(order, clock.Wall(), SystemRng()).value();
    CHECK_OK(log_(issued.leaf).status());
    return issued.token.Encode();
  }
  void Revoke(const Uuid& uuid) {
    IdentityLeaf leaf;
    leaf.act = IdentityLeaf::Act::kRevoked;
    leaf.uuid = uuid;
    leaf.uri = registry_.Agent(uuid)->uri;
    CHECK_OK(log_(leaf).status());
  }

  OffClock clock;
  std::string endpoint;
  const Registry& registry() const { return registry_; }
  const Ledger& ledger() const { return *ledger_; }
  const CertificateAuthority& authority() const { return authority_; }

 private:
  TempDir dir_;
  const CertificateAuthority authority_;
  const SigningKey log_key_ = SigningKey::FromSeed(std::string(32, 'l'));
  std::unique_ptr<Ledger> ledger_;
  NoCommits commits_;
  std::unique_ptr<Committer> committer_;
  std::unique_ptr<Worker> worker_;
  Registry registry_;
  IdentityLog log_;
  std::unique_ptr<EnrolDesk> desk_;
  std::unique_ptr<EnrolServer> server_;
};

class EnrolmentTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { InitRpc(); }

  std::unique_ptr<Enrolment> Open() { return Enrolment::Open(state_.path(), PosixFs(), clock_, SystemRng()).value(); }
  absl::Status Enrol(Enrolment& enrolment, const std::string& token, std::string_view account = kAccount) {
    return enrolment.Enrol(aggregator_.endpoint, token, account, "eu-west-1", "web-1", "0.1.0");
  }
  std::string File(const std::string& name) { return state_ / ("identity/" + name); }
  std::string Read(const std::string& name) { return ReadFile(PosixFs(), File(name)).value(); }
  void Write(const std::string& name, std::string_view text) { CHECK_OK(WriteFileAtomically(PosixFs(), File(name), text)); }

  Aggregator aggregator_{"o-demo"};
  OffClock clock_;
  TempDir state_;
};

TEST_F(EnrolmentTest, ATokenMakesAnAgentThatStaysItself) {
  const std::unique_ptr<Enrolment> enrolment = Open();
  EXPECT_FALSE(enrolment->enrolled().has_value());
  EXPECT_EQ(enrolment->RenewAt(), absl::InfinitePast());
  const absl::Status status = Enrol(*enrolment, aggregator_.Token());
  ASSERT_TRUE(status.ok()) << status;
  const EnrolledAs as = *enrolment->enrolled();
  EXPECT_EQ(as.Uri(), "spiffe://o-demo/account/222222222222/region/eu-west-1/agent/web-1");
  EXPECT_EQ(as.origin, kOrigin);
  EXPECT_EQ(as.log_key.name, kOrigin);

  const AgentIdentityRecord record = aggregator_.registry().Agent(as.uuid).value();
  EXPECT_EQ(record.identity_key, enrolment->identity_key().public_key());
  const IdentityLeaf leaf = IdentityLeaf::Decode(aggregator_.ledger().ReadEntry(as.enrolled_leaf).value()).value();
  EXPECT_EQ(leaf.uuid, as.uuid);
  const std::string tls = Read("tls.pem");
  EXPECT_EQ(leaf.certificate, ReadCertificate(tls).value().der_hash);
  EXPECT_EQ(SpkiHashOfKey(tls).value(), ReadCertificate(tls).value().spki_hash);
  for (const char* secret : {"identity.key", "tls.pem"}) {
    struct stat facts {};
    ASSERT_EQ(stat(File(secret).c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0600u) << secret;
  }

  const std::unique_ptr<Enrolment> again = Open();
  ASSERT_TRUE(again->enrolled().has_value());
  EXPECT_EQ(again->enrolled()->Encode(), as.Encode());
  EXPECT_EQ(again->identity_key().public_key(), enrolment->identity_key().public_key());
  EXPECT_EQ(again->RenewAt(), enrolment->RenewAt());
  const absl::Duration until = again->RenewAt() - clock_.Wall();
  EXPECT_GT(until, absl::Hours(11));
  EXPECT_LT(until, absl::Hours(13));
  EXPECT_TRUE(Enrol(*again, "not even a token").ok());  // nothing left to do
  EXPECT_EQ(Enrol(*again, aggregator_.Token(), "333333333333").code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(EnrolmentTest, NothingIsSentToAnotherCa) {
  Aggregator other("o-demo");  // the same name, another key; it knows nothing of the token
  const std::string token = aggregator_.Token();
  const std::unique_ptr<Enrolment> enrolment = Open();
  const absl::Status status = enrolment->Enrol(other.endpoint, token, kAccount, "eu-west-1", "web-1", "");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is not the one this token was made for"));
  EXPECT_EQ(other.ledger().head().size, 0u);

  // One in between who shows the real CA's certificate, which is public, behind a leaf of his own.
  ServerCertificate forged =
      IssueServerCertificate(other.authority().files(), kServerUri, {}, clock_.Wall(), absl::Hours(1)).value();
  forged.certificate_pem = forged.certificate_pem.substr(0, forged.certificate_pem.find("-----END") + 26) +
                           aggregator_.authority().files().cert_pem;
  other.Serve(forged);
  ASSERT_EQ(FetchServerChain(other.endpoint, absl::Seconds(5)).value().size(), 2u);
  EXPECT_EQ(enrolment->Enrol(other.endpoint, token, kAccount, "eu-west-1", "web-1", "").code(), absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(Enrol(*enrolment, token).ok());  // the token is as good as before
}

TEST_F(EnrolmentTest, SaysWhatIsWrong) {
  const std::unique_ptr<Enrolment> enrolment = Open();
  const std::string token = aggregator_.Token();
  struct Case {
    absl::Status status;
    absl::StatusCode code;
    const char* text;
  };
  const std::string late = aggregator_.Token();
  aggregator_.clock.off_s = 7200;
  const absl::Status expired = Enrol(*enrolment, late);
  aggregator_.clock.off_s = 0;
  const Case cases[] = {
      {Enrol(*enrolment, "ot1.short"), absl::StatusCode::kInvalidArgument, "cut short"},
      {Enrol(*enrolment, token, "333333333333"), absl::StatusCode::kPermissionDenied, "TOKEN_ELSEWHERE"},
      {expired, absl::StatusCode::kPermissionDenied, "TOKEN_EXPIRED"},
      {enrolment->Enrol("127.0.0.1:1", token, kAccount, "eu-west-1", "web-1", ""), absl::StatusCode::kUnavailable, "refused"},
      {enrolment->Enrol("nonsense", token, kAccount, "eu-west-1", "web-1", ""), absl::StatusCode::kInvalidArgument, "HOST:PORT"},
      {enrolment->Renew(aggregator_.endpoint), absl::StatusCode::kFailedPrecondition, "join token"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(c.status.code(), c.code) << c.status;
    EXPECT_THAT(std::string(c.status.message()), HasSubstr(c.text));
  }
  clock_.off_s = -3 * 3600;
  EXPECT_THAT(std::string(Enrol(*enrolment, token).message()), HasSubstr("is the clock right?"));
  EXPECT_FALSE(enrolment->enrolled().has_value());
}

TEST_F(EnrolmentTest, AUsedTokenIsRefused) {
  const std::string token = aggregator_.Token();
  ASSERT_TRUE(Enrol(*Open(), token).ok());
  TempDir elsewhere;
  const std::unique_ptr<Enrolment> thief = Enrolment::Open(elsewhere.path(), PosixFs(), clock_, SystemRng()).value();
  const absl::Status status = thief->Enrol(aggregator_.endpoint, token, kAccount, "eu-west-1", "web-2", "");
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(status.message()), HasSubstr("TOKEN_USED"));
}

TEST_F(EnrolmentTest, ACrashBeforeTheLastFileFindsTheSameIdentity) {
  const std::string token = aggregator_.Token();
  Uuid uuid;
  {
    const std::unique_ptr<Enrolment> enrolment = Open();
    ASSERT_TRUE(Enrol(*enrolment, token).ok());
    uuid = enrolment->enrolled()->uuid;
  }
  for (const char* lost : {"enrolled", "tls.pem", "ca.crt"}) {  // one more each time: as if it had crashed earlier
    ASSERT_TRUE(PosixFs().Remove(File(lost)).ok());
    PosixFs().Remove(File("enrolled")).IgnoreError();  // gone since the first round, except where enrolment wrote it again
    const std::unique_ptr<Enrolment> enrolment = Open();
    const absl::Status status = Enrol(*enrolment, token);
    ASSERT_TRUE(status.ok()) << lost << status;
    EXPECT_EQ(enrolment->enrolled()->uuid, uuid);
  }
}

TEST_F(EnrolmentTest, RenewsWithAnotherKeyAndAfterAnyLoss) {
  const std::unique_ptr<Enrolment> enrolment = Open();
  ASSERT_TRUE(Enrol(*enrolment, aggregator_.Token()).ok());
  const std::string before = Read("tls.pem");
  ASSERT_TRUE(enrolment->Renew(aggregator_.endpoint).ok());
  EXPECT_NE(SpkiHashOfKey(before).value(), SpkiHashOfKey(Read("tls.pem")).value());

  Write("tls.pem", before.substr(0, 300));
  const std::unique_ptr<Enrolment> damaged = Open();
  EXPECT_EQ(damaged->RenewAt(), absl::InfinitePast());
  ASSERT_TRUE(damaged->Renew(aggregator_.endpoint).ok());
  EXPECT_GT(damaged->RenewAt(), clock_.Wall());
  EXPECT_EQ(damaged->enrolled()->uuid, enrolment->enrolled()->uuid);

  aggregator_.Revoke(enrolment->enrolled()->uuid);
  const absl::Status status = damaged->Renew(aggregator_.endpoint);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(status.message()), HasSubstr("AUTH_REVOKED"));
}

TEST_F(EnrolmentTest, RenewsWhenTheClockIsOffByHours) {
  const std::unique_ptr<Enrolment> enrolment = Open();
  ASSERT_TRUE(Enrol(*enrolment, aggregator_.Token()).ok());
  clock_.off_s = -9 * 3600;
  const absl::Status status = enrolment->Renew(aggregator_.endpoint);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_GT(enrolment->enrolled()->aggregator_ahead, absl::Hours(8));
  // Half of the certificate's life on the aggregator's clock, said in this machine's time.
  EXPECT_LT(enrolment->RenewAt() - clock_.Wall(), absl::Hours(13));
  EXPECT_GT(enrolment->RenewAt() - clock_.Wall(), absl::Hours(11));
}

TEST_F(EnrolmentTest, DamagedFilesAreNamedAndNeverReplaced) {
  ASSERT_TRUE(Enrol(*Open(), aggregator_.Token()).ok());
  const std::string enrolled = Read("enrolled");
  const std::string key = Read("identity.key");
  const auto expect_damage = [&](const char* what, std::string_view name) {
    const absl::Status status = Enrolment::Open(state_.path(), PosixFs(), clock_, SystemRng()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << what << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(name)));
  };
  for (size_t cut = 0; cut < enrolled.size(); cut += 7) {
    Write("enrolled", std::string_view(enrolled).substr(0, cut));
    expect_damage("cut", "identity/enrolled");
  }
  Write("enrolled", enrolled);
  Write("identity.key", "hello");
  expect_damage("not a key", "identity.key");
  ASSERT_TRUE(PosixFs().Remove(File("identity.key")).ok());
  expect_damage("no key", "identity.key");
  EXPECT_TRUE(absl::IsNotFound(PosixFs().Facts(File("identity.key")).status()));
  Write("identity.key", key);
  EXPECT_TRUE(Open()->enrolled().has_value());
}

}  // namespace
}  // namespace orgtrail
