#include "agent/record/recorder.h"

#include <gtest/gtest.h>

#include "common/base/limits.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"

namespace orgtrail {
namespace {

using json::Flaw;

class FixedClock final : public Clock {
 public:
  absl::Time Wall() const override { return absl::FromUnixMillis(1'795'334'504'999); }
  Tick Now() const override { return Tick{}; }
  ClockQuality Quality() const override { return {}; }
  std::string BootId() const override { return std::string(16, 'b'); }
};

class CountingRng final : public Rng {
 public:
  void Fill(char* out, size_t n) override {
    for (size_t i = 0; i < n; ++i) out[i] = static_cast<char>(next_++);
  }

 private:
  uint8_t next_ = 0;
};

constexpr std::string_view kTime = R"("eventTime":"2026-11-22T08:01:44Z")";
constexpr std::string_view kRegion = R"("awsRegion":"eu-west-1")";
constexpr std::string_view kId = R"("eventID":"00010203-0405-4607-8809-0a0b0c0d0e0f")";
constexpr std::string_view kAccount = R"("recipientAccountId":"222222222222")";

std::string Join(std::initializer_list<std::string_view> parts) {
  std::string out;
  for (std::string_view p : parts) out += p;
  return out;
}

struct Bench {
  FixedClock clock;
  CountingRng rng;
  Recorder recorder{"222222222222", "eu-west-1", clock, rng};
};

TEST(Recorder, StampsWhatIsMissing) {
  const uint8_t all = kAddedTime | kAddedRegion | kAddedEventId | kAddedAccount;
  struct {
    std::string raw, body;
    uint8_t added;
    std::string event_id;
  } table[] = {
      {"{}", Join({"{", kTime, ",", kRegion, ",", kId, ",", kAccount, "}"}), all, "00010203-0405-4607-8809-0a0b0c0d0e0f"},
      {" { } \n", Join({" { ", kTime, ",", kRegion, ",", kId, ",", kAccount, "} \n"}), all, "00010203-0405-4607-8809-0a0b0c0d0e0f"},
      {R"({"eventName":"A"})", Join({R"({"eventName":"A",)", kTime, ",", kRegion, ",", kId, ",", kAccount, "}"}), all, "00010203-0405-4607-8809-0a0b0c0d0e0f"},
      {"{\"a\":1 }\n", Join({"{\"a\":1 ,", kTime, ",", kRegion, ",", kId, ",", kAccount, "}\n"}), all, "00010203-0405-4607-8809-0a0b0c0d0e0f"},
      {R"({"eventID":"x-1","a":{"eventTime":"inner"}})", Join({R"({"eventID":"x-1","a":{"eventTime":"inner"},)", kTime, ",", kRegion, ",", kAccount, "}"}),
       kAddedTime | kAddedRegion | kAddedAccount, "x-1"},
      {R"({"eventTime":"t","awsRegion":"r","eventID":"i","recipientAccountId":"a"})", R"({"eventTime":"t","awsRegion":"r","eventID":"i","recipientAccountId":"a"})", 0, "i"},
      {R"({"eventTime":null,"awsRegion":7,"eventID":null,"recipientAccountId":{}})", R"({"eventTime":null,"awsRegion":7,"eventID":null,"recipientAccountId":{}})", 0, ""},
      {R"({"eventTime":null,"awsRegion":7,"eventID":5})", Join({R"({"eventTime":null,"awsRegion":7,"eventID":5,)", kAccount, "}"}), kAddedAccount, ""},
      {R"({"event\u0054ime":"t","awsRegion":"r","eventID":"i"})", Join({R"({"event\u0054ime":"t","awsRegion":"r","eventID":"i",)", kAccount, "}"}), kAddedAccount, "i"},
  };
  for (const auto& t : table) {
    Bench b;
    const StampedRecord& r = b.recorder.Stamp(t.raw);
    EXPECT_EQ(r.body, t.body);
    EXPECT_EQ(r.added, t.added) << t.raw;
    EXPECT_EQ(r.event_id, t.event_id) << t.raw;
    EXPECT_EQ(r.flaw, Flaw::kNone);
    EXPECT_EQ(r.flags, 0);
    EXPECT_TRUE(r.chunks.empty());
    json::Scanner scanner;
    json::Fields f;
    EXPECT_EQ(scanner.Scan(r.body, &f), Flaw::kNone) << r.body;
    EXPECT_TRUE(f.event_time && f.aws_region && f.event_id && f.recipient_account);
    if (t.added == 0) {
      EXPECT_EQ(r.body.data(), t.raw.data()) << "nothing was added, so nothing was copied";
    }
  }
}

TEST(Recorder, WrapsWhatIsNotARecord) {
  const std::pair<std::string, std::string_view> table[] = {
      {R"({"eventName":"A","eventName":"B"})", "DUP_KEY"}, {"", "SYNTAX"}, {"not json", "SYNTAX"}, {"\xEF\xBB\xBF{}", "UTF8"},
      {"{\"a\":\"\xFF\"}", "UTF8"}, {R"({"a":"\ud800"})", "SURROGATE"}, {std::string(100000, '['), "DEPTH"}, {"[]", "NOT_OBJECT"}, {"{} {}", "TRAILING"},
      {"{\"a\":" + std::string(400, '9') + "}", "NUMBER_LENGTH"}, {"{\"" + std::string(1025, 'k') + "\":1}", "KEY_LENGTH"},
  };
  for (const auto& [raw, why] : table) {
    Bench b;
    const StampedRecord& r = b.recorder.Stamp(raw);
    EXPECT_EQ(r.body, Join({"{\"orgtrail:raw\":\"", Base64(raw), "\",\"why\":\"", why, "\",", kTime, ",", kRegion, ",", kId, ",", kAccount, "}"}));
    EXPECT_EQ(r.flags, kFlagWrapped);
    EXPECT_EQ(r.added, 15);
    EXPECT_EQ(FlawName(r.flaw), why);
    EXPECT_EQ(r.event_id, "00010203-0405-4607-8809-0a0b0c0d0e0f");
    EXPECT_EQ(r.event_class, EventClass::kManagement);
    json::Scanner scanner;
    EXPECT_EQ(scanner.Validate(r.body, false), Flaw::kNone);
  }
}

TEST(Recorder, TellsTheClass) {
  const std::pair<const char*, EventClass> table[] = {
      {R"({"eventCategory":"Management","managementEvent":false})", EventClass::kManagement},
      {R"({"eventCategory":"Data"})", EventClass::kData},
      {R"({"eventCategory":"NetworkActivity"})", EventClass::kNetwork},
      {R"({"eventCategory":"Insight"})", EventClass::kInsight},
      {R"({"eventCategory":"Other"})", EventClass::kManagement},
      {R"({"eventCategory":null,"managementEvent":false})", EventClass::kData},
      {R"({"managementEvent":true})", EventClass::kManagement},
      {R"({"managementEvent":false})", EventClass::kData},
      {R"({"eventType":"AwsCloudTrailInsight"})", EventClass::kInsight},
      {R"({"eventType":"AwsVpceEvent"})", EventClass::kNetwork},
      {R"({})", EventClass::kManagement},
  };
  Bench b;
  for (const auto& [raw, event_class] : table) EXPECT_EQ(b.recorder.Stamp(raw).event_class, event_class) << raw;
}

TEST(Recorder, ChunksWhatIsBeyondOneMebibyte) {
  for (const size_t size : {limits::kRecordInlineBytes - 1000, limits::kRecordInlineBytes + 1, 3 * limits::kChunkBytes, size_t{5} << 20}) {
    Bench b;
    std::string filler;
    while (filler.size() < size) filler += "value " + std::to_string(filler.size()) + " caf\xC3\xA9 ";
    const std::string raw = R"({"eventName":"PutBucketPolicy","eventSource":"s3.amazonaws.com","eventID":"id-1","big":")" + filler + "\"}";
    const StampedRecord& r = b.recorder.Stamp(raw);
    EXPECT_EQ(r.event_id, "id-1");
    if (size < limits::kRecordInlineBytes) {
      EXPECT_TRUE(r.chunks.empty());
      EXPECT_EQ(r.flags, 0);
      continue;
    }
    EXPECT_EQ(r.flags, kFlagBlob);
    EXPECT_LT(r.body.size(), 8192u);
    std::string whole;
    for (const std::string& c : r.chunks) {
      EXPECT_LE(c.size(), limits::kChunkBytes);
      whole += c;
    }
    // The chunks are the record as it would have stood inline.
    EXPECT_EQ(whole, Join({raw.substr(0, raw.size() - 1), ",", kTime, ",", kRegion, ",", kAccount, "}"}));
    json::Scanner scanner;
    json::Fields f;
    ASSERT_EQ(scanner.Scan(r.body, &f), Flaw::kNone) << r.body;
    EXPECT_EQ(f.event_name.text(), "PutBucketPolicy");
    EXPECT_EQ(f.event_source.text(), "s3.amazonaws.com");
    EXPECT_EQ(f.event_id.text(), "id-1");
    EXPECT_EQ(f.recipient_account.text(), "222222222222");
    EXPECT_EQ(f.aws_region.text(), "eu-west-1");
    EXPECT_EQ(r.added, kAddedTime | kAddedRegion | kAddedAccount);
    EXPECT_TRUE(r.body.starts_with(Join({"{\"orgtrail:blob\":{\"sha256\":\"", Hex(Sha256(whole).view()), "\",\"len\":", std::to_string(whole.size()), ",\"chunks\":",
                                         std::to_string(r.chunks.size()), ",\"truncated\":false,\"head\":\"{\\\"eventName\\\""})))
        << r.body.substr(0, 200);
  }
}

TEST(Recorder, KeepsOnlyTheHashBeyondSixteenMebibytes) {
  Bench b;
  const std::string raw = R"({"eventName":"A","big":")" + std::string(limits::kRecordBytes, 'x') + "\"}";
  const StampedRecord& r = b.recorder.Stamp(raw);
  EXPECT_TRUE(r.chunks.empty());
  EXPECT_EQ(r.flags, kFlagBlob);
  EXPECT_TRUE(r.padding_suspect);
  EXPECT_TRUE(r.body.starts_with(Join({"{\"orgtrail:blob\":{\"sha256\":\"", Hex(Sha256(raw).view()), "\",\"len\":", std::to_string(raw.size()),
                                       ",\"chunks\":0,\"truncated\":true,\"padding\":true,\"head\":"})));
  EXPECT_NE(r.body.find(R"(,"eventName":"A")"), std::string_view::npos);
  EXPECT_EQ(r.event_id, "00010203-0405-4607-8809-0a0b0c0d0e0f");
  EXPECT_EQ(r.added, 15);
}

