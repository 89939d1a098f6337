#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <set>

#include "absl/strings/str_split.h"
#include "aggregator/client/child.h"
#include "aggregator/client/context.h"
#include "aggregator/client/progress.h"
#include "aggregator/client/table.h"
#include "aggregator/ledger/fsck.h"
#include "aggregator/ledger/repair.h"
#include "aggregator/ledger/shard.h"
#include "aggregator/scrub/lines.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail::client {
namespace {

constexpr size_t kMostFindings = 200'000;
constexpr uint32_t kNewest = UINT32_MAX;   // of a ledger whose newest shard cannot be opened

struct Flags {
  std::string state_dir, kek_file;
  std::vector<std::string> from;
  bool dry_run = false, without_bodies = false;
};

struct Damage {                            // of one shard
  std::set<uint64_t> leaves;
  uint64_t findings = 0;
  bool is_unreadable = false;              // who looks into it dies
  std::string first;                       // in words
};
using Damages = std::map<uint32_t, Damage>;

struct Outcome {
  std::vector<std::string> done;           // for people, and for the log
  uint64_t leaves = 0, bodies_given_up = 0, left = 0;
};

std::string Join(const std::string& dir) { return dir + "/shard-"; }

// The shard a finding is about, by its file.
uint32_t ShardOf(const std::string& ledger_dir, const std::string& file) {
  const std::string prefix = Join(ledger_dir);
  if (!file.starts_with(prefix)) return kNewest;
  const std::string_view digits = std::string_view(file).substr(prefix.size(), 6);
  return static_cast<uint32_t>(ParseUint(digits).value_or(kNewest));
}

class Repairer {
 public:
  Repairer(Context& context, const Flags& flags) : context_(context), flags_(flags), ledger_dir_(LedgerDirOf(context.fs, flags.state_dir)) {}
  absl::Status Run();

 private:
  absl::StatusOr<Damages> Look(const std::string& dir, FsckOptions options, const char* what);
  absl::StatusOr<std::optional<Candidate>> Make(const std::function<absl::StatusOr<Candidate>()>& make, std::string* why);
  absl::Status RepairShard(uint32_t shard, const Damage& damage);
  enum class Partly { kNo, kYes };
  absl::StatusOr<bool> Patched(uint32_t shard, const Damage& damage, Partly partly);
  absl::StatusOr<bool> Replaced(uint32_t shard);
  absl::Status Put(uint32_t shard, const Candidate& candidate, const std::string& words);
  absl::Status NoteForTheLog() const;
  RepairOrder Order(uint32_t shard) const;

