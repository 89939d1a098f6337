#include "aggregator/client/shards.h"

#include <gtest/gtest.h>

namespace orgtrail::client {
namespace {

const std::vector<ShardFacts> kThree = {
    {.number = 1, .first = 0, .end = 1000, .last_logged_ns = 1'790'000'000'000'000'000, .bytes = 1 << 20, .sealed = true, .repacked = true},
    {.number = 2, .first = 1000, .end = 2500, .last_logged_ns = 1'790'000'100'000'000'000, .bytes = 4 << 20, .sealed = true},
    {.number = 3, .first = 2500, .end = 2500, .bytes = 1 << 20},
};

TEST(Shards, ALineSumsThemUp) {
  EXPECT_EQ(ShardsLine(kThree), "3: 2 sealed, 1 of them repacked; 6.0 MiB; leaves 0 to 2,499");
  EXPECT_EQ(ShardsLine(std::span(kThree).subspan(2)), "1: 0 sealed; 1.0 MiB");
  EXPECT_EQ(ShardsLine({}), "0: 0 sealed; 0 B");
}

TEST(Shards, ATableHasOneALine) {
  const std::string table = ShardsTable(kThree, false);
  for (const char* part : {"repacked", "sealed", "growing", "1,000", "2,499", "2026-09-21T", "LAST LEAF"}) EXPECT_NE(table.find(part), std::string::npos) << part << table;
}

TEST(Shards, JsonIsAnArray) {
  EXPECT_EQ(ShardsJson(std::span(kThree).subspan(1)),
            R"([{"number":2,"sealed":true,"repacked":false,"bytes":4194304,"firstLeaf":1000,"endLeaf":2500,"lastLogged":"2026-09-21T14:15:00Z"},)"
            R"({"number":3,"sealed":false,"repacked":false,"bytes":1048576,"firstLeaf":2500,"endLeaf":2500,"lastLogged":null}])");
  EXPECT_EQ(ShardsJson({}), "[]");
}

}  // namespace
}  // namespace orgtrail::client
