#include "common/base/ids.h"

#include <gtest/gtest.h>

namespace orgtrail {
namespace {

TEST(Identity, RoundTrips) {
  for (const char* uri :
       {"spiffe://o-demo/account/222222222222/region/eu-west-1/agent/web-1", "spiffe://o-demo/account/222222222222/user/ivy",
        "spiffe://o-demo/role/governance/admin", "spiffe://o-demo/role/auditor/a", "spiffe://o-demo/aggregator/us-east-1"}) {
    std::optional<Identity> id = Identity::Parse(uri);
    ASSERT_TRUE(id) << uri;
    EXPECT_EQ(id->ToUri(), uri);
  }
}

TEST(Identity, RefusesWhatIsNotExact) {
  for (const char* uri :
       {"spiffe://o-demo/account/../111111111111", "spiffe://o-demo/account/222222222222/region/r/agent/a/",
        "spiffe://o-demo/account/222222222222/region/r/agent/%2e%2e", "spiffe://o-demo:1/role/auditor/a",
        "spiffe://o-demo/role/auditor/a?x=1", "spiffe://O-demo/role/auditor/a", "spiffe://o-demo/account/22222222222/user/a",
        "spiffe://o-demo/role/root/a", "https://o-demo/role/auditor/a", "spiffe:///role/auditor/a", ""}) {
    EXPECT_FALSE(Identity::Parse(uri)) << uri;
  }
  EXPECT_FALSE(Identity::Parse("spiffe://o-demo/role/auditor/" + std::string(2049, 'a')));
}

TEST(Uuid, TextRoundTrips) {
  std::optional<Uuid> u = Uuid::Parse("00112233-4455-6677-8899-aabbccddeeff");
  ASSERT_TRUE(u);
  EXPECT_EQ(u->ToString(), "00112233-4455-6677-8899-aabbccddeeff");
  EXPECT_FALSE(Uuid::Parse("00112233-4455-6677-8899-aabbccddeef"));
}

}  // namespace
}  // namespace orgtrail
