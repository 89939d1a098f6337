// Alarms: what somebody should look at, as records in the ledger like any other, and as a short list people acknowledge.
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
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "aggregator/verify/finding.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/random.h"
#include "common/format/own_record.h"
#include "common/fs/file.h"
#include "common/metrics/metrics.h"

namespace orgtrail {

struct AlarmState {
  std::string id;                  // uuid, as in the record's details
  std::string code, subject, detail;
  Severity severity = Severity::kWarn;
  int64_t raised_ns = 0, last_ns = 0, cleared_ns = 0;   // last: the newest raise that was logged
  uint64_t count = 0;
  std::string acknowledged_by, note;
};

class Alarms {
 public:
  // `post` logs a record without waiting (the own agent); `notify` hands an alarm to whoever tells people; may be null.
  Alarms(std::string account, std::string region, std::string path, Fs& fs, const Clock& clock, Rng& rng, Metrics& metrics);
  void Wire(std::function<void(OwnRecord)> post, std::function<void(const AlarmState&)> notify);
  absl::Status Load();

  // A raise of what is open already counts up and is logged at most once a minute. One that is worse than before is logged at once,
  // notified again, and undoes an acknowledgement, which was of the lesser one. kInfo never stays open: it is logged, listed, done.
  void Raise(std::string_view code, Severity severity, std::string_view subject, std::string_view detail);
  void Clear(std::string_view code, std::string_view subject);
  // Open ones, the newest first: pages before warnings; all: then the acknowledged, then what is over.
  std::vector<AlarmState> List(bool all, size_t max) const;
  absl::Status Acknowledge(std::string_view id, std::string_view by, std::string_view note);
  size_t open() const;
  absl::Status Save();                                           // writes the file when something was logged since

 private:
  struct State {
    std::map<std::pair<std::string, std::string>, AlarmState> open;
    std::deque<AlarmState> past;
    bool changed = false;
  };
  void Post(const AlarmState& alarm, std::string_view what);

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
