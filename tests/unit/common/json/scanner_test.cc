#include "common/json/scanner.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/base/limits.h"
#include "common/json/unescape.h"

namespace orgtrail::json {
namespace {

std::string Repeat(std::string_view s, size_t n) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += s;
  return out;
}

struct Case {
  std::string text;
  Flaw flaw;
};

std::vector<Case> Cases() {
  using enum Flaw;
  std::vector<Case> cases = {
      // Whole texts that are records.
      {"{}", kNone},
      {" \t\r\n{ } \n", kNone},
      {R"({"a":1})", kNone},
      {R"({ "a" : 1 , "b" : [ ] , "c" : { } })", kNone},
      {R"({"":0})", kNone},
      {R"({"a":{"a":{"a":[]}}})", kNone},
      {R"({"a":[{"a":1},{"a":1}]})", kNone},
      // Texts that are JSON and not records.
      {"[]", kNotObject}, {"1", kNotObject}, {"\"a\"", kNotObject}, {"null", kNotObject}, {" true ", kNotObject}, {"[{}]", kNotObject},
      {"false", kNotObject}, {"-0", kNotObject}, {"\"\"", kNotObject},
      // Structure.
      {"", kSyntax}, {" ", kSyntax}, {"{", kSyntax}, {"}", kSyntax}, {"[", kSyntax}, {"]", kSyntax}, {"{]", kSyntax}, {"[}", kSyntax},
      {R"({"a"})", kSyntax}, {R"({"a":})", kSyntax}, {R"({"a":1,})", kSyntax}, {R"({,"a":1})", kSyntax}, {R"({"a":1,,"b":2})", kSyntax},
      {R"({"a" 1})", kSyntax}, {R"({"a"::1})", kSyntax}, {R"({"a":1 "b":2})", kSyntax}, {R"({a:1})", kSyntax}, {R"({'a':1})", kSyntax},
      {R"({1:1})", kSyntax}, {R"({"a":1)", kSyntax}, {R"({"a":1]})", kSyntax}, {R"({"a":[1})", kSyntax}, {R"({"a":[1,]})", kSyntax},
      {R"({"a":[,1]})", kSyntax}, {R"({"a":[1 2]})", kSyntax}, {R"({"a":[1,,2]})", kSyntax}, {R"({"a":[})", kSyntax}, {R"({"a":[)", kSyntax},
      {R"({"a":("b")})", kSyntax}, {R"({"a":/*c*/1})", kSyntax}, {R"({"a":1}//)", kTrailing}, {R"({"a":1};)", kTrailing},
      {R"({"a":1}{"b":2})", kTrailing}, {R"({"a":1}})", kTrailing}, {R"({"a":1} x)", kTrailing}, {R"({},)", kTrailing},
      {std::string("{}\0", 3), kTrailing}, {std::string("\0{}", 3), kSyntax}, {"\f{}", kSyntax}, {"{\v}", kSyntax}, {"{\xC2\xA0}", kSyntax},
      {R"({"a":1,)", kSyntax}, {R"({"a":1, )", kSyntax}, {R"({"a":)", kSyntax}, {R"({"a": )", kSyntax}, {R"({"a")", kSyntax}, {R"({")", kSyntax},
      // Words.
      {R"({"a":true,"b":false,"c":null})", kNone},
      {R"({"a":True})", kSyntax}, {R"({"a":tru})", kSyntax}, {R"({"a":truee})", kSyntax}, {R"({"a":nul)", kSyntax}, {R"({"a":nulL})", kSyntax},
      {R"({"a":NaN})", kSyntax}, {R"({"a":Infinity})", kSyntax}, {R"({"a":-Infinity})", kSyntax}, {R"({"a":undefined})", kSyntax},
      {R"({"a":fals)", kSyntax}, {R"({"a":t)", kSyntax}, {R"({"a":falsey})", kSyntax},
      // Strings.
      {R"({"a":"\"\\\/\b\f\n\r\t\u0000\u00e9\uFFFF"})", kNone},
      {"{\"a\":\"\x7F\"}", kNone},
      {R"({"a":"\ud83d\ude00"})", kNone},
      {R"({"a":"\uD800"})", kLoneSurrogate}, {R"({"a":"\uD800x"})", kLoneSurrogate}, {R"({"a":"\uD800\n"})", kLoneSurrogate},
      {R"({"a":"\uDC00"})", kLoneSurrogate}, {R"({"a":"\uD800\uD800"})", kLoneSurrogate}, {R"({"a":"\uDC00\uD800"})", kLoneSurrogate},
      {R"({"a":"\ud800\u0041"})", kLoneSurrogate}, {R"({"\ud800":1})", kLoneSurrogate}, {R"({"a":"\ud83d\ude0"})", kLoneSurrogate},
      {R"({"a":"\x41"})", kSyntax}, {R"({"a":"\u12"})", kSyntax}, {R"({"a":"\u12G4"})", kSyntax}, {R"({"a":"\'"})", kSyntax}, {R"({"a":"\)", kSyntax},
      {R"({"a":"\U0041"})", kSyntax}, {R"({"a":"\u)", kSyntax}, {R"({"a":"\u004)", kSyntax}, {R"({"a":"\0"})", kSyntax}, {R"({"a":"\")", kSyntax},
      {"{\"a\":\"\n\"}", kSyntax}, {"{\"a\":\"\t\"}", kSyntax}, {std::string("{\"a\":\"\0\"}", 9), kSyntax}, {"{\"a\":\"\x1F\"}", kSyntax},
      {R"({"a":"b)", kSyntax}, {R"({"a)", kSyntax}, {"{\"a\n\":1}", kSyntax},
      // UTF-8.
      {"{\"a\":\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xF4\x8F\xBF\xBF\xEF\xBF\xBF\xED\x9F\xBF\xEE\x80\x80\"}", kNone},
      {"{\"\xC3\xA9\":1}", kNone},
      {"\xEF\xBB\xBF{}", kUtf8}, {"{\"a\":\"\x80\"}", kUtf8}, {"{\"a\":\"\xC3\"}", kUtf8}, {"{\"a\":\"\xC3", kUtf8}, {"{\"a\":\"\xC0\xAF\"}", kUtf8},
      {"{\"a\":\"\xC1\xBF\"}", kUtf8}, {"{\"a\":\"\xE0\x9F\xBF\"}", kUtf8}, {"{\"a\":\"\xED\xA0\x80\"}", kUtf8}, {"{\"a\":\"\xF0\x8F\xBF\xBF\"}", kUtf8},
      {"{\"a\":\"\xF4\x90\x80\x80\"}", kUtf8}, {"{\"a\":\"\xF5\x80\x80\x80\"}", kUtf8}, {"{\"a\":\"\xFF\"}", kUtf8}, {"{\"a\":\"\xFE\xFF\"}", kUtf8},
      {"{\"a\":\"\xE2\x82\"}", kUtf8}, {"{\"a\":\"\xF0\x9F\x98\"}", kUtf8}, {"{\"\xFF\":1}", kUtf8}, {"{\xFF}", kUtf8}, {"{\"a\":\"\xE2\x28\xA1\"}", kUtf8},
      {"{\"a\":\"" + Repeat("\xE4\xB8\xAD", 40) + "\xE4\xB8\"}", kUtf8}, {"{\"a\":\"" + Repeat("x", 61) + "\xC3\"}", kUtf8},
      // Numbers: text, never a value.
      {R"({"a":[0,-0,1,-1,10,1.5,-1.5e10,1E+2,1e-2,0.0,0e0,1e400,-1e-400,9007199254740993,18446744073709551616]})", kNone},
      {R"({"a":01})", kSyntax}, {R"({"a":-01})", kSyntax}, {R"({"a":+1})", kSyntax}, {R"({"a":1.})", kSyntax}, {R"({"a":.5})", kSyntax},
      {R"({"a":-})", kSyntax}, {R"({"a":-a})", kSyntax}, {R"({"a":1e})", kSyntax}, {R"({"a":1e+})", kSyntax}, {R"({"a":0x10})", kSyntax}, {R"({"a":1_0})", kSyntax},
      {R"({"a":1.e5})", kSyntax}, {R"({"a":1.5.5})", kSyntax}, {R"({"a":--1})", kSyntax}, {R"({"a":1)", kSyntax}, {R"({"a":-)", kSyntax}, {R"({"a":1e)", kSyntax},
      {R"({"a":1.)", kSyntax}, {R"({"a":00})", kSyntax}, {R"({"a":1a})", kSyntax},
      {"{\"a\":" + Repeat("9", 64) + "}", kNone}, {"{\"a\":" + Repeat("9", 65) + "}", kNumberLength}, {"{\"a\":-" + Repeat("9", 64) + "}", kNumberLength},
      {"{\"a\":1." + Repeat("0", 400) + "}", kNumberLength},
      // Keys.
      {"{\"" + Repeat("k", 1024) + "\":1}", kNone}, {"{\"" + Repeat("k", 1025) + "\":1}", kKeyLength}, {"{\"a\":{\"" + Repeat("k", 1025) + "\":1}}", kKeyLength},
      {R"({"eventName":"A","eventName":"B"})", kDuplicateKey}, {R"({"a":1,"b":2,"a":1})", kDuplicateKey}, {R"({"a":1,"\u0061":2})", kDuplicateKey},
      {R"({"\u0061":1,"a":2})", kDuplicateKey}, {R"({"\u0061":1,"\u0061":2})", kDuplicateKey}, {R"({"x":{"a":1,"a":2}})", kDuplicateKey},
      {R"({"x":[[{"a":1,"a":2}]]})", kDuplicateKey}, {R"({"":1,"":2})", kDuplicateKey}, {R"({"a\/b":1,"a/b":2})", kDuplicateKey},
      {R"({"\ud83d\ude00":1,"😀":2})", kDuplicateKey}, {R"({"a\nb":1,"a\u000ab":2})", kDuplicateKey}, {R"({"a":1,"A":2})", kNone}, {R"({"a":1,"a ":2})", kNone},
      {R"({"\u0000":1,"":2})", kNone}, {R"({"a\u0000":1,"a":2})", kNone}, {R"({"a":{"b":1},"b":2})", kNone}, {R"({"a\\u0061":1,"aa":2})", kNone},
      {R"({"abcdefghijklmnopqrstuvwxyz":1,"abcdefghijklmnopqrstuvwxyZ":2})", kNone}, {R"({"abcdefghijklmnopqrstuvwxyz":1,"abcdefghijklmnopqrstuvwxyz":2})", kDuplicateKey},
      {R"({"abcdefghijklmnop":1,"abcdefghijklmno\u0070":2})", kDuplicateKey}, {R"({"abcdefghijklmnopq":1,"abcdefghijklmno\u0070q":2})", kDuplicateKey},
      // Depth: the record is level 1.
      {Repeat("{\"a\":", 63) + "{}" + Repeat("}", 63), kNone}, {Repeat("{\"a\":", 64) + "{}" + Repeat("}", 64), kDepth},
      {"{\"a\":" + Repeat("[", 63) + Repeat("]", 63) + "}", kNone}, {"{\"a\":" + Repeat("[", 64) + Repeat("]", 64) + "}", kDepth}, {Repeat("[", 100000), kDepth},
      {Repeat("{\"a\":", 100000), kDepth},
  };
  return cases;
}

TEST(Scanner, JudgesEveryCase) {
  Scanner scanner;
  Fields fields;
  for (const Case& c : Cases()) {
    EXPECT_EQ(FlawName(scanner.Scan(c.text, &fields)), FlawName(c.flaw)) << c.text.substr(0, 200);
    EXPECT_LE(scanner.offset(), c.text.size());
    // Where a text ends in memory must not matter: a copy of exactly its size, so that ASan sees reads past it.
    const std::vector<char> exact(c.text.begin(), c.text.end());
    EXPECT_EQ(scanner.Scan({exact.data(), exact.size()}, &fields), c.flaw) << c.text.substr(0, 200);
    const Flaw any = c.flaw == Flaw::kNotObject ? Flaw::kNone : c.flaw;
    EXPECT_EQ(scanner.Validate(c.text, false), any) << c.text.substr(0, 200);
    EXPECT_EQ(scanner.Validate(c.text, true), c.flaw == Flaw::kDuplicateKey ? Flaw::kNone : any) << c.text.substr(0, 200);
  }
}

// The same texts with the interesting part moved across every position of a 16-byte block.
TEST(Scanner, JudgesTheSameAtEveryAlignment) {
  Scanner scanner;
  Fields fields;
  for (const Case& c : Cases()) {
    if (c.text.size() > 200 || c.flaw == Flaw::kNotObject || c.text.starts_with("\xEF\xBB\xBF")) continue;
    for (size_t shift = 0; shift < 33; ++shift) {
      const std::string text = Repeat(" ", shift) + c.text;
      ASSERT_EQ(scanner.Scan(text, &fields), c.flaw) << shift << text;
      const std::string deep = "{\"" + Repeat("p", shift) + "\":" + c.text + "}";
      const Flaw inner = scanner.Scan(deep, &fields);
      if (c.flaw == Flaw::kNone) {
        ASSERT_EQ(inner, c.text.find("[[[[[[[[") == std::string::npos ? Flaw::kNone : Flaw::kDepth) << deep;
      } else {
        ASSERT_NE(inner, Flaw::kNone) << deep;
      }
    }
  }
}

TEST(Scanner, SaysWhereItWentWrong) {
  Scanner scanner;
  Fields fields;
  EXPECT_EQ(scanner.Scan(R"({"a":1,"a":2})", &fields), Flaw::kDuplicateKey);
  EXPECT_EQ(scanner.offset(), 7u);
  EXPECT_EQ(scanner.Scan("{\"a\":\"xx\xFF\"}", &fields), Flaw::kUtf8);
  EXPECT_EQ(scanner.offset(), 8u);
  EXPECT_EQ(scanner.Scan("{}  x", &fields), Flaw::kTrailing);
  EXPECT_EQ(scanner.offset(), 4u);
}

TEST(Scanner, FindsDuplicatesInObjectsOfAnySize) {
  Scanner scanner;
  Fields fields;
  for (size_t n : {2, 31, 32, 33, 34, 64, 65, 511, 513, 1025, 5000}) {
    std::string members;
    for (size_t i = 0; i < n; ++i) members += "\"key" + std::to_string(i) + "\":{\"key1\":" + std::to_string(i) + "},";
    EXPECT_EQ(scanner.Scan("{" + members + "\"last\":1}", &fields), Flaw::kNone) << n;
    for (size_t i : {size_t{0}, n / 2, n - 1}) {
      const std::string again = "\"key" + std::to_string(i) + "\":1}";
      EXPECT_EQ(scanner.Scan("{" + members + again, &fields), Flaw::kDuplicateKey) << n << " " << i;
      EXPECT_EQ(scanner.Scan("{" + members + "\"\\u006bey" + again.substr(4), &fields), Flaw::kDuplicateKey) << n << " " << i;
    }
    // Two large objects side by side, and one within the other, share keys without being duplicates.
    const std::string object = "{" + members + "\"last\":1}";
    EXPECT_EQ(scanner.Scan("{\"x\":" + object + ",\"y\":" + object + "," + members + "\"z\":" + object + "}", &fields), Flaw::kNone) << n;
  }
}

TEST(Scanner, StaysLinearUnderAFloodOfKeys) {
  Scanner scanner;
  Fields fields;
  std::string text = "{";
  for (int i = 0; i < 300000; ++i) text += "\"k" + std::to_string(i) + "\":0,";
  text += "\"end\":0}";
  EXPECT_EQ(scanner.Scan(text, &fields), Flaw::kNone);
  text.insert(text.size() - 1, ",\"k17\":0");
  EXPECT_EQ(scanner.Scan(text, &fields), Flaw::kDuplicateKey);
  EXPECT_EQ(scanner.Scan("{\"k17\":0}", &fields), Flaw::kNone) << "nothing remains of an earlier scan";
}

TEST(Scanner, FindsTheFields) {
  const std::string text = R"( {"eventVersion":"1.08","userIdentity":{"type":"AssumedRole","principalId":"AROA:alice","arn":"arn:aws:sts::111111111111:assumed-role/Admin/alice","accountId":"111111111111","accessKeyId":"ASIAEXAMPLE","userName":"u","invokedBy":"ec2","sessionContext":{"attributes":{"arn":"not this"},"sessionIssuer":{"type":"Role","arn":"arn:aws:iam::111111111111:role/Admin","userName":"Admin"}}},
 "eventTime":"2026-11-20T09:01:44Z","eventSource":"s3.amazonaws.com","eventName" : "PutObject" ,"awsRegion":"eu-west-1","sourceIPAddress":"192.0.2.1","errorCode":null,
 "requestParameters":{"bucketName":"b","eventName":"inner"},"responseElements":null,"readOnly":false,"resources":[{"ARN":"arn:aws:s3:::b","type":"AWS::S3::Bucket"},7,{"type":"AWS::S3::Object","ARNPrefix":"arn:aws:s3:::b/"},{}],
 "\u0065ventID":"caf\u00e9","eventType":"AwsApiCall","managementEvent":true,"eventCategory":"Data","recipientAccountId":"222222222222","sharedEventID":"s","other":{"eventTime":"x","resources":[{"ARN":"no"}]}} )";
  Scanner scanner;
  Fields f;
  ASSERT_EQ(scanner.Scan(text, &f), Flaw::kNone) << scanner.offset();
  EXPECT_EQ(f.event_version.text(), "1.08");
  EXPECT_EQ(f.identity_type.text(), "AssumedRole");
  EXPECT_EQ(f.identity_principal.text(), "AROA:alice");
  EXPECT_EQ(f.identity_arn.text(), "arn:aws:sts::111111111111:assumed-role/Admin/alice");
  EXPECT_EQ(f.identity_account.text(), "111111111111");
  EXPECT_EQ(f.identity_access_key.text(), "ASIAEXAMPLE");
  EXPECT_EQ(f.identity_user_name.text(), "u");
  EXPECT_EQ(f.identity_invoked_by.text(), "ec2");
  EXPECT_EQ(f.issuer_arn.text(), "arn:aws:iam::111111111111:role/Admin");
  EXPECT_EQ(f.issuer_user_name.text(), "Admin");
  EXPECT_EQ(f.event_time.text(), "2026-11-20T09:01:44Z");
  EXPECT_EQ(f.event_source.text(), "s3.amazonaws.com");
  EXPECT_EQ(f.event_name.text(), "PutObject");
  EXPECT_EQ(f.aws_region.text(), "eu-west-1");
  EXPECT_EQ(f.source_ip.text(), "192.0.2.1");
  EXPECT_EQ(f.error_code.type, Value::Type::kNull);
  EXPECT_EQ(f.request_parameters.raw, R"({"bucketName":"b","eventName":"inner"})");
  EXPECT_EQ(f.response_elements.type, Value::Type::kNull);
  EXPECT_EQ(f.read_only.type, Value::Type::kFalse);
  EXPECT_TRUE(f.event_id.escaped);
  EXPECT_EQ(Text(f.event_id), "caf\xC3\xA9");
  EXPECT_EQ(f.event_type.text(), "AwsApiCall");
  EXPECT_EQ(f.management_event.type, Value::Type::kTrue);
  EXPECT_EQ(f.event_category.text(), "Data");
  EXPECT_EQ(f.recipient_account.text(), "222222222222");
  EXPECT_EQ(f.shared_event_id.text(), "s");
  ASSERT_EQ(f.resources.size(), 3u);
  EXPECT_EQ(f.resources[0].name.text(), "arn:aws:s3:::b");
  EXPECT_EQ(f.resources[1].type.text(), "AWS::S3::Object");
  EXPECT_EQ(f.resources[1].name.text(), "arn:aws:s3:::b/");
  EXPECT_FALSE(f.resources[2].name);
  EXPECT_EQ(text[f.close], '}');
  EXPECT_EQ(f.close, text.size() - 2);
  EXPECT_FALSE(f.empty);

  ASSERT_EQ(scanner.Scan("{ }", &f), Flaw::kNone);
  EXPECT_TRUE(f.empty);
  EXPECT_FALSE(f.event_name);
  EXPECT_TRUE(f.resources.empty());
  EXPECT_EQ(f.close, 2u);
}

TEST(Scanner, CollectsParameters) {
  Scanner scanner;
  Fields f;
  ASSERT_EQ(scanner.Scan(R"({"x":{"no":"no"},"requestParameters":{"bucketName":"b","n":1,"instancesSet":{"items":[{"instanceId":"i-1"},{"instanceId":"i-2","deep":{"er":"no"}}]},
      "instanceIds":["i-3",["i-4"],null],"esc":"\u0061"},"responseElements":{"role":{"arn":"a"}},"resources":[{"ARN":"no"}],"z":"no"})", &f),
            Flaw::kNone);
  const std::pair<std::string_view, std::string_view> expected[] = {{"bucketName", "b"}, {"instanceId", "i-1"}, {"instanceId", "i-2"}, {"instanceIds", "i-3"},
                                                                    {"instanceIds", "i-4"}, {"esc", "\\u0061"}, {"arn", "a"}};
  ASSERT_EQ(f.parameters.size(), std::size(expected));
  for (size_t i = 0; i < std::size(expected); ++i) {
    EXPECT_EQ(f.parameters[i].name, expected[i].first);
    EXPECT_EQ(f.parameters[i].value.text(), expected[i].second);
    EXPECT_EQ(f.parameters[i].top, i == 0 || i == 5) << i;
  }
  ASSERT_EQ(scanner.Scan(R"({"requestParameters":"text","responseElements":["list",{"a":"b"}]})", &f), Flaw::kNone);
  EXPECT_EQ(f.request_parameters.text(), "text");
  std::string many = "{\"requestParameters\":[";
  for (int i = 0; i < 1000; ++i) many += "\"a\",";
  ASSERT_EQ(scanner.Scan(many + "0]}", &f), Flaw::kNone);
  EXPECT_EQ(f.parameters.size(), 128u);
}

