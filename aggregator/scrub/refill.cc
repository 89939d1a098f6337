#include "aggregator/scrub/refill.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "aggregator/ledger/repair.h"
#include "aggregator/ledger/shard.h"
#include "aggregator/scrub/put_back.h"
#include "common/base/bytes.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/format/frame.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kLook = absl::Seconds(1), kBetweenTries = absl::Milliseconds(20), kBusy = absl::Seconds(5);
constexpr size_t kOneChild = 24 << 20;      // bytes of frames
constexpr std::string_view kMark = "late-", kIntent = "refill-";

// Frames go to the child in memory: a batch key that the ledger keeps encrypted is not on a disk for a moment either.
class MemoryFile {
 public:
  MemoryFile() : fd_(memfd_create("frames", MFD_CLOEXEC)) {}
  ~MemoryFile() {
    if (fd_ >= 0) close(fd_);
  }
  MemoryFile(const MemoryFile&) = delete;
  bool Write(std::string_view bytes) {
    while (fd_ >= 0 && !bytes.empty()) {
      const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return fd_ >= 0;
  }
  int Rewound() { return lseek(fd_, 0, SEEK_SET) == 0 ? fd_ : -1; }

 private:
  const int fd_;
};

}  // namespace

Refill::Refill(RefillOptions options, Ledger& ledger, MissingBodies& missing, Fs& fs, const Clock& clock, std::function<void(const Refilled&)> refilled,
               std::function<void(uint64_t, std::function<void()>)> late)
    : options_(std::move(options)), ledger_(ledger), missing_(missing), fs_(fs), clock_(clock), refilled_(std::move(refilled)), late_(std::move(late)) {}

void Refill::Looked(const ShardLook& look) {
  new_looks_.With([&](std::vector<ShardLook>& l) { l.push_back(look); });
}

std::string Refill::MarkOf(uint64_t leaf) const { return JoinPath(options_.marks_dir, std::string(kMark) + std::to_string(leaf)); }

std::string Refill::IntentOf(uint32_t shard) const { return JoinPath(options_.marks_dir, std::string(kIntent) + std::to_string(shard)); }

// What is about to be put back, a line a leaf: its number, "bodies" or "leaf", whose it is; so that it can be told if this process ends behind the
// rename.
std::string Refill::Intent() const {
  std::string text;
  for (const uint64_t leaf : job_->put) {
    const MissingBodies::Returned& r = job_->returned.at(leaf);
    text += absl::StrCat(leaf, r.why == MissingBodies::Why::kBodiless ? " bodies " : " leaf ", r.leaf.batch.uuid.ToString(), "\n");
  }
  return text;
}

// An earlier process ended around the rename: the leaves say whether before or after it.
void Refill::TellInterrupted(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(fs_, path, 1 << 20);
  const std::optional<uint64_t> shard = ParseUint(std::string_view(path).substr(path.rfind('-') + 1));
  Job job;
  bool is_back = text.ok() && shard.has_value();
  for (const absl::string_view line : absl::StrSplit(text.value_or(""), '\n', absl::SkipEmpty())) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    const std::optional<uint64_t> leaf = words.size() == 3 ? ParseUint(words[0]) : std::nullopt;
    const std::optional<Uuid> uuid = leaf ? Uuid::Parse(words[2]) : std::nullopt;
    const absl::StatusOr<RawLeaf> raw = uuid ? ledger_.ReadRaw(*leaf) : absl::NotFoundError("");
    const absl::StatusOr<FrameView> frame = raw.ok() ? FrameView::Decode(raw->bytes) : raw.status();
    is_back &= frame.ok() && !frame->bodies_gone;
    if (!is_back) break;
    MissingBodies::Returned& r = job.returned[*leaf];
    r.leaf.batch.uuid = *uuid;
    r.why = words[1] == "bodies" ? MissingBodies::Why::kBodiless : MissingBodies::Why::kDamaged;
    job.put.push_back(*leaf);
  }
  if (is_back && !job.put.empty()) {
    job.shard = static_cast<uint32_t>(*shard);
    job.is_packed = fs_.Facts(JoinPath(ShardDir(options_.ledger_dir, job.shard), kPackedDir)).ok();
    Refilled done = Told(job);
    done.is_whole = false;   // the next look tells
    refilled_(done);
  }
  fs_.Remove(path).IgnoreError();   // told once more, at worst
}

