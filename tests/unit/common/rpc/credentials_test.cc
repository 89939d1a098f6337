#include "common/rpc/credentials.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/crypto/openssl.h"
#include "common/crypto/x509.h"
#include "orgtrail/v1/enrol.grpc.pb.h"
#include "tests/support/certificates.h"

namespace orgtrail {
namespace {

using ::testing::HasSubstr;
using testing::OddLeaf;
using testing::OddLeafPem;

constexpr std::string_view kAgentUri = "spiffe://o-demo/account/222222222222/region/eu-west-1/agent/web-1";

// Answers Renew with who called, so that one call shows the handshake and PeerOf.
class WhoAmI final : public v1::Enrol::Service {
 public:
  grpc::Status Renew(grpc::ServerContext* context, const v1::RenewRequest*, v1::EnrolResponse* response) override {
    const absl::StatusOr<Peer> peer = PeerOf(*context);
    if (!peer.ok()) return ToGrpc(peer.status());
    response->set_org(peer->identity.ToUri());
    response->set_origin(peer->address);
    response->set_log_vkey(peer->serial_hex);
    return grpc::Status::OK;
  }
};

class CredentialsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    InitRpc();
    signal(SIGPIPE, SIG_IGN);  // the TLS 1.2 probe below writes with plain OpenSSL
  }
  CredentialsTest() {
    dir_ = std::filesystem::temp_directory_path() / ("orgtrail-rpc-" + Hex(SystemRng().Bytes(8)));
    std::filesystem::create_directories(dir_);
    ca_ = NewCa("o-demo", now_, absl::Hours(24 * 365)).value();
    Write("ca.crt", ca_.cert_pem);
    const std::string key = NewTlsKeyPem().value();
    Write("server.key", key);
    Write("server.crt", Leaf(ca_, key, "spiffe://o-demo/aggregator/eu-west-1", {"localhost", "127.0.0.1"}) + ca_.cert_pem);
  }
  ~CredentialsTest() override {
    if (server_) server_->Shutdown();
    std::filesystem::remove_all(dir_);
  }

