#include "common/base/text.h"

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"

namespace orgtrail {
namespace {

// Length of the well-formed UTF-8 sequence at text[i], 0 if there is none (RFC 3629: no overlongs, no surrogates).
size_t Utf8Length(std::string_view text, size_t i) {
  auto at = [&](size_t k) { return static_cast<uint8_t>(text[k]); };
  const uint8_t c = at(i);
  if (c < 0x80) return 1;
  auto cont = [&](size_t k) { return k < text.size() && (at(k) & 0xC0) == 0x80; };
  if (c >= 0xC2 && c <= 0xDF) return cont(i + 1) ? 2 : 0;
  if (c >= 0xE0 && c <= 0xEF) {
    if (!cont(i + 1) || !cont(i + 2)) return 0;
    if (c == 0xE0 && at(i + 1) < 0xA0) return 0;
    if (c == 0xED && at(i + 1) > 0x9F) return 0;
    return 3;
  }
  if (c >= 0xF0 && c <= 0xF4) {
    if (!cont(i + 1) || !cont(i + 2) || !cont(i + 3)) return 0;
    if (c == 0xF0 && at(i + 1) < 0x90) return 0;
    if (c == 0xF4 && at(i + 1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

std::optional<std::string> Strict(std::string_view text, bool url) {
  std::string out;
  const bool ok = url ? absl::WebSafeBase64Unescape(ToAbsl(text), &out) : absl::Base64Unescape(ToAbsl(text), &out);
  if (!ok) return std::nullopt;
  // Re-encoding refuses whitespace, missing padding and non-zero trailing bits, which Abseil lets pass.
  if ((url ? Base64Url(out) : Base64(out)) != text) return std::nullopt;
  return out;
}

}  // namespace

std::string Hex(std::string_view bytes) { return absl::BytesToHexString(ToAbsl(bytes)); }

std::optional<std::string> Unhex(std::string_view hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  for (char c : hex) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return std::nullopt;
  }
  return absl::HexStringToBytes(ToAbsl(hex));
}

std::string Base64(std::string_view bytes) { return absl::Base64Escape(ToAbsl(bytes)); }
std::optional<std::string> Unbase64(std::string_view text) { return Strict(text, false); }

std::string Base64Url(std::string_view bytes) { return absl::WebSafeBase64Escape(ToAbsl(bytes)); }
std::optional<std::string> Unbase64Url(std::string_view text) { return Strict(text, true); }

void AppendJsonString(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  out.push_back('"');
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    const auto u = static_cast<uint8_t>(c);
    if (u < 0x80) {
      switch (c) {
        case '"': out += "\\\""; break;
        case '\\': out += "\\\\"; break;
        case '\n': out += "\\n"; break;
        case '\r': out += "\\r"; break;
        case '\t': out += "\\t"; break;
        default:
          if (u < 0x20 || u == 0x7F) {
            out += "\\u00";
            out.push_back(kHex[u >> 4]);
            out.push_back(kHex[u & 15]);
          } else {
            out.push_back(c);
          }
      }
      ++i;
      continue;
    }
    const size_t n = Utf8Length(text, i);
    if (n == 0) {
      out += "\xEF\xBF\xBD";
      ++i;
    } else {
      out.append(text.substr(i, n));
      i += n;
    }
  }
  out.push_back('"');
}

std::string JsonString(std::string_view text) {
  std::string out;
  AppendJsonString(out, text);
  return out;
}

std::string Printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const auto u = static_cast<uint8_t>(text[i]);
    if (u < 0x80) {
      if (u < 0x20 || u == 0x7F) {
        absl::StrAppendFormat(&out, "\\x%02x", u);
      } else {
        out.push_back(text[i]);
      }
      ++i;
      continue;
    }
    const size_t n = Utf8Length(text, i);
    if (n == 0) {
      absl::StrAppendFormat(&out, "\\x%02x", u);
      ++i;
      continue;
    }
    const std::string_view ch = text.substr(i, n);
    // C1 controls, bidirectional marks, embeddings, overrides and isolates change what a reader sees around them.
    const bool c1 = n == 2 && u == 0xC2 && static_cast<uint8_t>(ch[1]) < 0xA0;
    const bool arabic_mark = ch == "\xD8\x9C";
    const bool bidi = n == 3 && u == 0xE2 &&
                      ((ch[1] == '\x80' && ((ch[2] >= '\x8E' && ch[2] <= '\x8F') || (ch[2] >= '\xA8' && ch[2] <= '\xAE'))) ||
                       (ch[1] == '\x81' && ch[2] >= '\xA6' && ch[2] <= '\xA9'));
    if (c1 || arabic_mark || bidi) {
      for (char b : ch) absl::StrAppendFormat(&out, "\\x%02x", static_cast<uint8_t>(b));
    } else {
      out.append(ch);
    }
    i += n;
  }
  return out;
}

std::optional<uint64_t> ParseUint(std::string_view digits) {
  if (digits.empty() || digits.size() > 20) return std::nullopt;
  for (char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
  }
  uint64_t v = 0;
  if (!absl::SimpleAtoi(ToAbsl(digits), &v)) return std::nullopt;
  return v;
}

}  // namespace orgtrail
