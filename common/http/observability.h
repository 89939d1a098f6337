// Observability: /metrics, /healthz and /readyz of a program, on one small listener.
//
// Threads  Start and the destructor: one. `health` is called on a server thread: it must be thread-safe and must not wait.
// Owns     its server. Metrics and what `health` looks at outlive it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/http/server.h"
#include "common/metrics/metrics.h"

namespace orgtrail {

struct HealthCheck {
  std::string name;      // "spool", "uplink", "ledger": a word of the architecture
  bool ok = true;
  std::string detail;    // for a person: what is wrong and what to do; may also say what is fine
  bool vital = false;    // a restart is called for: /healthz fails too, not only /readyz
};
struct HealthReport {
  std::vector<HealthCheck> checks;
};

// {"status":"ok","checks":[{"name":"spool","ok":true,"detail":"…"}]}
std::string HealthJson(const HealthReport& report, bool ok);

class Observability {
 public:
  // /healthz is 200 unless a vital check fails, /readyz is 200 when all pass; else 503. Both name every check.
  static absl::StatusOr<std::unique_ptr<Observability>> Start(std::string_view listen, std::string_view program,
                                                              const Metrics& metrics, std::function<HealthReport()> health);
  int port() const { return server_->port(); }

 private:
  explicit Observability(std::unique_ptr<HttpServer> server) : server_(std::move(server)) {}
  std::unique_ptr<HttpServer> server_;
};

}  // namespace orgtrail