  std::string Leaf(const CaCertificate& ca, const std::string& key, std::string_view uri, std::vector<std::string> dns = {},
                   absl::Time from = absl::InfinitePast(), absl::Time to = absl::InfiniteFuture()) {
    if (from == absl::InfinitePast()) from = now_ - absl::Minutes(5);
    if (to == absl::InfiniteFuture()) to = now_ + absl::Hours(1);
    return IssueLeafPem(ca, LeafRequest{NewCsrPem(key).value(), std::string(uri), std::move(dns), from, to}).value();
  }
  std::string Path(const std::string& name) { return (dir_ / name).string(); }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / (name + ".new")) << text;
    std::filesystem::rename(dir_ / (name + ".new"), dir_ / name);
  }
  TlsFiles Files(const std::string& who) { return TlsFiles{Path(who + ".crt"), Path(who + ".key"), Path("ca.crt")}; }
  TlsFiles Client(const std::string& cert, const std::string& key) {
    Write("client.crt", cert);
    Write("client.key", key);
    return Files("client");
  }

  void Serve(std::shared_ptr<grpc::ServerCredentials> credentials) {
    grpc::ServerBuilder builder;
    SetServerLimits(builder);
    builder.AddListeningPort("127.0.0.1:0", std::move(credentials), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
  }
  void ServeMutual(std::function<bool(const Identity&)> admit = {}) {
    Serve(MutualServerCredentials(Files("server"), "o-demo", std::move(admit)));
  }
  absl::Status Call(std::shared_ptr<grpc::ChannelCredentials> credentials, v1::EnrolResponse* response,
                    const std::string& host = "127.0.0.1") {
    const auto stub = v1::Enrol::NewStub(OpenChannel(host + ":" + std::to_string(port_), std::move(credentials)));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    return FromGrpc(stub->Renew(&context, v1::RenewRequest(), response));
  }

  const absl::Time now_ = SystemClock().Wall();
  std::filesystem::path dir_;
  CaCertificate ca_;
  WhoAmI service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

TEST_F(CredentialsTest, AnAgentIsWhoItsCertificateSays) {
  ServeMutual();
  const std::string key = NewTlsKeyPem().value();
  const std::string cert = Leaf(ca_, key, kAgentUri);
  for (const char* host : {"127.0.0.1", "localhost"}) {
    v1::EnrolResponse response;
    const absl::Status status = Call(MutualChannelCredentials(Client(cert, key)), &response, host);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(response.org(), kAgentUri);
    EXPECT_EQ(response.log_vkey(), ReadCertificate(cert).value().serial_hex);
    EXPECT_THAT(response.origin(), HasSubstr("127.0.0.1:"));
  }
}

TEST_F(CredentialsTest, RefusesEveryOtherClient) {
  std::mutex mu;
  std::set<std::string> asked;
  ServeMutual([&](const Identity& identity) {
    const std::lock_guard lock(mu);
    asked.insert(identity.name);
    return identity.name != "revoked";
  });
  const std::string key = NewTlsKeyPem().value();
  const CaCertificate other = NewCa("o-demo", now_, absl::Hours(24)).value();
  const auto odd = [&](std::vector<std::string> uris, std::vector<std::string> dns = {}) {
    return OddLeaf{std::move(uris), std::move(dns), "critical,CA:FALSE", "critical,digitalSignature", now_ - absl::Hours(1),
                   now_ + absl::Hours(1)};
  };
  OddLeaf ca_leaf = odd({std::string(kAgentUri)});
  ca_leaf.basic_constraints = "critical,CA:TRUE";
  OddLeaf signing_leaf = odd({std::string(kAgentUri)});
  signing_leaf.key_usage = "critical,digitalSignature,keyCertSign";
  const std::string base = "spiffe://o-demo/account/222222222222";
  struct Case {
    const char* what;
    std::string cert;
  };
  const Case cases[] = {
      {"another CA of the same name", Leaf(other, key, kAgentUri)},
      {"expired", Leaf(ca_, key, kAgentUri, {}, now_ - absl::Hours(3), now_ - absl::Hours(2))},
      {"not yet valid", Leaf(ca_, key, kAgentUri, {}, now_ + absl::Hours(2), now_ + absl::Hours(3))},
      {"another organization", Leaf(ca_, key, "spiffe://o-evil/account/222222222222/user/eve")},
      {"revoked", Leaf(ca_, key, base + "/user/revoked")},
      {"two URIs", OddLeafPem(ca_, key, odd({std::string(kAgentUri), base + "/user/eve"}))},
      {"no URI", OddLeafPem(ca_, key, odd({}, {"localhost"}))},
      {"no names", OddLeafPem(ca_, key, odd({}))},
      {"dots", OddLeafPem(ca_, key, odd({"spiffe://o-demo/account/../111111111111/user/eve"}))},
      {"percent", OddLeafPem(ca_, key, odd({"spiffe://o-demo/account/%2e%2e/user/eve"}))},
      {"trailing slash", OddLeafPem(ca_, key, odd({base + "/user/eve/"}))},
      {"query", OddLeafPem(ca_, key, odd({base + "/user/eve?x=1"}))},
      {"port", OddLeafPem(ca_, key, odd({"spiffe://o-demo:443/account/222222222222/user/eve"}))},
      {"upper case", OddLeafPem(ca_, key, odd({base + "/user/Eve"}))},
      {"2,049 bytes", OddLeafPem(ca_, key, odd({base + "/user/" + std::string(2049 - base.size() - 6, 'e')}))},
      {"a CA certificate", OddLeafPem(ca_, key, ca_leaf)},
      {"may sign certificates", OddLeafPem(ca_, key, signing_leaf)},
      {"the CA itself", ca_.cert_pem},
  };
  for (const Case& c : cases) {
    v1::EnrolResponse response;
    const bool is_the_ca = c.cert == ca_.cert_pem;
    const absl::Status status = Call(MutualChannelCredentials(Client(c.cert, is_the_ca ? ca_.key_pem : key)), &response);
    EXPECT_FALSE(status.ok()) << c.what;
    EXPECT_EQ(response.org(), "") << c.what;
  }
  v1::EnrolResponse response;
  EXPECT_FALSE(Call(PinnedChannelCredentials(ca_.cert_pem), &response).ok()) << "no client certificate";
  const std::lock_guard lock(mu);
  EXPECT_EQ(asked, std::set<std::string>({"revoked"}));  // nothing else got as far as the question
}

TEST_F(CredentialsTest, AClientRefusesAnotherServer) {
  ServeMutual();
  const std::string key = NewTlsKeyPem().value();
  const CaCertificate other = NewCa("o-demo", now_, absl::Hours(24)).value();
  v1::EnrolResponse response;
  TlsFiles files = Client(Leaf(ca_, key, kAgentUri), key);
  Write("other-ca.crt", other.cert_pem);
  files.ca = Path("other-ca.crt");
  EXPECT_FALSE(Call(MutualChannelCredentials(files), &response).ok());
  EXPECT_FALSE(Call(PinnedChannelCredentials(other.cert_pem), &response).ok());

  // The organization's own agent is not its aggregator: no name of a server is in its certificate.
  server_->Shutdown();
  Write("server.key", key);
  Write("server.crt", Leaf(ca_, key, kAgentUri));
  Serve(ServerOnlyCredentials(Files("server")));
  EXPECT_FALSE(Call(PinnedChannelCredentials(ca_.cert_pem), &response).ok());
}

TEST_F(CredentialsTest, TheEnrolmentPortWantsNoCertificateButPeerOfDoes) {
  Serve(ServerOnlyCredentials(Files("server")));
  v1::EnrolResponse response;
  const absl::Status status = Call(PinnedChannelCredentials(ca_.cert_pem), &response);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(status.message()), HasSubstr("AUTH_NO_CERT"));
  const std::vector<std::string> chain = FetchServerChain("localhost:" + std::to_string(port_), absl::Seconds(10)).value();
  ASSERT_EQ(chain.size(), 2u);
  EXPECT_EQ(ReadCertificate(chain[1]).value().spki_hash, ReadCertificate(ca_.cert_pem).value().spki_hash);
}