  Context& context_;
  const Flags& flags_;
  const std::string ledger_dir_;
  std::vector<std::string> sources_;
  std::string kek_;
  Outcome outcome_;
};

// fsck, in a process per stretch that can be read: one that dies is a finding, and the next begins behind it.
absl::StatusOr<Damages> Repairer::Look(const std::string& dir, FsckOptions options, const char* what) {
  Damages damages;
  options.dir = dir;
  options.kek = kek_;
  options.max_findings = kMostFindings;
  Progress progress(what, 0, context_.clock);
  for (uint32_t from = options.from_shard; from <= options.to_shard;) {
    uint32_t at = 0;
    const auto hear = [&](std::string_view text) {
      const std::optional<ScrubLine> line = ScrubLine::Decode(text);
      if (!line) return false;
      if (line->kind == ScrubLine::Kind::kEntering) at = line->shard;
      if (line->kind == ScrubLine::Kind::kAt) progress.At(line->leaf);
      if (line->kind != ScrubLine::Kind::kFound) return true;
      Damage& damage = damages[ShardOf(dir, line->finding.file)];
      if (damage.findings++ == 0) damage.first = line->finding.what;
      if (line->finding.leaf != UINT64_MAX) damage.leaves.insert(line->finding.leaf);
      return true;
    };
    options.from_shard = from;
    const auto work = [&](const std::function<void(std::string_view)>& say) {
      const auto tell = [&](const ScrubLine& line) {
        std::string text = line.Encode();
        text.pop_back();
        say(text);
      };
      std::vector<Finding> findings;
      FsckTotals totals;
      FsckOptions there = options;
      there.entering = [&](uint32_t shard, const std::string& name) { tell(ScrubLine::Entering(shard, name)); };
      const absl::Status looked = Fsck(there, [&](uint64_t done, uint64_t total) { tell(ScrubLine::At(done, total, totals.read_bytes)); }, &findings, &totals);
      for (const Finding& f : findings) tell(ScrubLine::Found(f));
      if (!looked.ok()) say(Describe(looked));
      return looked.ok() ? 0 : 1;
    };
    ASSIGN_OR_RETURN(const ChildEnd end, InChild(work, hear));
    if (end.signal == 0 && end.code != 0) return absl::FailedPreconditionError(end.output);
    if (end.signal == 0) break;
    Damage& damage = damages[at == 0 ? kNewest : at];
    if (damage.findings++ == 0) damage.first = end.output.empty() ? "it cannot be read (signal " + std::to_string(end.signal) + ")" : end.output;
    damage.is_unreadable = true;
    if (at == 0) break;
    from = at + 1;
  }
  return damages;
}

// Nothing: it cannot be made so, and `why`.
absl::StatusOr<std::optional<Candidate>> Repairer::Make(const std::function<absl::StatusOr<Candidate>()>& make, std::string* why) {
  Candidate candidate;
  const auto hear = [&](std::string_view line) {
    const std::vector<std::string> f = absl::StrSplit(ToAbsl(line), '\t');
    if (f[0] == "packed") candidate.is_packed = true;
    else if (f[0] == "pruned") candidate.is_pruned = true;
    else if (f[0] == "put" && f.size() == 3) candidate.repaired.push_back({ParseUint(f[1]).value_or(0), f[2]});
    else if (f[0] == "left" && f.size() == 2) candidate.left.push_back(ParseUint(f[1]).value_or(0));
    else return false;
    return true;
  };
  const auto work = [&](const std::function<void(std::string_view)>& say) {
    const absl::StatusOr<Candidate> made = make();
    if (!made.ok()) return say(Describe(made.status())), 1;
    if (made->is_packed) say("packed");
    if (made->is_pruned) say("pruned");
    for (const RepairedLeaf& r : made->repaired) say("put\t" + std::to_string(r.leaf) + "\t" + r.source);
    for (const uint64_t leaf : made->left) say("left\t" + std::to_string(leaf));
    return 0;
  };
  ASSIGN_OR_RETURN(const ChildEnd end, InChild(work, hear));
  if (end.signal == 0 && end.code == 0) return std::optional<Candidate>(std::move(candidate));
  *why = end.output.empty() ? "signal " + std::to_string(end.signal) : end.output;
  return std::optional<Candidate>();
}

RepairOrder Repairer::Order(uint32_t shard) const {
  RepairOrder order;
  order.ledger_dir = ledger_dir_;
  order.shard = shard;
  order.sources = sources_;
  order.give_up_bodies = flags_.without_bodies;
  order.kek = kek_;
  return order;
}

absl::Status Repairer::Put(uint32_t shard, const Candidate& candidate, const std::string& words) {
  if (!flags_.dry_run) {
    RETURN_IF_ERROR(Install(ledger_dir_, shard, candidate.is_packed, context_.fs, candidate.is_pruned));
  } else {
    RETURN_IF_ERROR(RemoveCandidate(ledger_dir_, shard, context_.fs));
  }
  outcome_.done.push_back(words);
  std::printf("%s%s\n", flags_.dry_run ? "would be repaired: " : "repaired: ", Printable(words).c_str());
  return absl::OkStatus();
}

// Leaf by leaf. False: something would be left, or, when that is taken, nothing would be better.
absl::StatusOr<bool> Repairer::Patched(uint32_t shard, const Damage& damage, Partly partly) {
  RepairOrder order = Order(shard);
  order.leaves.assign(damage.leaves.begin(), damage.leaves.end());
  std::string why;
  ASSIGN_OR_RETURN(const std::optional<Candidate> candidate, Make([&] { return CopyAndPatch(order, context_.fs, context_.clock); }, &why));
  if (!candidate) {
    if (partly == Partly::kNo) std::printf("shard %u cannot be repaired leaf by leaf: %s\n", shard, Printable(why).c_str());
    return false;
  }
  FsckOptions check;
  check.from_shard = check.to_shard = shard;
  check.instead = ShardDir(ledger_dir_, shard) + "/" + std::string(kRepairingDir);
  check.is_packed = candidate->is_packed;
  check.fix = true;
  RETURN_IF_ERROR(Look(ledger_dir_, check, "indexes").status());
  check.fix = false;
  ASSIGN_OR_RETURN(const Damages after, Look(ledger_dir_, check, "check"));
  uint64_t left = 0;
  for (const auto& [number, d] : after) left += d.findings;
  if (left > 0 && partly == Partly::kNo) {
    std::printf("shard %u cannot be made whole leaf by leaf: %llu findings would be left; the first: %s\n", shard,
                static_cast<unsigned long long>(left), Printable(after.begin()->second.first).c_str());
  }
  if (left > 0 && (partly == Partly::kNo || left >= damage.findings)) return false;
  std::map<std::string, std::vector<uint64_t>> by_source;
  for (const RepairedLeaf& r : candidate->repaired) by_source[r.source].push_back(r.leaf);
  std::string words = "shard " + std::to_string(shard) + ":";
  for (const auto& [source, leaves] : by_source) {
    words += " leaf " + Stretches(leaves, 20) + (source.empty() ? " without bodies, no copy has them;" : " from " + source + ";");
    (source.empty() ? outcome_.bodies_given_up : outcome_.leaves) += leaves.size();
  }
  if (by_source.empty()) words += " indexes and tree nodes;";
  words.pop_back();
  if (left > 0) {
    outcome_.left += left;
    words += "; still damaged: leaf " + Stretches(candidate->left, 20);
  }
  RETURN_IF_ERROR(Put(shard, *candidate, words));
  return true;
}

absl::StatusOr<bool> Repairer::Replaced(uint32_t shard) {
  for (const std::string& source : sources_) {
    FsckOptions check;
    check.from_shard = check.to_shard = shard;
    const absl::StatusOr<Damages> there = Look(source, check, "source");
    if (!there.ok() || !there->empty()) {
      std::printf("%s: its shard %u is no help: %s\n", Printable(source).c_str(), shard,
                  Printable(there.ok() ? there->begin()->second.first : Describe(there.status())).c_str());
      continue;
    }
    std::string why;
    ASSIGN_OR_RETURN(const std::optional<Candidate> candidate,
                     Make([&] { return CopyWhole(Order(shard), source, flags_.state_dir + "/anchor", context_.fs, context_.clock); }, &why));
    if (!candidate) {
      std::printf("shard %u from %s: %s\n", shard, Printable(source).c_str(), Printable(why).c_str());
      continue;
    }
    RETURN_IF_ERROR(Put(shard, *candidate, "shard " + std::to_string(shard) + ": the whole file from " + source));
    return true;
  }
  return false;
}

absl::Status Repairer::RepairShard(uint32_t shard, const Damage& damage) {
  std::printf("shard %u is damaged: %llu findings, %zu leaves; the first: %s\n", shard, static_cast<unsigned long long>(damage.findings),
              damage.leaves.size(), Printable(damage.first).c_str());
  bool done = false;
  if (!damage.is_unreadable) {
    ASSIGN_OR_RETURN(done, Patched(shard, damage, Partly::kNo));
  }
  if (!done) {
    ASSIGN_OR_RETURN(done, Replaced(shard));
  }
  if (!done && !damage.is_unreadable) {
    ASSIGN_OR_RETURN(done, Patched(shard, damage, Partly::kYes));
    if (done) return RemoveCandidate(ledger_dir_, shard, context_.fs);   // what is left is counted
  }
  if (!done) outcome_.left += damage.findings;
  return RemoveCandidate(ledger_dir_, shard, context_.fs);
}

// The aggregator logs it at its next start.
absl::Status Repairer::NoteForTheLog() const {
  if (outcome_.done.empty() || flags_.dry_run) return absl::OkStatus();
  return orgtrail::NoteForTheLog(flags_.state_dir, outcome_.done, context_.fs, context_.clock);
}

absl::Status Repairer::Run() {
  if (!context_.fs.Facts(ledger_dir_).ok() || ledger_dir_ == flags_.state_dir) {
    context_.exit_code = kVerifyUsage;
    return absl::NotFoundError("there is no ledger in " + flags_.state_dir + ": give the aggregator's state_dir");
  }
  const auto held = [](const absl::Status& s) { return absl::FailedPreconditionError("stop the aggregator first: " + std::string(s.message())); };
  const absl::StatusOr<std::unique_ptr<DirLock>> state = DirLock::Take(flags_.state_dir);
  if (!state.ok()) return held(state.status());
  const absl::StatusOr<std::unique_ptr<DirLock>> ledger = DirLock::Take(ledger_dir_);
  if (!ledger.ok()) return held(ledger.status());
  ASSIGN_OR_RETURN(kek_, LedgerKek(context_.fs, flags_.kek_file, ledger_dir_));
  for (const std::string& from : flags_.from) sources_.push_back(LedgerDirOf(context_.fs, from));

  ASSIGN_OR_RETURN(const std::vector<uint32_t> numbers, ListShards(context_.fs, ledger_dir_));
  if (numbers.empty()) return absl::NotFoundError("there is no ledger in " + ledger_dir_);
  ASSIGN_OR_RETURN(Damages found, Look(ledger_dir_, {}, "check"));
  if (auto it = found.find(kNewest); it != found.end()) {   // it says what all others must be
    Damage damage = std::move(it->second);
    damage.is_unreadable = true;
    found.erase(it);
    RETURN_IF_ERROR(RepairShard(numbers.back(), damage));
    if (!flags_.dry_run && outcome_.left == 0) {
      ASSIGN_OR_RETURN(found, Look(ledger_dir_, {}, "check"));
      found.erase(kNewest);
    }
  }
  // The newest first: it says what the others must hold.
  for (auto it = found.rbegin(); it != found.rend(); ++it) {
    const absl::Status done = RepairShard(it->first, it->second);
    if (!done.ok()) {
      NoteForTheLog().IgnoreError();   // the failure is what is told
      return done;
    }
  }
  RETURN_IF_ERROR(NoteForTheLog());
  if (outcome_.done.empty() && outcome_.left == 0) {
    std::printf("nothing is damaged\n");
    return absl::OkStatus();
  }
  if (!flags_.dry_run) {
    ASSIGN_OR_RETURN(const Damages after, Look(ledger_dir_, {}, "check"));
    outcome_.left = 0;
    for (const auto& [shard, damage] : after) outcome_.left += damage.findings;
  }
  std::printf("%s: %llu leaves put back, %llu batches without bodies, %llu findings left\n",
              outcome_.left == 0 ? (flags_.dry_run ? "can be repaired" : "repaired") : "STILL DAMAGED", static_cast<unsigned long long>(outcome_.leaves),
              static_cast<unsigned long long>(outcome_.bodies_given_up), static_cast<unsigned long long>(outcome_.left));
  if (outcome_.left != 0 && !flags_.without_bodies) {
    std::printf("  Give another copy as --from; with --without-bodies batches that no copy has stay without their records; or restore a backup.\n");
  }
  if (outcome_.left != 0) context_.exit_code = kTampered;
  else if (outcome_.bodies_given_up != 0) context_.exit_code = kIncomplete;
  return absl::OkStatus();
}

}  // namespace

