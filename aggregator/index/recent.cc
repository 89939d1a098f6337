#include "aggregator/index/recent.h"

#include <algorithm>
#include <numeric>

#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kBlockRecords = 4096;

bool ByTerm(const TermAtOrdinal& a, const TermAtOrdinal& b) { return a.term < b.term; }

}  // namespace

void RecentBlock::Find(std::span<const uint64_t> wanted, std::vector<HistoryRecord>* found) const {
  if (wanted.empty()) {
    found->insert(found->end(), records.begin(), records.end());
    return;
  }
  const auto has_all = [&](uint32_t record) {
    const std::span<const uint64_t> own = TermsOf(record);
    return std::all_of(wanted.begin(), wanted.end(),
                       [&](uint64_t w) { return std::find(own.begin(), own.end(), w) != own.end(); });
  };
  if (sorted.empty()) {
    uint32_t last = kNoOrdinal;
    for (size_t i = 0; i < terms.size(); ++i) {
      if (terms[i] != wanted[0]) continue;
      const auto record = static_cast<uint32_t>(std::upper_bound(ends.begin(), ends.end(), i) - ends.begin());
      if (record != last && has_all(record)) found->push_back(records[record]);
      last = record;
    }
    return;
  }
  auto best = std::equal_range(sorted.begin(), sorted.end(), TermAtOrdinal{wanted[0], 0}, ByTerm);
  for (size_t i = 1; i < wanted.size(); ++i) {
    const auto range = std::equal_range(sorted.begin(), sorted.end(), TermAtOrdinal{wanted[i], 0}, ByTerm);
    if (range.second - range.first < best.second - best.first) best = range;
  }
  uint32_t last = kNoOrdinal;
  for (auto it = best.first; it != best.second; ++it) {
    if (it->ordinal != last && has_all(it->ordinal)) found->push_back(records[it->ordinal]);
    last = it->ordinal;
  }
}

void Recent::Add(const Leaf& leaf) {
  for (size_t i = 0; i < leaf.events.rows.size(); ++i) {
    const Row& row = leaf.events.rows[i];
    if (row.event_class == static_cast<uint16_t>(EventClass::kChunk)) continue;
    const RowFacts& facts = leaf.facts[i];
    uint32_t flags = 0;
    if (leaf.flags & kLeafQuarantined) flags |= kHistoryQuarantined;
    if (row.event_class == static_cast<uint16_t>(EventClass::kOwn) ||
        row.event_class == static_cast<uint16_t>(EventClass::kLoss)) {
      flags |= kHistoryOwn;
    }
    if (row.tombstone) flags |= kHistoryTombstone;
    open_.records.push_back({facts.event_time_ns, leaf.index, static_cast<uint32_t>(i), flags});
    open_.logged_ns.push_back(leaf.logged_ns);
    open_.terms.insert(open_.terms.end(), leaf.terms.begin() + facts.terms_begin, leaf.terms.begin() + facts.terms_end);
    open_.ends.push_back(static_cast<uint32_t>(open_.terms.size()));
    ++records_;
  }
  if (open_.records.size() >= kBlockRecords) Seal();
}

void Recent::Seal() {
  auto block = std::make_shared<RecentBlock>(std::move(open_));
  open_ = {};
  block->sorted.reserve(block->terms.size());
  uint32_t at = 0;
  for (uint32_t record = 0; record < block->records.size(); ++record) {
    for (; at < block->ends[record]; ++at) block->sorted.push_back({block->terms[at], record});
  }
  SortTerms(&block->sorted, &scratch_);
  sealed_.push_back(std::move(block));
}

std::vector<std::shared_ptr<const RecentBlock>> Recent::Blocks() const {
  std::vector<std::shared_ptr<const RecentBlock>> blocks = sealed_;
  if (!open_.records.empty()) blocks.push_back(std::make_shared<const RecentBlock>(open_));
  return blocks;
}

void Recent::Clear() {
  sealed_.clear();
  open_ = {};
  records_ = 0;
}

absl::Status WriteRun(Fs& fs, std::string path, std::span<const std::shared_ptr<const RecentBlock>> blocks,
                      uint64_t first_leaf, uint64_t next_leaf) {
  struct Place {
    HistoryRecord record;
    uint32_t block, at;
  };
  std::vector<Place> order;
  size_t n_terms = 0;
  for (uint32_t b = 0; b < blocks.size(); ++b) {
    n_terms += blocks[b]->terms.size();
    for (uint32_t i = 0; i < blocks[b]->records.size(); ++i) order.push_back({blocks[b]->records[i], b, i});
  }
  CHECK(!order.empty());
  std::reverse(order.begin(), order.end());  // arrival is nearly the order of time
  const auto newer = [](const Place& a, const Place& b) { return Newer(a.record, b.record); };
  if (!std::is_sorted(order.begin(), order.end(), newer)) std::sort(order.begin(), order.end(), newer);

  RunFacts facts = {.level = 0, .min_time_ns = order.back().record.time_ns, .max_time_ns = order[0].record.time_ns,
                    .first_leaf = first_leaf, .next_leaf = next_leaf, .min_logged_ns = INT64_MAX, .max_logged_ns = INT64_MIN};
  std::vector<HistoryRecord> records;
  records.reserve(order.size());
  std::vector<TermAtOrdinal> terms, scratch;
  terms.reserve(n_terms);
  for (uint32_t ordinal = 0; ordinal < order.size(); ++ordinal) {
    const Place& p = order[ordinal];
    const RecentBlock& block = *blocks[p.block];
    records.push_back(p.record);
    for (const uint64_t term : block.TermsOf(p.at)) terms.push_back({term, ordinal});
    facts.min_logged_ns = std::min(facts.min_logged_ns, block.logged_ns[p.at]);
    facts.max_logged_ns = std::max(facts.max_logged_ns, block.logged_ns[p.at]);
  }
  SortTerms(&terms, &scratch);

  ASSIGN_OR_RETURN(std::unique_ptr<RunWriter> writer, RunWriter::Create(fs, std::move(path), records.size()));
  RETURN_IF_ERROR(writer->AddRecords(records));
  std::vector<uint32_t> ordinals;
  for (size_t i = 0; i < terms.size();) {
    const uint64_t term = terms[i].term;
    ordinals.clear();
    for (; i < terms.size() && terms[i].term == term; ++i) {
      if (ordinals.empty() || ordinals.back() != terms[i].ordinal) ordinals.push_back(terms[i].ordinal);
    }
    RETURN_IF_ERROR(writer->AddTerm(term, ordinals));
  }
  return writer->Finish(facts);
}

}  // namespace orgtrail
