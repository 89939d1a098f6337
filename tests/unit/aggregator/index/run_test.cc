#include "aggregator/index/run.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <random>

#include "aggregator/admit/terms.h"
#include "aggregator/index/merge.h"
#include "aggregator/index/run_writer.h"
#include "common/base/status.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

using IndexRun = Run;   // within TEST, Run is GoogleTest's
using Lists = std::map<uint64_t, std::vector<uint32_t>>;

// `n` records, one a second, newest first, and terms of every density.
struct Content {
  std::vector<HistoryRecord> records;
  Lists terms;
};
Content Make(uint32_t n, uint64_t first_leaf, uint32_t seed) {
  std::mt19937_64 random(seed);
  Content c;
  for (uint32_t i = 0; i < n; ++i) {
    const uint64_t leaf = first_leaf + (n - 1 - i);
    c.records.push_back({static_cast<int64_t>(leaf * 10 + random() % 40), leaf, static_cast<uint16_t>(i % 3), 0, 0});
  }
  std::sort(c.records.begin(), c.records.end(), Newer);
  for (uint64_t density = 1; density <= n; density = density * 3 + 1) {
    for (uint64_t which = 0; which < 3; ++which) {
      std::vector<uint32_t> list;
      for (uint32_t i = 0; i < n; ++i) {
        if (random() % density == 0) list.push_back(i);
      }
      if (!list.empty()) c.terms[(density * 7919 + which) * 0x9E3779B97F4A7C15ull] = std::move(list);
    }
  }
  for (uint32_t i = 0; i < n; ++i) c.terms[(c.records[i].leaf + 1) * 0xD1B54A32D192ED03ull] = {i};
  return c;
}
std::shared_ptr<const IndexRun> Write(const std::string& path, const Content& c, uint64_t first, uint64_t next) {
  absl::StatusOr<std::unique_ptr<RunWriter>> writer = RunWriter::Create(PosixFs(), path, c.records.size());
  CHECK_OK(writer.status());
  CHECK_OK((*writer)->AddRecords(c.records));
  for (const auto& [term, list] : c.terms) CHECK_OK((*writer)->AddTerm(term, list));
  CHECK_OK((*writer)->Finish({.min_time_ns = c.records.back().time_ns, .max_time_ns = c.records[0].time_ns,
                              .first_leaf = first, .next_leaf = next, .min_logged_ns = 1, .max_logged_ns = 2}));
  absl::StatusOr<std::shared_ptr<const IndexRun>> run = IndexRun::Open(path);
  CHECK_OK(run.status());
  return *run;
}
std::vector<uint32_t> All(Postings p) {
  std::vector<uint32_t> all;
  for (uint32_t o = p.Seek(0); o != kNoOrdinal; o = p.Seek(o + 1)) all.push_back(o);
  return all;
}

TEST(Run, GivesBackWhatWasWritten) {
  TempDir dir;
  for (const uint32_t n : {1u, 2u, 7u, 8u, 129u, 5000u}) {
    const Content c = Make(n, 100, n);
    const auto run = Write(dir / (std::to_string(n) + ".run"), c, 100, 100 + n);
    ASSERT_TRUE(run->Verify().ok());
    EXPECT_EQ(run->facts().records, n);
    EXPECT_EQ(run->facts().first_leaf, 100u);
    for (const auto& [term, list] : c.terms) {
      ASSERT_EQ(All(run->Find(term)), list) << n << " " << term;
      std::vector<uint32_t> at_once{77};
      ASSERT_TRUE(run->Find(term).AppendTo(&at_once));
      ASSERT_EQ(at_once.front(), 77u);
      ASSERT_EQ(std::vector<uint32_t>(at_once.begin() + 1, at_once.end()), list) << n << " " << term;
    }
    EXPECT_TRUE(All(run->Find(12345)).empty());
    EXPECT_TRUE(All(run->Find(0)).empty());
    EXPECT_TRUE(All(run->Find(UINT64_MAX)).empty());
  }
}

