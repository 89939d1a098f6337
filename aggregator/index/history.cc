#include "aggregator/index/history.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/log.h"
#include "common/base/mutant.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr std::string_view kListName = "runs";
constexpr std::string_view kListHeader = "orgtrail history 1";
constexpr size_t kLeavesPerStep = 256;

std::string RunName(uint64_t first, uint64_t next, uint32_t level) {
  char name[64];
  std::snprintf(name, sizeof name, "%016llx-%016llx-%u.run", static_cast<unsigned long long>(first),
                static_cast<unsigned long long>(next), level);
  return name;
}

}  // namespace

// Text, one item a line; the last line is the CRC32C of what precedes it:
//   orgtrail history 1 / origin … / first … (hash of leaf 0, hex, or -) / next … / run … (file names, ascending) / crc …
struct History::List {
  std::string origin, first = "-";
  uint64_t next = 0;
  std::vector<std::string> runs;

  std::string Encode() const {
    std::string text = absl::StrCat(ToAbsl(kListHeader), "\norigin ", origin, "\nfirst ", first, "\nnext ", next, "\n");
    for (const std::string& run : runs) text += "run " + run + "\n";
    return text + absl::StrCat("crc ", Crc32c(text), "\n");
  }
  static std::optional<List> Decode(std::string_view text) {
    const size_t crc = text.rfind("\ncrc ");
    if (crc == std::string_view::npos || text.back() != '\n') return std::nullopt;
    const std::string_view body = text.substr(0, crc + 1);
    if (ParseUint(text.substr(crc + 5, text.size() - crc - 6)) != std::optional<uint64_t>(Crc32c(body))) return std::nullopt;
    List list;
    std::vector<std::string> lines = absl::StrSplit(ToAbsl(body), '\n');
    if (lines[0] != kListHeader) return std::nullopt;
    for (size_t i = 1; i < lines.size(); ++i) {
      const std::string_view line = lines[i];
      const size_t space = line.find(' ');
      if (line.empty() || space == std::string_view::npos) continue;
      const std::string_view key = line.substr(0, space), value = line.substr(space + 1);
      if (key == "origin") list.origin = value;
      if (key == "first") list.first = value;
      if (key == "run") list.runs.emplace_back(value);
      if (key == "next") {
        const std::optional<uint64_t> next = ParseUint(value);
        if (!next.has_value()) return std::nullopt;
        list.next = *next;
      }
    }
    return list;
  }
};

History::History(HistoryOptions options, const LedgerReader& ledger, Fs& fs, const Clock& clock, Metrics& metrics)
    : options_(std::move(options)), ledger_(ledger), fs_(fs), clock_(clock),
      reuse_(ledger, options_.tell_reuse, metrics), merger_(fs, reuse_),
      records_total_(metrics.GetCounter("orgtrail_history_records_total", "records indexed since the start")),
      behind_(metrics.GetGauge("orgtrail_history_behind_leaves", "leaves of the ledger the history has not indexed yet")),
      runs_gauge_(metrics.GetGauge("orgtrail_history_runs", "run files: many mean that merging does not keep up")),
      rebuilt_(metrics.GetCounter("orgtrail_history_rebuilds_total", "times the history was removed and rebuilt")) {}

absl::StatusOr<std::unique_ptr<History>> History::Open(HistoryOptions options, const LedgerReader& ledger, Fs& fs,
                                                       const Clock& clock, Metrics& metrics) {
  auto history = std::unique_ptr<History>(new History(std::move(options), ledger, fs, clock, metrics));
  RETURN_IF_ERROR(fs.MakeDirs(history->options_.dir));
  RETURN_IF_ERROR(history->Load());
  return history;
}

