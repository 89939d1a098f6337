#include "aggregator/scrub/scrubber.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "aggregator/ledger/shard.h"
#include "aggregator/scrub/child.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kLook = absl::Milliseconds(500), kFirstPause = absl::Minutes(1), kAfterFailure = absl::Hours(1);
constexpr size_t kStateBytes = 1 << 20, kMostFiles = 1000, kMostLeaves = 10'000;
constexpr std::string_view kMagic = "orgtrail-scrub 1";
constexpr std::string_view kFatal = "FATAL ";

std::string Words(uint64_t findings, uint64_t first_leaf, uint64_t last_leaf, const std::string& what, const std::string& remedy) {
  std::string words;
  if (first_leaf != UINT64_MAX) {
    words = "leaf " + std::to_string(first_leaf);
    if (last_leaf != first_leaf) words = "leaves " + std::to_string(first_leaf) + " to " + std::to_string(last_leaf);
    words += ": ";
  }
  words += what;
  if (findings > 1) words += " (and " + std::to_string(findings - 1) + " more)";
  return words + ". Reads of it are refused. Remedy: " + remedy;
}

}  // namespace

Scrubber::Scrubber(ScrubOptions options, Fs& fs, const Clock& clock, std::function<void(const std::string&, const std::string&)> damaged,
                   std::function<void(const std::set<std::string>&)> rest, std::function<void(const ShardLook&)> looked)
    : options_(std::move(options)), fs_(fs), clock_(clock), damaged_(std::move(damaged)), rest_(std::move(rest)), looked_(std::move(looked)) {
  Load();
  Publish();
}

// What cannot be read is no loss: then the round begins anew.
void Scrubber::Load() {
  const absl::StatusOr<std::string> text = ReadFile(fs_, options_.state_file, kStateBytes);
  if (!text.ok()) return;
  const std::vector<std::string> lines = absl::StrSplit(*text, '\n');
  if (lines.front() != kMagic) return;
  for (const std::string& line : lines) {
    const size_t gap = line.find(' ');
    const std::string key = line.substr(0, gap), value = gap == std::string::npos ? "" : line.substr(gap + 1);
    const uint64_t number = ParseUint(value).value_or(0);
    if (key == "shard") shard_ = static_cast<uint32_t>(std::clamp<uint64_t>(number, 1, UINT32_MAX));
    if (key == "read") round_bytes_ = number;
    if (key == "last") now_.last_round_ns = static_cast<int64_t>(number);
    if (key == "last-bytes") now_.last_round_bytes = number;
    if (key == "last-findings") now_.last_round_findings = now_.damaged_files = number;
    if (key == "damaged" && found_.size() < kMostFiles) found_[value];
  }
}

void Scrubber::Save() {
  std::string text(kMagic);
  text += "\nshard " + std::to_string(shard_) + "\nread " + std::to_string(round_bytes_) + "\nlast " + std::to_string(now_.last_round_ns);
  text += "\nlast-bytes " + std::to_string(now_.last_round_bytes) + "\nlast-findings " + std::to_string(now_.last_round_findings) + "\n";
  for (const auto& [file, damage] : found_) text += "damaged " + file + "\n";
  const absl::Status saved = WriteFileAtomically(fs_, options_.state_file, text, 0600);
  if (!saved.ok()) LogWarn("where the scrub is cannot be saved; after a restart it begins anew", {{"error", Describe(saved)}});
}

void Scrubber::Publish() {
  now_.is_reading = child_.IsRunning();
  now_.bytes = earlier_bytes_ + child_bytes_;
  facts_.With([&](ScrubFacts& f) { f = now_; });
}

bool Scrubber::Launch() {
  const bool started = child_.Start(options_.program, {kScrubCommand, options_.ledger_dir, options_.history_dir, std::to_string(shard_),
                                                       std::to_string(options_.bytes_per_second), options_.kek_file});
  if (!started) return false;
  last_words_.clear();
  file_ = options_.ledger_dir;
  has_entered_ = false;
  now_.shard = 0;
  child_bytes_ = 0;
  look_ = {};
  begun_ = clock_.Now();
  old_files_.clear();
  return true;
}

void Scrubber::Listen() {
  for (const std::string& line : child_.Lines()) Hear(line);
}

// A shard that was read to its end.
void Scrubber::Looked() {
  look_.begun = begun_;
  if (looked_ && look_.shard != 0 && (!look_.damaged.empty() || !look_.bodiless.empty())) looked_(look_);
  look_ = {};
}

void Scrubber::TakeReplaced() {
  for (const auto& [file, is_whole] : replaced_.With([](auto& r) { return std::exchange(r, {}); })) {
    if (child_.IsRunning()) old_files_.insert(file);
    if (!is_whole) continue;
    found_.erase(file);
    now_.damaged_files = found_.size();
  }
}

