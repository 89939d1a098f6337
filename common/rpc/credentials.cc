#include "common/rpc/credentials.h"

#include <grpc/support/log.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/crypto/idle_tls.h"
#include "common/crypto/x509.h"

namespace orgtrail {
namespace {

namespace tls = grpc::experimental;

constexpr unsigned kReloadSeconds = 1;
constexpr unsigned kNeverSeconds = 10 * 365 * 86'400;   // a channel lives as long as a stream: the next one reads the files again
constexpr int kMessageBytes = static_cast<int>(limits::kFrameBytes) + (64 << 10);
constexpr int kKeepaliveMs = 20'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
constexpr int kIdleMs = 60'000;   // without a call: a client that comes back connects anew
constexpr int kReadBytes = 8 << 10;   // that much memory waits for the next bytes of each connection; without a limit it is as much as came at once before
constexpr int kIdentityOnly = 1;  // bit set of compression algorithms: gRPC 1.51 inflates before it limits

std::string_view View(grpc::string_ref s) { return std::string_view(s.data(), s.size()); }

// gRPC's ERROR is mostly what peers did (a failed handshake, a closed connection): debug. What it says about our own
// certificate files is for the operator.
void LogFromGrpc(gpr_log_func_args* args) {
  const std::string_view file = args->file == nullptr ? std::string_view() : std::string_view(args->file);
  const bool about_our_files = file.find("certificate_provider") != std::string_view::npos;
  const LogLevel level = args->severity == GPR_LOG_SEVERITY_ERROR && about_our_files ? LogLevel::kWarn : LogLevel::kDebug;
  Log(level, args->message, {{"from", "grpc"}});
}

struct Holder {
  Identity identity;
  CertificateFacts facts;
};

absl::StatusOr<Holder> HolderOf(std::string_view certificate_pem) {
  absl::StatusOr<CertificateFacts> facts = ReadCertificate(certificate_pem);
  if (!facts.ok()) return absl::PermissionDeniedError(absl::StrCat("SAN_INVALID: ", facts.status().message()));
  if (facts->is_ca || facts->can_sign_certs) {
    return absl::PermissionDeniedError("SAN_INVALID: a CA certificate is nobody's identity");
  }
  if (facts->uris.size() != 1) {
    return absl::PermissionDeniedError(
        absl::StrCat("SAN_INVALID: the certificate has ", facts->uris.size(), " URI names; exactly one is an identity"));
  }
  const std::optional<Identity> identity = Identity::Parse(facts->uris[0]);
  if (!identity) {
    return absl::PermissionDeniedError("SAN_INVALID: not an orgtrail identity: " + Printable(facts->uris[0].substr(0, 256)));
  }
  return Holder{*identity, *std::move(facts)};
}

// Runs after the chain to the CA was checked, once per handshake, on one of gRPC's threads.
class SpiffeVerifier final : public tls::ExternalCertificateVerifier {
 public:
  SpiffeVerifier(std::string org, std::function<bool(const Identity&)> admit) : org_(std::move(org)), admit_(std::move(admit)) {}

  bool Verify(tls::TlsCustomVerificationCheckRequest* request, std::function<void(grpc::Status)>,
              grpc::Status* answer) override {
    *answer = ToGrpc(Check(View(request->peer_cert())));
    return true;
  }
  void Cancel(tls::TlsCustomVerificationCheckRequest*) override {}  // Verify never waits

 private:
  absl::Status Check(std::string_view certificate_pem) {
    ASSIGN_OR_RETURN(const Holder holder, HolderOf(certificate_pem));
    if (holder.identity.org != org_) {
      return absl::PermissionDeniedError("SAN_INVALID: an identity of organization " + Printable(holder.identity.org));
    }
    if (admit_ && !admit_(holder.identity)) return absl::PermissionDeniedError("not admitted: " + holder.identity.ToUri());
    return absl::OkStatus();
  }

