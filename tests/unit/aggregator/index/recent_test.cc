#include "aggregator/index/recent.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>
#include <set>

#include "aggregator/index/ordinals.h"
#include "common/base/status.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

TEST(EntrySorter, OrdersByTermAndKeepsTheOrderOfEquals) {
  std::mt19937_64 random(4);
  EntrySorter sorter;
  const std::function<uint64_t(uint32_t)> kinds[] = {
      [&](uint32_t) { return random(); },
      [&](uint32_t) { return random() >> 1; },
      [&](uint32_t i) { return i % 3 == 0 ? random() : random() % 50 << random() % 2 * 40; },   // crowded, too
      [&](uint32_t) { return uint64_t{7}; },
      [&](uint32_t) { return UINT64_MAX - random() % 3; },
      [&](uint32_t i) { return uint64_t{i} << 40; },
      [&](uint32_t i) { return uint64_t{1'000'000} - i; },
  };
  for (const auto& kind : kinds) {
    for (const uint32_t n : {0u, 1u, 2u, 100u, 20'000u}) {
      std::vector<TermEntry> entries;
      for (uint32_t i = 0; i < n; ++i) entries.push_back({kind(i), i, i * 3});
      std::vector<TermEntry> want = entries;
      std::stable_sort(want.begin(), want.end(), [](const auto& a, const auto& b) { return a.term < b.term; });
      entries.push_back({0, 77, 78});   // behind those that are to be sorted
      sorter.Sort(&entries, n);
      for (uint32_t i = 0; i < n; ++i) {
        ASSERT_EQ(entries[i].term, want[i].term) << n;
        ASSERT_EQ(entries[i].reference, want[i].reference);
        ASSERT_EQ(entries[i].source, want[i].source);
      }
    }
  }
}

TEST(SortNewestFirst, OrdersByTimeThenLeafThenEvent) {
  std::mt19937_64 random(5);
  std::vector<uint16_t> order, scratch;
  for (const uint64_t spread : {1ull, 3ull, 300ull, 70'000ull, 1ull << 40, ~0ull}) {
    std::vector<HistoryRecord> records;
    for (uint32_t i = 0; i < 3000; ++i) {
      const int64_t time = static_cast<int64_t>(spread == ~0ull ? random() : 1'700'000'000 + random() % spread * (spread == 3 ? 1'000'000'000 : 1));
      records.push_back({time, i / 7, static_cast<uint16_t>(i % 7), 0, 0});
    }
    SortNewestFirst(records, &order, &scratch);
    ASSERT_EQ(std::set<uint16_t>(order.begin(), order.end()).size(), records.size());
    for (size_t i = 1; i < order.size(); ++i) ASSERT_TRUE(Newer(records[order[i - 1]], records[order[i]])) << spread << " " << i;
  }
}

TEST(TermLister, ListsWhoHasWhat) {
  std::mt19937_64 random(6);
  TermLister lister;
  // The last kind: terms that meet in the table, as somebody can make them. Odd multiples of 2^64 / 0x9E37…15 times small numbers do.
  const uint64_t inverse = 0xF1DE83E19937733Dull;
  ASSERT_EQ(inverse * 0x9E3779B97F4A7C15ull, 1u);
  for (const bool crafted : {false, true}) {
    std::vector<uint64_t> terms;
    std::vector<uint32_t> ends;
    std::vector<uint16_t> order;
    std::map<uint64_t, std::set<uint16_t>> want;
    for (uint16_t record = 0; record < 2000; ++record) order.push_back(record);
    std::shuffle(order.begin(), order.end(), random);
    std::vector<uint16_t> place(order.size());
    for (uint16_t i = 0; i < order.size(); ++i) place[order[i]] = i;
    for (uint16_t record = 0; record < order.size(); ++record) {
      for (size_t n = record % 20 == 0 ? 0 : random() % 20; n > 0; --n) {
        const uint64_t r = random();
        terms.push_back(crafted ? (r % 5000) * inverse : r % 2 == 0 ? r % 60 * 0x9E3779B97F4A7C15ull : random());
        if (r % 16 == 1) terms.push_back(terms.back());   // twice
        want[terms.back()].insert(place[record]);
      }
      ends.push_back(static_cast<uint32_t>(terms.size()));
    }
    const TermLists lists = lister.List(terms, ends, order);
    ASSERT_EQ(lists.dictionary.size(), want.size());
    size_t i = 0;
    for (const auto& [term, places] : want) {
      ASSERT_EQ(lists.dictionary[i], term);
      const std::set<uint16_t> got(lists.postings.begin() + lists.begins[i], lists.postings.begin() + lists.begins[i + 1]);
      ASSERT_EQ(got, places);
      ASSERT_EQ(lists.begins[i + 1] - lists.begins[i], places.size());
      ASSERT_TRUE(std::is_sorted(lists.postings.begin() + lists.begins[i], lists.postings.begin() + lists.begins[i + 1]));
      ++i;
    }
    EXPECT_EQ(lists.begins.back(), lists.postings.size());
  }
  EXPECT_TRUE(lister.List({}, {}, {}).dictionary.empty());
}

TEST(OrdinalList, PutsListsInOrder) {
  std::mt19937_64 random(7);
  OrdinalList list(100'000);
  // How many lists, how many ordinals of each, how far each one's range reaches into the next one's.
  struct Case {
    uint32_t lists, each, reach;
  };
  for (const Case& c : {Case{1, 10, 0}, {20, 100, 0}, {20, 100, 200}, {20, 3000, 3000}, {20, 100, 100'000}, {300, 1, 90'000}, {3, 20'000, 60'000}}) {
    std::set<uint32_t> want;
    list.Begin(size_t{c.lists} * c.each);
    for (uint32_t l = 0; l < c.lists; ++l) {
      std::set<uint32_t> one;
      const uint32_t begin = l * (100'000 / c.lists), width = std::max(c.each * 2, 100'000 / c.lists) + c.reach;
      for (uint32_t i = 0; i < c.each; ++i) {
        const auto o = static_cast<uint32_t>(std::min<uint64_t>(99'999, begin + random() % width));
        if (want.insert(o).second) one.insert(o);
      }
      std::copy(one.begin(), one.end(), list.Room(c.each));
      list.Add(one.size());
    }
    const std::span<const uint32_t> got = list.Sorted();
    ASSERT_EQ(std::vector<uint32_t>(got.begin(), got.end()), std::vector<uint32_t>(want.begin(), want.end())) << c.lists << " " << c.reach;
  }
}

// A leaf of `n` records at whatever time `when` says.
LeafTerms Leaf(uint64_t index, uint32_t n, std::mt19937_64& random, const std::function<int64_t()>& when) {
  LeafTerms leaf;
  leaf.index = index;
  leaf.logged_ns = static_cast<int64_t>(index * 10);
  for (uint32_t i = 0; i < n; ++i) {
    leaf.terms.push_back((index * 1000 + i + 1) * 0xD1B54A32D192ED03ull & ~kAddressBit);
    for (uint64_t t = random() % 8; t > 0; --t) leaf.terms.push_back((random() % 4 == 0 ? random() % 5000 : random() % 12) * 0x9E3779B97F4A7C15ull & ~kAddressBit);
    leaf.terms.push_back(kAddressBit | random() % 300 << 30);
    leaf.rows.push_back({when(), i, static_cast<uint32_t>(leaf.terms.size()), 1, false});
  }
  return leaf;
}

TEST(Recent, BlocksAndTheirRunHoldWhatWasAdded) {
  TempDir dir;
  std::mt19937_64 random(8);
  int64_t now = 1'700'000'000'000'000'000;
  const std::function<int64_t()> times[] = {
      [&] { return now += 1000; },                                                       // in order
      [&] { return (now += 500'000) / 1'000'000'000 * 1'000'000'000 - static_cast<int64_t>(random() % 3) * 1'000'000'000; },  // whole seconds, late by up to two
      [&] { return now - static_cast<int64_t>(random() % 1'000'000); },                  // all at once, in any order
      [&] { return now -= 1000; },                                                       // backwards
  };
  int which = 0;
  for (const auto& when : times) {
    Recent recent;
    std::map<uint64_t, std::set<std::pair<uint64_t, uint16_t>>> want;
    size_t records = 0;
    const uint64_t leaves = 40;
    for (uint64_t index = 0; index < leaves; ++index) {
      const LeafTerms leaf = Leaf(index, static_cast<uint32_t>(random() % 1000), random, when);
      recent.Add(leaf);
      uint32_t term = 0;
      for (const LeafTerms::Row& row : leaf.rows) {
        for (; term < row.terms_end; ++term) want[leaf.terms[term]].emplace(leaf.index, row.event);
      }
      records += leaf.rows.size();
    }
    ASSERT_EQ(recent.records(), records);
    const auto found = [](const std::vector<HistoryRecord>& in) {
      std::set<std::pair<uint64_t, uint16_t>> out;
      for (const HistoryRecord& r : in) out.emplace(r.leaf, r.event);
      return out;
    };
    ASSERT_GT(recent.Blocks().size(), 3u);
    size_t asked = 0;
    for (const auto& [term, of] : want) {
      if (++asked % 50 != 0 && of.size() < 5) continue;
      std::vector<HistoryRecord> hits;
      for (const auto& block : recent.Blocks()) block->Find(std::span(&term, 1), &hits);
      ASSERT_EQ(found(hits), of);
    }
    recent.Seal();
    const std::string path = dir / std::to_string(which++);
    ASSERT_TRUE(WriteRun(PosixFs(), path, recent.Blocks(), 0, leaves, nullptr).ok());
    const absl::StatusOr<std::shared_ptr<const orgtrail::Run>> opened = orgtrail::Run::Open(path);
    ASSERT_TRUE(opened.ok()) << opened.status();
    const orgtrail::Run& run = **opened;
    ASSERT_TRUE(run.Verify().ok());
    ASSERT_EQ(run.facts().records, records);
    EXPECT_EQ(run.facts().min_time_ns, run.records().back().time_ns);
    EXPECT_EQ(run.facts().max_time_ns, run.records().front().time_ns);
    EXPECT_GE(run.facts().min_logged_ns, 0);
    EXPECT_LE(run.facts().max_logged_ns, 390);
    for (size_t i = 1; i < run.records().size(); ++i) ASSERT_TRUE(Newer(run.records()[i - 1], run.records()[i]));
    ASSERT_EQ(run.facts().terms, want.size());
    for (const auto& [term, of] : want) {
      std::vector<uint32_t> ordinals;
      ASSERT_TRUE(run.Find(term).AppendTo(&ordinals));
      ASSERT_TRUE(std::is_sorted(ordinals.begin(), ordinals.end()));
      std::vector<HistoryRecord> hits;
      for (const uint32_t o : ordinals) hits.push_back(run.records()[o]);
      ASSERT_EQ(found(hits), of);
      ASSERT_EQ(hits.size(), of.size());
    }
  }
}

}  // namespace
}  // namespace orgtrail