absl::Status History::Load() {
  const absl::StatusOr<std::string> text = ReadFile(fs_, JoinPath(options_.dir, kListName));
  if (absl::IsNotFound(text.status())) return Reset("");
  RETURN_IF_ERROR(text.status());
  const std::optional<List> list = List::Decode(*text);
  if (!list.has_value()) return Reset("its run list is damaged");
  if (list->origin != ledger_.origin()) return Reset("it belongs to the log " + list->origin);
  const uint64_t size = ledger_.head().size;
  if (list->next > size) return Reset("it is ahead of the ledger");
  if (list->first != "-") {
    ASSIGN_OR_RETURN(const Hash first, ledger_.LeafHashAt(0));
    if (Hex(first.view()) != list->first) return Reset("it belongs to a ledger with another first leaf");
    first_leaf_ = first;
  }
  const absl::Status adopted = Adopt(*list);
  if (adopted.ok()) return adopted;
  if (absl::IsDataLoss(adopted) || absl::IsNotFound(adopted)) return Reset(std::string(ToStd(adopted.message())));
  return adopted;
}

absl::Status History::Adopt(const List& list) {
  std::vector<std::shared_ptr<const Run>> runs;
  for (const std::string& name : list.runs) {
    ASSIGN_OR_RETURN(std::shared_ptr<const Run> run, Run::Open(JoinPath(options_.dir, name)));
    if (!runs.empty() && runs.back()->facts().next_leaf > run->facts().first_leaf) {
      return absl::DataLossError("its runs overlap");
    }
    if (run->facts().next_leaf > list.next) return absl::DataLossError("a run is ahead of the run list");
    runs.push_back(std::move(run));
  }
  // Files that no list names are what a crash left between writing a run and listing it.
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.List(options_.dir));
  for (const std::string& name : names) {
    if (name == kListName || std::find(list.runs.begin(), list.runs.end(), name) != list.runs.end()) continue;
    RETURN_IF_ERROR(fs_.Remove(JoinPath(options_.dir, name)));
  }
  next_ = saved_ = list.next;
  view_.With([&](View& v) {
    v.indexed_to = list.next;
    v.runs = std::move(runs);
  });
  indexed_to_ = list.next;
  return absl::OkStatus();
}

absl::Status History::Reset(std::string_view why) {
  if (!why.empty()) {
    LogWarn("history is rebuilt from the ledger", {{"why", std::string(why)}, {"dir", options_.dir}});
    rebuilt_.Add();
  }
  // The list goes first: without it no run counts.
  const absl::Status unlisted = fs_.Remove(JoinPath(options_.dir, kListName));
  if (!unlisted.ok() && !absl::IsNotFound(unlisted)) return unlisted;
  // From here on it is empty and starts over, whether or not the files go.
  view_.With([](View& v) { v = View(); });
  next_ = saved_ = 0;
  indexed_to_ = 0;
  dirty_ = false;
  first_leaf_.reset();
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.List(options_.dir));
  for (const std::string& name : names) RETURN_IF_ERROR(fs_.Remove(JoinPath(options_.dir, name)));
  return absl::OkStatus();
}

HistorySnapshot History::snapshot() const {
  return view_.Peek([](const View& v) { return HistorySnapshot{v.indexed_to, v.runs, v.recent.Blocks()}; });
}

uint64_t History::indexed_to() const { return indexed_to_; }

absl::Status History::SaveList(const std::vector<std::shared_ptr<const Run>>& runs, uint64_t next_leaf) {
  List list;
  list.origin = ledger_.origin();
  list.next = next_leaf;
  if (first_leaf_.has_value()) list.first = Hex(first_leaf_->view());
  for (const auto& run : runs) list.runs.push_back(BaseName(run->path()));
  if (Planted(Mutant::kIndexRunDropped) && list.runs.size() > 2) list.runs.erase(list.runs.begin() + 1);
  RETURN_IF_ERROR(WriteFileAtomically(fs_, JoinPath(options_.dir, kListName), list.Encode()));
  saved_ = next_leaf;
  runs_gauge_.Set(static_cast<double>(runs.size()));
  return absl::OkStatus();
}