  const std::string org_;
  const std::function<bool(const Identity&)> admit_;
};

}  // namespace

std::string AddressOf(std::string peer) {
  for (std::string_view prefix : {"ipv4:", "ipv6:"}) {
    if (peer.starts_with(prefix)) peer.erase(0, prefix.size());
  }
  std::string address;
  for (size_t i = 0; i < peer.size(); ++i) {
    if (peer.compare(i, 3, "%5B") == 0 || peer.compare(i, 3, "%5D") == 0) {
      address += peer[i + 2] == 'B' ? '[' : ']';
      i += 2;
    } else {
      address += peer[i];
    }
  }
  return address;
}

void InitRpc() {
  setenv("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES256-GCM-SHA384", /*overwrite=*/1);
  gpr_set_log_function(LogFromGrpc);
  ReleaseIdleTlsBuffers();
  // Debian's Abseil looks for lock cycles at every lock of gRPC, and keeps a node of a graph for each.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

std::shared_ptr<grpc::ServerCredentials> MutualServerCredentials(const TlsFiles& files, std::string org,
                                                                 std::function<bool(const Identity&)> admit) {
  tls::TlsServerCredentialsOptions options(
      std::make_shared<tls::FileWatcherCertificateProvider>(files.key, files.cert, files.ca, kReloadSeconds));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.set_certificate_verifier(
      tls::ExternalCertificateVerifier::Create<SpiffeVerifier>(std::move(org), std::move(admit)));
  return tls::TlsServerCredentials(options);
}

std::shared_ptr<grpc::ServerCredentials> ServerOnlyCredentials(const TlsFiles& files) {
  tls::TlsServerCredentialsOptions options(
      std::make_shared<tls::FileWatcherCertificateProvider>(files.key, files.cert, kReloadSeconds));
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  return tls::TlsServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> MutualChannelCredentials(const TlsFiles& files) {
  tls::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(
      std::make_shared<tls::FileWatcherCertificateProvider>(files.key, files.cert, files.ca, kNeverSeconds));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_verify_server_certs(true);
  options.set_certificate_verifier(std::make_shared<tls::HostNameCertificateVerifier>());
  return tls::TlsCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> PinnedChannelCredentials(std::string ca_pem) {
  tls::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(
      std::make_shared<tls::StaticDataCertificateProvider>(std::move(ca_pem), std::vector<tls::IdentityKeyCertPair>()));
  options.watch_root_certs();
  options.set_verify_server_certs(true);
  options.set_certificate_verifier(std::make_shared<tls::HostNameCertificateVerifier>());
  return tls::TlsCredentials(options);
}

template <class Context>
absl::StatusOr<Peer> PeerOf(const Context& context) {
  const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
  const std::vector<grpc::string_ref> certificates =
      auth == nullptr ? std::vector<grpc::string_ref>() : auth->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
  if (certificates.size() != 1) return absl::UnauthenticatedError("AUTH_NO_CERT: this port wants a client certificate");
  ASSIGN_OR_RETURN(Holder holder, HolderOf(View(certificates[0])));
  return Peer{std::move(holder.identity), std::move(holder.facts.serial_hex), std::string(View(certificates[0])),
              AddressOf(context.peer())};
}
template absl::StatusOr<Peer> PeerOf(const grpc::ServerContext&);
template absl::StatusOr<Peer> PeerOf(const grpc::CallbackServerContext&);
template absl::StatusOr<Peer> PeerOf(const grpc::GenericCallbackServerContext&);

void SetServerLimits(grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(kMessageBytes);
  builder.AddChannelArgument(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, kIdentityOnly);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Below our own clients' period, or they would be told ENHANCE_YOUR_CALM.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kKeepaliveMs / 4);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 16 << 10);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleMs);
  builder.AddChannelArgument(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, kReadBytes);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a second aggregator on the port is an error, not a partner
}

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address, std::shared_ptr<grpc::ChannelCredentials> credentials,
                                           int answer_bytes) {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(answer_bytes != 0 ? answer_bytes : kMessageBytes);
  args.SetInt(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, kIdentityOnly);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  args.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 10'000);  // gRPC's own two minutes are too long for an audit trail
  return grpc::CreateCustomChannel(address, credentials, args);
}

}  // namespace orgtrail
