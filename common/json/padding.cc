#include "common/json/padding.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "common/json/unescape.h"

namespace orgtrail::json {
namespace {

constexpr size_t kPaddingBytes = 64 << 10;

// Is more than half of this text white space, or one byte over and over?
bool MostlyPadding(std::string_view text) {
  std::array<size_t, 256> count{};
  for (char c : text) ++count[static_cast<uint8_t>(c)];
  const size_t space = count[' '] + count['\n'] + count['\r'] + count['\t'];
  return std::max(space, *std::max_element(count.begin(), count.end())) > text.size() / 2;
}

}  // namespace

bool PaddingSuspect(std::string_view record) {
  if (record.size() <= kPaddingBytes) return false;
  size_t space = 0, outside = 0;
  std::string plain;
  for (size_t i = 0; i < record.size(); ++i) {
    if (record[i] != '"') {
      ++outside;
      space += record[i] == ' ' || record[i] == '\n' || record[i] == '\r' || record[i] == '\t';
      continue;
    }
    const size_t start = ++i;
    while (record[i] != '"') i += record[i] == '\\' ? 2 : 1;
    if (i - start <= kPaddingBytes) continue;
    plain.resize(i - start);
    plain.resize(Unescape(record.substr(start, i - start), plain.data()));
    if (MostlyPadding(plain)) return true;
  }
  return outside > kPaddingBytes && space > outside / 2;
}

}  // namespace orgtrail::json
