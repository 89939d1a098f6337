#include "common/json/members.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace orgtrail::json {
namespace {

using Type = Value::Type;

std::vector<std::string> Members(std::string_view text) {
  std::vector<std::string> out;
  MemberWalk walk(text);
  for (Value key, value; walk.Next(&key, &value);) out.push_back(Text(key) + "=" + std::string(value.raw));
  return out;
}

std::vector<std::string> Elements(std::string_view text) {
  std::vector<std::string> out;
  ElementWalk walk(text);
  for (Value value; walk.Next(&value);) out.push_back(std::string(value.raw));
  return out;
}

using List = std::vector<std::string>;

TEST(MemberWalk, GivesEveryMemberAsItStands) {
  EXPECT_EQ(Members("{}"), List{});
  EXPECT_EQ(Members(" { } "), List{});
  EXPECT_EQ(Members(R"({"a":1})"), (List{"a=1"}));
  EXPECT_EQ(Members("{ \"a\" :\t1e400 ,\n\"b\": [1, {\"c\":\"]}\"}] ,\"d\":null,\"e\":true , \"f\":false}"),
            (List{"a=1e400", "b=[1, {\"c\":\"]}\"}]", "d=null", "e=true", "f=false"}));
  EXPECT_EQ(Members(R"({"q\"":"a\\","k":"}\"{"})"), (List{"q\"=\"a\\\\\"", R"(k="}\"{")"}));
  EXPECT_EQ(Members(R"({"a":1,"a":2})"), (List{"a=1", "a=2"}));
  EXPECT_EQ(Members(R"({"\u0061":{}})"), (List{"a={}"}));
}

TEST(ElementWalk, GivesEveryElementAsItStands) {
  EXPECT_EQ(Elements("[]"), List{});
  EXPECT_EQ(Elements(" [ 1 ,\"x,]\", [2,[3]] , {\"a\":[]},-0.5e-3]"), (List{"1", "\"x,]\"", "[2,[3]]", "{\"a\":[]}", "-0.5e-3"}));
}

TEST(Walks, GiveNothingOfAnotherKind) {
  for (const char* text : {"", " ", "1", "\"x\"", "null", "[]", "[{\"a\":1}]"}) EXPECT_EQ(Members(text), List{}) << text;
  for (const char* text : {"", "1", "{}", "{\"a\":[1]}"}) EXPECT_EQ(Elements(text), List{}) << text;
}

TEST(Walks, EndOnTextThatWasNeverValidated) {
  const std::string whole = R"({"a":[1,{"b":"c\"d"}],"e":{"f":null}})";
  for (size_t n = 0; n <= whole.size(); ++n) Members(whole.substr(0, n)), Elements(whole.substr(n));
  for (const char* text : {"{:", "{\"a\"::", "{,,,", "[::", "[,,]", "{\"a\":}", "[\"", "{\"\\"}) Members(text), Elements(text);
}

TEST(Whole, KnowsTheKind) {
  const std::pair<const char*, Type> kinds[] = {{" {}", Type::kObject}, {"[1]", Type::kArray},   {"\"a\"", Type::kString}, {"-1", Type::kNumber},
                                               {"true", Type::kTrue},  {"false", Type::kFalse}, {"null", Type::kNull},    {" ", Type::kAbsent}};
  for (const auto& [text, type] : kinds) EXPECT_EQ(Whole(text).type, type) << text;
  EXPECT_TRUE(Whole(R"("a\n")").escaped);
  EXPECT_FALSE(Whole(R"("a")").escaped);
}

}  // namespace
}  // namespace orgtrail::json
