#include "common/http/client.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>

#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kReplyBytes = 1 << 20;
constexpr size_t kReplyHeaders = 256;

struct Receiver {
  HttpResponse reply;
  bool too_long = false;
};

size_t TakeBody(char* data, size_t size, size_t n, void* user) {
  auto& receiver = *static_cast<Receiver*>(user);
  if (receiver.reply.body.size() + size * n > kReplyBytes) {
    receiver.too_long = true;
    return 0;
  }
  receiver.reply.body.append(data, size * n);
  return size * n;
}

size_t TakeHeader(char* data, size_t size, size_t n, void* user) {
  auto& reply = static_cast<Receiver*>(user)->reply;
  std::string_view line(data, size * n);
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
  if (line.starts_with("HTTP/")) reply.headers.clear();  // a 100 Continue came before
  const size_t colon = line.find(':');
  if (colon != std::string_view::npos && reply.headers.size() < kReplyHeaders) {
    std::string name(line.substr(0, colon));
    for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    reply.headers.emplace_back(std::move(name), value);
  }
  return size * n;
}

absl::StatusOr<HttpResponse> Call(std::string_view url, std::optional<std::string_view> body, const HttpHeaders& headers,
                               absl::Duration timeout) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  std::string target(url), socket;
  if (url.starts_with("unix:/")) {
    std::string_view rest = url.substr(5);
    const size_t colon = rest.find(":/");
    socket = rest.substr(0, colon);
    target = "http://localhost";
    target += colon == std::string_view::npos ? std::string_view("/") : rest.substr(colon + 1);
  } else if (!url.starts_with("http://") && !url.starts_with("https://")) {
    return absl::InvalidArgumentError(target + ": expected http://…, https://… or unix:/run/x.sock:/path");
  }

  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(), &curl_easy_cleanup);
  if (curl == nullptr) return absl::InternalError("libcurl does not start");
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> list(nullptr, &curl_slist_free_all);
  bool ok = true;
  auto add = [&](const std::string& line) {
    curl_slist* longer = curl_slist_append(list.get(), line.c_str());
    ok = ok && longer != nullptr;
    if (longer != nullptr) {
      (void)list.release();
      list.reset(longer);
    }
  };
  add("Expect:");  // our bodies are small: no round trip first
  bool typed = false;
  for (const auto& [name, value] : headers) {
    const std::string line = name + ": " + value;
    if (line.find_first_of("\r\n") != std::string::npos || name.empty()) {
      return absl::InvalidArgumentError("header " + JsonString(name) + " has a line end or no name");
    }
    typed = typed || name == "Content-Type" || name == "content-type";
    add(line);
  }
  if (body && !typed) add("Content-Type: application/json");

  Receiver receiver;
  char error[CURL_ERROR_SIZE] = "";
  auto set = [&](CURLoption option, auto value) { ok = ok && curl_easy_setopt(curl.get(), option, value) == CURLE_OK; };
  set(CURLOPT_URL, target.c_str());
  if (!socket.empty()) set(CURLOPT_UNIX_SOCKET_PATH, socket.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_HTTPHEADER, list.get());
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(std::clamp<int64_t>(absl::ToInt64Milliseconds(timeout), 1, 3'600'000)));
  set(CURLOPT_ERRORBUFFER, &error[0]);
  set(CURLOPT_USERAGENT, "orgtrail/" ORGTRAIL_VERSION);
  set(CURLOPT_WRITEFUNCTION, &TakeBody);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&receiver));
  set(CURLOPT_HEADERFUNCTION, &TakeHeader);
  set(CURLOPT_HEADERDATA, static_cast<void*>(&receiver));
  if (!socket.empty()) set(CURLOPT_PROXY, "");
  if (body) {
    set(CURLOPT_POST, 1L);
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body->size()));
    set(CURLOPT_POSTFIELDS, body->data() == nullptr ? "" : body->data());
  }
  if (!ok) return absl::InternalError("libcurl refused an option");

  const CURLcode code = curl_easy_perform(curl.get());
  if (code != CURLE_OK) {
    std::string message(url);
    message += ": ";
    message += error[0] != '\0' ? error : curl_easy_strerror(code);
    if (receiver.too_long) return absl::ResourceExhaustedError(std::string(url) + ": the answer is over 1 MiB");
    if (code == CURLE_OPERATION_TIMEDOUT) return absl::DeadlineExceededError(message);
    if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL) return absl::InvalidArgumentError(message);
    return absl::UnavailableError(message);
  }
  long status = 0;
  if (curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status) != CURLE_OK) return absl::InternalError("libcurl has no status");
  receiver.reply.status = static_cast<int>(status);
  receiver.reply.content_type = receiver.reply.Header("content-type");
  return std::move(receiver.reply);
}

}  // namespace

absl::StatusOr<HttpResponse> HttpPost(std::string_view url, std::string_view body, const HttpHeaders& headers,
                                   absl::Duration timeout) {
  return Call(url, body, headers, timeout);
}

absl::StatusOr<HttpResponse> HttpGet(std::string_view url, const HttpHeaders& headers, absl::Duration timeout) {
  return Call(url, std::nullopt, headers, timeout);
}

}  // namespace orgtrail
