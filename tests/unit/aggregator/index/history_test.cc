#include "aggregator/index/history.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "aggregator/admit/terms.h"
#include "aggregator/index/search.h"
#include "tests/support/temp_history.h"

namespace orgtrail {
namespace {

size_t Count(const History& history, HistoryQuery query = {}) {
  HistorySearch search(history.snapshot(), std::move(query));
  size_t n = 0;
  std::optional<HistoryRecord> last;
  while (const std::optional<HistoryRecord> r = search.Next()) {
    if (last.has_value()) {
      EXPECT_TRUE(Newer(*last, *r));   // ordered, and none twice
    }
    last = r;
    ++n;
  }
  return n;
}
HistoryQuery OfAccount(std::string_view account) {
  HistoryQuery query;
  query.terms = {TermHash(Attribute::kAccount, account)};
  return query;
}
size_t Runs(const TempHistory& t) { return t.history->snapshot().runs.size(); }

TEST(History, FindsEverythingInMemoryInRunsAndMerged) {
  TempHistory t(40);
  TestAgent& agent = t.builder.Enrol("111111111111", "eu-west-1", "web-1");
  size_t records = 0;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(t.builder.Fill(agent, 17).ok());
    records += 17;
    t.history->Step(t.clock.now);
    t.history->merger().Step(t.clock.now);
    ASSERT_EQ(Count(*t.history), records);
  }
  t.Settle();
  EXPECT_EQ(Count(*t.history), records);
  EXPECT_LT(Runs(t), 16u);   // 33 runs of level 0 were written
  EXPECT_EQ(Count(*t.history, OfAccount("111111111111")), records);
  EXPECT_EQ(Count(*t.history, OfAccount("222222222222")), 0u);
}

TEST(History, ACrashAtAnyPointLosesNothing) {
  TempHistory t(40);
  TestAgent& agent = t.builder.Enrol("111111111111", "eu-west-1", "web-1");
  size_t records = 0;
  for (int i = 0; i < 120; ++i) {
    ASSERT_TRUE(t.builder.Fill(agent, 7).ok());
    records += 7;
    t.history->Step(t.clock.now);
    if (i % 3 == 0) t.history->merger().Step(t.clock.now);
    if (i % 5 == 0) {
      t.Reopen();
      t.Settle();
      ASSERT_EQ(Count(*t.history), records) << i;
    }
  }
}

TEST(History, WhatCameLateIsIndexedWhereverTheHistoryWas) {
  for (const bool is_saved : {false, true}) {
    TempHistory t(40);
    TestAgent& agent = t.builder.Enrol("111111111111", "eu-west-1", "web-1");
    for (int i = 0; i < 30; ++i) {
      ASSERT_TRUE(t.builder.Fill(agent, 17).ok());
      t.history->Step(t.clock.now);
      t.history->merger().Step(t.clock.now);
    }
    if (is_saved) t.Settle();
    const size_t records = Count(*t.history);
    ASSERT_EQ(records, 30u * 17);
    for (const uint64_t leaf : {uint64_t{29}, uint64_t{15}, uint64_t{1}, uint64_t{1'000}}) {
      const uint64_t stood = t.history->indexed_to();
      int done = 0;
      t.history->ReadAgain(leaf + 1, [&] { ++done; });
      t.history->ReadAgain(leaf, [&] {
        ++done;
        if (leaf >= stood) return;
        EXPECT_LE(t.history->indexed_to(), leaf);
        const std::string list = *ReadFile(PosixFs(), JoinPath(t.options.dir, "runs"));   // nor does a restart go on behind it
        EXPECT_LE(std::stoull(list.substr(list.find("next ") + 5)), leaf);
      });
      EXPECT_EQ(done, 0);
      t.history->Step(t.clock.now);
      EXPECT_EQ(done, 2) << leaf;
      t.Settle();
      EXPECT_EQ(Count(*t.history), records) << leaf;
      t.Reopen();
      t.Settle();
      EXPECT_EQ(Count(*t.history), records) << leaf;
    }
  }
}

TEST(History, AnIdOfTwoRecordsIsToldWhereTheirListsMeetAndACopyIsNot) {
  struct Case {
    const char* what;
    size_t run_records, between;   // records between the two
  };
  for (const Case& c : {Case{"one block", 40, 0}, Case{"two blocks of one run", 6'000, 5'000}, Case{"runs that are merged", 10, 60}}) {
    SCOPED_TRACE(c.what);
    TempHistory t(c.run_records);
    std::vector<std::pair<std::string, std::string>> told;
    t.options.tell_reuse = [&](std::string_view subject, std::string_view detail) { told.emplace_back(subject, detail); };
    t.Reopen();
    TestAgent& one = t.builder.Enrol("111111111111", "eu-west-1", "web-1");
    TestAgent& two = t.builder.Enrol("222222222222", "us-east-1", "web-2");
    const auto append = [&](TestAgent& agent, std::string_view id, std::string_view time, std::string_view name) {
      const std::string record = R"({"eventID":")" + std::string(id) + R"(","eventTime":"2026-11-20T)" + std::string(time) + R"(Z","eventName":")" + std::string(name) + "\"}";
      CHECK_OK(t.builder.Append(agent.Batch(std::span(&record, 1))));
      return t.builder.ledger->head().size - 1;
    };
    const auto fill = [&](size_t n) {
      for (; n > 0; n -= std::min<size_t>(n, 500)) CHECK_OK(t.builder.Fill(one, std::min<size_t>(n, 500)));
    };
    const uint64_t first = append(one, "same-time", "10:00:00", "Harmless");
    append(one, "other-time", "10:00:00", "Harmless");
    append(one, "copy", "10:00:00", "Harmless");
    fill(c.between);
    const uint64_t second = append(two, "same-time", "10:00:00", "Harmful");
    append(two, "other-time", "11:00:00", "Harmless");
    append(two, "copy", "10:00:00", "Harmless");
    for (int i = 0; i < 20; ++i) fill(10);   // enough runs for a merge of those that have them, and then more
    t.Settle();
    CHECK_OK(t.history->Flush());
    t.Settle();
    t.history->merger().Step(t.clock.now);
    ASSERT_EQ(told.size(), 2u);
    if (told[0].second.find("same-time") == std::string::npos) std::swap(told[0], told[1]);
    EXPECT_EQ(told[0].first, "222222222222/us-east-1/web-2");
    EXPECT_EQ(told[0].second, "eventID same-time stands for two records that differ: " + std::to_string(first) + ":0 (111111111111/eu-west-1/web-1) and " +
                                  std::to_string(second) + ":0 (222222222222/us-east-1/web-2)");
    EXPECT_NE(told[1].second.find("other-time"), std::string::npos) << told[1].second;
  }
}

TEST(History, OfManyRecordsUnderOneIdSomeAreComparedAndTheRestIsCounted) {
  TempHistory t(2'000);
  std::vector<std::string> told;
  t.options.tell_reuse = [&](std::string_view, std::string_view detail) { told.emplace_back(detail); };
  t.Reopen();
  TestAgent& agent = t.builder.Enrol("111111111111", "eu-west-1", "web-1");
  std::vector<std::string> records;
  for (int i = 0; i < 1'000; ++i) {
    records.push_back(R"({"eventID":"-","eventTime":"2026-11-20T10:00:00Z","eventName":"N)" + std::to_string(i) + "\"}");
  }
  ASSERT_TRUE(t.builder.Append(agent.Batch(records)).ok());
  ASSERT_TRUE(t.history->Step(t.clock.now) > t.clock.now);
  ASSERT_TRUE(t.history->Flush().ok());
  t.history->merger().Step(t.clock.now);
  EXPECT_EQ(told.size(), 1u);
  EXPECT_NE(t.metrics.Text().find("orgtrail_history_repeats_unchecked_total 871"), std::string::npos);   // 999 beside the first, 128 kept
}

TEST(History, LeftoversOfACrashAreRemoved) {
  TempHistory t(10);
  TestAgent& agent = t.builder.Enrol("111111111111", "eu-west-1", "web-1");
  ASSERT_TRUE(t.builder.Fill(agent, 30).ok());
  t.Settle();
  const std::string orphan = JoinPath(t.options.dir, "0000000000000000-00000000000000ff-3.run");
  ASSERT_TRUE(WriteFileAtomically(PosixFs(), orphan, "half of a run").ok());
  t.Reopen();
  EXPECT_FALSE(std::filesystem::exists(orphan));
  t.Settle();
  EXPECT_EQ(Count(*t.history), 30u);
}

TEST(History, IsRebuiltWhenItsFilesAreGoneDamagedOrOfAnotherLedger) {
  struct Case {
    const char* what;
    void (*harm)(TempHistory&);
  };
  const Case cases[] = {
      {"removed", [](TempHistory& t) { std::filesystem::remove_all(t.options.dir); }},
      {"list damaged", [](TempHistory& t) {
         CHECK_OK(WriteFileAtomically(PosixFs(), JoinPath(t.options.dir, "runs"), "orgtrail history 1\nnext 5\n"));
       }},
      {"a run cut", [](TempHistory& t) {
         for (const auto& f : std::filesystem::directory_iterator(t.options.dir)) {
           if (f.path().extension() == ".run") {
             const std::string bytes = *ReadFile(PosixFs(), f.path().string());
             CHECK_OK(WriteFileAtomically(PosixFs(), f.path().string(), bytes.substr(0, bytes.size() / 2)));
           }
         }
       }},
      {"a run missing", [](TempHistory& t) {
         for (const auto& f : std::filesystem::directory_iterator(t.options.dir)) {
           if (f.path().extension() == ".run") {
             std::filesystem::remove(f.path());
             break;
           }
         }
       }},
      {"of another ledger", [](TempHistory& t) {
         TempHistory other(10, 99);
         TestAgent& agent = other.builder.Enrol("333333333333", "eu-west-1", "web-9");
         CHECK_OK(other.builder.Fill(agent, 25));
         other.Settle();
         std::filesystem::remove_all(t.options.dir);
         std::filesystem::copy(other.options.dir, t.options.dir, std::filesystem::copy_options::recursive);
       }},
  };
  for (const Case& c : cases) {
    TempHistory t(10);
    TestAgent& agent = t.builder.Enrol("111111111111", "eu-west-1", "web-1");
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(t.builder.Fill(agent, 11).ok());
    t.Settle();
    t.history.reset();
    c.harm(t);
    t.Reopen();
    t.Settle();
    EXPECT_EQ(Count(*t.history, OfAccount("111111111111")), 44u) << c.what;
    EXPECT_EQ(Count(*t.history), 44u) << c.what;
  }
}

TEST(History, RunsOlderThanTheWindowAreDropped) {
  TempHistory t(10);
  t.options.keep = absl::Hours(24);
  t.Reopen();
  TestAgent& agent = t.builder.Enrol("111111111111", "eu-west-1", "web-1");
  ASSERT_TRUE(t.builder.Fill(agent, 20).ok());
  t.Settle();
  t.clock.Advance(absl::Hours(30));
  ASSERT_TRUE(t.builder.Fill(agent, 5).ok());
  t.Settle();
  EXPECT_EQ(Count(*t.history), 5u);
  std::filesystem::remove_all(t.options.dir);   // a rebuild does not bring them back
  t.Reopen();
  t.Settle();
  EXPECT_EQ(Count(*t.history), 5u);
}

TEST(History, WritesWhatIsOldEnoughAndSavesTheCursor) {
  TempHistory t(1000);
  TestAgent& agent = t.builder.Enrol("111111111111", "eu-west-1", "web-1");
  ASSERT_TRUE(t.builder.Fill(agent, 3).ok());
  t.history->Step(t.clock.now);
  EXPECT_EQ(Runs(t), 0u);
  t.clock.Advance(absl::Seconds(61));
  t.history->Step(t.clock.now);
  EXPECT_EQ(Runs(t), 1u);
  t.Reopen();
  EXPECT_EQ(t.history->indexed_to(), t.builder.ledger->head().size);
}

TEST(History, ASnapshotStaysWhatItWas) {
  TempHistory t(10);
  TestAgent& agent = t.builder.Enrol("111111111111", "eu-west-1", "web-1");
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(t.builder.Fill(agent, 10).ok());
  t.history->Step(t.clock.now);
  const HistorySnapshot before = t.history->snapshot();
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(t.builder.Fill(agent, 10).ok());
  t.Settle();   // merged: the files of `before` are gone
  HistorySearch search(before, {});
  size_t n = 0;
  while (search.Next().has_value()) ++n;
  EXPECT_EQ(n, 100u);
}

}  // namespace
}  // namespace orgtrail
