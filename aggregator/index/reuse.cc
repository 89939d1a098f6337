#include "aggregator/index/reuse.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "aggregator/index/leaves.h"
#include "common/base/log.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kWaiting = 16;
constexpr size_t kIdBytes = 64;   // of an id, in an alarm

auto Position(const HistoryRecord& r) { return std::tuple(r.leaf, r.event); }

std::string AgentOf(const Leaf& leaf) { return leaf.header.account + "/" + leaf.header.region + "/" + leaf.header.agent; }

std::string Where(const HistoryRecord& at, const Leaf& leaf) { return absl::StrCat(at.leaf, ":", at.event, " (", AgentOf(leaf), ")"); }

}  // namespace

IdReuse::IdReuse(const LedgerReader& ledger, TellReuse tell, Metrics& metrics)
    : ledger_(ledger), tell_(std::move(tell)),
      unchecked_(metrics.GetCounter("orgtrail_history_repeats_unchecked_total",
                                    "records with an event id that another has, which were too many to be compared with it")) {}

void IdReuse::Give(Repeats repeats) {
  unchecked_.Add(static_cast<double>(repeats.left_out()));
  if (repeats.empty()) return;
  const size_t dropped = waiting_.With([&](std::vector<Repeats>& waiting) {
    if (waiting.size() >= kWaiting) return repeats.Pairs().size();
    waiting.push_back(std::move(repeats));
    return size_t{0};
  });
  unchecked_.Add(static_cast<double>(dropped));
}

void IdReuse::Check() {
  for (const Repeats& repeats : waiting_.With([](std::vector<Repeats>& waiting) { return std::exchange(waiting, {}); })) {
    if (absl::Status compared = Compare(repeats); !compared.ok()) {
      LogWarn("records that share an event id were not compared", {{"why", Describe(compared)}});
    }
  }
}

absl::Status IdReuse::Compare(const Repeats& repeats) {
  std::vector<Repeats::Pair> pairs = repeats.Pairs();
  // Neighbours in the ledger one after another, so that a leaf is inflated once.
  std::sort(pairs.begin(), pairs.end(), [](const auto& a, const auto& b) {
    return std::tuple(Position(a.one), Position(a.other)) < std::tuple(Position(b.one), Position(b.other));
  });
  Leaves leaves(ledger_);
  const HistoryRecord* told = nullptr;   // the pairs of one id share their first record: of each id one pair is told
  for (const Repeats::Pair& pair : pairs) {
    if (told != nullptr && Position(*told) == Position(pair.one)) continue;
    const auto& [earlier, later] = Position(pair.one) < Position(pair.other) ? std::tie(pair.one, pair.other) : std::tie(pair.other, pair.one);
    ASSIGN_OR_RETURN(const std::shared_ptr<const Leaf> first, leaves.Read(earlier));
    ASSIGN_OR_RETURN(const std::shared_ptr<const Leaf> second, leaves.Read(later));
    const Row& a = first->events.rows[earlier.event];
    const Row& b = second->events.rows[later.event];
    if (a.tombstone || b.tombstone || a.body == b.body) continue;
    const std::string id = EventIdOf(a);
    if (id.empty() || EventIdOf(b) != id) continue;   // terms are hashes
    told = &pair.one;
    if (tell_ == nullptr) continue;
    tell_(AgentOf(*second), absl::StrCat("eventID ", id.substr(0, kIdBytes), " stands for two records that differ: ", Where(earlier, *first), " and ",
                                         Where(later, *second)));
  }
  return absl::OkStatus();
}

}  // namespace orgtrail