TEST(Scanner, TakesFieldsOfAnyType) {
  Scanner scanner;
  Fields f;
  for (const char* value : {"null", "1", "true", "[]", "{}", "[{\"a\":[1,{\"b\":2}]}]", "{\"arn\":{\"x\":1},\"sessionContext\":[{\"sessionIssuer\":1}]}", "\"x\""}) {
    std::string text = "{";
    for (const char* key : {"eventID", "eventTime", "resources", "userIdentity", "sourceIPAddress", "errorCode", "requestParameters", "recipientAccountId"}) {
      text += std::string("\"") + key + "\":" + value + ",";
    }
    text += "\"end\":1}";
    ASSERT_EQ(scanner.Scan(text, &f), Flaw::kNone) << text;
    EXPECT_EQ(f.source_ip.raw, value);
    EXPECT_EQ(f.event_id.raw, value);
  }
  std::string many = "{\"resources\":[";
  for (int i = 0; i < 100; ++i) many += "{\"ARN\":\"a\"},";
  many += "{}]}";
  ASSERT_EQ(scanner.Scan(many, &f), Flaw::kNone);
  EXPECT_EQ(f.resources.size(), 64u);
}

TEST(Unescape, Table) {
  const std::pair<const char*, std::string> table[] = {
      {"", ""}, {"abc", "abc"}, {R"(\"\\\/\b\f\n\r\t)", "\"\\/\b\f\n\r\t"}, {R"(\u0041\u00e9\u20AC\ud83d\ude00)", "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
      {R"(x\u0000y)", std::string("x\0y", 3)}, {R"(\\u0041)", "\\u0041"}, {R"(\ud800)", "\xEF\xBF\xBD"},
  };
  for (const auto& [in, out] : table) {
    std::string text(std::string_view(in).size(), '\0');
    text.resize(Unescape(in, text.data()));
    EXPECT_EQ(text, out) << in;
  }
}

TEST(SplitRecords, Table) {
  struct {
    const char* text;
    bool ok;
    std::vector<std::string_view> records;
  } table[] = {
      {R"({"Records":[]})", true, {}},
      {R"({"Records":[{"a":1}]})", true, {R"({"a":1})"}},
      {" { \"Records\" : [ {\"a\":[1,2]} , {\"b\":\"x,]}\\\"\"}\n] }\n", true, {R"({"a":[1,2]})", R"({"b":"x,]}\""})"}},
      {R"({"Records":[{"a":"\\"},1,"x"]})", true, {R"({"a":"\\"})", "1", R"("x")"}},
      {R"({"Records":[{"a" 1},{"b":2}]})", true, {R"({"a" 1})", R"({"b":2})"}},  // the scanner refuses the first, alone
      {R"({"Records":[{"a":1},]})", false, {}}, {R"({"Records":[,]})", false, {}}, {R"({"Records":[{"a":1})", false, {}}, {R"({"Records":[{"a":1}]})" "x", false, {}},
      {R"({"Records":[{"a":1}],"more":1})", false, {}}, {R"({"records":[]})", false, {}}, {R"([{"a":1}])", false, {}}, {R"({"a":1})", false, {}}, {"", false, {}},
      {R"({"Records":[{"a":1]})", false, {}}, {R"({"Records":["a]})", false, {}}, {R"({"Records":{}})", false, {}}, {R"({"Records":["a\"]})", false, {}},
  };
  for (const auto& t : table) {
    std::vector<std::string_view> records = {"stale"};
    EXPECT_EQ(SplitRecords(t.text, &records), t.ok) << t.text;
    EXPECT_EQ(records, t.records) << t.text;
  }
}