absl::Status History::Flush() {
  if (next_ == saved_) return absl::OkStatus();
  auto [runs, blocks] = view_.With([](View& v) {
    v.recent.Seal();
    return std::pair(v.runs, v.recent.Blocks());
  });
  Repeats repeats;
  if (Planted(Mutant::kCursorFirst)) RETURN_IF_ERROR(SaveList(runs, next_));
  if (!blocks.empty()) {
    const std::string path = JoinPath(options_.dir, RunName(saved_, next_, 0));
    const absl::Status leftover = fs_.Remove(path);  // of an attempt whose list could not be written
    if (!leftover.ok() && !absl::IsNotFound(leftover)) return leftover;
    RETURN_IF_ERROR(WriteRun(fs_, path, blocks, saved_, next_, &repeats));
    ASSIGN_OR_RETURN(std::shared_ptr<const Run> run, Run::Open(path));
    runs.push_back(std::move(run));
  }
  RETURN_IF_ERROR(SaveList(runs, next_));
  view_.With([&](View& v) {
    v.runs = std::move(runs);
    v.recent.Clear();
  });
  dirty_ = false;
  reuse_.Give(std::move(repeats));
  return absl::OkStatus();
}

void History::ReadAgain(uint64_t leaf, std::function<void()> done) {
  again_.With([&](Again& a) {
    a.leaf = std::min(a.leaf, leaf);
    a.done.push_back(std::move(done));
  });
}

absl::Status History::GoBack() {
  const uint64_t leaf = again_.Peek([](const Again& a) { return a.leaf; });
  if (leaf == UINT64_MAX) return absl::OkStatus();
  const auto sooner = [&] { return again_.Peek([&](const Again& a) { return a.leaf < leaf; }); };
  std::vector<std::shared_ptr<const Run>> runs = view_.Peek([](const View& v) { return v.runs; }), gone;
  while (!runs.empty() && runs.back()->facts().next_leaf > leaf) {
    gone.push_back(runs.back());
    runs.pop_back();
  }
  if (leaf < next_) {
    const uint64_t next = std::min(leaf, gone.empty() ? saved_ : gone.back()->facts().first_leaf);
    RETURN_IF_ERROR(SaveList(runs, next));
    next_ = next;
    dirty_ = false;
    view_.With([&](View& v) {
      v.indexed_to = next;
      v.runs = std::move(runs);
      v.recent.Clear();
    });
    indexed_to_ = next;
    LogInfo("The history reads a part of the ledger again: bodies came late.", {{"from", std::to_string(next)}});
    for (const auto& run : gone) RETURN_IF_ERROR(fs_.Remove(run->path()));
  }
  if (sooner()) return GoBack();
  for (const auto& done : again_.With([](Again& a) { return std::exchange(a, {}); }).done) done();
  return absl::OkStatus();
}

