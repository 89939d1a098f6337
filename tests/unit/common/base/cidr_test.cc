#include "common/base/cidr.h"

#include <gtest/gtest.h>

namespace orgtrail {
namespace {

TEST(Cidr, ContainsExactlyItsRange) {
  struct Case {
    std::string_view cidr, address;
    bool inside;
  };
  for (const Case& c : {Case{"10.0.0.0/8", "10.255.0.1", true}, Case{"10.0.0.0/8", "11.0.0.0", false},
                        Case{"10.1.2.128/25", "10.1.2.129", true}, Case{"10.1.2.128/25", "10.1.2.127", false},
                        Case{"10.1.2.3", "10.1.2.3", true}, Case{"10.1.2.3", "10.1.2.4", false},
                        Case{"0.0.0.0/0", "1.2.3.4", true}, Case{"0.0.0.0/0", "2001:db8::1", false},
                        Case{"2001:db8::/32", "2001:db8:ffff::1", true}, Case{"2001:db8::/32", "2001:db9::1", false},
                        Case{"10.0.0.0/8", "nonsense", false}, Case{"::/0", "::1", true}}) {
    EXPECT_EQ(ParseCidr(c.cidr).value().Contains(c.address), c.inside) << c.cidr << " " << c.address;
  }
  for (std::string_view bad : {"", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "::/129", "10.0.0.0/8x", "/8"}) {
    EXPECT_FALSE(ParseCidr(bad).has_value()) << bad;
  }
}

TEST(Ip, ReadsWhatIsAnAddressAndNothingElse) {
  for (std::string_view good : {"0.0.0.0", "255.255.255.255", "192.0.2.1", "::", "::1", "2001:DB8::a", "::ffff:192.0.2.1"}) {
    EXPECT_TRUE(ParseIp(good).has_value()) << good;
  }
  EXPECT_EQ(ParseIp("::ffff:192.0.2.1"), ParseIp("192.0.2.1"));
  EXPECT_TRUE(IsIpv4(*ParseIp("192.0.2.1")));
  EXPECT_FALSE(IsIpv4(*ParseIp("::1")));
  for (std::string_view bad : {"", "1", "1.2.3", "1.2.3.4.5", "1.2.3.4.", ".1.2.3", "1..2.3", "256.1.1.1", "1.2.3.1000", "01.2.3.4", "1.2.3.4 ", "1.2.3.-4",
                               "AWS Internal", "s3.amazonaws.com", ":", "1::2::3", "2001:db8::g", "::ffff:256.0.0.1", "1:2:3:4:5:6:7:8:9",
                               "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"}) {
    EXPECT_FALSE(ParseIp(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace orgtrail
