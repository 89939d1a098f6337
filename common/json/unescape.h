// Unescape: JSON string escapes and UTF-8, one character at a time. For the scanner and for values it has accepted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace orgtrail::json {

// Bytes of the well-formed UTF-8 character at p (RFC 3629: no overlongs, no surrogates, nothing past U+10FFFF); 0: there is none.
size_t Utf8Length(const char* p, const char* end);

// The value of four hexadecimal digits at p, -1 if they are not there.
int HexUnit(const char* p, const char* end);

// Writes `escaped` (what stands between the quotes of a string the scanner accepted) unescaped to `out` and returns its
// length, which is at most escaped.size(). Lone surrogates, which the scanner refuses, become U+FFFD.
size_t Unescape(std::string_view escaped, char* out);

}  // namespace orgtrail::json
