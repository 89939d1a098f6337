// One HTTP request and its answer: for the command line and webhooks. libcurl; http, https and Unix sockets; no redirects.
//
// Threads  any.
// Bounds   answer 1 MiB; the timeout covers everything from name resolution on.
// Errors   InvalidArgument (the address), Unavailable (not reached, or hung up), DeadlineExceeded, ResourceExhausted (answer too
//          long). An HTTP status, whatever it is, is an answer and not an error.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/http/server.h"

namespace orgtrail {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// `url`: http://…, https://… or unix:/run/x.sock:/path (the socket's path has no ':'; without ":/path" it is "/").
absl::StatusOr<HttpResponse> HttpPost(std::string_view url, std::string_view body, const HttpHeaders& headers = {},
                                   absl::Duration timeout = absl::Seconds(10));
absl::StatusOr<HttpResponse> HttpGet(std::string_view url, const HttpHeaders& headers = {},
                                  absl::Duration timeout = absl::Seconds(10));

}  // namespace orgtrail
