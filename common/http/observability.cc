#include "common/http/observability.h"

#include <utility>

#include "common/base/status.h"
#include "common/http/request.h"

namespace orgtrail {

std::string HealthJson(const HealthReport& report, bool ok) {
  std::string out = ok ? "{\"status\":\"ok\",\"checks\":[" : "{\"status\":\"failing\",\"checks\":[";
  for (const HealthCheck& check : report.checks) {
    if (&check != &report.checks.front()) out += ',';
    out += "{\"name\":";
    AppendJsonString(out, check.name);
    out += check.ok ? ",\"ok\":true,\"detail\":" : ",\"ok\":false,\"detail\":";
    AppendJsonString(out, check.detail);
    out += '}';
  }
  out += "]}\n";
  return out;
}

absl::StatusOr<std::unique_ptr<Observability>> Observability::Start(std::string_view listen, std::string_view program,
                                                                    const Metrics& metrics,
                                                                    std::function<HealthReport()> health) {
  HttpServerOptions options;
  options.listen = listen;
  options.max_body_bytes = 4096;
  options.max_connections = 32;
  options.workers = 1;
  auto handler = [program = std::string(program), &metrics, health = std::move(health)](const HttpRequest& request) {
    HttpResponse response;
    if (request.method != "GET" && request.method != "HEAD") {
      response = JsonError(405, "only GET");
      response.headers.emplace_back("Allow", "GET, HEAD");
    } else if (request.path == "/metrics") {
      response.content_type = "text/plain; version=0.0.4; charset=utf-8";
      response.body = metrics.Text();
    } else if (request.path == "/healthz" || request.path == "/readyz") {
      const HealthReport report = health();
      const bool ready = request.path == "/readyz";
      bool ok = true;
      for (const HealthCheck& check : report.checks) ok = ok && (check.ok || !(ready || check.vital));
      response.status = ok ? 200 : 503;
      response.body = HealthJson(report, ok);
    } else if (request.path == "/") {
      response.body = "{\"program\":" + JsonString(program) + ",\"version\":\"" ORGTRAIL_VERSION
                      "\",\"paths\":[\"/metrics\",\"/healthz\",\"/readyz\"]}\n";
    } else {
      response.status = 404;
      response.body = "{\"error\":\"no such path\",\"paths\":[\"/metrics\",\"/healthz\",\"/readyz\"]}\n";
    }
    return response;
  };
  absl::StatusOr<std::unique_ptr<HttpServer>> server = HttpServer::Start(options, std::move(handler));
  if (!server.ok()) {
    // The server's hint names the http source's key; this listener's is another.
    std::string message(server.status().message());
    if (const size_t at = message.find("http.listen"); at != std::string::npos) message.replace(at, 11, "metrics.listen");
    return absl::Status(server.status().code(), "metrics: " + message);
  }
  return std::unique_ptr<Observability>(new Observability(*std::move(server)));
}

}  // namespace orgtrail
