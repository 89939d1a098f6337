#include "aggregator/index/merge.h"

#include <algorithm>

#include "aggregator/index/ordinals.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

// Where each input's ordinals land in the merged order, and the records in that order.
class Remap {
 public:
  explicit Remap(std::span<const std::shared_ptr<const Run>> runs) : to_(runs.size()) {
    for (size_t i = 0; i < runs.size(); ++i) to_[i].resize(runs[i]->records().size());
  }
  absl::Status Write(std::span<const std::shared_ptr<const Run>> runs, RunWriter& writer) {
    std::vector<size_t> at(runs.size());
    std::vector<HistoryRecord> out;
    uint32_t next = 0;
    for (;;) {
      size_t best = runs.size(), second = runs.size();  // the two inputs whose next records are the newest
      for (size_t i = 0; i < runs.size(); ++i) {
        if (at[i] == runs[i]->records().size()) continue;
        if (best == runs.size() || Newer(runs[i]->records()[at[i]], runs[best]->records()[at[best]])) {
          second = best;
          best = i;
        } else if (second == runs.size() || Newer(runs[i]->records()[at[i]], runs[second]->records()[at[second]])) {
          second = i;
        }
      }
      if (best == runs.size()) break;
      const std::span<const HistoryRecord> from = runs[best]->records();
      // Everything of the first that is newer than the second's next, in one go: runs hardly overlap in time.
      do {
        to_[best][at[best]] = next++;
        out.push_back(from[at[best]++]);
        if (out.size() == 16384) {
          RETURN_IF_ERROR(writer.AddRecords(out));
          out.clear();
        }
      } while (at[best] < from.size() &&
               (second == runs.size() || Newer(from[at[best]], runs[second]->records()[at[second]])));
    }
    return writer.AddRecords(out);
  }
  const uint32_t* Of(size_t run) const { return to_[run].data(); }   // by the run's own ordinals

 private:
  std::vector<std::vector<uint32_t>> to_;
};

}  // namespace

absl::Status MergeRuns(Fs& fs, std::string path, std::span<const std::shared_ptr<const Run>> runs) {
  CHECK(!runs.empty() && runs.size() <= kMergeWays);
  uint64_t records = 0;
  RunFacts facts = runs[0]->facts();
  for (const auto& run : runs) {
    RETURN_IF_ERROR(run->Verify());
    const RunFacts& f = run->facts();
    records += f.records;
    facts.level = std::max(facts.level, f.level);
    facts.min_time_ns = std::min(facts.min_time_ns, f.min_time_ns);
    facts.max_time_ns = std::max(facts.max_time_ns, f.max_time_ns);
    facts.first_leaf = std::min(facts.first_leaf, f.first_leaf);
    facts.next_leaf = std::max(facts.next_leaf, f.next_leaf);
    facts.min_logged_ns = std::min(facts.min_logged_ns, f.min_logged_ns);
    facts.max_logged_ns = std::max(facts.max_logged_ns, f.max_logged_ns);
  }
  ++facts.level;
  ASSIGN_OR_RETURN(std::unique_ptr<RunWriter> writer, RunWriter::Create(fs, std::move(path), records));
  Remap remap(runs);
  RETURN_IF_ERROR(remap.Write(runs, *writer));

  constexpr uint64_t kDone = UINT64_MAX;  // a term of this value is found by its position instead
  const size_t k = runs.size();
  uint64_t term[kMergeWays], at[kMergeWays] = {};
  for (size_t i = 0; i < k; ++i) term[i] = runs[i]->facts().terms > 0 ? runs[i]->TermAt(0) : kDone;
  std::vector<uint32_t> one;
  OrdinalSet all(records);
  for (;;) {
    uint64_t least = term[0];
    for (size_t i = 1; i < k; ++i) least = std::min(least, term[i]);
    // The inputs that have it. Later leaves are mostly newer: from the last input backwards the new ordinals come nearly ascending.
    size_t having[kMergeWays], n = 0;
    for (size_t i = k; i-- > 0;) {
      if (term[i] == least && at[i] < runs[i]->facts().terms) having[n++] = i;
    }
    if (n == 0) {
      if (least != kDone) return absl::DataLossError("history merge: a term without records");
      break;
    }
    Postings lists[kMergeWays];
    uint64_t count = 0;
    for (size_t h = 0; h < n; ++h) {
      lists[h] = runs[having[h]]->PostingsAt(at[having[h]]);
      count += lists[h].count();
    }
    if (count == 1 && n == 1) {  // most terms: event ids
      const uint32_t only = lists[0].Seek(0);
      if (only == kNoOrdinal) return absl::DataLossError("history merge: a damaged list in " + runs[having[0]]->path());
      RETURN_IF_ERROR(writer->AddTerm(least, std::span(remap.Of(having[0]) + only, 1)));
    } else {
      all.Begin(count);
      for (size_t h = 0; h < n; ++h) {
        one.clear();
        if (!lists[h].AppendTo(&one)) return absl::DataLossError("history merge: a damaged list in " + runs[having[h]]->path());
        all.AddAll(one.size(), [from = one.data(), to = remap.Of(having[h])](size_t i) { return to[from[i]]; });
      }
      const std::span<const uint32_t> sorted = all.Sorted();
      if (sorted.empty()) return absl::DataLossError("history merge: a term without records");
      RETURN_IF_ERROR(writer->AddTerm(least, sorted));
    }
    for (size_t h = 0; h < n; ++h) {
      const size_t i = having[h];
      ++at[i];
      term[i] = at[i] < runs[i]->facts().terms ? runs[i]->TermAt(at[i]) : kDone;
    }
  }
  return writer->Finish(facts);
}

bool Merger::TryGive(Request request) {
  return state_.With([&](State& s) {
    if (s.busy || s.request.has_value() || s.result.has_value()) return false;
    s.request = std::move(request);
    return true;
  });
}

std::optional<Merger::Result> Merger::TakeResult() {
  return state_.With([](State& s) { return std::exchange(s.result, std::nullopt); });
}

bool Merger::idle() const {
  return state_.Peek([](const State& s) { return !s.busy && !s.request.has_value() && !s.result.has_value(); });
}

Tick Merger::Step(Tick now) {
  std::optional<Request> request = state_.With([](State& s) {
    s.busy = s.request.has_value();
    return std::exchange(s.request, std::nullopt);
  });
  if (request.has_value()) {
    absl::StatusOr<std::shared_ptr<const Run>> merged = nullptr;
    if (absl::Status written = MergeRuns(fs_, request->path, request->runs); written.ok()) {
      merged = Run::Open(request->path);
    } else {
      merged = std::move(written);
    }
    Result result = {std::move(request->runs), std::move(merged)};
    state_.With([&](State& s) {
      s.busy = false;
      s.result = std::move(result);
    });
  }
  return now + absl::Milliseconds(100);  // requests come at most a few times a minute
}

}  // namespace orgtrail
