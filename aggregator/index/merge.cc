#include "aggregator/index/merge.h"

#include <algorithm>

#include "aggregator/index/combine.h"
#include "aggregator/index/run_writer.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

class RunSource final : public TermSource {
 public:
  explicit RunSource(const Run& run) : run_(run) {}
  std::span<const HistoryRecord> records() const override { return run_.records(); }
  uint64_t terms() const override { return run_.facts().terms; }
  uint64_t TermAt(uint64_t i) const override { return run_.TermAt(i); }
  size_t CopyTerms(uint64_t i, uint64_t end, uint64_t last, TermEntry* out) const override {
    TermEntry* to = out;
    for (; i < end && (to->term = run_.TermAt(i)) <= last; ++i, ++to) to->reference = run_.ReferenceAt(i);
    return static_cast<size_t>(to - out);
  }
  Postings ListOf(uint32_t reference) const override { return run_.ListOf(reference); }
  bool fresh() const override { return false; }

 private:
  const Run& run_;
};

}  // namespace

absl::Status MergeRuns(Fs& fs, std::string path, std::span<const std::shared_ptr<const Run>> runs, Repeats* repeats) {
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
  std::vector<RunSource> all;
  for (const auto& run : runs) all.emplace_back(*run);
  std::vector<const TermSource*> sources;
  for (const RunSource& source : all) sources.push_back(&source);
  RETURN_IF_ERROR(Combine(sources, *writer, repeats));
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
    Repeats repeats;
    if (absl::Status written = MergeRuns(fs_, request->path, request->runs, &repeats); written.ok()) {
      reuse_.Give(std::move(repeats));
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
  reuse_.Check();
  return now + absl::Milliseconds(100);  // requests come at most a few times a minute
}

}  // namespace orgtrail
