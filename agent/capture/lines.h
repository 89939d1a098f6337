// Lines: text → views of its lines, at the speed of memchr. Pure.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace orgtrail {

// Appends up to `max_lines` lines of at most `max_bytes` together (one line always) to `lines`: without their line end, which is
// LF or CR LF; empty ones are left out. Returns how many bytes they and their line ends took: what follows is not yet a line, or the next chunk's.
size_t TakeLines(std::string_view text, size_t max_lines, size_t max_bytes, std::vector<std::string_view>* lines);

// A line without one trailing CR. JSON allows white space at its end, so nothing of a record is lost.
inline std::string_view WithoutCr(std::string_view line) {
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

}  // namespace orgtrail