// Real records, when this machine has some.
TEST(RealRecords, ScanAsTheyShould) {
  std::filesystem::path dir = ORGTRAIL_SOURCE_DIR "/../shared/data";
  if (!std::filesystem::exists(dir)) dir = ORGTRAIL_SOURCE_DIR "/../../shared/data";
  if (!std::filesystem::exists(dir)) return;
  Scanner scanner;
  Fields fields;
  size_t valid = 0, refused = 0;
  for (const auto& file : std::filesystem::directory_iterator(dir)) {
    const std::string name = file.path().filename().string();
    const bool malformed = name.ends_with(".jsonl.malformed");
    if (!malformed && !(name.ends_with(".jsonl") && name.starts_with("cloudtrail-"))) continue;
    std::ifstream in(file.path(), std::ios::binary);
    for (std::string line; std::getline(in, line);) {
      if (line.empty()) continue;
      const Flaw flaw = scanner.Scan(line, &fields);
      if (malformed) {
        EXPECT_NE(flaw, Flaw::kNone) << name << ": " << line.substr(0, 200);
        ++refused;
      } else {
        // Among the fixtures of other projects one does have a member twice.
        if (flaw == Flaw::kDuplicateKey && name == "cloudtrail-misc-tests.jsonl") continue;
        EXPECT_EQ(FlawName(flaw), "NONE") << name << " at " << scanner.offset() << ": " << line.substr(0, 300);
        ++valid;
      }
    }
  }
  RecordProperty("valid", static_cast<int>(valid));
  RecordProperty("refused", static_cast<int>(refused));
}

}  // namespace
}  // namespace orgtrail::json
