#include "aggregator/alarms/watch.h"

#include <algorithm>

#include "absl/strings/str_split.h"

#include "common/base/log.h"
#include "common/base/status.h"
#include "common/format/batch.h"
#include "common/format/frame.h"

namespace orgtrail {
namespace {

constexpr int kMissedHeartbeats = 3;
constexpr absl::Duration kLate = absl::Minutes(2);   // as the verifier counts it (VerifierOptions::stale_after)
constexpr uint64_t kFollowerBehind = 2000;   // leaves
constexpr double kWarnFree = 0.10, kPageFree = 0.03;
constexpr double kWarnDays = 14, kPageDays = 3;

std::string SubjectOf(const AgentIdentityRecord& agent) { return agent.account + "/" + agent.region + "/" + agent.name; }

}  // namespace

Watch::Watch(const WatchOptions& options, const LedgerReader& ledger, const Registry& registry, Alarms& alarms,
             std::function<absl::Status(const IdentityLeaf&)> log, std::function<uint64_t()> ledger_bytes, std::function<std::vector<FollowerFacts>()> followers, Fs& fs,
             const Clock& clock, Metrics& metrics)
    : options_(options), ledger_(ledger), registry_(registry), alarms_(alarms), log_(std::move(log)), ledger_bytes_(std::move(ledger_bytes)),
      followers_(std::move(followers)), fs_(fs), clock_(clock), started_ns_(clock.WallNanos()), listening_ns_(started_ns_),
      live_(metrics.GetGauge("orgtrail_agents_live", "agents heard from within three heartbeats")),
      silent_(metrics.GetGauge("orgtrail_agents_silent", "enrolled agents not heard from for three heartbeats")),
      rate_(metrics.GetGauge("orgtrail_ledger_events_per_second", "records logged per second over the last minute")),
      free_(metrics.GetGauge("orgtrail_disk_free_bytes", "free bytes where the ledger lies")),
      open_alarms_(metrics.GetGauge("orgtrail_alarms_open", "alarms neither acknowledged nor cleared")) {}

AgentLife Watch::LifeOf(const AgentIdentityRecord& agent, const std::optional<AgentHead>& head) const {
  if (agent.revoked) return AgentLife::kRevoked;
  if (agent.retired || (head && head->retired)) return AgentLife::kRetired;
  if (!head) return AgentLife::kNever;
  // Silence counts from our own start at the earliest, or the ledger's last stop: nobody could be heard before.
  const int64_t since = clock_.WallNanos() - std::max(LastHeard(*head), listening_ns_.load());
  const bool heard = since <= absl::ToInt64Nanoseconds(Patience());
  return heard ? AgentLife::kLive : AgentLife::kSilent;
}

int64_t Watch::LastHeard(const AgentHead& head) const {
  return heard_.Peek([&](const std::map<Uuid, Heard>& heard) {
    const auto it = heard.find(head.uuid);
    return it != heard.end() && it->second.leaf_index == head.leaf_index ? it->second.logged_ns : head.logged_ns;
  });
}

void Watch::Listen(const std::map<Uuid, AgentHead>& heads) {
  const uint64_t size_then = ledger_.FirstLoggedAt(clock_.WallNanos() - absl::ToInt64Nanoseconds(kLate));
  const std::map<Uuid, Heard> before = heard_.Peek([](const std::map<Uuid, Heard>& heard) { return heard; });
  std::map<Uuid, Heard> heard;
  for (const auto& [uuid, head] : heads) {
    Heard last;
    if (const auto it = before.find(uuid); it != before.end()) last = it->second;
    if (last.logged_ns == 0 || last.leaf_index != head.leaf_index) {
      if (!HeldBack(head, size_then)) last.logged_ns = head.logged_ns;
      last.leaf_index = head.leaf_index;
    }
    heard.emplace(uuid, last);
  }
  heard_.With([&](std::map<Uuid, Heard>& all) { all.swap(heard); });
}

// What looks late by its head is looked at: the verifier has marked it.
bool Watch::HeldBack(const AgentHead& head, uint64_t size_then) const {
  const bool closed_before = static_cast<int64_t>(std::min<uint64_t>(head.wall_close_ns, INT64_MAX)) < head.logged_ns - absl::ToInt64Nanoseconds(kLate);
  if (!closed_before && head.seen_size >= size_then) return false;
  const absl::StatusOr<RawLeaf> raw = ledger_.ReadRaw(head.leaf_index);
  if (!raw.ok() || (raw->flags & kLeafLate) == 0) return false;
  const absl::StatusOr<FrameView> view = FrameView::Decode(raw->bytes);
  const absl::StatusOr<BatchEntry> entry = view.ok() ? BatchEntry::Decode(view->entry) : view.status();
  return entry.ok() && entry->header.kind == BatchKind::kHeartbeat;
}

void Watch::Retire(const AgentIdentityRecord& agent) {
  IdentityLeaf leaf;
  leaf.act = IdentityLeaf::Act::kRetired;
  leaf.wall_ns = static_cast<uint64_t>(clock_.WallNanos());
  leaf.uuid = agent.uuid;
  leaf.uri = agent.uri;
  leaf.approver = agent.uri;
  leaf.reason = "its last batch says so";
  if (absl::Status logged = log_(leaf); !logged.ok()) LogWarn("a retirement is not logged yet", {{"agent", agent.uri}, {"why", Describe(logged)}});
}

absl::Duration Watch::Patience() const { return kMissedHeartbeats * options_.heartbeat_interval; }

bool Watch::MayStillCome(const AgentIdentityRecord& agent) {
  const int64_t now = clock_.WallNanos();
  return now - never_since_.emplace(agent.uuid, now).first->second <= absl::ToInt64Nanoseconds(Patience());
}

void Watch::WatchAgents(WatchFacts& facts) {
  std::map<Uuid, AgentHead> heads;
  for (AgentHead& h : ledger_.Heads()) heads.emplace(h.uuid, std::move(h));
  Listen(heads);
  std::vector<AgentIdentityRecord> agents = registry_.Agents();
  // An agent that lost its state directory enrols anew under its old name: the newest of a name is the one to miss.
  std::map<std::string, uint64_t> newest;
  for (const AgentIdentityRecord& agent : agents) newest[agent.uri] = std::max(newest[agent.uri], agent.enrolled_leaf);
  std::map<std::string, bool> covered;  // account/region → has a live agent, or one that has just enrolled
  std::set<std::string> carried;        // accounts whose records a live collector brings; "any": all
  std::set<std::string> known;          // whose silence may be an alarm
  for (const AgentIdentityRecord& agent : agents) {
    if (agent.uuid == options_.own) continue;
    auto it = heads.find(agent.uuid);
    const std::optional<AgentHead> head = it == heads.end() ? std::nullopt : std::optional(it->second);
    const AgentLife life = LifeOf(agent, head);
    const std::string subject = SubjectOf(agent);
    bool& cover = covered[agent.account + "/" + agent.region];
    if (newest[agent.uri] != agent.enrolled_leaf && life != AgentLife::kLive) continue;
    known.insert(subject);
    switch (life) {
      case AgentLife::kLive:
        cover = true;
        for (absl::string_view account : absl::StrSplit(agent.carries, ',', absl::SkipEmpty())) carried.emplace(account);
        ++facts.live;
        ++facts.total;
        alarms_.Clear("SILENT_AGENT", subject);
        break;
      case AgentLife::kSilent: {
        ++facts.silent;
        ++facts.total;
        std::string detail = "last heard " + Rfc3339(absl::FromUnixNanos(LastHeard(*head))) + " (epoch " + std::to_string(head->epoch) +
                             ", batch " + std::to_string(head->batch_seq) + ")";
        detail += head->closed ? "; it had stopped cleanly. Start it, or retire it: orgtrail-agent retire"
                               : "; look at the agent's host and its network";
        alarms_.Raise("SILENT_AGENT", Severity::kWarn, subject, detail);
        break;
      }
      case AgentLife::kNever:
        ++facts.total;
        cover |= MayStillCome(agent);
        break;
      case AgentLife::kRetired:
        if (!agent.retired && facts.full_since_ns == 0) Retire(agent);
        [[fallthrough]];
      case AgentLife::kRevoked:
        alarms_.Clear("SILENT_AGENT", subject);
        break;
    }
  }
  alarms_.ClearOthers("SILENT_AGENT", known);
  WatchCoverage(covered, carried);
}

void Watch::WatchCoverage(const std::map<std::string, bool>& covered, const std::set<std::string>& carried) {
  const int64_t now = clock_.WallNanos();
  std::set<std::string> missing;
  for (const auto& [where, live] : covered) {
    if (live) continue;
    missing.insert(where);
    if (now - listening_ns_ <= absl::ToInt64Nanoseconds(Patience())) continue;
    alarms_.Raise("COVERAGE_MISSING", Severity::kPage, where,
                  "no live agent captures this account and region: what happens there is not recorded");
  }
  for (const std::string& account : options_.accounts) {
    const auto first = covered.lower_bound(account + "/");
    const bool had_one = first != covered.end() && first->first.starts_with(account + "/");
    if (had_one || carried.contains(account) || carried.contains("any")) continue;
    missing.insert(account);
    if (now - started_ns_ <= absl::ToInt64Nanoseconds(options_.coverage_grace)) continue;
    alarms_.Raise("COVERAGE_MISSING", Severity::kWarn, account,
                  "no agent was ever enrolled for this account: what happens there is not recorded. Make a token: orgtrail agent token --account " +
                      account + " --region REGION");
  }
  alarms_.ClearOthers("COVERAGE_MISSING", missing);
}

void Watch::WatchLedger(WatchFacts& facts) {
  const std::string why = options_.ledger_full ? options_.ledger_full() : std::string();
  if (why.empty()) {
    full_since_ns_ = 0;
    return alarms_.Clear("LEDGER_FULL", "ledger");
  }
  const int64_t now = clock_.WallNanos();
  listening_ns_ = now;
  if (full_since_ns_ == 0) full_since_ns_ = now;
  facts.full_since_ns = full_since_ns_;
  facts.full_why = why;
  alarms_.Raise("LEDGER_FULL", Severity::kPage, "ledger",
                "nothing is logged or acknowledged since " + Rfc3339(absl::FromUnixNanos(full_since_ns_)) +
                    "; agents keep their records and send them by themselves when there is room: " + why);
}

void Watch::WatchDisk(WatchFacts& facts) {
  absl::StatusOr<uint64_t> free = fs_.FreeBytes(options_.state_dir);
  absl::StatusOr<uint64_t> total = fs_.TotalBytes(options_.state_dir);
  if (!free.ok() || !total.ok() || *total == 0) return;
  facts.disk_free = *free;
  free_.Set(static_cast<double>(*free));
  if (day_.size() >= 2) {
    const Sample& first = day_.front();
    const Sample& last = day_.back();
    const double days = static_cast<double>(last.wall_ns - first.wall_ns) / 86'400e9;
    if (days > 0.007 && last.bytes > first.bytes) {  // ten minutes of history at least
      facts.days_left = static_cast<double>(*free) / (static_cast<double>(last.bytes - first.bytes) / days);
    }
  }
  const double share = static_cast<double>(*free) / static_cast<double>(*total);
  const bool few_days = facts.days_left >= 0 && facts.days_left < kWarnDays;
  if (share < kWarnFree || few_days) {
    const bool page = share < kPageFree || (facts.days_left >= 0 && facts.days_left < kPageDays);
    std::string detail = std::to_string(*free >> 20) + " MiB free";
    if (facts.days_left >= 0) detail += ", about " + std::to_string(static_cast<int64_t>(facts.days_left)) + " days at the present rate";
    alarms_.Raise("DISK_LOW", page ? Severity::kPage : Severity::kWarn, options_.state_dir, detail + ": add space");
  } else {
    alarms_.Clear("DISK_LOW", options_.state_dir);
  }
}

void Watch::WatchFollowers() {
  const uint64_t size = ledger_.head().size;
  for (const FollowerFacts& f : followers_()) {
    if (size > f.cursor + kFollowerBehind) {
      alarms_.Raise("FOLLOWER_BEHIND", Severity::kWarn, f.name, std::to_string(size - f.cursor) + " leaves behind the ledger");
    } else {
      alarms_.Clear("FOLLOWER_BEHIND", f.name);
    }
  }
}

Tick Watch::Step(Tick now) {
  WatchFacts facts;
  facts.started_ns = started_ns_;
  const Sample sample{clock_.WallNanos(), ledger_.head().events, ledger_bytes_()};
  minute_.push_back(sample);
  while (minute_.size() > 61) minute_.pop_front();
  if (day_.empty() || sample.wall_ns - day_.back().wall_ns >= 60'000'000'000) day_.push_back(sample);
  while (day_.size() > 24 * 60) day_.pop_front();
  const double seconds = static_cast<double>(minute_.back().wall_ns - minute_.front().wall_ns) / 1e9;
  if (seconds > 0) facts.events_per_second = static_cast<double>(minute_.back().events - minute_.front().events) / seconds;

  WatchLedger(facts);
  WatchAgents(facts);
  WatchDisk(facts);
  WatchFollowers();
  alarms_.Sweep();
  if (!clock_told_) {
    clock_told_ = true;
    if (!clock_.Quality().synchronised) {
      alarms_.Raise("CLOCK_UNSYNCHRONISED", Severity::kInfo, "aggregator",
                    "the kernel's clock is not disciplined: run chrony or systemd-timesyncd; log times are this clock's");
    }
  }
  live_.Set(facts.live);
  silent_.Set(facts.silent);
  rate_.Set(facts.events_per_second);
  open_alarms_.Set(static_cast<double>(alarms_.open()));
  facts_.With([&](WatchFacts& f) { f = facts; });
  const absl::Status saved = alarms_.Save();
  if (!saved.ok() && saved_) LogWarn("the list of alarms cannot be saved; it is tried again each second", {{"error", Describe(saved)}});
  saved_ = saved.ok();
  return now + absl::Seconds(1);
}

WatchFacts Watch::facts() const {
  return facts_.Peek([](const WatchFacts& f) { return f; });
}

}  // namespace orgtrail
