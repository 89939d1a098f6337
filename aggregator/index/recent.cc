#include "aggregator/index/recent.h"

#include <algorithm>

#include "aggregator/index/combine.h"
#include "aggregator/index/run_format.h"
#include "aggregator/index/run_writer.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kBlockRecords = 4096;
static_assert(limits::kBatchEvents <= kBlockRecords);  // a block holds whole leaves

}  // namespace

std::span<const uint16_t> RecentBlock::PostingsOf(uint64_t term) const {
  const auto at = std::lower_bound(lists.dictionary.begin(), lists.dictionary.end(), term);
  if (at == lists.dictionary.end() || *at != term) return {};
  const auto i = static_cast<size_t>(at - lists.dictionary.begin());
  return {lists.postings.data() + lists.begins[i], lists.begins[i + 1] - lists.begins[i]};
}

void RecentBlock::FindInOpen(std::span<const uint64_t> wanted, std::vector<HistoryRecord>* found) const {
  for (uint32_t record = 0, begin = 0; record < records.size(); begin = ends[record++]) {
    const std::span<const uint64_t> own(terms.data() + begin, ends[record] - begin);
    if (std::all_of(wanted.begin(), wanted.end(), [&](uint64_t w) { return std::find(own.begin(), own.end(), w) != own.end(); })) {
      found->push_back(records[record]);
    }
  }
}

void RecentBlock::Find(std::span<const uint64_t> wanted, std::vector<HistoryRecord>* found) const {
  if (wanted.empty()) {
    found->insert(found->end(), records.begin(), records.end());
    return;
  }
  if (lists.begins.empty()) return FindInOpen(wanted, found);
  std::vector<std::span<const uint16_t>> all;
  for (const uint64_t term : wanted) all.push_back(PostingsOf(term));
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); });
  for (const uint16_t record : all[0]) {
    if (std::all_of(all.begin() + 1, all.end(), [&](const auto& l) { return std::binary_search(l.begin(), l.end(), record); })) {
      found->push_back(records[record]);
    }
  }
}

void Recent::Add(const LeafTerms& leaf) {
  if (open_.records.size() + leaf.rows.size() > kBlockRecords) Seal();
  const auto base = static_cast<uint32_t>(open_.terms.size());
  uint32_t term = 0;
  for (const LeafTerms::Row& row : leaf.rows) {
    uint16_t flags = 0;
    if (leaf.flags & kLeafQuarantined) flags |= kHistoryQuarantined;
    if (row.event_class == static_cast<uint16_t>(EventClass::kOwn) ||
        row.event_class == static_cast<uint16_t>(EventClass::kLoss)) {
      flags |= kHistoryOwn;
    }
    if (row.tombstone) flags |= kHistoryTombstone;
    uint32_t address = 0;
    for (; term < row.terms_end; ++term) {
      if ((leaf.terms[term] & kAddressBit) == 0) continue;
      address = static_cast<uint32_t>(AddressKey(leaf.terms[term]));
      flags = static_cast<uint16_t>(flags | ((leaf.terms[term] & kIpv6Bit) != 0 ? kHistoryAddress | kHistoryIpv6 : kHistoryAddress));
    }
    open_.records.push_back({row.event_time_ns, leaf.index, static_cast<uint16_t>(row.event), flags, address});
    open_.ends.push_back(base + row.terms_end);
  }
  if (!leaf.rows.empty()) {
    open_.min_logged_ns = std::min(open_.min_logged_ns, leaf.logged_ns);
    open_.max_logged_ns = std::max(open_.max_logged_ns, leaf.logged_ns);
  }
  open_.terms.insert(open_.terms.end(), leaf.terms.begin(), leaf.terms.end());
  records_ += leaf.rows.size();
}

void Recent::Seal() {
  if (open_.records.empty()) return;
  SortNewestFirst(open_.records, &newest_, &newest_scratch_);
  auto block = std::make_shared<RecentBlock>();
  block->records.reserve(open_.records.size());
  for (const uint16_t record : newest_) block->records.push_back(open_.records[record]);
  block->min_logged_ns = open_.min_logged_ns;
  block->max_logged_ns = open_.max_logged_ns;
  block->lists = lister_.List(open_.terms, open_.ends, newest_);
  sealed_.push_back(std::move(block));
  open_.records.clear();   // cleared rather than moved away, so that it keeps its room
  open_.min_logged_ns = INT64_MAX;
  open_.max_logged_ns = INT64_MIN;
  open_.terms.clear();
  open_.ends.clear();
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

namespace {

class BlockSource final : public TermSource {
 public:
  explicit BlockSource(const RecentBlock& block) : records_(block.records), lists_(block.lists) {}
  std::span<const HistoryRecord> records() const override { return records_; }
  uint64_t terms() const override { return lists_.dictionary.size(); }
  uint64_t TermAt(uint64_t i) const override { return lists_.dictionary[i]; }
  size_t CopyTerms(uint64_t i, uint64_t end, uint64_t last, TermEntry* out) const override {
    TermEntry* to = out;
    for (; i < end && (to->term = lists_.dictionary[i]) <= last; ++i, ++to) {
      const uint32_t begin = lists_.begins[i];
      to->reference = lists_.begins[i + 1] - begin == 1 ? lists_.postings[begin] | run_format::kInlineBit : static_cast<uint32_t>(i);
    }
    return static_cast<size_t>(to - out);
  }
  Postings ListOf(uint32_t reference) const override {
    if ((reference & run_format::kInlineBit) != 0) {
      return Postings::One(reference & ~run_format::kInlineBit, static_cast<uint32_t>(records_.size()));
    }
    const uint32_t begin = lists_.begins[reference];
    return Postings::Of(std::span(lists_.postings).subspan(begin, lists_.begins[reference + 1] - begin));
  }
  bool fresh() const override { return true; }

 private:
  const std::span<const HistoryRecord> records_;
  const TermLists& lists_;
};

}  // namespace

absl::Status WriteRun(Fs& fs, std::string path, std::span<const std::shared_ptr<const RecentBlock>> blocks,
                      uint64_t first_leaf, uint64_t next_leaf, Repeats* repeats) {
  CHECK(!blocks.empty());
  RunFacts facts = {.level = 0, .min_time_ns = INT64_MAX, .max_time_ns = INT64_MIN,
                    .first_leaf = first_leaf, .next_leaf = next_leaf, .min_logged_ns = INT64_MAX, .max_logged_ns = INT64_MIN};
  std::vector<BlockSource> all;
  std::vector<const TermSource*> sources;
  uint64_t records = 0;
  for (const auto& block : blocks) {
    facts.min_time_ns = std::min(facts.min_time_ns, block->records.back().time_ns);
    facts.max_time_ns = std::max(facts.max_time_ns, block->records.front().time_ns);
    facts.min_logged_ns = std::min(facts.min_logged_ns, block->min_logged_ns);
    facts.max_logged_ns = std::max(facts.max_logged_ns, block->max_logged_ns);
    records += block->records.size();
    all.emplace_back(*block);
  }
  for (const BlockSource& source : all) sources.push_back(&source);
  ASSIGN_OR_RETURN(std::unique_ptr<RunWriter> writer, RunWriter::Create(fs, std::move(path), records));
  RETURN_IF_ERROR(Combine(sources, *writer, repeats));
  return writer->Finish(facts);
}

}  // namespace orgtrail
