#include "common/base/text.h"

#include <gtest/gtest.h>

#include "common/base/clock.h"

namespace orgtrail {
namespace {

TEST(Text, Base64IsStrict) {
  EXPECT_EQ(Base64("hello"), "aGVsbG8=");
  EXPECT_EQ(Unbase64("aGVsbG8="), "hello");
  for (const char* bad : {"aGVsbG8", "aGVs bG8=", "aGVsbG9=", "!!!!"}) EXPECT_FALSE(Unbase64(bad)) << bad;
  EXPECT_EQ(Unbase64Url(Base64Url("\xff\xfe\xfd")), "\xff\xfe\xfd");
}

TEST(Text, PrintableShowsWhatWouldMislead) {
  EXPECT_EQ(Printable("ok é"), "ok é");
  EXPECT_EQ(Printable("a\x1b[31m"), "a\\x1b[31m");
  EXPECT_EQ(Printable("a\xE2\x80\xAE" "b"), "a\\xe2\\x80\\xaeb");  // right-to-left override
  EXPECT_EQ(Printable("\xff"), "\\xff");
}

TEST(Text, JsonStringsAreValid) {
  EXPECT_EQ(JsonString("a\"\\\n\x01"), "\"a\\\"\\\\\\n\\u0001\"");
  EXPECT_EQ(JsonString("\xff"), "\"\xEF\xBF\xBD\"");
}

TEST(Text, ParseUintRefusesOverflow) {
  EXPECT_EQ(ParseUint("18446744073709551615"), UINT64_MAX);
  EXPECT_FALSE(ParseUint("18446744073709551616"));
  EXPECT_FALSE(ParseUint("-1"));
  EXPECT_FALSE(ParseUint(""));
}

TEST(Time, WhatPeopleType) {
  const absl::Time now = absl::FromUnixSeconds(1'763'712'000);
  absl::Time t;
  ASSERT_TRUE(ParseWhen("-2h", now, &t));
  EXPECT_EQ(now - t, absl::Hours(2));
  ASSERT_TRUE(ParseWhen("-7d", now, &t));
  EXPECT_EQ(now - t, absl::Hours(168));
  ASSERT_TRUE(ParseWhen("2026-11-20T09:01:44Z", now, &t));
  EXPECT_EQ(Rfc3339(t), "2026-11-20T09:01:44Z");
  ASSERT_TRUE(ParseWhen("2026-11-20", now, &t));
  EXPECT_FALSE(ParseWhen("yesterday", now, &t));
}

}  // namespace
}  // namespace orgtrail
