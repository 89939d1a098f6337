#include "aggregator/query/gaps.h"

#include <simdjson.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "aggregator/admit/terms.h"
#include "aggregator/index/search.h"
#include "common/base/status.h"
#include "common/format/control.h"
#include "common/format/frame.h"

namespace orgtrail {
namespace {

constexpr size_t kLosses = 1000;
constexpr absl::Duration kAgain = absl::Seconds(5);
constexpr size_t kDetail = 256;

// Whose batch a piece of evidence shows: an entry, or the whole frame of an opening.
std::optional<Uuid> AgentOf(std::string_view object) {
  const absl::StatusOr<FrameView> view = FrameView::Decode(object);
  const absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(view.ok() ? view->entry : object);
  return entry.ok() ? std::optional(entry->header.agent_uuid) : std::nullopt;
}

}  // namespace

std::optional<KnownLoss> LossOf(const Leaf& leaf, size_t i) {
  if (!leaf.is_batch || i >= leaf.events.rows.size()) return std::nullopt;
  const Row& row = leaf.events.rows[i];
  if (row.tombstone || row.event_class != static_cast<uint16_t>(EventClass::kLoss)) return std::nullopt;
  simdjson::dom::parser parser;
  simdjson::dom::element details;
  if (parser.parse(row.body.data(), row.body.size(), true)["serviceEventDetails"].get(details) != simdjson::SUCCESS) return std::nullopt;
  const auto text = [&](const char* key) {
    std::string_view v;
    return details[key].get(v) == simdjson::SUCCESS ? std::string(v.substr(0, kDetail)) : std::string();
  };
  const auto number = [&](const char* key) {
    uint64_t v = 0;
    return details[key].get(v) == simdjson::SUCCESS ? v : 0;
  };
  const BatchHeader& h = leaf.header;
  KnownLoss known{h.agent_uuid, h.account, h.region, {}};
  v1::Loss& loss = known.loss;
  loss.set_agent(h.account + "/" + h.region + "/" + h.agent);
  loss.set_cause(text("cause"));
  loss.set_source(text("source"));
  loss.set_count(number("count"));
  loss.set_epoch(h.epoch);
  loss.set_first_sequence(number("firstSequence"));
  loss.set_last_sequence(number("lastSequence"));
  loss.set_time_ns(static_cast<int64_t>(row.wall_ns));
  loss.set_leaf_index(leaf.index);
  loss.set_event_index(static_cast<uint32_t>(i));
  loss.set_detail(text("detail"));
  return known;
}

std::string CausesOf(const std::map<std::string, uint64_t>& counts) {
  std::vector<std::pair<uint64_t, std::string>> sorted;
  for (const auto& [cause, count] : counts) sorted.emplace_back(count, cause.empty() ? "unexplained" : cause);
  std::sort(sorted.rbegin(), sorted.rend());
  std::string out;
  for (const auto& [count, cause] : sorted) {
    out += (out.empty() ? "" : ", ") + (count == 0 ? std::string("an unknown number") : std::to_string(count)) + " " + cause;
  }
  return out;
}

void Gaps::FindLosses() const {
  HistoryQuery query;
  query.terms = {TermHash(Attribute::kEventSource, "orgtrail"), TermHash(Attribute::kEventName, "Loss")};
  query.own = true;
  HistorySearch search(history_.snapshot(), std::move(query));
  std::map<Place, KnownLoss> seen;
  next_.losses.clear();
  while (seen.size() < kLosses) {
    const std::optional<HistoryRecord> record = search.Next();
    if (!record.has_value()) break;
    const Place place{record->leaf, record->event};
    if (auto before = seen_.extract(place)) {
      seen.insert(std::move(before));
    } else {
      const absl::StatusOr<std::shared_ptr<const Leaf>> leaf = ledger_.Read(record->leaf);
      if (!leaf.ok()) continue;   // fsck names it; what it would have said is still counted in its header
      if (std::optional<KnownLoss> loss = LossOf(**leaf, record->event)) seen.emplace(place, *std::move(loss));
    }
    if (const auto found = seen.find(place); found != seen.end()) next_.losses.push_back(found->second);
  }
  seen_ = std::move(seen);
}

void Gaps::FindEvidence() const {
  for (;;) {
    const std::vector<uint64_t> leaves = ledger_.ControlLeaves(control_, 1024);
    if (leaves.empty()) return;
    for (const uint64_t index : leaves) {
      control_ = index + 1;
      const absl::StatusOr<std::string> bytes = ledger_.ReadEntry(index);
      if (!bytes.ok() || LeafMagic(*bytes) != "OTV1") continue;
      const absl::StatusOr<EvidenceLeaf> evidence = EvidenceLeaf::Decode(*bytes);
      if (!evidence.ok() || evidence->code == "SIG_INVALID") continue;
      if (const std::optional<Uuid> agent = AgentOf(evidence->object)) next_.set_apart.try_emplace(*agent, SetApart{index, evidence->code});
    }
  }
}

std::shared_ptr<const GapList> Gaps::Known() const {
  const std::lock_guard lock(mu_);
  const Tick now = clock_.Now();
  if (known_ == nullptr || now >= again_) {
    again_ = now + kAgain;
    FindLosses();
    FindEvidence();
    known_ = std::make_shared<const GapList>(next_);
  }
  return known_;
}

}  // namespace orgtrail
