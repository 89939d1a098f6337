#include "agent/capture/lines.h"

#include <gtest/gtest.h>

namespace orgtrail {
namespace {

TEST(Lines, EndAtLf) {
  struct Case {
    std::string_view text;
    std::vector<std::string_view> lines;
    size_t taken;
  };
  for (const Case& c : {Case{"", {}, 0}, Case{"a", {}, 0}, Case{"a\n", {"a"}, 2}, Case{"a\r\nb\n", {"a", "b"}, 5},
                        Case{"\n\r\n\na\nb", {"a"}, 6}, Case{"a\r\r\n", {"a\r"}, 4}, Case{"a b \n", {"a b "}, 5}}) {
    std::vector<std::string_view> lines;
    EXPECT_EQ(TakeLines(c.text, 1000, 1 << 20, &lines), c.taken) << c.text;
    EXPECT_EQ(lines, c.lines) << c.text;
  }
}

TEST(Lines, StopAtTheBounds) {
  std::vector<std::string_view> lines;
  EXPECT_EQ(TakeLines("a\nb\nc\n", 2, 100, &lines), 4u);
  lines.clear();
  EXPECT_EQ(TakeLines("aaaa\nbbbb\ncccc\n", 100, 10, &lines), 10u);
  EXPECT_EQ(lines.size(), 2u);
  lines.clear();
  EXPECT_EQ(TakeLines("aaaaaaaaaaaaaaaaaaaa\nb\n", 100, 10, &lines), 21u) << "one line always";
}

}  // namespace
}  // namespace orgtrail
