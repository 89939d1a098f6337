// What records say: texts that are none, numbers and times that no machine holds, padding, and what a terminal would obey.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "common/base/clock.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "common/json/scanner.h"
#include "tests/e2e/support/organization.h"
#include "tests/redteam/table.h"

namespace orgtrail::e2e {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kEnd[] = R"(,"awsRegion":"us-east-1","recipientAccountId":"222222222222"})";
// Whole: nothing is added to it.
std::string Record(const std::string& id, const std::string& members, const std::string& time = "2026-11-20T09:01:44Z") {
  return R"({"eventTime":")" + time + R"(","eventID":")" + id + "\"," + members + kEnd;
}

class RedContent : public ::testing::Test {
 protected:
  RedContent() : file_(organization.Path("app.jsonl")) {
    WriteWhole(file_, "");
    AgentSpec spec;
    spec.files = file_;
    agent = &organization.StartAgent(spec);
  }
  // Their feed, in order; `what` of the feed command besides.
  std::vector<std::string> Told(const std::vector<std::string>& lines) {
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    AppendTo(file_, text);
    told_ += lines.size();
    std::vector<std::string> feed;
    EXPECT_TRUE(Eventually(kPatience, [&] { return (feed = organization.Feed()).size() == told_; })) << agent->LogTail();
    feed.erase(feed.begin(), feed.end() - static_cast<long>(std::min(lines.size(), feed.size())));
    return feed;
  }
  std::string Found(const std::string& attribute, const std::vector<std::string>& flags = {}) {
    std::vector<std::string> args = {"events", "lookup", "-a", attribute, "-o", "jsonl"};
    args.insert(args.end(), flags.begin(), flags.end());
    return organization.Must(args, "auditor");
  }

  Organization organization;
  AgentProcess* agent = nullptr;

  const std::string file_;

 private:
  size_t told_ = 0;
};