TEST(Recorder, SaysHashAndLengthOfAllOfATextThatItGotCut) {
  Bench b;
  const std::string raw = R"({"eventName":"A","big":")" + std::string(limits::kRecordBytes, 'x');
  const StampedRecord& r = b.recorder.Stamp(raw, WholeText{Sha256("all of it"), 5'000'000'000});
  EXPECT_EQ(r.flags, kFlagBlob | kFlagWrapped);
  EXPECT_TRUE(r.body.starts_with(Join({"{\"orgtrail:blob\":{\"sha256\":\"", Hex(Sha256("all of it").view()), "\",\"len\":5000000000,\"chunks\":0,\"truncated\":true"}))) << r.body.substr(0, 200);
  EXPECT_NE(r.body.find(R"("why":"SYNTAX")"), std::string_view::npos);
}

TEST(Recorder, ChunksWhatIsLargeAndNotARecord) {
  Bench b;
  const std::string raw = std::string(limits::kRecordInlineBytes, '[') + "caf\xC3";
  const StampedRecord& r = b.recorder.Stamp(raw);
  EXPECT_EQ(r.flags, kFlagBlob | kFlagWrapped);
  EXPECT_EQ(r.flaw, Flaw::kDepth);
  std::string whole;
  for (const std::string& c : r.chunks) whole += c;
  json::Scanner scanner;
  EXPECT_EQ(scanner.Validate(whole, false), Flaw::kNone) << "reassembled, it is the wrapped record";
  EXPECT_NE(whole.find(Base64(raw)), std::string::npos);
  EXPECT_NE(r.body.find(R"("why":"DEPTH")"), std::string_view::npos);
  EXPECT_NE(r.body.find(r.event_id), std::string_view::npos);
  EXPECT_NE(whole.find(r.event_id), std::string::npos) << "stub and record have the same eventID";
  EXPECT_EQ(r.event_id.size(), 36u);
}

TEST(Recorder, AStubStaysSmallWhateverTheRecordSays) {
  Bench b;
  std::string raw = "{";
  for (const char* name : {"eventTime", "awsRegion", "eventID", "recipientAccountId", "eventName", "eventSource", "errorCode"}) {
    raw += std::string("\"") + name + "\":\"" + std::string(400000, 'v') + "\",";
  }
  raw += "\"end\":1}";
  const StampedRecord& r = b.recorder.Stamp(raw);
  EXPECT_EQ(r.flags, kFlagBlob);
  EXPECT_LT(r.body.size(), 8192u);
  EXPECT_EQ(r.added, 0);
  json::Scanner scanner;
  json::Fields f;
  ASSERT_EQ(scanner.Scan(r.body, &f), Flaw::kNone);
  EXPECT_EQ(f.recipient_account.text(), "222222222222");
  EXPECT_EQ(f.event_id.text(), r.event_id);
  EXPECT_EQ(f.event_name.text(), std::string(260, 'v'));   // what it is found by
  EXPECT_NE(r.body.find(R"(,"cut":true,"head":)"), std::string_view::npos);
  // A head of control characters and cut characters is still JSON.
  const std::string odd = "{\"a\":\"" + std::string(4089, 'x') + "\xE2\x82\xAC" + std::string(limits::kRecordInlineBytes, 'y') + "\"}";
  EXPECT_EQ(scanner.Scan(b.recorder.Stamp(odd).body, &f), Flaw::kNone);
  EXPECT_EQ(b.recorder.Stamp(odd).body.find("\xEF\xBF\xBD"), std::string_view::npos) << "cut between characters";
}

TEST(Recorder, AStubIsFoundByTheBytesItsRecordIsFoundBy) {   // the first 256 of a value, wherever in a character they end
  Bench b;
  for (const std::string letter : {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"}) {
    for (const char* first : {"", "a", "ab", "abc"}) {
      std::string name = first;
      while (name.size() < limits::kRecordInlineBytes) name += letter;
      const StampedRecord& r = b.recorder.Stamp("{\"eventName\":\"" + name + "\",\"errorCode\":\"\\ud83d\\ude00" + std::string(2000, 'e') + "\"}");
      json::Scanner scanner;
      json::Fields f;
      ASSERT_EQ(scanner.Scan(r.body, &f), Flaw::kNone);
      EXPECT_GT(json::Text(f.event_name).size(), limits::kIndexValueBytes);
      EXPECT_EQ(json::Text(f.event_name).substr(0, limits::kIndexValueBytes), name.substr(0, limits::kIndexValueBytes));
      EXPECT_EQ(json::Text(f.error_code).substr(0, 10), "\xF0\x9F\x98\x80" "eeeeee");
    }
  }
}

TEST(Recorder, SuspectsPadding) {
  std::string tabs;
  for (int i = 0; i < 40000; ++i) tabs += "\\t";
  const std::pair<std::string, bool> table[] = {
      {"{\"a\":\"" + std::string(120000, ' ') + "\"}", true},
      {"{\"a\":\"" + std::string(120000, 'A') + "\"}", true},
      {"{\"a\":\"" + std::string(60000, ' ') + "\"}", false},
      {"{\"a\":[" + std::string(120000, '\n') + "]}", true},
      {"{\"a\":{\"b\":[\"x\",\"" + std::string(40000, ' ') + tabs + std::string(10000, 'p') + "\"]}}", true},
  };
  Bench b;
  for (const auto& [raw, suspect] : table) EXPECT_EQ(b.recorder.Stamp(raw).padding_suspect, suspect) << raw.size();
  std::string text;
  while (text.size() < 100000) text += "Statement number " + std::to_string(text.size()) + " allows \\\"s3:GetObject\\\",\\n";
  EXPECT_FALSE(b.recorder.Stamp("{\"a\":\"" + text + "\"}").padding_suspect);
  EXPECT_FALSE(b.recorder.Stamp("{}").padding_suspect);
}

TEST(Recorder, ForgetsTheLastRecord) {
  Bench b;
  EXPECT_EQ(b.recorder.Stamp(std::string(limits::kRecordInlineBytes + 1, '[')).chunks.size(), 2u);
  const std::string raw = R"({"eventTime":"t","awsRegion":"r","eventID":"i","recipientAccountId":"a","eventCategory":"Data"})";
  const StampedRecord& r = b.recorder.Stamp(raw);
  EXPECT_EQ(r.body, raw);
  EXPECT_TRUE(r.chunks.empty());
  EXPECT_EQ(r.flags, 0);
  EXPECT_EQ(r.added, 0);
  EXPECT_EQ(r.flaw, Flaw::kNone);
  EXPECT_EQ(r.event_class, EventClass::kData);
}

}  // namespace
}  // namespace orgtrail
