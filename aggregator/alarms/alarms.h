// Alarms: what somebody should look at, as records in the ledger like any other, and as a short list people acknowledge.
//
//   raised ──▶ open ──acknowledged with a note──▶ acknowledged ──▶ cleared          a condition: clears when it is over, looked at or not
//   raised ──▶ open ──acknowledged with a note──▶ cleared                           an event: it happened; over when somebody says so
//
// An event that only describes a passing state (a clock that is off) is over by itself when it was not seen for a quarter of an hour.
// What is raised again after it was cleared is a new alarm.
//
// Path     verify, watch, services → [Alarms] → own agent (a record per raise and clear) → ledger; and → notifier
// Threads  any. Nothing blocks under the lock; persisting is the watch's job (Save).
// Owns     the list: open alarms by (code, subject), and the last 1,000 that cleared. derived/alarms.json survives restarts;
//          the records in the ledger are the truth.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/verify/finding.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/random.h"
#include "common/format/own_record.h"
#include "common/fs/file.h"
#include "common/metrics/metrics.h"

namespace orgtrail {

enum class AlarmKind { kCondition, kEvent };

struct AlarmState {
  std::string id;                  // uuid, as in the record's details
  std::string code, subject, detail;
  Severity severity = Severity::kWarn;
  int64_t raised_ns = 0, last_ns = 0, cleared_ns = 0;   // last: the newest raise that was logged
  uint64_t count = 0;
  std::string acknowledged_by, note;
  AlarmKind kind = AlarmKind::kCondition;
  std::string_view State() const;  // open, acknowledged, cleared
};

class Alarms {
 public:
  // `post` logs a record without waiting (the own agent); `notify` hands an alarm to whoever tells people; may be null.
  Alarms(std::string account, std::string region, std::string path, Fs& fs, const Clock& clock, Rng& rng, Metrics& metrics);
  void Wire(std::function<void(OwnRecord)> post, std::function<void(const AlarmState&)> notify);
  absl::Status Load();

  // A raise of what is open already counts up and is logged at most once a minute, of a condition once an hour. One that is worse than
  // before is logged at once, notified again, and undoes an acknowledgement, which was of the lesser one. kInfo never stays open: it is
  // logged, listed, done. Whoever raises a condition clears it.
  void Raise(std::string_view code, Severity severity, std::string_view subject, std::string_view detail,
             AlarmKind kind = AlarmKind::kCondition);
  void Clear(std::string_view code, std::string_view subject);
  // Clears what is open of this code and about none of these: its subject is no longer there.
  void ClearOthers(std::string_view code, const std::set<std::string>& subjects);
  void Sweep();                                                  // clears passing events that were not seen for a while
  // Open ones, the newest first: pages before warnings; all: then the acknowledged, then what is over.
  std::vector<AlarmState> List(bool all, size_t max) const;
  // The alarm with this id, or with the only id that begins so. What was acknowledged.
  absl::StatusOr<AlarmState> Acknowledge(std::string_view id, std::string_view by, std::string_view note);
  // Every open one of a code, as after an upgrade of the whole fleet.
  std::vector<AlarmState> AcknowledgeAll(std::string_view code, std::string_view by, std::string_view note);
  size_t open() const;                                           // that nobody has acknowledged
  size_t acknowledged() const;                                   // conditions somebody knows of, and that go on
  absl::Status Save();                                           // writes the file when something was logged since

 private:
  struct State {
    std::map<std::pair<std::string, std::string>, AlarmState> open;  // acknowledged conditions too
    std::deque<AlarmState> past;
    bool changed = false;
  };
  using Key = std::pair<std::string, std::string>;
  void Post(const AlarmState& alarm, std::string_view what);
  // Moves to the past under the lock; Tell then logs and notifies without it.
  AlarmState End(State& s, std::map<Key, AlarmState>::iterator it) const;
  void TellCleared(const AlarmState& alarm);
  std::vector<AlarmState> EndWhere(const std::function<bool(const AlarmState&)>& over);

  const std::string account_, region_, path_;
  Fs& fs_;
  const Clock& clock_;
  Rng& rng_;
  Metrics& metrics_;
  std::function<void(OwnRecord)> post_;
  std::function<void(const AlarmState&)> notify_;
  Guarded<State> state_;
};

std::string AlarmJson(const AlarmState& alarm);

}  // namespace orgtrail