absl::Status History::CheckLedger() {
  if (first_leaf_.has_value() || ledger_.head().size == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(first_leaf_, ledger_.LeafHashAt(0));
  return absl::OkStatus();
}

absl::Status History::Follow(Tick now) {
  RETURN_IF_ERROR(CheckLedger());
  const uint64_t size = ledger_.head().size;
  const uint64_t end = std::min<uint64_t>(size, next_ + kLeavesPerStep);
  const int64_t oldest_kept = options_.keep == absl::InfiniteDuration()
                                  ? INT64_MIN
                                  : absl::ToUnixNanos(clock_.Wall() - options_.keep);
  if (next_ == 0 && size > 0 && oldest_kept > 0) {
    // What expired is not indexed: a rebuild starts where the window does.
    const uint64_t first = ledger_.FirstLoggedAt(oldest_kept);
    if (first > 0) {
      next_ = first;
      view_.With([&](View& v) { v.indexed_to = next_; });
      indexed_to_ = next_;
      return SaveList({}, next_);
    }
  }
  while (next_ < end) {
    ASSIGN_OR_RETURN(const std::shared_ptr<const LeafTerms> leaf, ledger_.ReadTerms(next_));
    const size_t records = view_.With([&](View& v) {
      const size_t before = v.recent.records();
      v.recent.Add(*leaf);
      v.indexed_to = next_ + 1;
      records_total_.Add(static_cast<double>(v.recent.records() - before));
      return v.recent.records();
    });
    ++next_;
    indexed_to_ = next_;
    if (!dirty_) {
      dirty_ = true;
      oldest_ = now;
    }
    if (records >= options_.run_records) RETURN_IF_ERROR(Flush());
  }
  if (dirty_ && now - oldest_ >= options_.run_age) RETURN_IF_ERROR(Flush());
  behind_.Set(static_cast<double>(size - next_));
  return absl::OkStatus();
}

absl::Status History::TakeMerged() {
  std::optional<Merger::Result> result = merger_.TakeResult();
  if (!result.has_value()) return absl::OkStatus();
  if (absl::IsDataLoss(result->merged.status())) {
    return Reset(std::string(ToStd(result->merged.status().message())));
  }
  RETURN_IF_ERROR(result->merged.status());
  std::vector<std::shared_ptr<const Run>> runs = view_.Peek([](const View& v) { return v.runs; });
  const auto at = std::search(runs.begin(), runs.end(), result->inputs.begin(), result->inputs.end());
  if (at == runs.end()) {  // some of them expired meanwhile
    return fs_.Remove((*result->merged)->path());
  }
  *at = *result->merged;
  runs.erase(at + 1, at + static_cast<ptrdiff_t>(result->inputs.size()));
  RETURN_IF_ERROR(SaveList(runs, saved_));
  view_.With([&](View& v) { v.runs = std::move(runs); });
  // Readers that hold the inputs keep their mappings.
  for (const auto& run : result->inputs) RETURN_IF_ERROR(fs_.Remove(run->path()));
  return absl::OkStatus();
}

absl::Status History::Expire() {
  if (options_.keep == absl::InfiniteDuration()) return absl::OkStatus();
  const int64_t oldest_kept = absl::ToUnixNanos(clock_.Wall() - options_.keep);
  std::vector<std::shared_ptr<const Run>> runs = view_.Peek([](const View& v) { return v.runs; });
  std::vector<std::shared_ptr<const Run>> gone;
  while (!runs.empty() && runs.front()->facts().max_logged_ns < oldest_kept) {
    gone.push_back(runs.front());
    runs.erase(runs.begin());
  }
  if (gone.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(SaveList(runs, saved_));
  view_.With([&](View& v) { v.runs = std::move(runs); });
  for (const auto& run : gone) RETURN_IF_ERROR(fs_.Remove(run->path()));
  return absl::OkStatus();
}

void History::AskForMerge() {
  if (!merger_.idle()) return;
  const std::vector<std::shared_ptr<const Run>> runs = view_.Peek([](const View& v) { return v.runs; });
  // The oldest kMergeWays neighbours of one level that may become one run. A run that spans much of the window would hold
  // expired records for long, so none grows beyond an eighth of it.
  for (size_t i = 0; i + kMergeWays <= runs.size(); ++i) {
    uint64_t records = 0;
    bool fits = true;
    for (size_t j = i; j < i + kMergeWays; ++j) {
      fits &= runs[j]->facts().level == runs[i]->facts().level;
      records += runs[j]->facts().records;
    }
    const int64_t span = runs[i + kMergeWays - 1]->facts().max_logged_ns - runs[i]->facts().min_logged_ns;
    fits &= records <= kMergeRecords;
    fits &= options_.keep == absl::InfiniteDuration() || absl::Nanoseconds(span) <= options_.keep / 8;
    if (!fits) continue;
    Merger::Request request;
    request.runs.assign(runs.begin() + static_cast<ptrdiff_t>(i), runs.begin() + static_cast<ptrdiff_t>(i + kMergeWays));
    request.path = JoinPath(options_.dir, RunName(request.runs.front()->facts().first_leaf,
                                                  request.runs.back()->facts().next_leaf,
                                                  request.runs.front()->facts().level + 1));
    (void)merger_.TryGive(std::move(request));  // idle, and this thread is the only giver
    return;
  }
}

Tick History::Step(Tick now) {
  absl::Status did = TakeMerged();
  if (did.ok()) did = GoBack();
  if (did.ok()) did = Follow(now);
  if (did.ok() && now >= expire_at_) {
    expire_at_ = now + absl::Minutes(1);
    did = Expire();
  }
  if (!did.ok()) {
    LogError("history does not follow the ledger; trying again", {{"error", Describe(did)}});
    return now + absl::Seconds(1);
  }
  AskForMerge();
  return next_ < ledger_.head().size ? now : now + absl::Seconds(1);
}

}  // namespace orgtrail
