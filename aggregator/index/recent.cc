#include "aggregator/index/recent.h"

#include <algorithm>

#include "aggregator/index/ordinals.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kBlockRecords = 4096;
static_assert(kBlockRecords + limits::kBatchEvents <= UINT16_MAX);  // a block ends with a whole leaf
constexpr size_t kWrittenAtOnce = 4096;
constexpr size_t kAhead = 16;   // terms; two cache lines of a dictionary

}  // namespace

std::span<const uint16_t> RecentBlock::PostingsOf(uint64_t term) const {
  const auto at = std::lower_bound(dictionary.begin(), dictionary.end(), term);
  if (at == dictionary.end() || *at != term) return {};
  const auto i = static_cast<size_t>(at - dictionary.begin());
  return {postings.data() + begins[i], begins[i + 1] - begins[i]};
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
  if (begins.empty()) return FindInOpen(wanted, found);
  std::vector<std::span<const uint16_t>> lists;
  for (const uint64_t term : wanted) lists.push_back(PostingsOf(term));
  std::sort(lists.begin(), lists.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); });
  for (const uint16_t record : lists[0]) {
    if (std::all_of(lists.begin() + 1, lists.end(), [&](const auto& l) { return std::binary_search(l.begin(), l.end(), record); })) {
      found->push_back(records[record]);
    }
  }
}

void Recent::Add(const LeafTerms& leaf) {
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
  open_.logged_ns.insert(open_.logged_ns.end(), leaf.rows.size(), leaf.logged_ns);
  open_.terms.insert(open_.terms.end(), leaf.terms.begin(), leaf.terms.end());
  records_ += leaf.rows.size();
  if (open_.records.size() >= kBlockRecords) Seal();
}

void Recent::Seal() {
  if (open_.records.empty()) return;
  sorted_.clear();
  sorted_.reserve(open_.terms.size());
  for (uint32_t record = 0, at = 0; record < open_.records.size(); ++record) {
    for (; at < open_.ends[record]; ++at) sorted_.push_back({open_.terms[at], record});
  }
  SortTerms(&sorted_, &scratch_);
  size_t distinct = 0;
  for (size_t i = 0; i < sorted_.size(); ++i) distinct += i == 0 || sorted_[i].term != sorted_[i - 1].term;

  auto block = std::make_shared<RecentBlock>();
  block->records = open_.records;  // copies, so that the open block keeps its room
  block->logged_ns = open_.logged_ns;
  block->dictionary.reserve(distinct);
  block->begins.reserve(distinct + 1);
  block->postings.reserve(sorted_.size());
  for (size_t i = 0; i < sorted_.size(); ++i) {
    const bool fresh = i == 0 || sorted_[i].term != sorted_[i - 1].term;
    if (fresh) {
      block->dictionary.push_back(sorted_[i].term);
      block->begins.push_back(static_cast<uint32_t>(block->postings.size()));
    } else if (sorted_[i].ordinal == sorted_[i - 1].ordinal) {
      continue;  // a record that has the term twice
    }
    block->postings.push_back(static_cast<uint16_t>(sorted_[i].ordinal));
  }
  block->begins.push_back(static_cast<uint32_t>(block->postings.size()));
  sealed_.push_back(std::move(block));
  open_.records.clear();
  open_.logged_ns.clear();
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

// Where each block's records stand in the run.
struct RunOrder {
  std::vector<HistoryRecord> records;               // newest first
  std::vector<std::vector<uint32_t>> ordinals;      // of each block's records
};

RunOrder OrderOf(std::span<const std::shared_ptr<const RecentBlock>> blocks) {
  struct Place {
    int64_t time_ns;
    uint32_t block, at;
  };
  std::vector<Place> order;
  size_t records = 0;
  for (const auto& block : blocks) records += block->records.size();
  order.reserve(records);
  // Backwards, so that among records of one time the later leaf and event come first, as they must; then by time alone.
  for (size_t b = blocks.size(); b-- > 0;) {
    for (size_t i = blocks[b]->records.size(); i-- > 0;) {
      order.push_back({blocks[b]->records[i].time_ns, static_cast<uint32_t>(b), static_cast<uint32_t>(i)});
    }
  }
  std::stable_sort(order.begin(), order.end(), [](const Place& a, const Place& b) { return a.time_ns > b.time_ns; });
  RunOrder out;
  out.records.reserve(records);
  for (const auto& block : blocks) out.ordinals.emplace_back(block->records.size());
  for (const Place& p : order) {
    out.ordinals[p.block][p.at] = static_cast<uint32_t>(out.records.size());
    out.records.push_back(blocks[p.block]->records[p.at]);
  }
  return out;
}

}  // namespace

