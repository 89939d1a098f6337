// How a simulated process dies, and which mistake is planted in it.
#include "absl/strings/str_cat.h"
#include "common/base/mutant.h"
#include "common/base/status.h"
#include "tests/sim/world.h"

namespace orgtrail {
namespace {

Mutant planted = Mutant::kNone;   // of the one world there is at a time

}  // namespace

bool Planted(Mutant mutant) { return mutant == planted; }

void CheckFailed(const char* file, int line, const char* what, std::string_view detail) {
  throw sim::Died(absl::StrCat(file, ":", line, ": check failed: ", what, " ", ToAbsl(detail)));
}

void sim::Plant(Mutant mutant) { planted = mutant; }

}  // namespace orgtrail
