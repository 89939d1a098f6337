#include "aggregator/query/posted_by.h"

#include <gtest/gtest.h>

#include <deque>

namespace orgtrail {
namespace {

struct Batch {
  Leaf leaf;
  std::deque<std::string> bodies;
  size_t Add(EventClass event_class, uint64_t seq, std::string body, uint16_t flags = 0) {
    Row row;
    row.event_class = static_cast<uint16_t>(event_class);
    row.seq = seq;
    row.flags = flags;
    row.body = bodies.emplace_back(std::move(body));
    leaf.events.rows.push_back(row);
    return leaf.events.rows.size() - 1;
  }
  size_t Posted(uint64_t seq, std::string_view by, std::string_view ranges, uint16_t flags = 0) {
    return Add(EventClass::kOwn, seq, R"({"eventSource":"orgtrail","eventName":"RecordsPosted","x":1,"serviceEventDetails":{"postedBy":")" + std::string(by) +
                                          R"(","records":3,"ranges":[)" + std::string(ranges) + "]}}", flags);
  }
};

TEST(PostedByTest, NamesWhoseRangeHoldsTheNumber) {
  Batch b;
  const size_t seven = b.Add(EventClass::kManagement, 7, "{}"), eight = b.Add(EventClass::kData, 8, "{}"), nine = b.Add(EventClass::kManagement, 9, "{}");
  const size_t clock = b.Add(EventClass::kOwn, 10, R"({"eventName":"ClockQuality"})");
  b.Posted(11, "http:uid=1000 (alice)", "[7,7],[9,9]");
  b.Posted(12, "http:token (ci)", "[2,3]");
  EXPECT_EQ(PostedBy(b.leaf, seven), "http:uid=1000 (alice)");
  EXPECT_EQ(PostedBy(b.leaf, eight), "");    // a file's
  EXPECT_EQ(PostedBy(b.leaf, nine), "http:uid=1000 (alice)");
  EXPECT_EQ(PostedBy(b.leaf, clock), "");
}

TEST(PostedByTest, OnlyOwnRecordsAtTheEndOfTheBatchCount) {
  Batch b;
  const size_t seven = b.Add(EventClass::kManagement, 7, "{}");
  const size_t fake = b.Posted(8, "http:loopback", "[7,7]");
  b.leaf.events.rows[fake].event_class = static_cast<uint16_t>(EventClass::kManagement);   // somebody's record that only looks like one
  EXPECT_EQ(PostedBy(b.leaf, seven), "");
  b.Posted(9, "http:loopback", "[7,7]", kFlagRecovered);   // of another epoch's numbers
  EXPECT_EQ(PostedBy(b.leaf, seven), "");
}

TEST(PostedByTest, WhatIsMalformedHoldsNothing) {
  for (const char* ranges : {"", "7,7", "[7", "[7,", "[x,7]", "[7,x]", "[,]", "7]", "[[7,7]]", "[99999999999999999999,7]"}) {
    Batch b;
    const size_t seven = b.Add(EventClass::kManagement, 7, "{}");
    b.Posted(8, "http:loopback", ranges);
    EXPECT_EQ(PostedBy(b.leaf, seven), "") << ranges;
  }
  Batch b;
  const size_t seven = b.Add(EventClass::kManagement, 7, "{}");
  b.Posted(8, "a\x1b[31m", "[1,9]");
  EXPECT_EQ(PostedBy(b.leaf, seven).find('\x1b'), std::string::npos);   // it goes to terminals
}

}  // namespace
}  // namespace orgtrail
