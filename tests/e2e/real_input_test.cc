// Real audit events through a collector, byte for byte: what goes into files comes out of the feed as the recorder's rules say,
// in each file's order, once, and is found by its id. The development data lies beside the source tree where there is any; a
// small generated set goes through always.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdlib.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>

#include "agent/record/recorder.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "common/json/scanner.h"
#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

using ::testing::ElementsAre;

std::string DataDir() {
  const char* elsewhere = getenv("ORGTRAIL_DATA");
  return elsewhere != nullptr ? elsewhere : ORGTRAIL_SOURCE_DIR "/../shared/data";
}

// Real files that are there; the synthetic one is for parsers only.
std::vector<std::string> RealFiles() {
  std::vector<std::string> files;
  std::error_code absent;
  for (const auto& entry : std::filesystem::directory_iterator(DataDir(), absent)) {
    const std::string name = entry.path().filename();
    const bool wanted = (name.starts_with("cloudtrail-") || name == "edge-cloudtrail.jsonl") && name.find("SYNTHETIC") == std::string::npos &&
                        (name.ends_with(".jsonl") || name.ends_with(".malformed"));
    if (wanted) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// What Stamp makes of a line, with the time and the id that this one got: the only bytes an outsider cannot predict.
class Expectation {
 public:
  explicit Expectation(const AgentSpec& agent) : recorder_(agent.account, agent.region, SystemClock(), SystemRng()) {}

  ::testing::AssertionResult Met(std::string_view raw, std::string_view actual) {
    const StampedRecord& stamped = recorder_.Stamp(raw);
    std::string expected(stamped.body);
    if (stamped.added == 0 && stamped.flaw == json::Flaw::kNone) {
      EXPECT_EQ(expected, raw);  // nothing missing: not a byte differs
    }
    if (expected.size() == actual.size()) {
      if ((stamped.added & kAddedTime) != 0) Borrow(expected, actual, "\"eventTime\":\"", 20);
      if ((stamped.added & kAddedEventId) != 0) Borrow(expected, actual, "\"eventID\":\"", 36);
    }
    if (expected == actual) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << "\n raw      " << raw.substr(0, 400) << "\n expected " << expected.substr(0, 400) << " … "
                                         << expected.size() << " bytes\n actual   " << actual.substr(0, 400) << " … " << actual.size() << " bytes";
  }

 private:
  // Added members stand last, so the last such name is the added one.
  static void Borrow(std::string& expected, std::string_view actual, std::string_view name, size_t size) {
    const size_t at = expected.rfind(name);
    if (at == std::string::npos) return;
    expected.replace(at + name.size(), size, actual.substr(at + name.size(), size));
  }
  Recorder recorder_;
};

std::string EventIdOf(const std::string& record) {
  json::Scanner scanner;
  json::Fields fields;
  if (scanner.Scan(record, &fields) != json::Flaw::kNone || fields.event_id.type != json::Value::Type::kString) return "";
  return std::string(fields.event_id.text());
}

class RealInput : public ::testing::Test {
 protected:
  RealInput() : dir_(MakeDirs(organization_.Path("in"))) {
    agent_ = &organization_.StartAgent({.account = kManagement, .region = "us-east-1", .name = "collector", .carries = "any",
                                        .files = dir_ + "/*", .http = true});
    feed_ = Process::Start(organization_.OrgtrailArgs({"feed", "--from", "start", "-o", "jsonl", "--output", organization_.Path("feed"),
                                                       "--cursor-file", organization_.Path("cursor")}, "auditor"),
                           organization_.Path("feed.log"));
  }
  // Whole, under its name at once, as a log shipper or `mv` would put it there.
  void Put(const std::string& name, std::string_view bytes) {
    WriteWhole(organization_.Path("part"), bytes);
    std::filesystem::rename(organization_.Path("part"), dir_ + "/" + name);
  }
  // The next `n` records of the feed.
  std::vector<std::string> Next(size_t n) {
    std::vector<std::string> lines;
    if (!Eventually(kPatience, [&] {
          std::string feed = ReadWhole(organization_.Path("feed"));
          feed.resize(feed.rfind('\n') + 1);   // what is being written is no line yet
          lines = LinesOf(feed);
          return lines.size() >= taken_ + n;
        })) {
      Fail(std::to_string(lines.size() - taken_) + " records of " + std::to_string(n) + "; " + agent_->LogTail());
    }
    std::vector<std::string> next(lines.begin() + static_cast<long>(taken_), lines.begin() + static_cast<long>(taken_ + n));
    taken_ += n;
    return next;
  }
  void ExpectNext(const std::vector<std::string>& raw, const std::string& what) {
    const std::vector<std::string> got = Next(raw.size());
    Expectation expected(agent_->spec());
    for (size_t i = 0; i < raw.size(); ++i) {
      ASSERT_TRUE(expected.Met(raw[i], got[i])) << what << " line " << i + 1;
    }
  }
  void ExpectNoMore() {
    // What is late would come before a record that is told now.
    agent_->Record(R"({"eventName":"TheEnd"})");
    EXPECT_EQ(MemberOf(Next(1).at(0), "eventName"), "TheEnd");
  }

  Organization organization_;
  const std::string dir_;
  AgentProcess* agent_;
  std::unique_ptr<Process> feed_;
  size_t taken_ = 0;
};

TEST_F(RealInput, EveryRealRecordComesOutAsItWentInOnceInOrderAndIsFoundById) {
  std::vector<std::string> all;
  for (const std::string& path : RealFiles()) {
    std::vector<std::string> raw = LinesOf(ReadWhole(path));
    std::erase(raw, "");
    Put(std::filesystem::path(path).filename(), ReadWhole(path));
    const size_t before = taken_;
    ExpectNext(raw, path);
    if (HasFatalFailure()) return;
    const std::vector<std::string> lines = LinesOf(ReadWhole(organization_.Path("feed")));
    all.insert(all.end(), lines.begin() + static_cast<long>(before), lines.begin() + static_cast<long>(taken_));
  }
  ExpectNoMore();
  std::printf("%zu real records of %zu files\n", all.size(), RealFiles().size());
  // One in a hundred, and every odd one, is looked up by its id: all that bear it are found, with their bytes.
  std::map<std::string, std::vector<std::string>> by_id;
  for (const std::string& r : all) by_id[EventIdOf(r)].push_back(r);
  by_id.erase("");
  size_t n = 0, asked = 0;
  for (const auto& [id, records] : by_id) {
    if (n++ % 150 != 0 && records.size() < 4) continue;
    ++asked;
    std::set<std::string> distinct(records.begin(), records.end());  // identical ones are shown once, with a count
    const std::vector<std::string> found =
        LinesOf(organization_.Must({"events", "lookup", "-a", "EventId=" + id, "-o", "jsonl", "--max", "1000"}, "auditor"));
    const std::set<std::string> got(found.begin(), found.end());
    // Identical ones are told by id and time; an eventTime that is none leaves each its own.
    const bool timed = records[0].find("\"eventTime\":\"2") != std::string::npos && id != "...";
    EXPECT_TRUE(got == distinct && (found.size() == got.size() || !timed))
        << id << ": " << records.size() << " records, " << distinct.size() << " distinct, " << found.size() << " found, " << got.size() << " of them distinct";
  }
  std::printf("%zu ids looked up of %zu\n", asked, by_id.size());
  const Ran verified = organization_.Orgtrail({"verify", "ledger", "--strict"}, "auditor");
  EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
}

TEST_F(RealInput, GeneratedLinesOfEveryShapeComeOutAsTheRulesSay) {
  const std::string whole = R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"eu-north-1","eventID":"1","recipientAccountId":"999999999999"})";
  const std::vector<std::string> lines = {
      whole,
      "{}",
      "  { \"eventName\" : \"Spaced\" }  ",
      R"({"eventName":"A","eventName":"B"})",                       // a duplicate key
      R"({"n":1e400,"m":-0,"k":9007199254740993,"d":)" + std::string(400, '7') + "}",
      "not json at all",
      R"(["an array"])",
      std::string(100'000, '['),
      "{\"eventName\":\"\xff\xfe not UTF-8\"}",
      R"({"eventName":"\ud800 alone","u":"\u0000"})",
      "\xef\xbb\xbf{\"eventName\":\"BOM\"}",
      R"({"eventTime":"0001-01-01T00:00:00Z","eventName":"Old"})",
      R"({"eventTime":"2016-12-31T23:59:60Z","eventName":"Leap"})",
      R"({"eventTime":12,"awsRegion":null,"eventID":{},"recipientAccountId":["x"]})",
      R"({"eventName":"</script>=cmd()\u001b[31m","policy":")" + std::string(120'000, ' ') + "\"}",
      R"({"eventName":")" + std::string(300'000, 'N') + "\"}",
      "\t{\"eventName\":\"CR at the end\"}",
  };
  std::string text;
  for (const std::string& l : lines) text += l + (l == lines.back() ? "\r\n" : "\n") + (l == lines[2] ? "\n\r\n" : "");
  Put("shapes.jsonl", text);
  ExpectNext(lines, "shapes");
  ExpectNoMore();
  EXPECT_THAT(LinesOf(organization_.Must({"events", "lookup", "--account", "999999999999", "-o", "jsonl"}, "auditor")), ElementsAre(whole));
}

TEST_F(RealInput, ARecordBeyondAMebibyteComesBackWhole) {
  const std::string big = R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventID":"big","recipientAccountId":"222222222222","policy":")" +
                          Base64(SystemRng().Bytes(3 << 20)) + "\"}";
  Put("big.jsonl", big + "\n");
  EXPECT_TRUE(Next(1).at(0) == big);
  EXPECT_TRUE(organization_.Must({"events", "show", "big", "-o", "jsonl"}, "auditor") == big + "\n");
}

