#include "aggregator/admit/admitter.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "aggregator/admit/terms.h"
#include "common/base/clock.h"
#include "common/merkle/tree.h"

namespace orgtrail {
namespace {

constexpr uint64_t kWall = 1'795'334'400'000'000'000;

struct Input {
  std::string body;
  uint16_t event_class = static_cast<uint16_t>(EventClass::kManagement);
  uint16_t flags = 0;
  bool tombstone = false;
};

Leaf LeafOf(const std::vector<Input>& inputs) {
  Leaf leaf;
  leaf.is_batch = true;
  leaf.header.account = "222222222222";
  leaf.header.region = "eu-west-1";
  std::string all;
  for (const Input& in : inputs) all += in.body;
  all.copy(leaf.events.storage.Reset(all.size()), all.size());
  size_t at = 0;
  for (const Input& in : inputs) {
    Row row;
    row.event_class = in.event_class;
    row.flags = in.flags;
    row.tombstone = in.tombstone;
    row.seq = leaf.events.rows.size() + 1;
    row.wall_ns = kWall;
    if (!in.tombstone) row.body = leaf.events.storage.view().substr(at, in.body.size());
    at += in.body.size();
    leaf.events.rows.push_back(row);
  }
  return leaf;
}

bool Has(const Leaf& leaf, size_t row, Attribute attribute, std::string_view value) {
  const RowFacts& f = leaf.facts[row];
  return std::count(leaf.terms.begin() + f.terms_begin, leaf.terms.begin() + f.terms_end, TermHash(attribute, value)) == 1;
}

TEST(Admitter, FilesARecordUnderItsAccountAndRegion) {
  struct {
    const char* carries;
    const char* body;
    const char* account;
    const char* region;
    uint16_t notes;
  } table[] = {
      {"", R"({"recipientAccountId":"222222222222","awsRegion":"us-east-1"})", "222222222222", "eu-west-1", 0},
      {"", R"({"recipientAccountId":"333333333333","awsRegion":"us-east-1"})", "222222222222", "eu-west-1", kNoteAccountMismatch},
      {"", R"({"awsRegion":"us-east-1"})", "222222222222", "eu-west-1", 0},
      {"", R"({"recipientAccountId":null})", "222222222222", "eu-west-1", 0},
      {"", R"({"recipientAccountId":222222222222})", "222222222222", "eu-west-1", 0},
      {"", R"({"recipientAccountId":333333333333})", "222222222222", "eu-west-1", kNoteAccountMismatch},
      {"", R"({"recipientAccountId":"\u003222222222222"})", "222222222222", "eu-west-1", 0},
      {"333333333333,444444444444", R"({"recipientAccountId":"444444444444","awsRegion":"us-east-1"})", "444444444444", "us-east-1", 0},
      {"333333333333,444444444444", R"({"recipientAccountId":"333333333333"})", "333333333333", "eu-west-1", 0},
      {"333333333333", R"({"recipientAccountId":"33333333333"})", "222222222222", "eu-west-1", kNoteAccountMismatch},
      {"333333333333", R"({"recipientAccountId":"555555555555","awsRegion":"us-east-1"})", "222222222222", "eu-west-1", kNoteAccountMismatch},
      {"333333333333", R"({"recipientAccountId":"222222222222","awsRegion":"us-east-1"})", "222222222222", "eu-west-1", 0},
      {"any", R"({"recipientAccountId":"555555555555","awsRegion":"us-east-1"})", "555555555555", "us-east-1", 0},
      {"any", R"({"recipientAccountId":"ANONYMIZED","awsRegion":{"odd":1}})", "ANONYMIZED", "eu-west-1", 0},
      {"any", R"({"recipientAccountId":"\u0035","awsRegion":"x"})", "222222222222", "eu-west-1", kNoteAccountMismatch},
      {"any", R"({"recipientAccountId":""})", "222222222222", "eu-west-1", kNoteAccountMismatch},
  };
  Admitter admitter;
  for (const auto& t : table) {
    Leaf leaf = LeafOf({{t.body}});
    admitter.Admit(t.carries, leaf);
    ASSERT_EQ(leaf.facts.size(), 1u);
    EXPECT_EQ(leaf.facts[0].account, t.account) << t.body;
    EXPECT_EQ(leaf.facts[0].region, t.region) << t.body;
    EXPECT_EQ(leaf.facts[0].notes & ~kNoteTimeOdd, t.notes) << t.body;
    EXPECT_TRUE(Has(leaf, 0, Attribute::kAccount, t.account));
    EXPECT_TRUE(Has(leaf, 0, Attribute::kRegion, t.region));
  }
}

TEST(Admitter, ReadsTheTime) {
  constexpr int64_t kSecond = 1'000'000'000;
  const std::pair<const char*, std::optional<int64_t>> table[] = {
      {"2026-11-22T08:01:44Z", 1'795'334'504 * kSecond},
      {"2026-11-22T08:01:44.5Z", 1'795'334'504 * kSecond + kSecond / 2},
      {"2026-11-22T08:01:44.123456789Z", 1'795'334'504 * kSecond + 123456789},
      {"2026-11-22T08:01:44.1234567899999Z", 1'795'334'504 * kSecond + 123456789},
      {"2026-11-22T10:01:44+02:00", 1'795'334'504 * kSecond},
      {"2026-11-21T23:31:44.25-08:30", 1'795'334'504 * kSecond + kSecond / 4},
      {"1970-01-01T00:00:00Z", 0},
      {"1970-01-01T00:00:00+01:00", std::nullopt},
      {"2000-02-29T00:00:00Z", 951'782'400 * kSecond},
      {"2100-02-29T00:00:00Z", std::nullopt},
      {"2024-02-29T23:59:59Z", 1'709'251'199 * kSecond},
      {"2023-02-29T00:00:00Z", std::nullopt},
      {"2016-12-31T23:59:60Z", 1'483'228'800 * kSecond},
      {"2200-12-31T23:59:59Z", 7'289'654'399 * kSecond},
      {"2201-01-01T00:00:00Z", std::nullopt}, {"1969-12-31T23:59:59Z", std::nullopt}, {"0001-01-01T00:00:00Z", std::nullopt}, {"9999-12-31T23:59:59Z", std::nullopt},
      {"2026-13-01T00:00:00Z", std::nullopt}, {"2026-00-01T00:00:00Z", std::nullopt}, {"2026-11-31T00:00:00Z", std::nullopt}, {"2026-11-00T00:00:00Z", std::nullopt},
      {"2026-11-22T24:00:00Z", std::nullopt}, {"2026-11-22T08:60:00Z", std::nullopt}, {"2026-11-22T08:01:61Z", std::nullopt}, {"2026-11-22T08:01:44", std::nullopt},
      {"2026-11-22 08:01:44Z", std::nullopt}, {"2026-11-22T08:01:44.Z", std::nullopt}, {"2026-11-22T08:01:44Zx", std::nullopt}, {"2026-11-22T08:01:44+0200", std::nullopt},
      {"2026-11-22T08:01:44+24:00", std::nullopt}, {"2026-11-22T08:01Z", std::nullopt}, {"", std::nullopt}, {"now", std::nullopt}, {"1795334504", std::nullopt},
      {"2026-11-22T08:01:44.", std::nullopt}, {"-026-11-22T08:01:44Z", std::nullopt}, {"2026-11-22T08:01:44+", std::nullopt},
  };
  Admitter admitter;
  for (const auto& [text, expected] : table) {
    EXPECT_EQ(ParseEventTime(text), expected) << text;
    Leaf leaf = LeafOf({{std::string(R"({"eventTime":")") + text + "\"}"}});
    admitter.Admit("", leaf);
    EXPECT_EQ(leaf.facts[0].event_time_ns, expected.value_or(static_cast<int64_t>(kWall))) << text;
    EXPECT_EQ(leaf.facts[0].notes, expected.has_value() ? 0 : kNoteTimeOdd) << text;
  }
  for (const char* body : {"{}", R"({"eventTime":null})", R"({"eventTime":1795334504})"}) {
    Leaf leaf = LeafOf({{body}});
    admitter.Admit("", leaf);
    EXPECT_EQ(leaf.facts[0].notes, kNoteTimeOdd) << body;
    EXPECT_EQ(leaf.facts[0].event_time_ns, static_cast<int64_t>(kWall));
  }
}

// Every second day of the range at odd times, against Abseil's calendar.
TEST(Admitter, AgreesWithAbseilAboutTheCalendar) {
  for (int64_t t = 3; t < 7'289'654'400; t += 2 * 86400 + 3607) {
    EXPECT_EQ(ParseEventTime(Rfc3339(absl::FromUnixSeconds(t))), t * 1'000'000'000);
  }
}

TEST(Admitter, NotesWhatIsOdd) {
  const std::string time = R"("eventTime":"2026-11-22T08:01:44Z")";
  struct {
    Input in;
    uint16_t notes;
    bool terms;
  } table[] = {
      {{"{" + time + R"(,"eventName":"A"})"}, 0, true},
      {{R"({"orgtrail:raw":"eA==","why":"SYNTAX",)" + time + R"(,"eventName":"A"})", 1, kFlagWrapped}, kNoteWrapped, true},
      {{R"({"orgtrail:blob":{"head":"\"padding\":true"},)" + time + R"(,"eventName":"A"})", 1, kFlagBlob}, kNoteBlob, true},
      {{R"({"orgtrail:blob":{"len":1,"padding":true,"head":""},)" + time + R"(,"eventName":"A"})", 1, kFlagBlob}, kNoteBlob | kNotePadding, true},
      {{"{" + time + R"(,"eventName":"A","a":")" + std::string(100000, ' ') + "\"}"}, kNotePadding, true},
      {{"{\"eventName\":\"A\",\"eventName\":\"B\"}"}, kNoteWrapped | kNoteTimeOdd, false},
      {{"not json"}, kNoteWrapped | kNoteTimeOdd, false},
      {{""}, kNoteWrapped | kNoteTimeOdd, false},
      {{"", 1, kRowTombstone, true}, kNoteTombstone, false},
      {{"{" + time + R"(,"eventName":"A"})", static_cast<uint16_t>(EventClass::kChunk)}, 0, false},
  };
  std::vector<Input> inputs;
  for (const auto& t : table) inputs.push_back(t.in);
  Leaf leaf = LeafOf(inputs);
  Admitter admitter;
  admitter.Admit("", leaf);
  ASSERT_EQ(leaf.facts.size(), std::size(table));
  uint32_t end = 0;
  for (size_t i = 0; i < std::size(table); ++i) {
    EXPECT_EQ(leaf.facts[i].notes, table[i].notes) << i;
    EXPECT_EQ(Has(leaf, i, Attribute::kEventName, "A"), table[i].terms) << i;
    EXPECT_TRUE(Has(leaf, i, Attribute::kAccount, "222222222222")) << i;
    EXPECT_EQ(leaf.facts[i].terms_begin, end) << "rows' terms follow one another";
    end = leaf.facts[i].terms_end;
    if (!table[i].terms) {
      EXPECT_EQ(leaf.facts[i].terms_end - leaf.facts[i].terms_begin, 2u) << i;
    }
  }
  EXPECT_EQ(end, leaf.terms.size());
  const std::vector<uint64_t> terms = leaf.terms;
  admitter.Admit("", leaf);
  EXPECT_EQ(leaf.terms, terms) << "admitting twice is admitting once";
}

BatchHeader HeaderOf(uint32_t n) {
  BatchHeader h;
  h.agent_uuid = Uuid::FromBytes(std::string(16, 'u'));
  h.epoch = 1;
  h.batch_seq = 5;
  h.first_seq = 1;
  h.last_seq = n;
  h.n_events = n;
  h.cum_events = n;
  h.body_bytes = 1000;
  h.org = "o-demo";
  h.account = "222222222222";
  h.region = "eu-west-1";
  h.agent = "web-1";
  return h;
}

TEST(InflateLeaf, RebuildsABatchAndItsFacts) {
  ZstdCompressor pack(1);
  ZstdDecompressor zstd;
  FramePacker packer;
  packer.Add(0, 1, 1, kWall, 5, R"({"eventName":"A","recipientAccountId":"333333333333","awsRegion":"us-east-1"})");
  packer.Add(0, 1, 2, kWall + 1, 6, R"({"eventName":"B"})");
  const std::string entry = HeaderOf(2).Encode() + std::string(64, 's');
  const std::string frame = packer.Finish(entry, "", std::string(32, 'k'), pack);
  Admitter admitter;
  auto leaf = InflateLeaf(frame, "any", zstd, admitter);
  ASSERT_TRUE(leaf.ok()) << leaf.status();
  EXPECT_TRUE((*leaf)->is_batch);
  EXPECT_EQ((*leaf)->hash, LeafHash(entry));
  EXPECT_EQ((*leaf)->header.agent, "web-1");
  ASSERT_EQ((*leaf)->facts.size(), 2u);
  EXPECT_EQ((*leaf)->facts[0].account, "333333333333");
  EXPECT_EQ((*leaf)->facts[0].region, "us-east-1");
  EXPECT_EQ((*leaf)->facts[1].account, "222222222222");
  EXPECT_TRUE(Has(**leaf, 1, Attribute::kEventName, "B"));
  EXPECT_EQ((*leaf)->bytes, frame);

  auto control = InflateLeaf("OTP1 something", "", zstd, admitter);
  ASSERT_TRUE(control.ok());
  EXPECT_FALSE((*control)->is_batch);
  EXPECT_EQ((*control)->hash, LeafHash("OTP1 something"));
  EXPECT_TRUE((*control)->facts.empty());

  EXPECT_FALSE(InflateLeaf(frame.substr(0, frame.size() - 1), "", zstd, admitter).ok());
  EXPECT_FALSE(InflateLeaf("OTF1", "", zstd, admitter).ok());
}

}  // namespace
}  // namespace orgtrail