TEST(Run, SeekFindsTheFirstAtOrAfter) {
  TempDir dir;
  const Content c = Make(5000, 0, 5);
  const auto run = Write(dir / "a.run", c, 0, 5000);
  std::mt19937 random(1);
  for (const auto& [term, list] : c.terms) {
    if (list.size() < 2) continue;
    Postings p = run->Find(term);
    for (uint32_t target = 0; target < 5200; target += random() % 300) {
      const auto want = std::lower_bound(list.begin(), list.end(), target);
      ASSERT_EQ(p.Seek(target), want == list.end() ? kNoOrdinal : *want) << target;
    }
  }
}

TEST(Run, EveryDamageIsFoundOrHarmless) {
  TempDir dir;
  const Content c = Make(300, 0, 9);
  const std::string path = dir / "a.run";
  Write(path, c, 0, 300);
  const std::string good = *ReadFile(PosixFs(), path);
  std::mt19937 random(3);
  for (int round = 0; round < 150; ++round) {
    std::string bad = good;
    const size_t at = random() % bad.size();
    bad[at] = static_cast<char>(bad[at] ^ (1 << random() % 8));
    if (round % 10 == 0) bad.resize(random() % good.size());
    ASSERT_TRUE(WriteFileAtomically(PosixFs(), path, bad).ok());
    const absl::StatusOr<std::shared_ptr<const IndexRun>> run = IndexRun::Open(path);
    if (!run.ok()) {
      EXPECT_TRUE(absl::IsDataLoss(run.status())) << run.status();
      continue;
    }
    EXPECT_TRUE(absl::IsDataLoss((*run)->Verify())) << at;
    for (uint64_t i = 0; i < (*run)->facts().terms; ++i) {      // reads stay within bounds (under ASan: says so)
      for (const uint32_t o : All((*run)->PostingsAt(i))) ASSERT_LT(o, 300u);
      std::vector<uint32_t> at_once;
      (*run)->PostingsAt(i).AppendTo(&at_once);
      for (const uint32_t o : at_once) ASSERT_LT(o, 300u);
    }
  }
}

TEST(Run, NothingIsVisibleBeforeFinish) {
  TempDir dir;
  const Content c = Make(10, 0, 1);
  {
    auto writer = RunWriter::Create(PosixFs(), dir / "a.run", c.records.size());
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->AddRecords(c.records).ok());
  }
  EXPECT_TRUE(PosixFs().List(dir.path())->empty());
}

TEST(Run, GathersTheAddressesOfARange) {
  TempDir dir;
  std::mt19937_64 random(11);
  Content c = Make(4000, 0, 6);
  std::erase_if(c.terms, [](const auto& t) { return (t.first & kAddressBit) != 0; });
  // Networks of every size: 10.x is crowded, 192.0.2.x has few records, the IPv6 hosts share their first 62 bits in fours.
  std::vector<IpBytes> of(4000);
  for (uint32_t i = 0; i < 4000; ++i) {
    const uint64_t r = random();
    std::string text = "10." + std::to_string(r % 4) + "." + std::to_string(r / 7 % 256) + "." + std::to_string(r / 1999 % 256);
    if (i % 50 == 0) text = "192.0.2." + std::to_string(r % 256);
    if (i % 20 == 1) text = "2001:db8:" + std::to_string(r % 3) + ":" + std::to_string(r / 5 % 8) + "::1";
    of[i] = *ParseIp(text);
    c.terms[AddressTerm(of[i])].push_back(i);
  }
  const auto run = Write(dir / "a.run", c, 0, 4000);
  EXPECT_LT(run->facts().hashes, run->facts().terms);
  for (const auto& [term, list] : c.terms) ASSERT_EQ(All(run->Find(term)), list) << term;
  for (const char* text : {"10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "192.0.2.0/24", "192.0.2.128/25", "192.0.2.7/32",
                           "0.0.0.0/0", "172.16.0.0/12", "255.255.255.255/32", "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1:4::/62", "::/0",
                           "::ffff:10.0.0.0/104", "ffff::/16", "11.0.0.0/8"}) {
    const Cidr range = *ParseCidr(text);
    std::vector<uint32_t> want;
    for (uint32_t i = 0; i < 4000; ++i) {
      const uint64_t term = AddressTerm(of[i]);
      if (range.Contains(of[i])) want.push_back(i);
      // The part that a record of the index keeps orders as the terms do.
      ASSERT_EQ(AddressKey(term), AddressKey(HistoryRecord{0, 0, 0, static_cast<uint16_t>(IsIpv4(of[i]) ? kHistoryAddress : kHistoryAddress | kHistoryIpv6),
                                                           static_cast<uint32_t>(AddressKey(term))}));
    }
    EXPECT_EQ(run->Gather(AddressTerms(range), 4000), want) << text;
    EXPECT_EQ(run->Gather(AddressTerms(range), want.size()), want) << text;
    if (!want.empty()) {
      EXPECT_EQ(run->Gather(AddressTerms(range), want.size() - 1), std::nullopt) << text;
    }
    Postings seeking = Postings::Of(want);
    for (uint32_t target = 0; target < 4100; target += random() % 90) {
      const auto at = std::lower_bound(want.begin(), want.end(), target);
      ASSERT_EQ(seeking.Seek(target), at == want.end() ? kNoOrdinal : *at) << text << " " << target;
    }
  }
}