// Bodies that came late, when an earlier process ended before the followers had read them.
void Refill::MarkedBefore() {
  const absl::StatusOr<std::vector<std::string>> names = fs_.List(options_.marks_dir);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    if (name.starts_with(kIntent)) TellInterrupted(JoinPath(options_.marks_dir, name));
    if (!name.starts_with(kMark)) continue;
    const std::optional<uint64_t> leaf = ParseUint(std::string_view(name).substr(kMark.size()));
    if (leaf) late_(*leaf, [this, path = MarkOf(*leaf)] { fs_.Remove(path).IgnoreError(); });   // read once more, at worst
  }
}

void Refill::TakeLooks() {
  for (ShardLook& look : new_looks_.With([](std::vector<ShardLook>& l) { return std::exchange(l, {}); })) {
    if (const auto at = replaced_at_.find(look.shard); at != replaced_at_.end() && look.begun <= at->second) continue;
    const std::vector<ShardFacts> sealed = ledger_.Sealed();
    if (look.shard <= sealed.size() && sealed[look.shard - 1].pruned) continue;   // what expired does not come back
    const uint64_t first = sealed.empty() ? 0 : look.shard <= sealed.size() ? sealed[look.shard - 1].first : sealed.back().end;
    const uint64_t end = look.shard <= sealed.size() ? sealed[look.shard - 1].end : UINT64_MAX;
    const auto add = [&](uint64_t leaf, MissingBodies::Why why) {
      if (leaf < first || leaf >= end) return;   // of a copy, or of the log as a whole
      const absl::StatusOr<BatchId> id = ledger_.IdentityOf(leaf);
      const absl::StatusOr<Hash> hash = ledger_.LeafHashAt(leaf);
      if (id.ok() && hash.ok() && id->uuid != options_.own) (void)missing_.Add({leaf, *id, *hash}, why);
    };
    for (const uint64_t leaf : look.damaged) add(leaf, MissingBodies::Why::kDamaged);
    for (const uint64_t leaf : look.bodiless) add(leaf, MissingBodies::Why::kBodiless);
    awaiting_.erase(look.shard);
    looks_[look.shard] = std::move(look);
  }
  if (options_.gone) missing_.GiveUpOn(options_.gone);
  const uint64_t given_up = missing_.facts().given_up;
  if (given_up > given_up_) {
    LogWarn("What the store lost of some batches is not with their agents any more. Put it back from a backup or mirror: orgtrail repair.",
            {{"batches", std::to_string(given_up)}});
  }
  given_up_ = given_up;
}

bool Refill::IsBusy(uint32_t shard) const {
  const std::string dir = ShardDir(options_.ledger_dir, shard);
  return fs_.Facts(JoinPath(dir, kPackingDir)).ok() || fs_.Facts(JoinPath(dir, kPruningDir)).ok();
}