absl::Status WriteRun(Fs& fs, std::string path, std::span<const std::shared_ptr<const RecentBlock>> blocks,
                      uint64_t first_leaf, uint64_t next_leaf) {
  const RunOrder order = OrderOf(blocks);
  CHECK(!order.records.empty());
  RunFacts facts = {.level = 0, .min_time_ns = order.records.back().time_ns, .max_time_ns = order.records[0].time_ns,
                    .first_leaf = first_leaf, .next_leaf = next_leaf, .min_logged_ns = INT64_MAX, .max_logged_ns = INT64_MIN};
  for (const auto& block : blocks) {
    for (const int64_t logged : block->logged_ns) {
      facts.min_logged_ns = std::min(facts.min_logged_ns, logged);
      facts.max_logged_ns = std::max(facts.max_logged_ns, logged);
    }
  }
  ASSIGN_OR_RETURN(std::unique_ptr<RunWriter> writer, RunWriter::Create(fs, std::move(path), order.records.size()));
  for (size_t at = 0; at < order.records.size(); at += kWrittenAtOnce) {
    const size_t n = std::min(kWrittenAtOnce, order.records.size() - at);
    RETURN_IF_ERROR(writer->AddRecords(std::span(order.records).subspan(at, n)));
  }

  // The blocks' dictionaries are merged: what is least in any of them comes next. Their next terms lie side by side, since there
  // are some 80,000 of these steps and few blocks.
  std::vector<uint64_t> heads;
  std::vector<size_t> next(blocks.size());
  for (const auto& block : blocks) heads.push_back(block->dictionary.empty() ? UINT64_MAX : block->dictionary[0]);
  std::vector<size_t> having(blocks.size());
  OrdinalSet ordinals(order.records.size());
  for (;;) {
    const uint64_t least = *std::min_element(heads.begin(), heads.end());
    size_t n = 0;
    uint64_t count = 0;
    for (size_t b = blocks.size(); b-- > 0;) {  // backwards: nearly ascending, since later records are mostly newer
      if (heads[b] != least || next[b] == blocks[b]->dictionary.size()) continue;  // or at its end, where the last possible term would stand
      having[n++] = b;
      count += blocks[b]->begins[next[b] + 1] - blocks[b]->begins[next[b]];
    }
    if (n == 0) break;
    if (count == 1) {  // most terms: event ids
      const RecentBlock& block = *blocks[having[0]];
      RETURN_IF_ERROR(writer->AddTerm(least, std::span(&order.ordinals[having[0]][block.postings[block.begins[next[having[0]]]]], 1)));
    } else {
      ordinals.Begin(count);
      for (size_t h = 0; h < n; ++h) {
        const RecentBlock& block = *blocks[having[h]];
        const uint32_t* const to = order.ordinals[having[h]].data();
        const uint32_t begin = block.begins[next[having[h]]], end = block.begins[next[having[h]] + 1];
        const uint16_t* const last = block.postings.data() + end - 1;
        ordinals.AddAll(end - begin, [to, last](size_t i) { return to[*(last - i)]; });
      }
      RETURN_IF_ERROR(writer->AddTerm(least, ordinals.Sorted()));
    }
    for (size_t h = 0; h < n; ++h) {
      const RecentBlock& block = *blocks[having[h]];
      const size_t b = having[h];
      heads[b] = ++next[b] == block.dictionary.size() ? UINT64_MAX : block.dictionary[next[b]];
      // Three streams a block are more than the processor follows by itself.
      const size_t ahead = std::min(next[b] + kAhead, block.dictionary.size() - 1);
      __builtin_prefetch(block.dictionary.data() + ahead);
      __builtin_prefetch(block.begins.data() + ahead);
      __builtin_prefetch(block.postings.data() + block.begins[std::min(next[b] + 2, block.dictionary.size())]);
    }
  }
  return writer->Finish(facts);
}

}  // namespace orgtrail
