// A mistake on purpose, behind a comparison that only coverage finds: tests/fuzz/run is dead when this is not found within its minute.
#include "tests/fuzz/target.h"

namespace orgtrail::fuzz {

void One(std::string_view in) {
  if (in.size() < 4 || in[0] != 'b' || in[1] != 'i' || in[2] != 'r') return;
  CHECK(in[3] != 'd');
}
std::vector<std::string> Seeds() { return {"canary"}; }

}  // namespace orgtrail::fuzz
