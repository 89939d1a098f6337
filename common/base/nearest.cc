#include "common/base/nearest.h"

#include <algorithm>
#include <utility>

namespace orgtrail {
namespace {

constexpr size_t kLongest = 64;   // what is longer was never meant to be one of our words

// Letters typed, left out, changed, or swapped with their neighbour.
size_t Slips(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) now[j] = std::min(now[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, now);
  }
  return last[b.size()];
}

}  // namespace

std::string Nearest(std::string_view word, const std::vector<std::string>& known) {
  const std::string_view bare = word.substr(std::min(word.size(), word.find_first_not_of('-')));
  std::string best;
  if (word.size() > kLongest) return best;
  size_t slips = std::min<size_t>(3, 1 + bare.size() / 4) + 1;
  for (const std::string& k : known) {
    const bool begins = bare.size() >= 2 && k.starts_with(word);
    const size_t s = begins ? 0 : Slips(word, k);
    if (s < slips) {
      slips = s;
      best = k;
    }
  }
  return best;
}

}  // namespace orgtrail