void Scrubber::Hear(std::string_view text) {
  TakeReplaced();
  const std::optional<ScrubLine> line = ScrubLine::Decode(text);
  if (!line.has_value()) {
    last_words_ = std::string(text);
    return;
  }
  switch (line->kind) {
    case ScrubLine::Kind::kEntering:
      Looked();
      look_.shard = line->shard;
      look_.file = line->file;
      file_ = line->file;
      now_.shard = line->shard;
      if (line->shard == 0) break;
      has_entered_ = true;
      if (line->shard == shard_) break;
      shard_ = line->shard;   // the one before is done
      round_bytes_ += child_bytes_;
      earlier_bytes_ += std::exchange(child_bytes_, 0);
      Save();
      break;
    case ScrubLine::Kind::kAt:
      now_.leaf = line->leaf;
      now_.leaves = line->leaves;
      child_bytes_ = line->read_bytes;
      break;
    case ScrubLine::Kind::kFound:
      Found(line->finding);
      ++look_.findings;
      break;
    case ScrubLine::Kind::kLacking:
      if (look_.damaged.size() + look_.bodiless.size() >= kMostLeaves) break;
      (line->is_bodiless ? look_.bodiless : look_.damaged).insert(line->leaf);
      break;
  }
}

void Scrubber::Found(const Finding& finding) {
  if (old_files_.contains(finding.file)) return;
  if (!found_.contains(finding.file) && found_.size() >= kMostFiles) return;
  Damage& damage = found_[finding.file];
  if (damage.findings++ == 0) {
    damage.what = finding.what;
    damage.remedy = finding.remedy;
    LogError("A file of the store is damaged.", {{"file", finding.file}, {"what", finding.what}, {"remedy", finding.remedy}});
  }
  if (finding.leaf != UINT64_MAX) {
    damage.first_leaf = std::min(damage.first_leaf, finding.leaf);
    damage.last_leaf = std::max(damage.last_leaf, finding.leaf);
  }
  now_.damaged_files = found_.size();
}

void Scrubber::Tell() {
  for (auto& [file, damage] : found_) {
    if (std::exchange(damage.told, damage.findings) == damage.findings) continue;
    damaged_(file, Words(damage.findings, damage.first_leaf, damage.last_leaf, damage.what, damage.remedy));
  }
}

void Scrubber::EndRound(bool is_full) {
  std::set<std::string> files;
  for (const auto& [file, damage] : found_) files.insert(file);
  now_.damaged_files = files.size();
  if (is_full) {
    now_.last_round_ns = clock_.WallNanos();
    now_.last_round_bytes = round_bytes_ + child_bytes_;
    now_.last_round_findings = files.size();
    rest_(files);
  }
  found_.clear();
  shard_ = 1;
  round_bytes_ = 0;
  Save();
}

Tick Scrubber::Ended(int status, Tick now) {
  const bool read_to_its_end = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  const bool died = WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL && WTERMSIG(status) != SIGTERM;
  Tick next = now + options_.pause;
  if (died) {
    // Its last words name the file when the kernel could not give it a page.
    Finding finding{UINT64_MAX, file_, last_words_, std::string(kHowToRepair)};
    if (last_words_.starts_with(kFatal)) {
      const std::string rest = last_words_.substr(kFatal.size());
      const size_t colon = rest.find(": ");
      if (colon != std::string::npos && rest[0] == '/') finding.file = rest.substr(0, colon), finding.what = rest.substr(colon + 2);
    }
    if (finding.what.empty()) finding.what = "it cannot be read: the process that looks into it ended with signal " + std::to_string(WTERMSIG(status));
    Found(finding);
    if (now_.shard != 0) {
      ++shard_;   // go on behind it; when it was the last, the next child finds the end of the round
      round_bytes_ += child_bytes_;
      next = now + kLook;
      Save();
    }
  } else if (read_to_its_end) {
    Looked();
  } else {
    LogWarn("the stores could not be read through; it is tried again", {{"why", last_words_}, {"status", std::to_string(status)}});
    next = now + std::min(options_.pause, kAfterFailure);
  }
  Tell();
  if (read_to_its_end || (died && now_.shard == 0)) EndRound(read_to_its_end || has_entered_);
  earlier_bytes_ += std::exchange(child_bytes_, 0);
  now_.shard = 0;
  now_.leaf = now_.leaves = 0;
  return next;
}

Tick Scrubber::Step(Tick now) {
  if (!is_begun_) {
    is_begun_ = true;
    const absl::Duration since = absl::Nanoseconds(clock_.WallNanos() - now_.last_round_ns);
    const absl::Duration first = std::min(options_.pause, kFirstPause);   // the start has enough to read
    const bool goes_on = shard_ > 1 || now_.last_round_ns == 0;
    not_before_ = now + (goes_on ? first : std::max(first, std::min(options_.pause - since, options_.pause)));
  }
  TakeReplaced();
  if (!child_.IsRunning()) {
    if (now < not_before_) return not_before_;
    if (shard_ == 1 && found_.empty()) now_.damaged_files = 0;
    if (!Launch()) return not_before_ = now + kAfterFailure;
    Publish();
    return now + kLook;
  }
  const std::optional<int> status = child_.Ended();
  Listen();
  if (!status) {
    Tell();
    Publish();
    return now + kLook;
  }
  not_before_ = Ended(*status, now);
  Publish();
  return not_before_;
}

}  // namespace orgtrail
