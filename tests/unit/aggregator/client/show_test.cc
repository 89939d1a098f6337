// What people see: tables, envelopes, explanations.
#include <gtest/gtest.h>

#include "aggregator/client/envelope.h"
#include "aggregator/client/inspect.h"
#include "aggregator/client/progress.h"
#include "aggregator/client/table.h"
#include "common/base/status.h"
#include "common/crypto/x509.h"
#include "common/format/token.h"
#include "common/json/scanner.h"
#include "tests/support/sealed_log.h"

namespace orgtrail::client {
namespace {

TEST(Table, AlignsAndCuts) {
  Table t({"A", "LONG"});
  EXPECT_EQ(t.Text(false), "");
  t.Add({"x", "y"});
  t.Add({"grün", "z", "dropped"});
  t.Add({"only"});
  EXPECT_EQ(t.Text(false), "A     LONG\nx     y\ngrün  z\nonly  \n");
  EXPECT_EQ(t.rows(), 3u);
  EXPECT_TRUE(t.Text(true).starts_with("\x1b[1mA     LONG\x1b[0m\n"));
  Table cut({"H"});
  cut.Add({std::string(80, 'a')});
  cut.Add({std::string(81, 'b')});
  std::string umlauts;
  for (int i = 0; i < 81; ++i) umlauts += "ü";
  cut.Add({umlauts});
  EXPECT_EQ(cut.Text(false), "H\n" + std::string(80, 'a') + "\n" + std::string(79, 'b') + "…\n" + umlauts.substr(0, 158) + "…\n");
}

TEST(Table, DoesNotLetRecordsSpeakToTheTerminal) {
  Table t({"H"});
  t.Add({"\x1b[2Jgone\r\n"});
  const std::string text = t.Text(false);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(Table, HumanNumbers) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1024), "1.0 KiB");
  EXPECT_EQ(HumanBytes(5ull << 40), "5.0 TiB");
  EXPECT_EQ(HumanBytes(UINT64_MAX), "16384.0 PiB");
  EXPECT_EQ(HumanCount(0), "0");
  EXPECT_EQ(HumanCount(999), "999");
  EXPECT_EQ(HumanCount(1000), "1,000");
  EXPECT_EQ(HumanCount(-1234567), "-1,234,567");
  EXPECT_EQ(HumanAge(-1), "0 ms");
  EXPECT_EQ(HumanAge(0.25), "250 ms");
  EXPECT_EQ(HumanAge(99), "99 s");
  EXPECT_EQ(HumanAge(600), "10 min");
  EXPECT_EQ(HumanAge(7200), "2 h");
  EXPECT_EQ(HumanAge(864'000), "10 d");
}

v1::Event Event(std::string record) {
  v1::Event e;
  v1::Envelope* v = e.mutable_envelope();
  v->set_cursor("c\"1");
  v->set_account("222222222222");
  v->set_region("eu-west-1");
  v->set_agent("web-1");
  v->set_agent_uuid(std::string(16, '\x11'));
  v->set_leaf_index(5);
  v->set_event_index(7);
  v->set_captured_ns(1'790'000'000'123'456'789);
  e.set_record(std::move(record));
  return e;
}

TEST(Envelope, IsValidJsonAroundTheStoredBytes) {
  v1::Event e = Event("{\"eventName\" : \"A\"}");
  e.mutable_envelope()->set_quarantined(true);
  e.mutable_envelope()->add_notes("RAW_WRAPPED");
  e.mutable_envelope()->add_added_members("eventID");
  e.mutable_envelope()->set_copies(3);
  const std::string json = EnvelopeJson(e);
  EXPECT_TRUE(json.ends_with(",\"record\":{\"eventName\" : \"A\"}}")) << json;
  for (const char* part : {"\"cursor\":\"c\\\"1\"", "\"leaf\":5,\"event\":7", "\"captured\":\"2026-09-21T14:13:20.123456789Z\"", "\"quarantined\":true",
                           "\"notes\":[\"RAW_WRAPPED\"]", "\"added\":[\"eventID\"]", "\"copies\":3", "\"uuid\":\"11111111-1111-1111-1111-111111111111\""}) {
    EXPECT_NE(json.find(part), std::string::npos) << part << "\n" << json;
  }
  json::Scanner scanner;
  json::Fields fields;
  EXPECT_EQ(scanner.Scan(json, &fields), json::Flaw::kNone);
  EXPECT_EQ(scanner.Scan(EnvelopeJson(Event("")), &fields), json::Flaw::kNone);
}

TEST(Envelope, ALineForAPerson) {
  const absl::TimeZone utc = absl::UTCTimeZone();
  EventLine line = LineOf(Event(R"({"eventTime":"2026-11-21T08:00:00Z","eventSource":"s3.amazonaws.com","eventName":"PutObject","eventID":"i-1",
    "sourceIPAddress":"10.1.2.3","errorCode":"AccessDenied","userIdentity":{"type":"IAMUser","userName":"alice"}})"), utc);
  EXPECT_EQ(line.time, "2026-11-21 08:00:00");
  EXPECT_EQ(line.event, "s3:PutObject");
  EXPECT_EQ(line.principal, "alice");
  EXPECT_EQ(line.source_ip, "10.1.2.3");
  EXPECT_EQ(line.error, "AccessDenied");
  EXPECT_EQ(line.id, "i-1");
  EXPECT_EQ(line.account, "222222222222");
  EXPECT_EQ(LineOf(Event("garbage"), utc).event, "(not readable)");
  EXPECT_EQ(LineOf(Event("{\"eventTime\":\"yesterday\"}"), utc).time, "yesterday");
  v1::Event twice = Event("{\"eventSource\":\"a\",\"eventName\":\"b\"}");
  twice.mutable_envelope()->set_copies(2);
  EXPECT_EQ(LineOf(twice, utc).event, "a:b ×2");
}

TEST(Envelope, AValueThatTheIndexCutShowsHowLongItIs) {
  const std::string most(256, 'n'), more(300'000, 'n');
  EXPECT_EQ(Shortened("PutObject"), "PutObject");
  EXPECT_EQ(Shortened(most), most);
  EXPECT_EQ(Shortened(more), std::string(40, 'n') + "… (300000 bytes)");
  EXPECT_EQ(Shortened(std::string(39, 'n') + "\xE2\x82\xAC" + more), std::string(39, 'n') + "… (300042 bytes)");   // between characters
  EXPECT_EQ(LineOf(Event("{\"eventSource\":\"s\",\"eventName\":\"" + more + "\"}"), absl::UTCTimeZone()).event, "s:" + std::string(40, 'n') + "… (300000 bytes)");
}

TEST(Envelope, FieldsToCountBy) {
  const v1::Event e = Event(R"({"eventName":"PutObject","userIdentity":{"userName":"alice"}})");
  EXPECT_EQ(FieldOf(e, "Account"), "222222222222");
  EXPECT_EQ(FieldOf(e, "Region"), "eu-west-1");
  EXPECT_EQ(FieldOf(e, "Agent"), "web-1");
  EXPECT_EQ(FieldOf(e, "EventName"), "PutObject");
  EXPECT_EQ(FieldOf(e, "Username"), "alice");
  EXPECT_EQ(FieldOf(e, "NoSuch"), "");
  EXPECT_EQ(FieldOf(Event("x"), "EventName"), "");
}

TEST(Envelope, CompletenessInWordsAndJson) {
  v1::Completeness c;
  EXPECT_EQ(Describe(c), "no agent has promised completeness yet");
  c.set_complete_to_ns(1'790'000'000'000'000'000);
  EXPECT_EQ(Describe(c), "complete to 2026-09-21T14:13:20.000Z");
  for (int i = 0; i < 7; ++i) c.add_silent_agents("a" + std::to_string(i));
  c.add_losses("x: 7 events");
  c.set_quarantined_matches(2);
  c.set_tree_size(10);
  c.set_indexed_to(7);
  EXPECT_EQ(Describe(c), "complete to 2026-09-21T14:13:20.000Z; silent: a0, a1, a2, a3, a4, …; lost: x: 7 events; 2 matches in quarantine; "
                         "3 newest leaves not indexed yet");
  json::Scanner scanner;
  json::Fields fields;
  EXPECT_EQ(scanner.Scan(CompletenessJson(c), &fields), json::Flaw::kNone);
}

TEST(Progress, IsSilentWithoutATerminal) {
  FixedClock clock;
  ::testing::internal::CaptureStderr();
  {
    Progress p("verify", 100, clock);
    clock.Pass(absl::Seconds(5));
    p.At(50);
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

class InspectTest : public ::testing::Test {
 protected:
  InspectTest() {
    for (int i = 0; i < 25; ++i) log_.Add("{\"eventName\":\"\x1b[31mred\"}");
    log_.Close();
  }
  void Explains(std::string_view bytes, std::vector<std::string> parts) {
    auto text = Explain(bytes);
    ASSERT_TRUE(text.ok()) << text.status() << bytes.substr(0, 20);
    for (const std::string& p : parts) EXPECT_NE(text->find(p), std::string::npos) << p << "\n" << *text;
    EXPECT_EQ(text->find('\x1b'), std::string::npos);
    EXPECT_EQ(text->find('\0'), std::string::npos);
  }
  SealedLog log_;
};

TEST_F(InspectTest, EveryFormat) {
  Explains(log_.batches[1].frame, {"frame OTF1", "25 rows", "leaf hash", "kind", "bodies          as signed", "[0] seq 1", "… 5 more", "\\x1b"});
  Explains(log_.batches[0].frame, {"epoch opening OTO1", "1024 one-time keys", SealedLog::kOrigin, "as signed"});
  Explains(log_.entries[2], {"leaf hash", "batch header OTB1", "111122223333/eu-west-1/web-01"});
  Explains(FrameView::Decode(log_.batches[0].frame)->extension, {"epoch opening OTO1"});
  Explains(log_.entries[0], {"identity leaf OTN1", "enrolled", "identity key"});
  EvidenceLeaf evidence;
  evidence.code = "EQUIVOCATION";
  evidence.detail = "\x1b[2J";
  evidence.uri = "spiffe://o";
  Explains(evidence.Encode(), {"evidence leaf OTV1", "EQUIVOCATION"});
  PolicyLeaf policy;
  policy.note = "orgtrail/policy/v1\n\x1b[2J\n";
  policy.body = "{\n}\n";
  Explains(policy.Encode(), {"policy leaf OTP1", "orgtrail/policy/v1\n"});
  Explains(log_.Prove(1, 3).Encode(), {"proof of one record", "event 3 of leaf 2", SealedLog::kOrigin});
  Explains(log_.Note(), {"checkpoint", "size            3"});
  Explains(SignNote("hello\n", SealedLog::kOrigin, log_.log_key), {"signed note", "hello"});
  Explains(log_.trust().Encode(), {"trust policy", SealedLog::kOrigin});
  JoinToken token;
  token.secret = std::string(32, 's');
  token.ca_spki = Sha256("ca");
  Explains(token.Encode() + "\n", {"join token " + token.Id(), "not shown"});
  EXPECT_EQ(Explain(token.Encode())->find(token.Encode().substr(8, 20)), std::string::npos);
  const CaCertificate ca = *NewCa("o-demo", log_.clock.Wall(), absl::Hours(24));
  Explains(ca.cert_pem, {"certificate of a CA", "serial", "key SHA-256"});
}

TEST_F(InspectTest, GarbageIsSaid) {
  for (std::string_view text : {"", "x", "OTF1", "OTB1", "OTO1", "OTN1", "OTV1", "OTP1", "ot1.", "c2sp.org/tlog-proof@v1\n", "-----BEGIN CERTIFICATE-----\n"}) {
    EXPECT_FALSE(Explain(text).ok()) << text;
  }
  std::string frame = log_.batches[1].frame;
  for (size_t n = 0; n < frame.size(); n += 13) EXPECT_FALSE(Explain(frame.substr(0, n)).ok()) << n;
  for (size_t at = 4; at < frame.size(); at += 11) {
    std::string flipped = frame;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x41);
    (void)Explain(flipped).ok();   // an error or a text that says what is not as signed; never a crash
  }
  frame[frame.size() - 40] = static_cast<char>(frame[frame.size() - 40] ^ 1);
  auto text = Explain(frame);
  EXPECT_TRUE(!text.ok() || text->find("bodies          as signed") == std::string::npos);
}

}  // namespace
}  // namespace orgtrail::client
