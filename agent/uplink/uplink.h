// Uplink: carries the spool to the aggregator over one gRPC stream: two threads, Write and Read, as straight lines over the sync
// API; TryCancel ends both. Several endpoints are tried in order; waits between tries grow with jitter.
//
// Path     spool ⇒ [Uplink] ⇒ mutual TLS ⇒ aggregator's ingest
// Threads  Start spawns the writing one, which spawns a reading one per stream. The rest: any.
// Owns     its threads and channel. Spool, clock, rng, metrics outlive it.
// Holds    frames go out as they lie in the spool, copied once from its map and wrapped, never parsed or serialised again. A new
//          certificate on disk serves the next connection; Renewed opens that connection and its stream before the one in use ends.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/uplink/session.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/metrics/metrics.h"

namespace orgtrail {

struct UplinkOptions {
  std::vector<std::string> endpoints;      // host:port, in order of preference; at least one
  std::string cert, key, ca;               // PEM files, re-read when they change
  UplinkSessionOptions session;
};

enum class UplinkState { kConnecting, kConnected, kDraining, kStopped };

class Uplink {
 public:
  Uplink(const UplinkOptions& options, NoteKey log_key, Spool& spool, const Clock& clock, Rng& rng, Metrics& metrics,
         UplinkReports reports);
  ~Uplink();                               // stops

  void Start();
  // Another certificate is on disk: goes on with it. The stream in use ends when the next one is open, and not before: an aggregator
  // that is not there, or does not take the certificate, costs nothing.
  void Renewed();
  // Sends what is left and waits for its receipts, at most `limit`: whether everything is acked. For SIGTERM; then Stop.
  bool Drain(absl::Duration limit);
  void Stop();                             // cancels the stream, joins

  UplinkSession& session();
  UplinkState state() const;
  std::string endpoint() const;            // in use or tried last
  std::string last_error() const;          // why the last stream ended; empty: none did

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace orgtrail