void AddRepair(CLI::App& app, Context& context) {
  auto f = std::make_shared<Flags>();
  CLI::App* repair = app.add_subcommand("repair", "Put back what a disk damaged in a ledger, from backups or other copies of it. 0 whole, 2 still damaged, 3 whole but for bodies");
  repair->add_option("dir", f->state_dir, "The aggregator's state_dir; stop the aggregator first")->required();
  repair->add_option("--from", f->from, "A backup, or the state_dir of another copy; repeat for several: the first that has what is missing counts")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  repair->add_option("--key-encryption-key", f->kek_file, "The ledger's kek.key; default: where org init puts it, beside state_dir");
  repair->add_flag("--dry-run", f->dry_run, "Do all but the last step: say what could be repaired, and change nothing");
  repair->add_flag("--without-bodies", f->without_bodies, "Leave batches that no copy has in the log without their records, so that reads say so");
  repair->footer("Nothing is taken on a copy's word: what is put back has the hash this ledger's tree holds for it. The aggregator logs what was done\n"
                 "when it starts. Needs room for one shard.\n\n"
                 "Example:\n  orgtrail repair /var/lib/orgtrail-aggregator --from /mnt/backup/orgtrail --dry-run\n");
  repair->callback([f, &context] { context.Run([&] { return Repairer(context, *f).Run(); }); });
}

}  // namespace orgtrail::client
