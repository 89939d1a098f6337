#include "aggregator/alarms/alarms.h"

#include <simdjson.h>

#include <algorithm>

#include "common/base/ids.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr size_t kPast = 1000;
constexpr size_t kOpen = 10'000;
constexpr int64_t kRepeatNs = 60'000'000'000;       // an event that happens again
constexpr int64_t kLastsNs = 60 * kRepeatNs;        // a condition that lasts: raised each second, and its end is logged too
constexpr int64_t kPassedNs = 15 * kRepeatNs;
constexpr size_t kIdPrefix = 4;
// Told of as often as they are seen, a minute apart at most: not seen means over.
constexpr std::string_view kPassing[] = {"CLOCK_SKEW", "STALE_HEARTBEAT", "VERSION_SKEW"};

Severity ParseSeverity(std::string_view name) {
  if (name == "page") return Severity::kPage;
  return name == "info" ? Severity::kInfo : Severity::kWarn;
}

}  // namespace

std::string AlarmJson(const AlarmState& a) {
  std::string json = "{\"id\":" + JsonString(a.id) + ",\"code\":" + JsonString(a.code);
  json += ",\"severity\":" + JsonString(SeverityName(a.severity)) + ",\"subject\":" + JsonString(a.subject);
  json += ",\"detail\":" + JsonString(a.detail) + ",\"raised\":" + JsonString(Rfc3339(absl::FromUnixNanos(a.raised_ns), 3));
  json += ",\"raisedNs\":" + std::to_string(a.raised_ns) + ",\"lastNs\":" + std::to_string(a.last_ns);
  json += ",\"clearedNs\":" + std::to_string(a.cleared_ns) + ",\"count\":" + std::to_string(a.count);
  json += ",\"acknowledgedBy\":" + JsonString(a.acknowledged_by) + ",\"note\":" + JsonString(a.note);
  json += std::string(",\"kind\":\"") + (a.kind == AlarmKind::kEvent ? "event" : "condition") + "\",\"state\":" + JsonString(a.State()) + "}";
  return json;
}

std::string_view AlarmState::State() const { return cleared_ns != 0 ? "cleared" : acknowledged_by.empty() ? "open" : "acknowledged"; }

Alarms::Alarms(std::string account, std::string region, std::string path, Fs& fs, const Clock& clock, Rng& rng, Metrics& metrics)
    : account_(std::move(account)), region_(std::move(region)), path_(std::move(path)), fs_(fs), clock_(clock), rng_(rng),
      metrics_(metrics) {}

void Alarms::Wire(std::function<void(OwnRecord)> post, std::function<void(const AlarmState&)> notify) {
  post_ = std::move(post);
  notify_ = std::move(notify);
}

absl::Status Alarms::Load() {
  absl::StatusOr<std::string> text = ReadFile(fs_, path_);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  simdjson::dom::parser parser;
  simdjson::dom::array list;
  if (parser.parse(*text).get(list) != simdjson::SUCCESS) {
    return absl::DataLossError(absl::StrCat(path_, ": not a list of alarms; delete it, the ledger holds every alarm"));
  }
  return state_.With([&](State& s) -> absl::Status {
    for (simdjson::dom::element e : list) {
      const auto str = [&](const char* key) {
        std::string_view v;
        return e[key].get(v) == simdjson::SUCCESS ? std::string(v) : std::string();
      };
      const auto num = [&](const char* key) {
        int64_t v = 0;
        return e[key].get(v) == simdjson::SUCCESS ? v : 0;
      };
      AlarmState a{str("id"), str("code"), str("subject"), str("detail"), ParseSeverity(str("severity")), num("raisedNs"),
                   num("lastNs"), num("clearedNs"), static_cast<uint64_t>(num("count")), str("acknowledgedBy"), str("note"),
                   str("kind") == "event" ? AlarmKind::kEvent : AlarmKind::kCondition};
      if (a.id.empty() || a.code.empty()) continue;  // not an alarm of ours
      if (a.cleared_ns == 0 && a.severity != Severity::kInfo) {
        s.open[{a.code, a.subject}] = std::move(a);
      } else {
        s.past.push_back(std::move(a));
      }
    }
    return absl::OkStatus();
  });
}