std::string Gzip(const std::string& bytes) {
  const Ran ran = RunProgram({"/bin/gzip", "-c"}, bytes);
  if (ran.code != 0) Fail("gzip: " + ran.err);
  return ran.out;
}

std::vector<std::string> Numbered(int from, int to) {
  std::vector<std::string> lines;
  for (int n = from; n < to; ++n) {
    lines.push_back(R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventID":"n)" + std::to_string(n) +
                    R"(","recipientAccountId":"222222222222","n":)" + std::to_string(n) + "}");
  }
  return lines;
}
std::string Join(const std::vector<std::string>& lines, std::string_view between = "\n") {
  std::string text;
  for (const std::string& l : lines) text += l + std::string(between);
  return text;
}

TEST_F(RealInput, CloudTrailsOwnFilesAreTakenApart) {
  // As CloudTrail delivers them: one object with all records on one line, compressed.
  const std::vector<std::string> records = Numbered(0, 300);
  std::string body = Join(records, ",");
  body.pop_back();
  Put("111111111111_CloudTrail_us-east-1_20261120T0900Z_abc.json.gz", Gzip("{\"Records\":[" + body + "]}"));
  ExpectNext(records, "json.gz");
  // And as people keep them, printed over many lines. A line of the feed is one record all the same.
  Put("pretty.json", "{\n  \"Records\": [\n    {\n      \"eventName\": \"Pretty\",\n      \"eventID\": \"p1\"\n    },\n    {\"eventName\":\"Plain\",\"eventID\":\"p2\"}\n  ]\n}\n");
  ASSERT_TRUE(Eventually(kSoon, [&] { return !organization_.Must({"events", "lookup", "-a", "EventId=p2", "-o", "jsonl"}, "auditor").empty(); }));
  const std::vector<std::string> lines = LinesOf(organization_.Must({"feed", "--from", "start", "--no-follow", "-o", "jsonl", "-a", "EventName=Pretty"}, "auditor"));
  EXPECT_THAT(lines, ElementsAre(::testing::StartsWith("{       \"eventName\": \"Pretty\",       \"eventID\": \"p1\"     ,\"eventTime\":")));
}

