// Padding: a record can be made large with nothing in it, so that what matters is cut off elsewhere.
#pragma once

#include <string_view>

namespace orgtrail::json {

// True when a string of more than 64 KiB, or the space between tokens where that is more than 64 KiB, is for more than half
// white space or one and the same byte. `record` is one the scanner accepted. Linear; free for records up to 64 KiB.
bool PaddingSuspect(std::string_view record);

}  // namespace orgtrail::json
