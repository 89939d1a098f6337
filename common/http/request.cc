#include "common/http/request.h"

#include <arpa/inet.h>

#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr size_t kParameters = 256;
constexpr size_t kUnixPathBytes = 107;  // sockaddr_un::sun_path less its NUL

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool StartsWithNoCase(std::string_view text, std::string_view lower_prefix) {
  if (text.size() < lower_prefix.size()) return false;
  for (size_t i = 0; i < lower_prefix.size(); ++i) {
    if (Lower(text[i]) != lower_prefix[i]) return false;
  }
  return true;
}

std::string_view Trim(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

// Cuts `rest` at the first `at`: returns what is before it, leaves what is after it.
std::string_view Cut(std::string_view* rest, char at) {
  const size_t n = rest->find(at);
  std::string_view head = rest->substr(0, n);
  *rest = n == std::string_view::npos ? std::string_view() : rest->substr(n + 1);
  return head;
}

bool IsToken(std::string_view name) {
  for (char c : name) {
    const bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (!ok) return false;
  }
  return !name.empty();
}

bool IsLine(std::string_view value) {
  for (char c : value) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\t') return false;
  }
  return true;
}

}  // namespace

std::optional<std::string> PercentDecode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '+' && plus_is_space) {
      c = ' ';
    } else if (c == '%') {
      if (text.size() - i < 3) return std::nullopt;
      const int high = HexDigit(text[i + 1]), low = HexDigit(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (c == '\0') return std::nullopt;
    out += c;
  }
  return out;
}

bool ParseTarget(std::string_view target, std::string* path, std::vector<std::pair<std::string, std::string>>* query) {
  query->clear();
  for (std::string_view scheme : {"http://", "https://"}) {
    if (!StartsWithNoCase(target, scheme)) continue;
    const size_t end = target.find_first_of("/?", scheme.size());
    target = end == std::string_view::npos ? std::string_view("/") : target.substr(end);
    break;
  }
  const size_t mark = target.find('?');
  std::optional<std::string> decoded = PercentDecode(target.substr(0, mark), false);
  if (!decoded || !decoded->starts_with('/')) return false;
  *path = std::move(*decoded);
  if (mark == std::string_view::npos) return true;
  std::string_view rest = target.substr(mark + 1);
  while (!rest.empty()) {
    std::string_view value = Cut(&rest, '&');
    if (value.empty()) continue;
    const std::string_view name = Cut(&value, '=');
    std::optional<std::string> n = PercentDecode(name, true), v = PercentDecode(value, true);
    if (!n || !v || query->size() >= kParameters) return false;
    query->emplace_back(std::move(*n), std::move(*v));
  }
  return true;
}

std::optional<std::string_view> BearerToken(std::string_view authorization) {
  if (!StartsWithNoCase(authorization, "bearer ")) return std::nullopt;
  const std::string_view token = Trim(authorization.substr(7));
  if (token.empty() || token.find(' ') != std::string_view::npos) return std::nullopt;
  return token;
}

bool IsSigV4(std::string_view authorization) { return authorization.starts_with("AWS4-"); }

std::optional<SigV4> ParseSigV4(std::string_view authorization) {
  constexpr std::string_view kScheme = "AWS4-HMAC-SHA256";
  if (!authorization.starts_with(kScheme)) return std::nullopt;
  std::string_view rest = authorization.substr(kScheme.size());
  if (!rest.starts_with(' ')) return std::nullopt;
  std::string_view credential, signed_headers, signature;
  while (!rest.empty()) {
    std::string_view value = Trim(Cut(&rest, ','));
    const std::string_view name = Cut(&value, '=');
    std::string_view& slot = name == "Credential"      ? credential
                             : name == "SignedHeaders" ? signed_headers
                                                       : signature;
    if ((&slot == &signature && name != "Signature") || !slot.empty() || value.empty()) return std::nullopt;
    slot = value;
  }
  if (signed_headers.empty() || signature.size() != 64) return std::nullopt;
  for (char c : signature) {
    if (HexDigit(c) < 0) return std::nullopt;
  }
  SigV4 parsed;
  parsed.access_key = Cut(&credential, '/');
  parsed.date = Cut(&credential, '/');
  parsed.region = Cut(&credential, '/');
  parsed.service = Cut(&credential, '/');
  if (credential != "aws4_request" || parsed.date.size() != 8 || !ParseUint(parsed.date) || !IsToken(parsed.access_key) ||
      !IsToken(parsed.region) || !IsToken(parsed.service) || parsed.access_key.size() > 128 || parsed.region.size() > 64) {
    return std::nullopt;
  }
  return parsed;
}

