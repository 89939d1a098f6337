// Who somebody says he is: certificates that are not what they should be, batches of others, enrolment with lies in it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/random.h"
#include "common/crypto/x509.h"
#include "common/format/enrolment.h"
#include "common/format/token.h"
#include "common/rpc/credentials.h"
#include "orgtrail/v1/enrol.grpc.pb.h"
#include "orgtrail/v1/transparency.grpc.pb.h"
#include "tests/redteam/rogue.h"
#include "tests/redteam/table.h"
#include "tests/support/certificates.h"

namespace orgtrail::e2e {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using grpc::StatusCode;

std::string RecordOf(const std::string& id, const std::string& account = kAlice) {
  return R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventName":"Red","eventID":")" + id + R"(","recipientAccountId":")" + account +
         "\"}";
}

class RedIdentity : public ::testing::Test {
 protected:
  CaCertificate Ca() const { return {ReadWhole(organization.Path("org/ca/ca.crt")), ReadWhole(organization.Path("org/ca/ca.key"))}; }
  // Files with a certificate of the organization's CA that says whatever `leaf` says.
  TlsFiles Odd(const std::string& name, testing::OddLeaf leaf) {
    if (leaf.not_after == absl::Time()) leaf.not_before = absl::Now() - absl::Hours(1), leaf.not_after = absl::Now() + absl::Hours(1);
    const std::string key = NewTlsKeyPem().value();
    return Files(name, key, testing::OddLeafPem(Ca(), key, leaf));
  }
  TlsFiles Files(const std::string& name, const std::string& key, const std::string& certificate) {
    const std::string file = organization.Path(name + ".pem");
    WriteWhole(file, key + certificate);
    return {file, file, organization.Path("org/ca/ca.crt")};
  }
  bool Raised(std::string_view code, std::string_view about) {
    return Eventually(kSoon, [&] {
      for (const std::string& line : LinesOf(organization.Must({"alarms", "--all", "-o", "jsonl"}))) {
        if (line.find(code) != std::string::npos && line.find(about) != std::string::npos) return true;
      }
      return false;
    });
  }

  Organization organization;
};

ATTACK(26, "certificates of the organization's own CA with two URIs, ../, %2e, upper case, a port, a query, a trailing slash, 2,049 bytes",
       "no connection, or SAN_INVALID");
