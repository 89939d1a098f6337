// The scanner against simdjson's DOM, on records bent in every way: both must call the same texts JSON.
#include <gtest/gtest.h>
#include <simdjson.h>

#include <filesystem>
#include <fstream>

#include "common/json/scanner.h"

namespace orgtrail::json {
namespace {

class Dice {  // splitmix64
 public:
  explicit Dice(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
  }
  size_t Below(size_t n) { return Next() % n; }

 private:
  uint64_t state_;
};

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds = {
      R"({"eventVersion":"1.08","userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::111111111111:user/bob"},"eventTime":"2026-11-20T09:01:44Z","requestParameters":{"a":[1,-2.5e3,true,null,"x\ny"]},"responseElements":null,"readOnly":false})",
      "{\"a\":\"caf\xC3\xA9 \xE4\xB8\xAD\xE6\x96\x87 \xF0\x9F\x98\x80\",\"b\\u00e9\":\"\\ud83d\\ude00\",\"c\":{\"d\":{}}}",
      " { \"a\" : [ 0 , 1.25 , -0.0 , 1e5 , [ ] , { } ] , \"b\" : \"\\\"\\\\\\/\" }\n",
      R"({"policy":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"*\"}]}","n":[[[[1]]]]})",
  };
  for (const char* up : {"/../shared/data", "/../../shared/data"}) {
    const std::filesystem::path dir = std::string(ORGTRAIL_SOURCE_DIR) + up;
    if (!std::filesystem::exists(dir)) continue;
    for (const char* name : {"edge-cloudtrail.jsonl", "k8s-falco.jsonl", "cloudtrail-misc-tests.jsonl"}) {
      std::ifstream in(dir / name);
      size_t n = 0;
      for (std::string line; n < 60 && std::getline(in, line); ++n) seeds.push_back(line);
    }
    break;
  }
  return seeds;
}

std::string Bend(std::string text, Dice& dice) {
  static constexpr std::string_view kBytes = "{}[]:,\"\\ \t\n0123456789-+.eEtfnu/abcdef\x01\x7F\x80\xBF\xC0\xC3\xE2\xED\xF0\xF4\xFF";
  const size_t changes = 1 + dice.Below(3);
  for (size_t i = 0; i < changes && !text.empty(); ++i) {
    const size_t at = dice.Below(text.size());
    const char byte = kBytes[dice.Below(kBytes.size())];
    switch (dice.Below(7)) {
      case 0: text[at] = byte; break;
      case 1: text.insert(text.begin() + static_cast<ptrdiff_t>(at), byte); break;
      case 2: text.erase(at, 1); break;
      case 3: text.resize(at); break;
      case 4: text.insert(at, text.substr(dice.Below(text.size()), dice.Below(12))); break;
      case 5: text[at] = static_cast<char>(text[at] ^ (1 << dice.Below(8))); break;
      default: std::swap(text[at], text[dice.Below(text.size())]); break;
    }
  }
  return text;
}

// simdjson makes numbers of numbers, so it refuses what no double or 64-bit integer holds.
bool HasALargeNumber(std::string_view text) {
  size_t run = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    run = digit || text[i] == '.' ? run + 1 : 0;
    if (run >= 19) return true;
    if (i > 0 && (text[i] == 'e' || text[i] == 'E') && ((text[i - 1] >= '0' && text[i - 1] <= '9') || text[i - 1] == '.')) return true;
  }
  return false;
}

TEST(Differential, AgreesWithSimdjson) {
  simdjson::dom::parser parser;
  Scanner scanner;
  Dice dice(20261121);
  size_t valid = 0, invalid = 0, excused = 0;
  for (const std::string& seed : Seeds()) {
    for (int i = 0; i < 120; ++i) {
      const std::string text = i == 0 ? seed : Bend(seed, dice);
      const Flaw flaw = scanner.Validate(text, /*allow_duplicates=*/true);
      const auto theirs = parser.parse(text.data(), text.size()).error();
      if (flaw == Flaw::kLoneSurrogate || flaw == Flaw::kDepth || flaw == Flaw::kKeyLength || flaw == Flaw::kNumberLength) {
        ++excused;  // stricter on purpose
      } else if (flaw == Flaw::kNone && theirs != simdjson::SUCCESS && HasALargeNumber(text)) {
        ++excused;
      } else {
        ASSERT_EQ(flaw == Flaw::kNone, theirs == simdjson::SUCCESS) << FlawName(flaw) << " at " << scanner.offset() << ", simdjson: " << theirs << "\n" << text;
        ++(flaw == Flaw::kNone ? valid : invalid);
      }
      // With and without fields is one verdict, but for what only a record can be.
      Fields fields;
      const Flaw strict = scanner.Validate(text, false);
      const Flaw scanned = scanner.Scan(text, &fields);
      if (scanned != Flaw::kNotObject) {
        ASSERT_EQ(scanned, strict) << text;
      }
    }
  }
  EXPECT_GT(valid, 50u);
  EXPECT_GT(invalid, 200u);
  EXPECT_LT(excused * 10, valid + invalid);
}

// What was found must be what simdjson finds, on every record that both accept.
TEST(Differential, FindsTheSameFields) {
  simdjson::dom::parser parser;
  Scanner scanner;
  Fields f;
  for (const std::string& seed : Seeds()) {
    if (scanner.Scan(seed, &f) != Flaw::kNone) continue;
    simdjson::dom::element doc;
    if (parser.parse(seed.data(), seed.size()).get(doc) != simdjson::SUCCESS) continue;
    const std::pair<const char*, const Value*> fields[] = {
        {"/eventTime", &f.event_time}, {"/eventName", &f.event_name}, {"/eventSource", &f.event_source}, {"/awsRegion", &f.aws_region}, {"/eventID", &f.event_id},
        {"/sourceIPAddress", &f.source_ip}, {"/errorCode", &f.error_code}, {"/recipientAccountId", &f.recipient_account}, {"/eventCategory", &f.event_category},
        {"/userIdentity/type", &f.identity_type}, {"/userIdentity/arn", &f.identity_arn}, {"/userIdentity/userName", &f.identity_user_name},
        {"/userIdentity/principalId", &f.identity_principal}, {"/userIdentity/accessKeyId", &f.identity_access_key},
        {"/userIdentity/sessionContext/sessionIssuer/arn", &f.issuer_arn},
    };
    for (const auto& [pointer, value] : fields) {
      simdjson::dom::element theirs;
      const bool there = doc.at_pointer(pointer).get(theirs) == simdjson::SUCCESS;
      EXPECT_EQ(there, static_cast<bool>(*value)) << pointer << "\n" << seed;
      std::string_view text;
      if (there && theirs.get(text) == simdjson::SUCCESS) {
        EXPECT_EQ(Text(*value), text) << pointer;
      }
    }
  }
}

}  // namespace
}  // namespace orgtrail::json
