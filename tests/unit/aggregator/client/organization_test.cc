#include "aggregator/client/organization.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "aggregator/config.h"
#include "common/base/status.h"
#include "common/crypto/sign.h"
#include "common/crypto/x509.h"
#include "common/format/note.h"
#include "tests/support/fixed_world.h"
#include "tests/support/temp_dir.h"

namespace orgtrail::client {
namespace {

class OrganizationTest : public ::testing::Test {
 protected:
  OrganizationTest() {
    o_.dir = dir_ / "org";
    o_.org = "o-demo";
    o_.management_account = "111111111111";
    o_.accounts = {"222222222222", "222222222222", "333333333333"};
    o_.regions = {"us-east-1", "eu-west-1"};
  }
  absl::StatusOr<OrganizationMade> Make() { return MakeOrganization(o_, PosixFs(), clock_, rng_); }
  std::string Read(const std::string& name) {
    auto text = ReadFile(PosixFs(), o_.dir + "/" + name);
    EXPECT_TRUE(text.ok()) << text.status();
    return text.ok() ? *text : "";
  }
  std::string Pub(const std::string& name, SigningKey* key = nullptr) {
    SigningKey fresh = SigningKey::Generate(rng_);
    CHECK_OK(WriteFileAtomically(PosixFs(), dir_ / (name + ".pub"), PublicKeyToPem(fresh.public_key())));
    if (key != nullptr) *key = std::move(fresh);
    return dir_ / (name + ".pub");
  }
  TempDir dir_;
  FixedClock clock_;
  RepeatingRng rng_{"organization"};
  OrganizationOptions o_;
};

TEST_F(OrganizationTest, IsCompleteAndItsPartsFit) {
  o_.dir = dir_ / "a b #c";   // a path that YAML would misread
  o_.hosts = {"trail.example.org", "10.0.0.7"};
  auto made = Make();
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_TRUE(made->demo);
  auto config = ParseAggregatorConfig(made->config, Read("aggregator/aggregator.yaml"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->accounts, (std::vector<std::string>{"111111111111", "222222222222", "333333333333"}));
  EXPECT_EQ(config->Origin(), made->origin);
  for (const std::string& path : {config->tls_certificate, config->tls_key, config->ca_certificate, config->ca_key, config->log_key, config->secrets, config->ledger_kek,
                                  config->policy_note, config->policy_body}) {
    EXPECT_TRUE(PosixFs().Facts(path).ok()) << path;
  }
  // One log key everywhere.
  const SigningKey log_key = *SigningKey::FromPem(Read("aggregator/log.key"));
  EXPECT_EQ(made->log_vkey, (NoteKey{made->origin, 1, log_key.public_key()}.Encode()));
  const TrustPolicy trust = *TrustPolicy::Decode(Read("trust.policy"));
  ASSERT_EQ(trust.logs.size(), 1u);
  EXPECT_EQ(trust.logs[0].Encode(), made->log_vkey);
  EXPECT_NE(Read("policy/policy-1.json").find(made->log_vkey.substr(0, 20)), std::string::npos);
  // The CA issued everybody; the server's certificate names what it is dialled by.
  for (const char* cert : {"aggregator/tls.crt", "people/admin.crt", "people/auditor.crt"}) {
    EXPECT_TRUE(CheckIssued(Read(cert), Read("ca/ca.crt"), clock_.Wall()).ok()) << cert;
  }
  const CertificateFacts server = *ReadCertificate(Read("aggregator/tls.crt"));
  for (const char* name : {"trail.example.org", "localhost"}) EXPECT_NE(std::find(server.dns.begin(), server.dns.end(), name), server.dns.end()) << name;
  EXPECT_EQ(ReadCertificate(Read("people/admin.crt"))->uris, std::vector<std::string>{"spiffe://o-demo/role/governance/admin"});
  EXPECT_EQ(ReadCertificate(Read("people/auditor.crt"))->uris, std::vector<std::string>{"spiffe://o-demo/role/auditor/auditor"});
  EXPECT_NE(Read("profiles/admin.yaml").find("server: \"trail.example.org:7443\""), std::string::npos);
  EXPECT_EQ(Read("aggregator/secrets.key").size(), 32u);
  EXPECT_EQ(Read("aggregator/kek.key").size(), 32u);
  EXPECT_NE(Read("aggregator/kek.key"), Read("aggregator/secrets.key"));
}

TEST_F(OrganizationTest, SecretsAreTheOwnersOnly) {
  ASSERT_TRUE(Make().ok());
  const auto mode = [&](const std::string& name) {
    struct stat s {};
    EXPECT_EQ(stat((o_.dir + "/" + name).c_str(), &s), 0) << name;
    return s.st_mode & 0777;
  };
  for (const char* secret : {"ca/ca.key", "aggregator/tls.key", "aggregator/log.key", "aggregator/secrets.key", "aggregator/kek.key", "governance/demo.key", "people/admin.key",
                             "people/auditor.key"}) {
    EXPECT_EQ(mode(secret), 0600u) << secret;
  }
  for (const char* dir : {"ca", "aggregator/state", "governance", "people"}) EXPECT_EQ(mode(dir), 0700u) << dir;
  EXPECT_EQ(mode("trust.policy") & 0022, 0u);
}

TEST_F(OrganizationTest, ASecondOneInTheSamePlaceIsRefused) {
  ASSERT_TRUE(Make().ok());
  const std::string key = Read("ca/ca.key");
  const absl::Status again = Make().status();
  EXPECT_TRUE(absl::IsAlreadyExists(again)) << again;
  EXPECT_NE(again.message().find("choose another --dir"), absl::string_view::npos);
  EXPECT_EQ(Read("ca/ca.key"), key);
}

TEST_F(OrganizationTest, GovernanceByPublicKeysOnly) {
  o_.governance_keys = {"ada=" + Pub("ada"), "bob=" + Pub("bob"), "eve=" + Pub("eve")};
  o_.threshold = 2;
  o_.weaken_threshold = 3;
  auto made = Make();
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_FALSE(made->demo);
  EXPECT_FALSE(PosixFs().Facts(o_.dir + "/governance/demo.key").ok());
  EXPECT_EQ(Read("governance/bob.pub"), *ReadFile(PosixFs(), dir_ / "bob.pub"));
  const std::string policy = Read("policy/policy-1.unsigned");
  EXPECT_NE(policy.find("\nadmins 2 o-demo/governance/ada+"), std::string::npos) << policy;
  EXPECT_NE(policy.find("\nweaken-threshold 3\n"), std::string::npos) << policy;
  // The aggregator starts with the signed one, which is not there yet.
  const auto config = ParseAggregatorConfig(made->config, Read("aggregator/aggregator.yaml"));
  EXPECT_EQ(config->policy_note, o_.dir + "/policy/policy-1.note");
  EXPECT_FALSE(PosixFs().Facts(config->policy_note).ok());
}

TEST_F(OrganizationTest, TheDemoPolicyIsSigned) {
  ASSERT_TRUE(Make().ok());
  const SigningKey demo = *SigningKey::FromPem(Read("governance/demo.key"));
  const std::string note = Read("policy/policy-1.note");
  EXPECT_EQ(SignNote(note.substr(0, note.find("\n\n") + 1), "o-demo/governance/demo", demo), note);
  EXPECT_NE(note.find(Hex(Sha256(Read("policy/policy-1.json")).view())), std::string::npos);
}

TEST_F(OrganizationTest, EveryMistakeIsNamedAtOnce) {
  o_.org = "O Demo";
  o_.accounts = {"1"};
  o_.regions = {"US East"};
  o_.port = 0;
  const absl::Status made = Make().status();
  EXPECT_TRUE(absl::IsInvalidArgument(made));
  for (const char* flag : {"--org-id: ", "--account 1: ", "--region US East: ", "--port: "}) {
    EXPECT_NE(made.message().find(flag), absl::string_view::npos) << flag << " in " << made;
  }
}

TEST_F(OrganizationTest, TheLogIsNamedOnce) {
  EXPECT_EQ(Make()->origin, "orgtrail.internal/o-demo");
}

TEST_F(OrganizationTest, MistakesAreNamedAndWriteNothing) {
  SigningKey key;
  const std::string ada = Pub("ada", &key), bob = Pub("bob");
  ASSERT_TRUE(WriteFileAtomically(PosixFs(), dir_ / "bad.pub", "not PEM").ok());
  ASSERT_TRUE(WriteFileAtomically(PosixFs(), dir_ / "private.pem", key.ToPem()).ok());
  const std::string bad = dir_ / "bad.pub", none = dir_ / "none.pub", secret = dir_ / "private.pem";
  struct Case {
    std::function<void(OrganizationOptions&)> change;
    const char* message;
  };
  for (const Case& c : std::vector<Case>{
           {[](auto& o) { o.org = "O Demo"; }, "--org-id: "},
           {[](auto& o) { o.domain = "Example.org"; }, "--domain: "},
           {[](auto& o) { o.management_account = "1"; }, "--management-account: an account id is 12 digits"},
           {[](auto& o) { o.accounts.push_back("22"); }, "--account 22: an account id is 12 digits"},
           {[](auto& o) { o.regions.clear(); }, "--region: at least one"},
           {[](auto& o) { o.regions.push_back("EU"); }, "--region EU: "},
           {[](auto& o) { o.dir = "relative"; }, "--dir: "},
           {[](auto& o) { o.hosts = {"a b"}; }, "--host a b: "},
           {[](auto& o) { o.hosts = {""}; }, "--host : "},
           {[](auto& o) { o.listen_address = "x y"; }, "--listen: "},
           {[](auto& o) { o.port = 0; }, "--port: between 1 and 65535"},
           {[](auto& o) { o.enrol_port = 70'000; }, "--enrol-port: between"},
           {[](auto& o) { o.metrics_port = -1; }, "--metrics-port: between"},
           {[](auto& o) { o.enrol_port = o.port; }, "--port, --enrol-port and --metrics-port: three different"},
           {[](auto& o) { o.threshold = 0; }, "--threshold: "},
           {[](auto& o) { o.threshold = 2; }, "--threshold: "},
           {[](auto& o) { o.weaken_threshold = 2; }, "--weaken-threshold: "},
           {[&](auto& o) { o.governance_keys = {ada}; }, "--governance-key "},
           {[&](auto& o) { o.governance_keys = {"Ada=" + ada}; }, "--governance-key Ada="},
           {[&](auto& o) { o.governance_keys = {"ada=" + none}; }, "--governance-key ada="},
           {[&](auto& o) { o.governance_keys = {"ada=" + bad}; }, "--governance-key ada="},
           {[&](auto& o) { o.governance_keys = {"ada=" + secret}; }, "--governance-key ada="},
           {[&](auto& o) { o.governance_keys = {"ada=" + ada, "ada=" + bob}; o.weaken_threshold = 2; }, "--governance-key ada="},
           {[&](auto& o) { o.governance_keys = {"ada=" + ada, "eve=" + ada}; o.weaken_threshold = 2; }, "--governance-key eve="},
       }) {
    const OrganizationOptions good = o_;
    c.change(o_);
    const absl::Status s = Make().status();
    EXPECT_TRUE(std::string(s.message()).starts_with(c.message)) << s << " instead of " << c.message;
    EXPECT_TRUE(absl::IsInvalidArgument(s)) << s;
    EXPECT_FALSE(PosixFs().Facts(good.dir).ok()) << c.message;
    o_ = good;
  }
  EXPECT_TRUE(Make().ok());
}

}  // namespace
}  // namespace orgtrail::client