TEST_F(RealInput, RotationByRenameAndCompressionTakesEachLineOnce) {
  const std::vector<std::string> lines = Numbered(0, 400);
  const auto part = [&](int from, int to) { return Join({lines.begin() + from, lines.begin() + to}); };
  const std::string live = dir_ + "/app.jsonl";
  AppendTo(live, part(0, 100));
  ExpectNext({lines.begin(), lines.begin() + 100}, "first");
  // logrotate: rename, new file, later compress; meanwhile the program still writes a little to the old one.
  AppendTo(live, part(100, 120));
  std::filesystem::rename(live, dir_ + "/app.jsonl.1");
  AppendTo(dir_ + "/app.jsonl.1", part(120, 130));
  ExpectNext({lines.begin() + 100, lines.begin() + 130}, "rotated");
  AppendTo(live, part(130, 250));
  ExpectNext({lines.begin() + 130, lines.begin() + 250}, "second");
  // The compressed copy is known by its content: nothing of it is taken again.
  Put("app.jsonl.2.gz", Gzip(ReadWhole(dir_ + "/app.jsonl.1")));
  std::filesystem::remove(dir_ + "/app.jsonl.1");
  AppendTo(live, part(250, 300));
  ExpectNext({lines.begin() + 250, lines.begin() + 300}, "after compression");
  // Compressed before it was read at all: read from the .gz.
  Put("other.jsonl.1.gz", Gzip(part(300, 400)));
  ExpectNext({lines.begin() + 300, lines.end()}, "only ever seen compressed");
  // A restart changes nothing.
  ASSERT_EQ(agent_->Stop(), 0);
  agent_->Start();
  ExpectNoMore();
}

TEST_F(RealInput, RecordsOfAccountsElsewhereBelongWhereTheySay) {
  // A collector carries for others: a record's own account and region decide who sees it.
  organization_.CreateUser("alice", "user", kAlice);
  const std::vector<std::string> lines = Numbered(0, 5);
  Put("alice.jsonl", Join(lines));
  ExpectNext(lines, "alice");
  EXPECT_EQ(organization_.Feed({}, "alice"), lines);
}

}  // namespace
}  // namespace orgtrail::e2e