Tick Refill::Begin(Tick now) {
  std::vector<MissingBodies::Returned> came = missing_.Came();
  if (came.empty()) return now + kLook;
  const auto [oldest, newest] = std::minmax_element(came.begin(), came.end(), [](const auto& a, const auto& b) { return a.at < b.at; });
  if (now - newest->at < options_.settle && now - oldest->at < options_.longest) return now + kLook;
  const std::vector<ShardFacts> sealed = ledger_.Sealed();
  Job job;
  bool is_pruned = false;
  size_t bytes = 0;
  for (MissingBodies::Returned& r : came) {   // all of one shard, as far as it goes
    const auto home = std::find_if(sealed.begin(), sealed.end(), [&](const ShardFacts& s) { return r.leaf.index < s.end; });
    if (home == sealed.end()) {
      if (job.shard == 0) ledger_.AskRoll();  // its shard grows: the next append begins another
      break;
    }
    if (awaiting_.contains(home->number)) continue;
    if (job.shard != 0 && home->number != job.shard) break;
    if ((bytes += r.frame->size()) > kOneChild && job.shard != 0) break;
    job.shard = home->number;
    is_pruned = home->pruned;
    job.returned.emplace(r.leaf.index, std::move(r));
  }
  if (job.shard == 0) return now + kLook;
  job_ = std::move(job);
  if (is_pruned) {
    GiveBack(absl::FailedPreconditionError("its bodies have expired"));
    return now + kLook;
  }
  // Whoever rewrites a shard makes a directory first and looks for the other's then: at most one of them goes on.
  const std::string making = JoinPath(ShardDir(options_.ledger_dir, job_->shard), kRepairingDir);
  absl::Status begun = fs_.MakeDirs(making, 0700);
  if (begun.ok() && IsBusy(job_->shard)) {
    RemoveCandidate(options_.ledger_dir, job_->shard, fs_).IgnoreError();
    job_.reset();
    return now + kBusy;
  }
  if (begun.ok()) begun = Launch();
  if (!begun.ok()) GiveBack(begun);
  return now + kLook;
}

absl::Status Refill::Launch() {
  MemoryFile frames;
  for (const auto& [leaf, r] : job_->returned) {
    std::string head;
    PutU64(head, leaf);
    PutU32(head, static_cast<uint32_t>(r.frame->size()));
    if (!frames.Write(head) || !frames.Write(*r.frame)) return absl::ResourceExhaustedError("no memory for the frames");
  }
  if (!child_.Start(options_.program, {kPutBackCommand, options_.ledger_dir, std::to_string(job_->shard), options_.kek_file}, frames.Rewound())) {
    return absl::UnavailableError("no process for it");
  }
  return absl::OkStatus();
}

void Refill::Hear(const std::string& text) {
  if (std::optional<ScrubLine> line = ScrubLine::Decode(text); line && line->kind == ScrubLine::Kind::kFound) {
    job_->left.push_back(std::move(line->finding));
    return;
  }
  const std::vector<std::string> f = absl::StrSplit(text, '\t');
  const std::optional<uint64_t> leaf = f.size() == 2 && f[0] == "put" ? ParseUint(f[1]) : std::nullopt;
  if (leaf && job_->returned.contains(*leaf)) job_->put.push_back(*leaf);
  else if (text == "packed") job_->is_packed = true;
  else job_->last_words = text;
}

// Whole, or at least with less wrong than the look found; what is wrong and was not known of is not made to look sound.
bool Refill::IsBetter(const Job& job) const {
  const auto look = looks_.find(job.shard);
  return job.left.empty() || (look != looks_.end() && job.left.size() < look->second.findings);
}

absl::Status Refill::Install(int status) {
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return absl::FailedPreconditionError(job_->last_words.empty() ? "signal " + std::to_string(WTERMSIG(status)) : job_->last_words);
  }
  if (job_->put.empty()) return absl::FailedPreconditionError("none of them is what this shard lost");
  for (const uint64_t leaf : job_->put) {   // the lowest bodiless one
    if (job_->returned[leaf].why != MissingBodies::Why::kBodiless) continue;
    RETURN_IF_ERROR(WriteFileAtomically(fs_, MarkOf(leaf), "", 0600));
    break;
  }
  RETURN_IF_ERROR(WriteFileAtomically(fs_, IntentOf(job_->shard), Intent(), 0600));
  RETURN_IF_ERROR(orgtrail::Install(options_.ledger_dir, job_->shard, job_->is_packed, fs_));
  job_->is_installed = true;
  replaced_at_[job_->shard] = clock_.Now();
  return absl::OkStatus();
}

