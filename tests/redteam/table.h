// The table of attacks: which were carried out by this program, which by another, and how each ended. README.md is written from it.
#pragma once

#include <string>

namespace orgtrail::e2e {

// Says what the running test carries out (numbers: docs/THREATS.md's acceptance table) and what must come of it.
void Attack(int number, const std::string& attack, const std::string& outcome);

}  // namespace orgtrail::e2e
