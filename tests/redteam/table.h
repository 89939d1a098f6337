// The table of attacks: who carries out which, and what comes of it. README.md is written from it, and compared with it in each test run.
#pragma once

#include <string>

namespace orgtrail::e2e {

// In front of a test: what it carries out (the number is the acceptance table's) and what must come of it. A test may have several.
#define ATTACK(number, attack, outcome) ORGTRAIL_ATTACK_AT(__LINE__, number, attack, outcome)
#define ORGTRAIL_ATTACK_AT(line, number, attack, outcome) ORGTRAIL_ATTACK_NAMED(line, number, attack, outcome)
#define ORGTRAIL_ATTACK_NAMED(line, number, attack, outcome) \
  const bool kAttackAtLine##line = ::orgtrail::e2e::AddAttack(__FILE__, line, number, attack, outcome)

// For the first test of `file` behind `line`.
bool AddAttack(const char* file, int line, int number, std::string attack, std::string outcome);

}  // namespace orgtrail::e2e