// `merged` is what the naive union of the contents would be.
void ExpectUnion(const IndexRun& merged, const std::vector<Content>& contents) {
  ASSERT_TRUE(merged.Verify().ok());
  std::vector<HistoryRecord> all;
  std::map<uint64_t, std::vector<HistoryRecord>> want;
  for (const Content& c : contents) {
    all.insert(all.end(), c.records.begin(), c.records.end());
    for (const auto& [term, list] : c.terms) {
      for (const uint32_t o : list) want[term].push_back(c.records[o]);
    }
  }
  std::sort(all.begin(), all.end(), Newer);
  ASSERT_EQ(merged.records().size(), all.size());
  for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(merged.records()[i].leaf, all[i].leaf);
  EXPECT_EQ(merged.facts().terms, want.size());
  for (auto& [term, list] : want) {
    std::sort(list.begin(), list.end(), Newer);
    const std::vector<uint32_t> got = All(merged.Find(term));
    ASSERT_EQ(got.size(), list.size());
    for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(merged.records()[got[i]].leaf, list[i].leaf);
  }
}

TEST(Merge, EqualsTheNaiveUnion) {
  TempDir dir;
  for (const uint32_t seed : {1u, 2u, 3u}) {
    std::vector<std::shared_ptr<const IndexRun>> runs;
    std::vector<Content> contents;
    uint64_t leaf = 0;
    for (uint32_t i = 0; i < kMergeWays; ++i) {
      const uint32_t n = 1 + (seed * 997 + i * 331) % 700;
      contents.push_back(Make(n, leaf, seed * 100 + i));
      runs.push_back(Write(dir / ("in-" + std::to_string(seed) + "-" + std::to_string(i)), contents.back(), leaf, leaf + n));
      leaf += n;
    }
    const std::string path = dir / ("out-" + std::to_string(seed));
    ASSERT_TRUE(MergeRuns(PosixFs(), path, runs, nullptr).ok());
    const std::shared_ptr<const IndexRun> merged = *IndexRun::Open(path);
    EXPECT_EQ(merged->facts().level, 1u);
    EXPECT_EQ(merged->facts().next_leaf, leaf);
    ExpectUnion(*merged, contents);
  }
}

TEST(Merge, SourcesOfOneTimeInterleave) {
  // Every source spans the same time, so that hardly two records are neighbours before and after; and one holds nearly everything.
  TempDir dir;
  for (const uint32_t longest : {300u, 4000u}) {
    std::vector<std::shared_ptr<const IndexRun>> runs;
    std::vector<Content> contents;
    std::mt19937_64 random(longest);
    uint64_t leaf = 0;
    for (uint32_t i = 0; i < 5; ++i) {
      const uint32_t n = i == 2 ? longest : 300;
      Content c = Make(n, leaf, i);
      for (HistoryRecord& r : c.records) r.time_ns = static_cast<int64_t>(random() % 5000);
      std::sort(c.records.begin(), c.records.end(), Newer);
      runs.push_back(Write(dir / (std::to_string(longest) + "-" + std::to_string(i)), c, leaf, leaf + n));
      contents.push_back(std::move(c));
      leaf += n;
    }
    const std::string path = dir / ("out-" + std::to_string(longest));
    ASSERT_TRUE(MergeRuns(PosixFs(), path, runs, nullptr).ok());
    ExpectUnion(**IndexRun::Open(path), contents);
  }
}

