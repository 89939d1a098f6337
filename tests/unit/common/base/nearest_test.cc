#include "common/base/nearest.h"

#include <gtest/gtest.h>

#include <utility>

namespace orgtrail {
namespace {

TEST(Nearest, IsASlipOrTwoAwayOrTheBeginning) {
  const std::vector<std::string> known = {"lookup", "show", "list", "revoke", "restore", "recovery"};
  const std::pair<const char*, const char*> cases[] = {
      {"lokup", "lookup"}, {"loookup", "lookup"}, {"olokup", "lookup"}, {"look", "lookup"}, {"lsit", "list"},  {"lst", "list"},       {"restor", "restore"},
      {"rev", "revoke"},   {"recoverry", "recovery"}, {"x", ""},        {"", ""},           {"destroy", ""},   {"completely", ""},    {"shw", "show"},
  };
  for (const auto& [word, meant] : cases) EXPECT_EQ(Nearest(word, known), meant) << word;
  EXPECT_EQ(Nearest("look" + std::string(61, 'u'), {"look" + std::string(61, 'x')}), "");
}

}  // namespace
}  // namespace orgtrail
