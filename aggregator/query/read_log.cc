#include "aggregator/query/read_log.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kMinute = absl::Minutes(1);
constexpr size_t kKinds = 10'000;

}  // namespace

absl::Status ReadLog::Record(const Peer& who, std::string_view name, std::string details) {
  const Kind kind{who.identity.ToUri(), std::string(name), details};
  const Tick now = clock_.Now();
  const int64_t wall = clock_.WallNanos();
  const auto count = [&](Minute& m) {
    if (m.count++ == 0) m.first_ns = wall;
    m.last_ns = wall;
  };
  const bool covered = minutes_.With([&](std::map<Kind, Minute>& minutes) {
    const auto it = minutes.find(kind);
    if (it == minutes.end() || !it->second.covered || now >= it->second.until) return false;
    count(it->second);
    return true;
  });
  if (covered) return absl::OkStatus();
  const absl::Status recorded = journal_.Record(who, name, std::move(details));
  const bool full = absl::IsResourceExhausted(recorded) && full_answers_;
  if (!recorded.ok() && !full) return recorded;
  const bool kept = minutes_.With([&](std::map<Kind, Minute>& minutes) {
    if (minutes.size() >= kKinds && !minutes.contains(kind)) return false;
    Minute& m = minutes[kind];   // of the minute before: what it counted stays, and is recorded with this one's
    m.who = who;
    m.until = now + kMinute;
    m.covered = recorded.ok();
    if (full) count(m);
    return true;
  });
  return full && !kept ? recorded : absl::OkStatus();
}

bool ReadLog::Write(const Kind& kind, const Minute& m) {
  std::string details = absl::StrCat("{\"reads\":", m.count, ",\"from\":", JsonString(Rfc3339(absl::FromUnixNanos(m.first_ns), 3)),
                                     ",\"to\":", JsonString(Rfc3339(absl::FromUnixNanos(m.last_ns), 3)));
  if (const std::string& asked = std::get<2>(kind); asked.size() > 2) details += ",\"asked\":" + asked;
  const absl::Status recorded = journal_.Record(m.who, std::get<1>(kind), details + "}");
  if (!recorded.ok()) LogWarn("repeated reads are not recorded yet; trying again", {{"who", std::get<0>(kind)}, {"why", std::string(ToStd(recorded.message()))}});
  return recorded.ok();
}

void ReadLog::WriteOver(Tick now) {
  std::vector<std::pair<Kind, Minute>> over;
  minutes_.With([&](std::map<Kind, Minute>& minutes) {
    for (auto it = minutes.begin(); it != minutes.end();) {
      if (it->second.until > now) {
        ++it;
        continue;
      }
      if (it->second.count > 0) over.emplace_back(it->first, std::move(it->second));
      it = minutes.erase(it);
    }
  });
  for (auto& one : over) {
    const Kind& kind = one.first;
    const Minute& minute = one.second;
    if (Write(kind, minute)) continue;
    minutes_.With([&](std::map<Kind, Minute>& minutes) {
      const auto [it, fresh] = minutes.try_emplace(kind, minute);
      if (!fresh) {
        it->second.count += minute.count;
        it->second.first_ns = minute.first_ns;
        it->second.last_ns = std::max(it->second.last_ns, minute.last_ns);
      } else {
        it->second.covered = false;   // the next read is recorded by itself, and tries whether there is room
        it->second.until = now + kMinute;
      }
    });
  }
}

Tick ReadLog::Step(Tick now) {
  WriteOver(now);
  return now + absl::Seconds(5);
}

void ReadLog::Finish() { WriteOver(clock_.Now() + 2 * kMinute); }

}  // namespace orgtrail
