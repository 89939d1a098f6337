// Text: std::string_view everywhere of ours; Debian's absl::string_view is another type, so these two stand at its edge.
// Bytes are std::string_view too (docs/decisions/001-bytes-are-string-views.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/string_view.h"

namespace orgtrail {

inline absl::string_view ToAbsl(std::string_view s) { return absl::string_view(s.data(), s.size()); }
inline std::string_view ToStd(absl::string_view s) { return std::string_view(s.data(), s.size()); }

std::string Hex(std::string_view bytes);                            // lower case
std::optional<std::string> Unhex(std::string_view hex);             // either case; nullopt if odd or not hex
std::string Base64(std::string_view bytes);                         // standard alphabet, padded
std::optional<std::string> Unbase64(std::string_view text);         // strict
std::string Base64Url(std::string_view bytes);                      // URL alphabet, no padding
std::optional<std::string> Unbase64Url(std::string_view text);

// Appends `text` as a JSON string literal, quotes included; invalid UTF-8 becomes U+FFFD.
void AppendJsonString(std::string& out, std::string_view text);
std::string JsonString(std::string_view text);

// For a terminal: control characters, ANSI escapes and bidirectional overrides become visible escapes.
std::string Printable(std::string_view text);

std::optional<uint64_t> ParseUint(std::string_view digits);         // decimal, no sign, no overflow

}  // namespace orgtrail