void Alarms::Post(const AlarmState& alarm, std::string_view what) {
  if (!post_) return;
  OwnRecord record;
  record.name = alarm.code;
  record.time = clock_.Wall();
  record.account = account_;
  record.region = region_;
  record.details = "{\"alarm\":{\"event\":" + JsonString(what) + "," + AlarmJson(alarm).substr(1) + "}";
  post_(std::move(record));
}

void Alarms::Raise(std::string_view code, Severity severity, std::string_view subject, std::string_view detail, AlarmKind kind) {
  const int64_t now = clock_.WallNanos();
  AlarmState told;
  enum class What { kNothing, kRaised, kAgain, kWorse } what = What::kNothing;
  state_.With([&](State& s) {
    const auto key = std::pair{std::string(code), std::string(subject)};
    auto it = s.open.find(key);
    if (it == s.open.end()) {
      if (s.open.size() >= kOpen) return;  // each is in the log of the process and in its leaf; a list this long helps nobody
      AlarmState a{Uuid::Random(rng_).ToString(), key.first, key.second, std::string(detail), severity, now, now, 0, 1, "", "", kind};
      told = a;
      what = What::kRaised;
      s.changed = true;
      if (severity == Severity::kInfo) {
        a.cleared_ns = now;
        s.past.push_back(std::move(a));
        if (s.past.size() > kPast) s.past.pop_front();
      } else {
        s.open.emplace(key, std::move(a));
      }
      return;
    }
    AlarmState& a = it->second;
    ++a.count;
    a.detail = std::string(detail);
    if (severity > a.severity) {
      a.severity = severity;
      a.acknowledged_by.clear();
      a.note.clear();
      what = What::kWorse;
    } else if (now - a.last_ns >= (kind == AlarmKind::kCondition ? kLastsNs : kRepeatNs) || now < a.last_ns) {
      what = What::kAgain;
    }
    if (what == What::kNothing) return;
    a.last_ns = now;
    s.changed = true;
    told = a;
  });
  metrics_.GetCounter("orgtrail_alarms_raised_total", "alarms raised, repeats included", {{"code", std::string(code)}}).Add();
  if (what == What::kNothing) return;
  Log(severity == Severity::kInfo ? LogLevel::kInfo : LogLevel::kWarn, "alarm",
      {{"code", told.code}, {"severity", std::string(SeverityName(told.severity))}, {"subject", told.subject}, {"detail", told.detail}});
  // People first: the ledger may be what the alarm is about.
  if (notify_ && what != What::kAgain) notify_(told);
  Post(told, what == What::kRaised ? "raised" : what == What::kWorse ? "worse" : "again");
}

AlarmState Alarms::End(State& s, std::map<Key, AlarmState>::iterator it) const {
  it->second.cleared_ns = clock_.WallNanos();
  AlarmState ended = it->second;
  s.past.push_back(std::move(it->second));
  if (s.past.size() > kPast) s.past.pop_front();
  s.open.erase(it);
  s.changed = true;
  return ended;
}

void Alarms::TellCleared(const AlarmState& alarm) {
  LogInfo("alarm cleared", {{"code", alarm.code}, {"subject", alarm.subject}});
  Post(alarm, "cleared");
  if (notify_) notify_(alarm);
}

std::vector<AlarmState> Alarms::EndWhere(const std::function<bool(const AlarmState&)>& over) {
  return state_.With([&](State& s) {
    std::vector<AlarmState> ended;
    for (auto it = s.open.begin(); it != s.open.end();) {
      const auto at = it++;
      if (over(at->second)) ended.push_back(End(s, at));
    }
    return ended;
  });
}

void Alarms::Clear(std::string_view code, std::string_view subject) {
  AlarmState told;
  const bool cleared = state_.With([&](State& s) {
    auto it = s.open.find({std::string(code), std::string(subject)});
    if (it == s.open.end()) return false;
    told = End(s, it);
    return true;
  });
  if (cleared) TellCleared(told);
}

void Alarms::ClearOthers(std::string_view code, const std::set<std::string>& subjects) {
  for (const AlarmState& a : EndWhere([&](const AlarmState& a) { return a.code == code && !subjects.contains(a.subject); })) TellCleared(a);
}

