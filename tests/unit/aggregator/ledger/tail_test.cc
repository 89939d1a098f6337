#include "aggregator/ledger/tail.h"

#include <gtest/gtest.h>

namespace orgtrail {
namespace {

std::shared_ptr<const Leaf> LeafAt(uint64_t index, size_t records) {
  auto leaf = std::make_shared<Leaf>();
  leaf->index = index;
  leaf->is_batch = true;
  leaf->logged_ns = static_cast<int64_t>(index) * 1000;
  leaf->flags = index % 2 == 0 ? kLeafQuarantined : 0;
  leaf->events.storage.Reset(records * 1000);
  for (size_t i = 0; i < records; ++i) {
    Row row;
    row.event_class = static_cast<uint16_t>(i % 3 == 1 ? EventClass::kChunk : EventClass::kData);
    row.tombstone = i % 3 == 2;
    RowFacts facts;
    facts.event_time_ns = static_cast<int64_t>(index * 100 + i);
    facts.terms_begin = static_cast<uint32_t>(leaf->terms.size());
    for (size_t t = 0; t <= i % 4; ++t) leaf->terms.push_back(index * 10'000 + i * 10 + t);
    facts.terms_end = static_cast<uint32_t>(leaf->terms.size());
    leaf->events.rows.push_back(row);
    leaf->facts.push_back(facts);
  }
  return leaf;
}

void ExpectTermsOf(const Leaf& leaf, const LeafTerms& terms) {
  EXPECT_EQ(terms.index, leaf.index);
  EXPECT_EQ(terms.logged_ns, leaf.logged_ns);
  EXPECT_EQ(terms.flags, leaf.flags);
  size_t at = 0, begin = 0;
  for (size_t i = 0; i < leaf.events.rows.size(); ++i) {
    if (leaf.events.rows[i].event_class == static_cast<uint16_t>(EventClass::kChunk)) continue;
    ASSERT_LT(at, terms.rows.size());
    const LeafTerms::Row& row = terms.rows[at++];
    EXPECT_EQ(row.event, i);
    EXPECT_EQ(row.event_time_ns, leaf.facts[i].event_time_ns);
    EXPECT_EQ(row.event_class, leaf.events.rows[i].event_class);
    EXPECT_EQ(row.tombstone, leaf.events.rows[i].tombstone);
    const std::vector<uint64_t> expected(leaf.terms.begin() + leaf.facts[i].terms_begin, leaf.terms.begin() + leaf.facts[i].terms_end);
    EXPECT_EQ(std::vector<uint64_t>(terms.terms.begin() + static_cast<ptrdiff_t>(begin), terms.terms.begin() + row.terms_end), expected);
    begin = row.terms_end;
  }
  EXPECT_EQ(at, terms.rows.size());
}

TEST(Tail, KeepsTermsLongerThanLeaves) {
  constexpr uint64_t kLeaves = 300;
  Tail tail(130'000);
  std::vector<std::shared_ptr<const Leaf>> pushed;
  for (uint64_t i = 0; i < kLeaves; ++i) {
    pushed.push_back(LeafAt(i, 10));
    tail.Push(pushed.back());
  }
  EXPECT_LE(tail.bytes(), 65'000u);
  size_t leaves = 0, terms = 0;
  for (uint64_t i = 0; i < kLeaves; ++i) {
    const auto leaf = tail.Get(i);
    const auto of = tail.Terms(i);
    leaves += leaf != nullptr;
    terms += of != nullptr;
    if (leaf != nullptr) {
      EXPECT_EQ(leaf, pushed[i]);
    }
    if (of != nullptr) ExpectTermsOf(*pushed[i], *of);
  }
  EXPECT_EQ(leaves, tail.leaves());
  EXPECT_GT(leaves, 3u);
  EXPECT_GT(terms, 5 * leaves) << "what stays is a fraction of the leaf";
  EXPECT_LT(terms, kLeaves) << "and is bounded";
  EXPECT_NE(tail.Terms(kLeaves - 1), nullptr);
  EXPECT_EQ(tail.Terms(kLeaves), nullptr);
}

TEST(Tail, ControlLeavesHaveNoTerms) {
  Tail tail(1);
  auto control = std::make_shared<Leaf>();
  control->index = 5;
  control->bytes = "OTN1";
  tail.Push(control);
  ASSERT_NE(tail.Terms(5), nullptr);
  EXPECT_TRUE(tail.Terms(5)->rows.empty());
}

TEST(Tail, ALeafThatDoesNotContinueStartsAnew) {
  Tail tail(1 << 20);
  tail.Push(LeafAt(1, 2));
  tail.Push(LeafAt(2, 2));
  tail.Push(LeafAt(7, 2));
  EXPECT_EQ(tail.leaves(), 1u);
  EXPECT_EQ(tail.Get(2), nullptr);
  EXPECT_EQ(tail.Terms(2), nullptr);
  EXPECT_NE(tail.Terms(7), nullptr);
}

}  // namespace
}  // namespace orgtrail