// A handshake with plain OpenSSL at one version; whether it completes.
bool HandshakeAt(int port, int version) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  SSL_CTX* const ctx = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(ctx, version);
  SSL_CTX_set_max_proto_version(ctx, version);
  SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0");
  SSL* const ssl = SSL_new(ctx);
  const unsigned char alpn[] = {2, 'h', '2'};
  SSL_set_alpn_protos(ssl, alpn, sizeof alpn);
  SSL_set_fd(ssl, fd);
  const bool done = SSL_connect(ssl) == 1;
  SSL_free(ssl);
  SSL_CTX_free(ctx);
  close(fd);
  DrainErrors();
  return done;
}

TEST_F(CredentialsTest, OnlyTls13IsSpoken) {
  Serve(ServerOnlyCredentials(Files("server")));
  EXPECT_TRUE(HandshakeAt(port_, TLS1_3_VERSION));
  EXPECT_FALSE(HandshakeAt(port_, TLS1_2_VERSION));
  EXPECT_FALSE(HandshakeAt(port_, TLS1_1_VERSION));
}

TEST_F(CredentialsTest, NewFilesArePickedUpAndAWrongPairIsNot) {
  Serve(ServerOnlyCredentials(Files("server")));
  const auto shown = [&] {
    return ReadCertificate(FetchServerChain("127.0.0.1:" + std::to_string(port_), absl::Seconds(10)).value().at(0)).value().serial_hex;
  };
  const std::string first = shown();
  const std::string key = NewTlsKeyPem().value();
  const std::string cert = Leaf(ca_, key, "spiffe://o-demo/aggregator/eu-west-1", {"127.0.0.1"});
  Write("server.crt", cert);  // with the old key: between the two renames
  EXPECT_EQ(shown(), first);
  Write("server.key", key);
  const std::string wanted = ReadCertificate(cert).value().serial_hex;
  const Tick deadline = SystemClock().Now() + absl::Seconds(10);
  while (shown() != wanted && SystemClock().Now() < deadline) {
  }
  EXPECT_EQ(shown(), wanted);
}

TEST(Status, CodesGoBothWays) {
  for (const absl::Status& status :
       {absl::OkStatus(), absl::InvalidArgumentError("a"), absl::DataLossError("b"), absl::UnauthenticatedError("c"),
        absl::UnavailableError("d"), absl::ResourceExhaustedError("e"), absl::FailedPreconditionError("f")}) {
    EXPECT_EQ(FromGrpc(ToGrpc(status)), status);
  }
  EXPECT_EQ(ToGrpc(absl::InternalError(std::string(100'000, 'x'))).error_message().size(), 2048u);
}

}  // namespace
}  // namespace orgtrail