void Alarms::Sweep() {
  const int64_t now = clock_.WallNanos();
  for (const AlarmState& a : EndWhere([&](const AlarmState& a) {
         return now - a.last_ns > kPassedNs && std::find(std::begin(kPassing), std::end(kPassing), a.code) != std::end(kPassing);
       })) {
    TellCleared(a);
  }
}

std::vector<AlarmState> Alarms::List(bool all, size_t max) const {
  std::vector<AlarmState> out = state_.Peek([&](const State& s) {
    std::vector<AlarmState> v;
    for (const auto& [key, alarm] : s.open) {
      if (all || alarm.acknowledged_by.empty()) v.push_back(alarm);
    }
    if (all) v.insert(v.end(), s.past.begin(), s.past.end());
    return v;
  });
  std::sort(out.begin(), out.end(), [](const AlarmState& a, const AlarmState& b) {
    const auto rank = [](const AlarmState& x) {
      return (x.cleared_ns != 0 ? 20 : 0) + (x.acknowledged_by.empty() ? 0 : 10) + 2 - static_cast<int>(x.severity);
    };
    return std::pair{rank(a), -a.raised_ns} < std::pair{rank(b), -b.raised_ns};
  });
  if (out.size() > max) out.resize(max);
  return out;
}

absl::StatusOr<AlarmState> Alarms::Acknowledge(std::string_view id, std::string_view by, std::string_view note) {
  if (note.size() > 1024) return absl::InvalidArgumentError("a note is at most 1,024 characters");
  absl::StatusOr<AlarmState> told = absl::NotFoundError("no open alarm has that id; `orgtrail alarms --all` lists every one");
  state_.With([&](State& s) {
    auto found = s.open.end();
    for (auto it = s.open.begin(); it != s.open.end(); ++it) {
      if (it->second.id != id && (id.size() < kIdPrefix || !it->second.id.starts_with(id))) continue;
      if (found != s.open.end()) {
        told = absl::InvalidArgumentError("several alarms have an id that begins so; give more of it");
        return;
      }
      found = it;
    }
    if (found == s.open.end()) return;
    found->second.acknowledged_by = std::string(by);
    found->second.note = std::string(note);
    s.changed = true;
    told = found->second.kind == AlarmKind::kEvent ? End(s, found) : found->second;
  });
  if (told.ok() && told->cleared_ns != 0) TellCleared(*told);
  return told;
}

std::vector<AlarmState> Alarms::AcknowledgeAll(std::string_view code, std::string_view by, std::string_view note) {
  std::vector<AlarmState> done;
  for (const AlarmState& a : List(false, kOpen)) {
    if (a.code != code) continue;
    if (absl::StatusOr<AlarmState> told = Acknowledge(a.id, by, note); told.ok()) done.push_back(*std::move(told));
  }
  return done;
}

size_t Alarms::open() const {
  return state_.Peek([](const State& s) {
    return static_cast<size_t>(std::count_if(s.open.begin(), s.open.end(), [](const auto& a) { return a.second.acknowledged_by.empty(); }));
  });
}

size_t Alarms::acknowledged() const {
  return state_.Peek([](const State& s) {
    return static_cast<size_t>(std::count_if(s.open.begin(), s.open.end(), [](const auto& a) { return !a.second.acknowledged_by.empty(); }));
  });
}

absl::Status Alarms::Save() {
  std::string json;
  const bool changed = state_.With([&](State& s) {
    if (!std::exchange(s.changed, false)) return false;
    json = "[";
    const auto add = [&](const AlarmState& a) { json += (json.size() > 1 ? ",\n" : "") + AlarmJson(a); };
    for (const AlarmState& a : s.past) add(a);
    for (const auto& [key, a] : s.open) add(a);
    json += "]\n";
    return true;
  });
  if (!changed) return absl::OkStatus();
  const absl::Status saved = WriteFileAtomically(fs_, path_, json, 0600);
  if (!saved.ok()) state_.With([](State& s) { s.changed = true; });
  return saved;
}

}  // namespace orgtrail