ATTACK(60, "JSON nested 100,000 deep, as a text and within a record", "wrapped whole, `why` NOT_OBJECT or DEPTH; nothing overflows");
ATTACK(61, "one name twice in an object, at the top and deep inside", "wrapped whole, `why` DUP_KEY; neither value is found as a fact");
ATTACK(62, "bytes that are not UTF-8, an overlong form, a byte order mark, half a surrogate pair", "wrapped whole, base64 of every byte, `why` UTF8 or SURROGATE; what the feed delivers is valid JSON");
TEST_F(RedContent, WhatIsNoRecordIsWrappedWithTheReason) {
  const std::pair<std::string, const char*> texts[] = {
      {std::string(100'000, '['), "DEPTH"},
      {Record("deep", "\"a\":" + std::string(100'000, '[') + std::string(100'000, ']')), "DEPTH"},
      {Record("twice", R"("eventName":"Innocent","eventName":"Guilty")"), "DUP_KEY"},
      {Record("twice-deep", R"("eventName":"Inside","a":[{"b":{"c":1,"c":2}}])"), "DUP_KEY"},
      {Record("latin", "\"eventName\":\"caf\xe9\""), "UTF8"},
      {Record("overlong", "\"eventName\":\"\xc0\xaf\""), "UTF8"},
      {"\xef\xbb\xbf" + Record("bom", R"("eventName":"Marked")"), "UTF8"},
      {Record("half", R"("eventName":"\ud800")"), "SURROGATE"},
      {R"(["eventName"])", "NOT_OBJECT"},
      {"eventName=Plain", "SYNTAX"},
      {Record("more", R"("eventName":"First")") + " {}", "TRAILING"},
  };
  std::vector<std::string> lines;
  for (const auto& [text, why] : texts) lines.push_back(text);
  const std::vector<std::string> feed = Told(lines);
  ASSERT_EQ(feed.size(), lines.size());
  json::Scanner scanner;
  json::Fields fields;
  for (size_t i = 0; i < feed.size(); ++i) {
    SCOPED_TRACE(lines[i].substr(0, 100));
    EXPECT_THAT(feed[i], StartsWith("{\"orgtrail:raw\":\"" + Base64(lines[i]) + "\",\"why\":\"" + texts[i].second + "\""));
    EXPECT_EQ(scanner.Scan(feed[i], &fields), json::Flaw::kNone);
  }
  for (const char* fact : {"EventName=Innocent", "EventName=Guilty", "EventName=Inside", "EventId=twice", "EventId=bom"}) EXPECT_EQ(Found(fact), "") << fact;
  for (const std::string& envelope : organization.Feed({"--envelope"})) EXPECT_THAT(envelope, HasSubstr("RAW_WRAPPED"));
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(63, "1e400, -0, 2^53+1, a number of 60 digits; one of 400", "the text as it came, byte for byte; beyond 64 characters wrapped, `why` NUMBER_LENGTH, every byte there");
ATTACK(64, "eventTime of year 1 and 9999, a leap second, no time at all, none", "kept byte for byte under log time; TIME_ODD on those that no clock shows");
ATTACK(62, "`\\u0000` and other escapes that JSON allows", "kept byte for byte");
TEST_F(RedContent, NumbersAndTimesStayAsTheyCame) {
  const std::vector<std::string> whole = {
      Record("n1", R"("eventName":"N","n":1e400,"m":-0,"k":9007199254740993,"l":1.0000000000000000000000001)"),
      Record("n2", R"("eventName":"N","n":)" + std::string(60, '7')),
      Record("u0", R"("eventName":"N","s":"\u0000\u001b\\u0000")"),
      Record("year-1", R"("eventName":"T")", "0001-01-01T00:00:00Z"),
      Record("year-9999", R"("eventName":"T")", "9999-12-31T23:59:59Z"),
      Record("leap", R"("eventName":"T")", "2016-12-31T23:59:60Z"),
      Record("words", R"("eventName":"T")", "yesterday"),
      Record("", R"("eventName":"T")", ""),
  };
  EXPECT_EQ(Told(whole), whole);
  const std::string digits = Record("n3", R"("eventName":"N","n":)" + std::string(400, '7'));
  EXPECT_THAT(Told({digits}).at(0), StartsWith("{\"orgtrail:raw\":\"" + Base64(digits) + "\",\"why\":\"NUMBER_LENGTH\""));
  EXPECT_THAT(Told({R"({"eventName":"NoTime","eventID":"no-time"})"}).at(0), StartsWith(R"({"eventName":"NoTime","eventID":"no-time","eventTime":"20)"));
  EXPECT_EQ(Found("EventId=n1"), whole[0] + "\n");
  int odd = 0;
  for (const std::string& envelope : organization.Feed({"--envelope"})) {
    const std::string id = MemberOf(envelope.substr(envelope.find("\"record\":")), "eventID");
    const bool flagged = envelope.find("TIME_ODD") != std::string::npos;
    EXPECT_TRUE(flagged || (id != "words" && id != "year-9999" && !id.empty())) << envelope;
    EXPECT_FALSE(flagged && (id == "n1" || id == "u0")) << envelope;
    odd += flagged;
    // Whatever a record says of itself, the log has its own time for it.
    EXPECT_THAT(MemberOf(envelope, "logged"), StartsWith(Rfc3339(absl::Now()).substr(0, 4))) << envelope;
  }
  EXPECT_GE(odd, 3);
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(65, "line ends, terminal escapes, `</script>`, a spreadsheet's formula, right-to-left override in names that tables show",
       "stored as they came; tables show them escaped, on one line");
TEST_F(RedContent, WhatATerminalWouldObeyIsShownAndNotObeyed) {
  const std::string evil = Record("evil", R"x("eventName":"Log\u001b[2J\u001b]0;owned\u0007in\r\nFORGED \u202egpj.exe</script>=cmd()","userIdentity":{"type":"IAMUser","userName":"\u001b[31mroot\u009b1m"},"userAgent":"\u001b[1A","sourceIPAddress":"192.0.2.7\nFORGED")x");
  EXPECT_EQ(Told({evil}).at(0), evil);
  for (const std::vector<std::string>& args : {std::vector<std::string>{"events", "lookup", "-a", "EventId=evil", "-o", "table"}, {"events", "show", "evil", "-o", "table"},
                                               {"feed", "--from", "start", "--no-follow", "-o", "table"}}) {
    const Ran shown = organization.Orgtrail(args, "auditor");
    SCOPED_TRACE(args[0] + " " + args[1] + "\n" + shown.out);
    EXPECT_EQ(shown.code, 0) << shown.err;
    EXPECT_THAT(shown.out, HasSubstr("Log"));
    for (const char* bad : {"\x1b", "\x07", "\r", "\xe2\x80\xae", "\xc2\x9b", "\nFORGED"}) EXPECT_THAT(shown.out + shown.err, Not(HasSubstr(bad)));
  }
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(67, "one eventID for two records that say different things", "both are kept, found and flagged EVENTID_REUSE, which is an alarm too; `events show` names both and asks which");
TEST_F(RedContent, OneIdForTwoRecords) {
  const std::vector<std::string> both = {Record("same", R"("eventName":"Harmless")"), Record("same", R"("eventName":"Harmful")")};
  EXPECT_EQ(Told(both), both);
  EXPECT_THAT(LinesOf(Found("EventId=same")), ::testing::UnorderedElementsAreArray(both));
  const Ran show = organization.Orgtrail({"events", "show", "same", "-o", "jsonl"}, "auditor");
  EXPECT_EQ(show.code, 1);
  EXPECT_THAT(show.err, HasSubstr("--at"));
  EXPECT_THAT(show.err, HasSubstr("do not say the same (EVENTID_REUSE)"));
  EXPECT_THAT(show.out, Not(HasSubstr("Harm")));
  for (const std::vector<std::string>& args : {std::vector<std::string>{"-o", "table"}, {"-o", "jsonl", "--envelope"}}) {
    std::vector<std::string> lookup = {"events", "lookup", "-a", "EventId=same"};
    lookup.insert(lookup.end(), args.begin(), args.end());
    const Ran found = organization.Orgtrail(lookup, "auditor");
    for (const std::string& line : LinesOf(found.out)) {
      if (line.find("Harm") == std::string::npos) continue;
      EXPECT_THAT(line, HasSubstr("EVENTID_REUSE"));
    }
    EXPECT_THAT(found.out, HasSubstr("EVENTID_REUSE"));
  }
  EXPECT_EQ(organization.Verify().code, 0);
  // The history looks when a run of it is written, which 65,536 records cause as well as a minute does.
  std::string many;
  for (int i = 0; i < 66'000; ++i) many += Record("many-" + std::to_string(i), R"("eventName":"Many")") + "\n";
  AppendTo(file_, many);
  EXPECT_TRUE(Eventually(kPatience, [&] { return organization.Must({"alarms", "-o", "jsonl"}).find("eventID same stands for two records that differ") != std::string::npos; }));
}

ATTACK(58, "policies of 120 KB and 12 MiB of spaces behind a Sid of 9,000 characters", "whole, byte for byte; PADDING_SUSPECT");
ATTACK(68, "an eventName of 300 KB, and one of 10 MiB", "whole, byte for byte; both are found by their first 256 bytes, with the note INDEX_CUT, and tables show how long they are");
TEST_F(RedContent, PaddingHidesNothing) {
  const std::string sid = R"("policy":"{\"Sid\":\")" + std::string(9000, 'S') + R"(\",)";
  const std::vector<std::string> whole = {
      Record("pad-120k", R"("eventName":"PutRolePolicy",)" + sid + std::string(120 << 10, ' ') + "\""),
      Record("pad-12m", R"("eventName":"PutRolePolicy",)" + sid + std::string(12 << 20, ' ') + "\""),
      Record("name-10m", R"("eventName":")" + std::string(10 << 20, 'N') + "\""),
      Record("name-300k", R"("eventName":")" + std::string(300'000, 'M') + "\""),
      Record("plain", R"("eventName":"Plain")"),
  };
  const std::vector<std::string> feed = Told(whole);
  ASSERT_EQ(feed.size(), whole.size());
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(feed[i] == whole[i]) << i << ": " << feed[i].size() << " bytes of " << whole[i].size();
  for (const std::string& envelope : organization.Feed({"--envelope"})) {
    const std::string id = MemberOf(envelope.substr(envelope.find("\"record\":")), "eventID");
    EXPECT_EQ(envelope.find("PADDING_SUSPECT") != std::string::npos, id != "plain") << id;
  }
  EXPECT_TRUE(organization.Must({"events", "show", "pad-12m", "-o", "jsonl"}, "auditor") == whole[1] + "\n");
  EXPECT_TRUE(Found("EventName=" + std::string(256, 'M')) == whole[3] + "\n");
  EXPECT_TRUE(Found("EventName=" + std::string(256, 'N')) == whole[2] + "\n");
  EXPECT_TRUE(Found("EventId=name-10m") == whole[2] + "\n");
  EXPECT_EQ(Found("EventName=" + std::string(300, 'M')), "");   // not the name of any
  EXPECT_THAT(Found("EventName=" + std::string(256, 'M'), {"--envelope"}), HasSubstr("INDEX_CUT"));
  EXPECT_THAT(organization.Must({"events", "lookup", "--count-by", "EventName", "-o", "table"}, "auditor"),
              ::testing::AllOf(HasSubstr("M… (300000 bytes)"), HasSubstr("N… (10485760 bytes)")));
  EXPECT_EQ(organization.Verify().code, 0);
}

}  // namespace
}  // namespace orgtrail::e2e
