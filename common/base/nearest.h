// Nearest: which word somebody probably meant. Pure. Threads: any.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace orgtrail {

// The one of `known` that `word` was probably meant to be: it begins with it, or differs by a slip or two of the keyboard (for longer
// words, three). Empty when none does.
std::string Nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace orgtrail
