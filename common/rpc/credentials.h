// Credentials: mutual TLS 1.3 for gRPC. With proto/ and the doors, the only includers of grpcpp.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <grpcpp/grpcpp.h>

#include "absl/status/statusor.h"
#include "common/base/ids.h"

namespace orgtrail {

// Once in main, before any gRPC call: TLS 1.3 only (Debian's gRPC 1.51 has no setter: its TLS 1.2 list is set to a suite our
// ECDSA certificates cannot serve), transport compression off, gRPC's own log through ours.
void InitRpc();

struct TlsFiles {              // PEM files, re-read when they change (within a second), streams survive
  std::string cert, key, ca;
};

// Server side: requires a client certificate of the CA whose only URI SAN is a SPIFFE id of `org`; refuses CA certificates.
// `admit` is asked per handshake (revocation, rate): false refuses. Threads: any.
std::shared_ptr<grpc::ServerCredentials> MutualServerCredentials(const TlsFiles& files, std::string org,
                                                                 std::function<bool(const Identity&)> admit);
std::shared_ptr<grpc::ServerCredentials> ServerOnlyCredentials(const TlsFiles& files);
// Client side: checks the server's certificate against the CA and its name against the address dialled. Reads the files once.
std::shared_ptr<grpc::ChannelCredentials> MutualChannelCredentials(const TlsFiles& files);
std::shared_ptr<grpc::ChannelCredentials> PinnedChannelCredentials(std::string ca_pem);

struct Peer {
  Identity identity;
  std::string serial_hex;      // of the certificate
  std::string certificate_pem;
  std::string address;         // "127.0.0.1:4242"
};
// Who is calling. Unauthenticated "AUTH_NO_CERT", PermissionDenied "SAN_INVALID" with the reason.
template <class Context>
absl::StatusOr<Peer> PeerOf(const Context& context);
extern template absl::StatusOr<Peer> PeerOf(const grpc::ServerContext&);
extern template absl::StatusOr<Peer> PeerOf(const grpc::CallbackServerContext&);
extern template absl::StatusOr<Peer> PeerOf(const grpc::GenericCallbackServerContext&);

// gRPC's "ipv4:127.0.0.1:4242" and "ipv6:%5B::1%5D:4242" as people write them: "127.0.0.1:4242", "[::1]:4242".
std::string AddressOf(std::string peer);

// absl and gRPC number their codes alike; messages are cut at 2 KiB, because they travel as an HTTP/2 header.
grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

// Keepalive, receive limits (a frame and its envelope), no compression; for every server we start …
void SetServerLimits(grpc::ServerBuilder& builder);
// … and every channel we open. A channel has connections of its own, so that new credentials mean a new handshake. `answer_bytes`:
// the largest message taken from the server; 0: a frame and its envelope.
std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address, std::shared_ptr<grpc::ChannelCredentials> credentials,
                                           int answer_bytes = 0);

}  // namespace orgtrail
