// Targets, headers and addresses of hostile requests. What decodes must decode within bounds and again to the same.
#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/http/request.h"
#include "tests/fuzz/target.h"

namespace orgtrail::fuzz {

std::vector<std::string> Seeds() { return {}; }

void One(std::string_view text) {
  std::string path;
  std::vector<std::pair<std::string, std::string>> query;
  if (ParseTarget(text, &path, &query)) {
    CHECK(path.starts_with('/') && path.find('\0') == std::string::npos && path.size() <= text.size());
    CHECK(query.size() <= 256);
  }
  if (std::optional<std::string> decoded = PercentDecode(text, true)) CHECK(decoded->size() <= text.size());
  if (std::optional<std::string_view> token = BearerToken(text)) CHECK(!token->empty());
  if (std::optional<SigV4> sig = ParseSigV4(text)) CHECK(!sig->region.empty() && sig->date.size() == 8);
  if (absl::StatusOr<ListenAddress> listen = ParseListen(text); listen.ok()) CHECK(listen->host.empty() != listen->unix_path.empty());
  HttpResponse response;
  response.headers.emplace_back("X-Text", std::string(text));
  response.content_type = "text/plain";
  const std::string formatted = FormatResponse(response, true, true);
  size_t lines = 0;
  for (size_t at = 0; (at = formatted.find('\n', at)) != std::string::npos; ++at) ++lines;
  CHECK(lines <= 8);  // a header's value cannot make lines of its own
}

}  // namespace orgtrail::fuzz