ATTACK(25, "a certificate that expired, one that is not valid yet", "no connection");
ATTACK(27, "a leaf that may sign certificates, a CA's certificate", "no connection");
ATTACK(31, "a certificate of an aggregator brings batches: this one's own, and a region's", "no connection, or IDENTITY_MISMATCH, AUTH_UNKNOWN or SAN_INVALID");
TEST_F(RedIdentity, CertificatesOfOurCaThatSayMoreThanTheyMay) {
  const Rogue rogue(organization, "web-1");
  Forger honest = rogue.Signer();
  ASSERT_EQ(rogue.Send({honest.Open()}).code, "");
  const std::string uri = rogue.as().Uri(), batch = honest.Batch({RecordOf("after")});
  const auto with = [&](std::vector<std::string> uris) {
    testing::OddLeaf leaf;
    leaf.uris = std::move(uris);
    return leaf;
  };
  testing::OddLeaf expired = with({uri}), early = with({uri}), ca = with({uri}), signer = with({uri});
  expired.not_before = absl::Now() - absl::Hours(48), expired.not_after = absl::Now() - absl::Hours(24);
  early.not_before = absl::Now() + absl::Hours(24), early.not_after = absl::Now() + absl::Hours(48);
  ca.basic_constraints = "critical,CA:TRUE";
  ca.key_usage = signer.key_usage = "critical,digitalSignature,keyCertSign";
  const std::string base = "spiffe://o-e2e/account/222222222222/region/us-east-1/agent/";
  const std::vector<std::pair<std::string, testing::OddLeaf>> odd = {
      {"two URIs", with({uri, base + "web-2"})},
      {"none", with({})},
      {"..", with({"spiffe://o-e2e/account/../account/222222222222/region/us-east-1/agent/web-1"})},
      {"escaped", with({base + "%2e%2e/web-1"})},
      {"slash", with({uri + "/"})},
      {"query", with({uri + "?a=b"})},
      {"port", with({"spiffe://o-e2e:443/account/222222222222/region/us-east-1/agent/web-1"})},
      {"upper case", with({"SPIFFE://O-E2E/account/222222222222/region/us-east-1/agent/web-1"})},
      {"long", with({base + std::string(2049 - base.size(), 'a')})},
      {"another organization", with({"spiffe://o-other/account/222222222222/region/us-east-1/agent/web-1"})},
      {"expired", expired}, {"early", early}, {"a CA", ca}, {"a signer", signer},
  };
  for (const auto& [what, leaf] : odd) {
    SCOPED_TRACE(what);
    const Answer answer = rogue.SendAs(Odd("odd", leaf), rogue.uuid(), {batch});
    EXPECT_THAT(answer.status, AnyOf(StatusCode::UNAVAILABLE, StatusCode::PERMISSION_DENIED, StatusCode::UNAUTHENTICATED)) << answer.detail;
    EXPECT_EQ(answer.leaf_index, 0u);
  }
  const Answer aggregator = rogue.SendAs({organization.Path("org/aggregator/tls.crt"), organization.Path("org/aggregator/tls.key"),
                                          organization.Path("org/ca/ca.crt")}, rogue.uuid(), {batch});
  EXPECT_THAT(aggregator.status, AnyOf(StatusCode::PERMISSION_DENIED, StatusCode::UNAVAILABLE)) << aggregator.detail;
  const Answer region = rogue.SendAs(Odd("region", with({"spiffe://o-e2e/aggregator/eu-west-1"})), rogue.uuid(), {batch});
  EXPECT_THAT(region.status, AnyOf(StatusCode::PERMISSION_DENIED, StatusCode::UNAUTHENTICATED)) << region.detail;
  EXPECT_EQ(rogue.Send({batch}).code, "");   // none of them was taken for it
  EXPECT_EQ(organization.Feed().size(), 1u);
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(28, "say hello with another agent's uuid", "`IDENTITY_MISMATCH`, gRPC 7; a page");
ATTACK(29, "a record that names another account", "kept and flagged BODY_ACCOUNT_MISMATCH, in the capturing account's view, never in the other's");
ATTACK(32, "send a logged batch again", "answered with the leaf it has; the tree does not grow");
ATTACK(33, "send somebody else's logged batch", "`IDENTITY_MISMATCH`, gRPC 7");
TEST_F(RedIdentity, BatchesOfOthersAndBatchesAgain) {
  const Rogue alice(organization, "web-1"), bob(organization, "web-2", kBob);
  organization.CreateUser("bea", "user", kBob);
  organization.CreateUser("ann", "user", kAlice);
  Forger honest = alice.Signer();
  const std::string opening = honest.Open(), batch = honest.Batch({RecordOf("mine"), RecordOf("theirs", kBob)});
  ASSERT_EQ(alice.Send({opening}).code, "");
  const Answer logged = alice.Send({batch});
  ASSERT_EQ(logged.code, "");
  EXPECT_FALSE(logged.duplicate);
  const Answer again = alice.Send({batch});
  EXPECT_EQ(again.code, "");
  EXPECT_TRUE(again.duplicate);
  EXPECT_EQ(again.leaf_index, logged.leaf_index);
  const Answer stolen = bob.Send({batch});
  EXPECT_EQ(stolen.code, "IDENTITY_MISMATCH");
  EXPECT_EQ(stolen.status, StatusCode::PERMISSION_DENIED);
  const Answer posing = bob.SendAs(bob.files(), alice.uuid(), {batch});
  EXPECT_EQ(posing.code, "IDENTITY_MISMATCH");
  EXPECT_EQ(posing.status, StatusCode::PERMISSION_DENIED);
  EXPECT_TRUE(Raised("IDENTITY_MISMATCH", "web-2"));
  EXPECT_EQ(organization.Feed().size(), 2u);
  EXPECT_TRUE(organization.Feed({}, "bea").empty());
  const std::string hers = organization.Must({"feed", "--from", "start", "--no-follow", "--envelope", "-o", "jsonl"}, "ann");
  EXPECT_THAT(hers, HasSubstr("BODY_ACCOUNT_MISMATCH"));
  EXPECT_EQ(LinesOf(hers).size(), 2u);
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(85, "the CA's operator signs a certificate for an agent that never enrolled, or a second one for one that did",
       "`AUTH_UNKNOWN`, gRPC 16: without an ENROLL leaf a certificate is worth nothing; enrolments are in the account's own list");
TEST_F(RedIdentity, WhoWasNeverEnrolledIsNobodyWhoeverSignedHisCertificate) {
  const Rogue rogue(organization, "web-1");
  testing::OddLeaf fresh, second;
  fresh.uris = {"spiffe://o-e2e/account/222222222222/region/us-east-1/agent/web-9"};
  second.uris = {rogue.as().Uri()};
  Forger honest = rogue.Signer();
  const std::string opening = honest.Open();
  const Answer unknown = rogue.SendAs(Odd("fresh", fresh), rogue.uuid(), {opening});
  EXPECT_EQ(unknown.status, StatusCode::UNAUTHENTICATED) << unknown.detail;
  EXPECT_EQ(unknown.code, "AUTH_UNKNOWN");
  const Answer doubled = rogue.SendAs(Odd("second", second), rogue.uuid(), {opening});
  EXPECT_EQ(doubled.status, StatusCode::UNAUTHENTICATED) << doubled.detail;
  EXPECT_EQ(doubled.code, "AUTH_UNKNOWN");
  EXPECT_EQ(rogue.Send({opening}).code, "");
  const std::string agents = organization.Must({"agents", "list", "-o", "jsonl"});
  EXPECT_THAT(agents, HasSubstr("web-1"));
  EXPECT_THAT(agents, ::testing::Not(HasSubstr("web-9")));
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(83, "requests that ask for another SAN, CA:TRUE, with RSA-512, MD5, Ed25519, explicit curves, a wrong signature",
       "the aggregator writes the certificate, whatever is asked; weak keys are refused and the token stays good");
ATTACK(86, "somebody else's request; a request without proof of the identity key", "`PROOF_INVALID`, gRPC 7; the token stays good");
TEST_F(RedIdentity, RequestsForCertificatesWithLiesInThem) {
  const std::string file = organization.Path("token");
  organization.Must({"agent", "token", "--account", kAlice, "--region", "us-east-1", "--uses", "2", "--out", file});
  std::string text = ReadWhole(file);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const absl::StatusOr<JoinToken> token = JoinToken::Decode(text);
  ASSERT_TRUE(token.ok()) << token.status();
  const std::unique_ptr<v1::Enrol::Stub> desk =
      v1::Enrol::NewStub(OpenChannel(organization.enrol_endpoint(), PinnedChannelCredentials(ReadWhole(organization.Path("org/ca/ca.crt")))));
  const SigningKey key = SigningKey::Generate(SystemRng()), other = SigningKey::Generate(SystemRng());
  const auto ask = [&](const testing::OddCsr& odd, const SigningKey& signer, v1::EnrolResponse* response, const std::string& csr_signed = "") {
    v1::EnrolRequest request;
    request.set_token_secret(token->secret);
    request.set_account(kAlice);
    request.set_region("us-east-1");
    request.set_name("web-1");
    request.set_csr_pem(testing::OddCsrPem(odd));
    request.set_identity_key(std::string(View(key.public_key())));
    request.set_proof(std::string(View(signer.Sign(kEnrolLabel, EnrolProofMessage(csr_signed.empty() ? request.csr_pem() : csr_signed,
                                                                                          token->secret, kAlice, "us-east-1", "web-1")))));
    grpc::ClientContext context;
    return desk->Enrol(&context, request, response).error_code();
  };
  v1::EnrolResponse response;
  for (const char* weak : {"RSA-512", "RSA-2048", "ED25519", "explicit"}) {
    testing::OddCsr odd;
    odd.key = weak;
    EXPECT_EQ(ask(odd, key, &response), StatusCode::INVALID_ARGUMENT) << weak;
  }
  testing::OddCsr md5, unsigned_one, greedy;
  md5.key = "RSA-2048", md5.digest = "MD5";
  unsigned_one.wrong_signature = true;
  greedy.extensions = {{"basicConstraints", "critical,CA:TRUE"}, {"subjectAltName", "URI:spiffe://o-e2e/role/governance/admin,DNS:example.org"},
                       {"keyUsage", "keyCertSign"}};
  EXPECT_EQ(ask(md5, key, &response), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ask(unsigned_one, key, &response), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ask({}, other, &response), StatusCode::PERMISSION_DENIED);                                       // proof of another key
  EXPECT_EQ(ask({}, key, &response, testing::OddCsrPem({})), StatusCode::PERMISSION_DENIED);              // proof of another request
  ASSERT_EQ(ask(greedy, key, &response), StatusCode::OK);
  const absl::StatusOr<CertificateFacts> got = ReadCertificate(response.certificate_pem());
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->uris, std::vector<std::string>{"spiffe://o-e2e/account/222222222222/region/us-east-1/agent/web-1"});
  EXPECT_TRUE(got->dns.empty());
  EXPECT_FALSE(got->is_ca);
  EXPECT_FALSE(got->can_sign_certs);
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(104, "GetConsistency(5, 3), from 0, beyond the head, 2^64-1; tiles and leaves that do not exist",
       "INVALID_ARGUMENT, OUT_OF_RANGE or NOT_FOUND, never a proof and never a crash");
ATTACK(95, "tiles of level 2^32-1, width 257, index 2^64-1; paths with ../ at the HTTP port", "INVALID_ARGUMENT or NOT_FOUND; 404. Tiles are served over gRPC by number: there are no paths");
TEST_F(RedIdentity, QuestionsAboutTheTreeThatMakeNoSense) {
  const Rogue rogue(organization, "web-1");
  Forger honest = rogue.Signer();
  ASSERT_EQ(rogue.Send({honest.Open(), honest.Batch({RecordOf("a")})}).code, "");
  const std::string dir = organization.Path("org/people/");
  organization.Must({"status"}, "auditor");
  const TlsFiles admin{dir + "admin.crt", dir + "admin.key", organization.Path("org/ca/ca.crt")};
  const std::unique_ptr<v1::Transparency::Stub> log = v1::Transparency::NewStub(OpenChannel(organization.server(), MutualChannelCredentials(admin)));
  const auto consistency = [&](uint64_t a, uint64_t b) {
    grpc::ClientContext context;
    v1::GetConsistencyRequest request;
    request.set_old_size(a);
    request.set_new_size(b);
    v1::ConsistencyResponse response;
    return log->GetConsistency(&context, request, &response).error_code();
  };
  EXPECT_EQ(consistency(1, 2), StatusCode::OK);
  EXPECT_EQ(consistency(5, 3), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(consistency(1, 1'000'000), AnyOf(StatusCode::OUT_OF_RANGE, StatusCode::NOT_FOUND));
  EXPECT_THAT(consistency(UINT64_MAX, UINT64_MAX), AnyOf(StatusCode::OUT_OF_RANGE, StatusCode::NOT_FOUND));
  EXPECT_EQ(consistency(0, UINT64_MAX), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(consistency(0, 3), StatusCode::INVALID_ARGUMENT);       // RFC 6962 proves nothing from the empty tree: every tree begins with it
  const auto tile = [&](uint32_t level, uint64_t index, uint32_t width) {
    grpc::ClientContext context;
    v1::GetTileRequest request;
    request.set_level(level);
    request.set_index(index);
    request.set_width(width);
    v1::TileResponse response;
    return log->GetTile(&context, request, &response).error_code();
  };
  EXPECT_EQ(tile(0, 0, 2), StatusCode::OK);
  for (const auto& [level, index, width] : std::vector<std::tuple<uint32_t, uint64_t, uint32_t>>{
           {UINT32_MAX, 0, 1}, {8, 0, 1}, {0, UINT64_MAX, 1}, {0, UINT64_MAX / 256, 256}, {0, 0, 257}, {0, 0, UINT32_MAX}, {7, 0, 1}, {0, 9, 1}}) {
    EXPECT_THAT(tile(level, index, width), AnyOf(StatusCode::INVALID_ARGUMENT, StatusCode::NOT_FOUND, StatusCode::OUT_OF_RANGE))
        << level << "/" << index << " width " << width;
  }
  const auto inclusion = [&](uint64_t leaf, uint64_t size) {
    grpc::ClientContext context;
    v1::GetInclusionRequest request;
    request.set_leaf_index(leaf);
    request.set_tree_size(size);
    v1::InclusionResponse response;
    return log->GetInclusion(&context, request, &response).error_code();
  };
  EXPECT_EQ(inclusion(0, 0), StatusCode::OK);
  EXPECT_NE(inclusion(UINT64_MAX, 0), StatusCode::OK);
  EXPECT_NE(inclusion(2, 1), StatusCode::OK);
  EXPECT_NE(inclusion(0, UINT64_MAX), StatusCode::OK);
  for (const char* path : {"/../../etc/passwd", "/tile/entries/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/metrics/../../etc/passwd"}) {
    absl::StatusOr<HttpResponse> answer = organization.MetricsGet(path);
    EXPECT_TRUE(!answer.ok() || answer->status >= 400) << path;
    EXPECT_TRUE(!answer.ok() || answer->body.find("root:") == std::string::npos) << path;
  }
  EXPECT_TRUE(organization.Ready());
  EXPECT_EQ(organization.Verify().code, 0);
}

}  // namespace
}  // namespace orgtrail::e2e