absl::StatusOr<ListenAddress> ParseListen(std::string_view listen) {
  auto refused = [&](std::string_view why) {
    std::string message = "listen address " + JsonString(listen) + ": ";
    message += why;
    return absl::InvalidArgumentError(message);
  };
  ListenAddress address;
  if (listen.starts_with("unix:")) {
    address.unix_path = listen.substr(5);
    if (!address.unix_path.starts_with('/')) return refused("expected unix: and an absolute path, such as unix:/run/orgtrail/agent.sock");
    if (address.unix_path.size() > kUnixPathBytes) return refused("a Unix socket's path is at most 107 bytes");
    if (address.unix_path.find('\0') != std::string::npos) return refused("the path has a NUL byte");
    return address;
  }
  constexpr std::string_view kExpected = "expected ADDRESS:PORT with a numeric address, such as 127.0.0.1:8787 or [::1]:8787, or unix:/PATH";
  const size_t colon = listen.rfind(':');
  if (colon == std::string_view::npos) return refused(kExpected);
  std::string_view host = listen.substr(0, colon);
  const std::optional<uint64_t> port = ParseUint(listen.substr(colon + 1));
  if (!port || *port > 65535) return refused(kExpected);
  address.port = static_cast<uint16_t>(*port);
  if (host == "localhost") host = "127.0.0.1";
  address.ipv6 = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (address.ipv6) host = host.substr(1, host.size() - 2);
  address.host = host;
  if (address.host.find('\0') != std::string::npos) return refused(kExpected);
  unsigned char bytes[16] = {};
  if (inet_pton(address.ipv6 ? AF_INET6 : AF_INET, address.host.c_str(), bytes) != 1) return refused(kExpected);
  if (address.ipv6) {
    address.loopback = bytes[15] == 1;
    for (int i = 0; i < 15; ++i) address.loopback = address.loopback && bytes[i] == 0;
  } else {
    address.loopback = bytes[0] == 127;
  }
  return address;
}

std::string_view StatusText(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Payload Too Large";
    case 415: return "Unsupported Media Type";
    case 422: return "Unprocessable Entity";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    default: return "Status";
  }
}

std::string FormatResponse(const HttpResponse& response, bool keep_alive, bool with_body) {
  std::string out = "HTTP/1.1 " + std::to_string(response.status) + " ";
  out += StatusText(response.status);
  out += "\r\nContent-Length: " + std::to_string(response.body.size()) + "\r\n";
  auto header = [&](std::string_view name, std::string_view value) {
    if (!IsToken(name) || !IsLine(value)) return;
    out += name;
    out += ": ";
    out += value;
    out += "\r\n";
  };
  if (!response.content_type.empty()) header("Content-Type", response.content_type);
  for (const auto& [name, value] : response.headers) header(name, value);
  header("Cache-Control", "no-store");
  header("X-Content-Type-Options", "nosniff");
  header("Connection", keep_alive ? "keep-alive" : "close");
  out += "\r\n";
  if (with_body) out += response.body;
  return out;
}

HttpResponse JsonError(int status, std::string_view message) {
  HttpResponse response;
  response.status = status;
  response.body = "{\"error\":" + JsonString(message) + "}\n";
  return response;
}

std::string_view HttpRequest::Header(std::string_view lower_name) const {
  for (const auto& [name, value] : headers) {
    if (name == lower_name) return value;
  }
  return {};
}

std::string_view HttpRequest::Query(std::string_view name) const {
  for (const auto& [n, value] : query) {
    if (n == name) return value;
  }
  return {};
}

}  // namespace orgtrail
