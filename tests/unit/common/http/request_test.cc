#include "common/http/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orgtrail {
namespace {

using testing::HasSubstr;

TEST(Request, PercentDecodeIsExact) {
  EXPECT_EQ(PercentDecode("a%20b%2F%c3%A9", false), "a b/\xc3\xa9");
  EXPECT_EQ(PercentDecode("a+b%2B", false), "a+b+");
  EXPECT_EQ(PercentDecode("a+b%2B", true), "a b+");
  for (std::string_view bad : {"%", "%2", "a%2g", "%%20", "%00"}) EXPECT_FALSE(PercentDecode(bad, true)) << bad;
}

TEST(Request, Targets) {
  struct Case {
    std::string_view target;
    bool ok;
    std::string path;
    std::vector<std::pair<std::string, std::string>> query;
  };
  const Case cases[] = {
      {"/", true, "/", {}},
      {"/a%20b?x=1&y&&z=%26=", true, "/a b", {{"x", "1"}, {"y", ""}, {"z", "&="}}},
      {"/a?channelArn=arn%3Aaws%3Ax", true, "/a", {{"channelArn", "arn:aws:x"}}},
      {"http://h:1/p?q=1", true, "/p", {{"q", "1"}}},
      {"HTTP://h", true, "/", {}},
      {"http://h?q=1", false, "", {}},
      {"*", false, "", {}},
      {"", false, "", {}},
      {"h:443", false, "", {}},
      {"/%zz", false, "", {}},
      {"/?%zz=1", false, "", {}},
      {"/?a=%0", false, "", {}},
  };
  for (const Case& c : cases) {
    std::string path;
    std::vector<std::pair<std::string, std::string>> query;
    EXPECT_EQ(ParseTarget(c.target, &path, &query), c.ok) << c.target;
    if (!c.ok) continue;
    EXPECT_EQ(path, c.path) << c.target;
    EXPECT_EQ(query, c.query) << c.target;
  }
  std::string many = "/?";
  for (int i = 0; i < 300; ++i) many += "a&";
  std::string path;
  std::vector<std::pair<std::string, std::string>> query;
  EXPECT_FALSE(ParseTarget(many, &path, &query));
}

TEST(Request, BearerTokens) {
  EXPECT_EQ(BearerToken("Bearer abc"), "abc");
  EXPECT_EQ(BearerToken("bearer   abc "), "abc");
  for (std::string_view bad : {"", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "Bearerabc"}) {
    EXPECT_FALSE(BearerToken(bad)) << bad;
  }
}

TEST(Request, SigV4IsTakenApart) {
  const std::string sig(64, 'a');
  const std::string good = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-west-1/cloudtrail-data/aws4_request, "
                           "SignedHeaders=host;x-amz-date, Signature=" + sig;
  std::optional<SigV4> parsed = ParseSigV4(good);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->access_key, "AKIDEXAMPLE");
  EXPECT_EQ(parsed->region, "eu-west-1");
  EXPECT_EQ(parsed->service, "cloudtrail-data");
  for (const std::string& bad : std::vector<std::string>{
           "", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512 " + good.substr(17), "AWS4-HMAC-SHA256 Credential=A/2/r/s/aws4_request",
           "AWS4-HMAC-SHA256 Credential=A/20260101/r/s/aws4_request,SignedHeaders=h,Signature=" + sig + "a",
           "AWS4-HMAC-SHA256 Credential=A/20260101/r/s/aws4_request,SignedHeaders=h,Signature=" + std::string(64, 'g'),
           "AWS4-HMAC-SHA256 Credential=A/20260101/r/s/other,SignedHeaders=h,Signature=" + sig,
           "AWS4-HMAC-SHA256 Credential=A/20260101/r\"/s/aws4_request,SignedHeaders=h,Signature=" + sig,
           "AWS4-HMAC-SHA256 Credential=A/20260101/r/s/aws4_request,SignedHeaders=h,Signature=" + sig + ",Signature=" + sig}) {
    EXPECT_FALSE(ParseSigV4(bad)) << bad;
  }
}

TEST(Request, ListenAddresses) {
  struct Case {
    std::string_view listen;
    bool ok, loopback;
    int port;
  };
  const Case cases[] = {
      {"127.0.0.1:8787", true, true, 8787}, {"127.9.9.9:0", true, true, 0},  {"localhost:80", true, true, 80},
      {"[::1]:65535", true, true, 65535},   {"0.0.0.0:1", true, false, 1},   {"[::]:1", true, false, 1},
      {"10.0.0.1:1", true, false, 1},       {"[::ffff:127.0.0.1]:1", true, false, 1},
      {"", false, false, 0},                {"8787", false, false, 0},       {":8787", false, false, 0},
      {"127.0.0.1", false, false, 0},       {"127.0.0.1:65536", false, false, 0}, {"127.0.0.1:-1", false, false, 0},
      {"127.1:80", false, false, 0},        {"::1:80", false, false, 0},     {"example.org:80", false, false, 0},
      {"unix:relative", false, false, 0},
  };
  for (const Case& c : cases) {
    absl::StatusOr<ListenAddress> got = ParseListen(c.listen);
    ASSERT_EQ(got.ok(), c.ok) << c.listen << " " << got.status();
    if (!c.ok) continue;
    EXPECT_EQ(got->loopback, c.loopback) << c.listen;
    EXPECT_EQ(got->port, c.port) << c.listen;
  }
  EXPECT_EQ(ParseListen("unix:/run/x.sock")->unix_path, "/run/x.sock");
  EXPECT_FALSE(ParseListen("unix:/" + std::string(107, 'x')).ok());
}

TEST(Request, ResponsesCannotBeSplit) {
  HttpResponse response;
  response.body = "{}";
  response.headers = {{"X-Good", "1"}, {"X-Bad", "1\r\nSet-Cookie: a"}, {"Bad Name", "1"}};
  const std::string text = FormatResponse(response, true, true);
  EXPECT_TRUE(text.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\nX-Good: 1\r\n"));
  EXPECT_EQ(text.find("Bad"), std::string::npos);
  EXPECT_TRUE(text.ends_with("Connection: keep-alive\r\n\r\n{}"));
  EXPECT_TRUE(FormatResponse(response, false, false).ends_with("Connection: close\r\n\r\n"));
}

}  // namespace
}  // namespace orgtrail
