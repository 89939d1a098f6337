#include "common/crypto/x509.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/crypto/certificate.h"
#include "common/crypto/openssl.h"
#include "tests/support/certificates.h"

namespace orgtrail {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::OddCsr;
using testing::OddCsrPem;
using testing::OddLeafPem;

constexpr std::string_view kUri = "spiffe://o-demo/account/222222222222/region/eu-west-1/agent/web-1";

const absl::Time kNow = absl::FromUnixSeconds(1'790'000'000);

class X509Test : public ::testing::Test {
 protected:
  LeafRequest Request(std::string csr) {
    return LeafRequest{std::move(csr), std::string(kUri), {}, kNow - absl::Minutes(5), kNow + absl::Hours(24)};
  }
  CaCertificate ca_ = NewCa("o-demo", kNow, absl::Hours(24 * 3650)).value();
  std::string key_ = NewTlsKeyPem().value();
};

TEST_F(X509Test, ALeafIsWhatTheIssuerSays) {
  LeafRequest request = Request(NewCsrPem(key_).value());
  request.dns = {"localhost", "127.0.0.1", "::1", "aggregator.example.org"};
  const std::string leaf = IssueLeafPem(ca_, request).value();
  const CertificateFacts facts = ReadCertificate(leaf).value();
  EXPECT_THAT(facts.uris, ElementsAre(kUri));
  EXPECT_THAT(facts.dns, ElementsAre("localhost", "127.0.0.1", "::1", "aggregator.example.org"));
  EXPECT_FALSE(facts.is_ca);
  EXPECT_FALSE(facts.can_sign_certs);
  EXPECT_EQ(facts.not_before, request.not_before);
  EXPECT_EQ(facts.not_after, request.not_after);
  EXPECT_EQ(facts.serial_hex.size(), 32u);
  EXPECT_TRUE(CheckIssued(leaf, ca_.cert_pem, kNow).ok());

  const CertificateFacts again = ReadCertificate(IssueLeafPem(ca_, request).value()).value();
  EXPECT_NE(again.serial_hex, facts.serial_hex);
  EXPECT_NE(again.der_hash, facts.der_hash);
  EXPECT_EQ(again.spki_hash, facts.spki_hash);  // the same key
}

TEST_F(X509Test, TheCaIsACaOfOneLevel) {
  const CertificateFacts facts = ReadCertificate(ca_.cert_pem).value();
  EXPECT_TRUE(facts.is_ca);
  EXPECT_TRUE(facts.can_sign_certs);
  EXPECT_TRUE(facts.uris.empty());
  EXPECT_TRUE(CheckIssued(ca_.cert_pem, ca_.cert_pem, kNow).ok());
}

TEST_F(X509Test, WhatTheRequestAsksForIsIgnored) {
  OddCsr odd;
  odd.extensions = {{"subjectAltName", "URI:spiffe://o-demo/role/governance/eve,DNS:aggregator.example.org"},
                    {"basicConstraints", "critical,CA:TRUE"},
                    {"keyUsage", "critical,keyCertSign"}};
  const std::string leaf = IssueLeafPem(ca_, Request(OddCsrPem(odd))).value();
  const CertificateFacts facts = ReadCertificate(leaf).value();
  EXPECT_THAT(facts.uris, ElementsAre(kUri));
  EXPECT_TRUE(facts.dns.empty());
  EXPECT_FALSE(facts.is_ca);
  EXPECT_FALSE(facts.can_sign_certs);
}

TEST_F(X509Test, RefusesRequestsThatProveTooLittle) {
  struct Case {
    std::string csr;
    std::string_view reason;
  };
  OddCsr rsa512, rsa2048, ed25519, md5, sha1, stolen, k1, explicit_curve;
  rsa512.key = "RSA-512";
  rsa2048.key = "RSA-2048";
  ed25519.key = "ED25519";
  k1.key = "secp256k1";
  explicit_curve.key = "explicit";
  md5.key = "RSA-2048";  // MD5 exists with RSA only
  md5.digest = "MD5";
  sha1.digest = "SHA1";
  stolen.wrong_signature = true;
  const std::string good = NewCsrPem(key_).value();
  const Case cases[] = {
      {OddCsrPem(rsa512), "must be EC P-256"},
      {OddCsrPem(rsa2048), "the key is RSA"},
      {OddCsrPem(ed25519), "must be EC P-256"},
      {OddCsrPem(k1), "curve is secp256k1"},
      {OddCsrPem(explicit_curve), "curve"},
      {OddCsrPem(md5), "must be EC P-256"},
      {OddCsrPem(sha1), "SHA-256"},
      {OddCsrPem(stolen), "not signed by its own key"},
      {"", "BEGIN CERTIFICATE REQUEST"},
      {ca_.cert_pem, "BEGIN CERTIFICATE REQUEST"},
      {good.substr(0, good.size() / 2), "malformed"},
      {std::string(100 << 10, 'A') + good, "BEGIN CERTIFICATE REQUEST"},
  };
  for (const Case& c : cases) {
    const absl::Status status = IssueLeafPem(ca_, Request(c.csr)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.reason;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(c.reason)));
  }
  OddCsr p384;
  p384.key = "P-384";
  p384.digest = "SHA384";
  EXPECT_TRUE(IssueLeafPem(ca_, Request(OddCsrPem(p384))).ok());
}

TEST_F(X509Test, RefusesNamesThatCouldBecomeOtherNames) {
  LeafRequest request = Request(NewCsrPem(key_).value());
  for (std::string_view uri : {"", "https://o-demo/x", "spiffe://o-demo/a b", "spiffe://o-demo/\n"}) {
    request.spiffe_uri = std::string(uri);
    EXPECT_EQ(IssueLeafPem(ca_, request).status().code(), absl::StatusCode::kInvalidArgument) << uri;
  }
  request.spiffe_uri = std::string(kUri);
  for (std::string_view name : {"", "a,URI:spiffe://x", "a b", "host:7443", "*"}) {
    request.dns = {std::string(name)};
    EXPECT_EQ(IssueLeafPem(ca_, request).status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
  request.dns.clear();
  request.spiffe_uri += ",URI:spiffe://o-demo/role/governance/eve";  // one name, however it looks
  EXPECT_EQ(ReadCertificate(IssueLeafPem(ca_, request).value()).value().uris.size(), 1u);
}

TEST_F(X509Test, RefusesTheKeyOfAnotherCa) {
  CaCertificate mixed = NewCa("o-demo", kNow, absl::Hours(24)).value();
  mixed.key_pem = ca_.key_pem;
  EXPECT_EQ(IssueLeafPem(mixed, Request(NewCsrPem(key_).value())).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(X509Test, ALeafChainsToItsCaInItsTimeOnly) {
  const std::string leaf = IssueLeafPem(ca_, Request(NewCsrPem(key_).value())).value();
  const CaCertificate other = NewCa("o-demo", kNow, absl::Hours(24)).value();  // the same name, another key
  EXPECT_EQ(CheckIssued(leaf, other.cert_pem, kNow).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(CheckIssued(leaf, other.cert_pem + ca_.cert_pem, kNow).ok());  // a bundle during rollover, either order
  EXPECT_TRUE(CheckIssued(leaf, ca_.cert_pem + other.cert_pem, kNow).ok());
  EXPECT_THAT(std::string(CheckIssued(leaf, ca_.cert_pem, kNow + absl::Hours(25)).message()), HasSubstr("expired"));
  EXPECT_THAT(std::string(CheckIssued(leaf, ca_.cert_pem, kNow - absl::Hours(1)).message()), HasSubstr("not yet valid"));
  EXPECT_EQ(CheckIssued(leaf, "", kNow).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckIssued("", ca_.cert_pem, kNow).code(), absl::StatusCode::kInvalidArgument);
  // A leaf is no CA: what it signs is worth nothing.
  const CaCertificate pretender{leaf, key_};
  const std::string forged = IssueLeafPem(pretender, Request(NewCsrPem(NewTlsKeyPem().value()).value())).value();
  EXPECT_FALSE(CheckIssued(forged, ca_.cert_pem + leaf, kNow).ok());
}

TEST_F(X509Test, OddLeavesAreReadAsTheyAre) {
  testing::OddLeaf odd{{"spiffe://o-demo/aggregator/a", "spiffe://o-demo/aggregator/b"}, {}, "critical,CA:TRUE",
                       "critical,digitalSignature,keyCertSign", kNow, kNow + absl::Hours(1)};
  const CertificateFacts facts = ReadCertificate(OddLeafPem(ca_, key_, odd)).value();
  EXPECT_EQ(facts.uris.size(), 2u);
  EXPECT_TRUE(facts.is_ca);
  EXPECT_TRUE(facts.can_sign_certs);
}

// A TLS server for one connection on loopback. Shows `chain`; an empty one accepts and hangs up.
class OneShotServer {
 public:
  OneShotServer(std::string chain, std::string key, int most_version) {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    CHECK(bind(fd_, reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(fd_, 1) == 0);
    CHECK(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([fd = fd_, chain = std::move(chain), key = std::move(key), most_version] {
      sigset_t pipe;  // the client hangs up before it has read our session tickets
      sigemptyset(&pipe);
      sigaddset(&pipe, SIGPIPE);
      pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
      const int connection = accept(fd, nullptr, nullptr);
      if (!chain.empty()) {
        SSL_CTX* const ctx = SSL_CTX_new(TLS_server_method());
        SSL_CTX_set_max_proto_version(ctx, most_version);
        BioPtr bio = ReadBio(chain);
        const X509Ptr leaf(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
        SSL_CTX_use_certificate(ctx, leaf.get());
        while (X509* const more = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) SSL_CTX_add0_chain_cert(ctx, more);
        const PkeyPtr pkey = PrivateKeyFromPem(key).value();
        SSL_CTX_use_PrivateKey(ctx, pkey.get());
        SSL* const ssl = SSL_new(ctx);
        SSL_set_fd(ssl, connection);
        SSL_accept(ssl);
        SSL_free(ssl);
        SSL_CTX_free(ctx);
        ERR_clear_error();
      }
      close(connection);
    });
  }
  ~OneShotServer() {
    thread_.join();
    close(fd_);
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  int fd_ = -1;
  int port_ = 0;
  std::thread thread_;
};

TEST_F(X509Test, FetchServerChainReturnsWhatIsShown) {
  const std::string leaf = IssueLeafPem(ca_, Request(NewCsrPem(key_).value())).value();
  const OneShotServer server(leaf + ca_.cert_pem, key_, TLS1_3_VERSION);
  const absl::StatusOr<std::vector<std::string>> chain = FetchServerChain(server.address(), absl::Seconds(10));
  ASSERT_TRUE(chain.ok()) << chain.status();
  EXPECT_THAT(*chain, ElementsAre(leaf, ca_.cert_pem));
}

TEST_F(X509Test, FetchServerChainWantsTls13AndAnAnswer) {
  const std::string leaf = IssueLeafPem(ca_, Request(NewCsrPem(key_).value())).value();
  {
    const OneShotServer server(leaf, key_, TLS1_2_VERSION);
    const absl::Status status = FetchServerChain(server.address(), absl::Seconds(10)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), HasSubstr("TLS 1.3"));
  }
  {
    const OneShotServer server("", "", TLS1_3_VERSION);
    EXPECT_EQ(FetchServerChain(server.address(), absl::Seconds(10)).status().code(), absl::StatusCode::kUnavailable);
  }
  const int fd = socket(AF_INET, SOCK_STREAM, 0);  // listens, never speaks
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string silent = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  EXPECT_THAT(std::string(FetchServerChain(silent, absl::Seconds(5)).status().message()), HasSubstr("refused"));
  ASSERT_EQ(listen(fd, 1), 0);
  EXPECT_THAT(std::string(FetchServerChain(silent, absl::Milliseconds(50)).status().message()), HasSubstr("in time"));
  close(fd);
  for (std::string_view bad : {"", "localhost", ":7444", "localhost:", "localhost:0", "localhost:70000", "::1:7444", "a:b"}) {
    EXPECT_EQ(FetchServerChain(bad, absl::Seconds(1)).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace orgtrail