TEST(Merge, EventIdsOfSeveralSourcesAreNotedOnceAPair) {
  // How often each of three runs has the id, and the pairs that are to be compared: a run's own were, when it was made.
  struct Case {
    size_t has[3], pairs;
  };
  TempDir dir;
  int made = 0;
  for (const Case& c : {Case{{1, 0, 0}, 0}, {{1, 1, 0}, 1}, {{1, 1, 1}, 2}, {{5, 0, 0}, 0}, {{5, 0, 1}, 1}, {{0, 500, 500}, 1}, {{0, 500, 0}, 0}}) {
    for (const bool is_id : {false, true}) {
      const uint64_t term = is_id ? TermHash(Attribute::kEventId, "again") : TermHash(Attribute::kEventName, "again");
      ASSERT_EQ(IsIdTerm(term), is_id);
      std::vector<std::shared_ptr<const IndexRun>> runs;
      for (uint32_t i = 0; i < 3; ++i) {
        Content content;
        for (uint64_t r = 500; r-- > 0;) content.records.push_back({static_cast<int64_t>(i * 500 + r), i * 500 + r, 0, 0, 0});
        for (uint32_t r = 0; r < c.has[i]; ++r) content.terms[term].push_back(r);
        runs.push_back(Write(dir / std::to_string(made++), content, i * 500, i * 500 + 500));
      }
      Repeats repeats;
      ASSERT_TRUE(MergeRuns(PosixFs(), dir / std::to_string(made++), runs, &repeats).ok());
      EXPECT_EQ(repeats.Pairs().size(), is_id ? c.pairs : 0) << c.has[0] << " " << c.has[1] << " " << c.has[2];
    }
  }
}

TEST(Merge, ADictionaryOfSeveralPartsIsWhole) {
  TempDir dir;
  std::vector<std::shared_ptr<const IndexRun>> runs;
  std::vector<Content> contents;
  for (uint32_t i = 0; i < 2; ++i) {
    Content c = Make(500, 500 * i, i);
    for (uint64_t t = 0; t < 70'000; ++t) c.terms[(t * 2 + i) * 0xD6E8FEB86659FD93ull] = {static_cast<uint32_t>(t % 500)};
    runs.push_back(Write(dir / std::to_string(i), c, 500 * i, 500 * i + 500));
    contents.push_back(std::move(c));
  }
  for (size_t i = 0; i < 2; ++i) {
    ASSERT_GT(runs[i]->facts().terms, run_format::kPartTerms);
    for (const auto& [term, list] : contents[i].terms) ASSERT_EQ(All(runs[i]->Find(term)), list) << term;
  }
  ASSERT_TRUE(MergeRuns(PosixFs(), dir / "out", runs, nullptr).ok());
  ExpectUnion(**IndexRun::Open(dir / "out"), contents);
}

TEST(Merge, RefusesADamagedInput) {
  TempDir dir;
  const Content c = Make(300, 0, 9);
  const std::string path = dir / "a.run";
  Write(path, c, 0, 300);
  std::string bytes = *ReadFile(PosixFs(), path);
  bytes[300] = static_cast<char>(bytes[300] ^ 1);
  ASSERT_TRUE(WriteFileAtomically(PosixFs(), path, bytes).ok());
  const std::vector<std::shared_ptr<const IndexRun>> runs = {*IndexRun::Open(path)};
  EXPECT_TRUE(absl::IsDataLoss(MergeRuns(PosixFs(), dir / "b.run", runs, nullptr)));
}

}  // namespace
}  // namespace orgtrail
