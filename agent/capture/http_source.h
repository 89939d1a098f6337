// HttpSource: records over HTTP, on loopback or a Unix socket.
//
//   POST /records          NDJSON, one record a line → 200 {"accepted","wrapped","first_seq"}: all of it is fsynced. Any other
//                          answer but a timeout: nothing of it was stored. 503 with Retry-After: the spool is full, or stopping.
//   POST /PutAuditEvents   CloudTrail's call: put_audit_events.h
//   GET  /                 says what this is
//
// Retries   With Idempotency-Key (1 to 128 visible characters, per poster) a repeated POST /records is stored once and answered
//           {"accepted":N,"replayed":true}; the same key with another body is 422. PutAuditEvents is idempotent per event: the
//           key is the eventID, hence (account, channel, id), whatever else is in the call; the same id with other eventData is
//           refused with InvalidData, because silently keeping one of them would lose the other. Keys live for 24 hours and
//           are committed in the transaction that stores the records. Two equal requests at once: the second waits for the first.
// Who       Authorization: Bearer TOKEN (or, for AWS's SDKs, the token as X-Amz-Security-Token); on a Unix socket the peer's
//           user. Recorded as RawChunk.posted_by, with the token's or user's name, and metadata.postedBy: http:token, http:uid=N,
//           http:loopback. Requests of web
//           pages (an Origin header) are refused: any page in a browser on this machine could post otherwise.
// Threads   Start, Stop: one. Handlers run on the server's workers; Intake is called from there.
// Owns      its server. Intake and clock outlive it.
// Bounds    body 8 MiB, 100,000 lines, 256 connections.
// Tests     tests/unit/agent/capture/http_source_test.cc, put_audit_events_test.cc
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/capture/source.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/http/server.h"

namespace orgtrail {

struct HttpSourceOptions {
  std::string listen;                 // see HttpServerOptions
  std::optional<std::string> token;   // content of http.token_file; white space around it is cut. Absent: no token_file
  std::string token_name;             // of its file: "http:token (NAME)" in RecordsPosted
  std::vector<uint32_t> allowed_uids; // on a Unix socket; empty: root and the agent's own user
  std::string account, region;        // the agent's
  size_t max_body_bytes = 8 << 20;
  size_t max_lines = 100'000;
  int workers = 4;                    // requests that wait for their fsync at the same time
};

class HttpSource final : public Source {
 public:
  // InvalidArgument: an address that is not one, one beyond loopback without a token, a token shorter than 16 characters.
  static absl::StatusOr<std::unique_ptr<HttpSource>> Make(HttpSourceOptions options, Intake& intake, const Clock& clock);
  ~HttpSource() override;

  absl::Status Start() override;      // FailedPrecondition: the address is in use
  void Stop() override;
  int port() const;                   // after Start

  HttpResponse Handle(const HttpRequest& request);  // any thread

 private:
  HttpSource(HttpSourceOptions options, bool unix_socket, Intake& intake, const Clock& clock);
  std::optional<std::string> Poster(const HttpRequest& request, std::string* why) const;
  HttpResponse Records(const HttpRequest& request, const std::string& poster);
  std::string Named(const std::string& poster);
  HttpResponse AuditEvents(const HttpRequest& request, const std::string& poster);

  const HttpSourceOptions options_;
  const bool unix_socket_;
  Intake& intake_;
  const Clock& clock_;
  Guarded<std::map<uint32_t, std::string>> users_;  // names by uid; only of those who may post
  Guarded<std::set<std::string>> in_flight_;  // idempotency keys whose Take has not returned
  std::unique_ptr<HttpServer> server_;
};

}  // namespace orgtrail