// What is said of a job that was done; of one that another process did too.
Refilled Refill::Told(const Job& job) const {
  Refilled done;
  done.shard = job.shard;
  done.leaves = job.put;
  done.is_whole = job.left.empty();
  std::map<Uuid, std::vector<uint64_t>> by_agent;
  std::set<Uuid> with_bodies;
  for (const uint64_t leaf : job.put) {
    const MissingBodies::Returned& r = job.returned.at(leaf);
    by_agent[r.leaf.batch.uuid].push_back(leaf);
    if (r.why == MissingBodies::Why::kBodiless) with_bodies.insert(r.leaf.batch.uuid);
  }
  done.agents_with_bodies.assign(with_bodies.begin(), with_bodies.end());
  done.words = "shard " + std::to_string(job.shard) + ":";
  for (const auto& [uuid, leaves] : by_agent) {
    done.words += " leaf " + Stretches(leaves, 20) + " from " + std::string(kFromAgent) + " " + (options_.name ? options_.name(uuid) : uuid.ToString()) + ";";
  }
  done.words.pop_back();
  const std::string dir = ShardDir(options_.ledger_dir, job.shard);
  done.file = JoinPath(job.is_packed ? JoinPath(dir, kPackedDir) : dir, "data.mdb");
  return done;
}

void Refill::Tell() {
  const Refilled done = Told(*job_);
  const auto late = std::find_if(job_->put.begin(), job_->put.end(),
                                 [&](uint64_t leaf) { return job_->returned[leaf].why == MissingBodies::Why::kBodiless; });
  if (const auto look = looks_.find(job_->shard); look != looks_.end()) {
    for (const uint64_t leaf : job_->put) look->second.damaged.erase(leaf);
    look->second.findings = job_->left.size();
    if (done.is_whole) looks_.erase(look);
  }
  LogInfo("What the store had lost came back from the agents that sealed it.", {{"what", done.words}, {"whole", done.is_whole ? "yes" : "no"}});
  for (const auto& [leaf, r] : job_->returned) {
    if (std::find(job_->put.begin(), job_->put.end(), leaf) != job_->put.end()) missing_.Done(leaf);
    else missing_.Failed(leaf);
  }
  if (late != job_->put.end()) late_(*late, [this, path = MarkOf(*late)] { fs_.Remove(path).IgnoreError(); });
  settled_.emplace(job_->shard, job_->put);
  job_.reset();
  refilled_(done);
  fs_.Remove(IntentOf(done.shard)).IgnoreError();   // told once more, at worst
}

void Refill::GiveBack(const absl::Status& why) {
  LogWarn("What agents sent once more cannot be put in its place; nothing was changed.",
          {{"dir", ShardDir(options_.ledger_dir, job_->shard)}, {"why", Describe(why)}});
  for (const auto& [leaf, r] : job_->returned) missing_.Failed(leaf);
  fs_.Remove(IntentOf(job_->shard)).IgnoreError();   // that of a job that was told already would be harmless too
  Drop();
}

void Refill::Drop() {
  if (const absl::Status removed = RemoveCandidate(options_.ledger_dir, job_->shard, fs_); !removed.ok()) {
    LogWarn("What was begun is still there; the next start removes it.", {{"error", Describe(removed)}});
  }
  job_.reset();
}

Tick Refill::Step(Tick now) {
  if (!std::exchange(is_begun_, true)) MarkedBefore();
  if (settled_) {   // a reader that was between file and memory when they were replaced may have remembered what was there before
    (void)ledger_.Replaced(settled_->first, settled_->second);
    settled_.reset();
  }
  TakeLooks();
  if (job_ && job_->is_installed) {
    if (!ledger_.Replaced(job_->shard, job_->put)) return now + kBetweenTries;
    Tell();
    return now + kLook;
  }
  if (!job_) return Begin(now);
  const std::optional<int> ended = child_.Ended();
  for (const std::string& line : child_.Lines()) Hear(line);
  if (!ended) return now + kLook;
  if (WIFEXITED(*ended) && WEXITSTATUS(*ended) == 0 && !job_->put.empty() && !IsBetter(*job_)) {
    LogInfo("More of a shard is damaged than was known. What agents sent once more waits until it was read through again.",
            {{"dir", ShardDir(options_.ledger_dir, job_->shard)}, {"what", job_->left.front().what}});
    awaiting_.insert(job_->shard);
    Drop();
    return now + kLook;
  }
  if (const absl::Status installed = Install(*ended); !installed.ok()) {
    GiveBack(installed);
    return now + kLook;
  }
  return now;
}

}  // namespace orgtrail
