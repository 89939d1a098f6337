// ControlLeaves: what the aggregator has to log itself when it starts: that the log goes on from an older head, its own agent's enrolment, what
// was repaired while nothing ran, the policy. docs/formats/control.md
//
// Threads  one, at the start. Each is logged once; ended between the log and the file that says so, once more.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "aggregator/alarms/alarms.h"
#include "aggregator/config.h"
#include "aggregator/ledger/committer.h"
#include "aggregator/ledger/ledger.h"
#include "common/base/clock.h"
#include "common/format/recovery.h"
#include "common/fs/file.h"

namespace orgtrail {

// What governance left beside a ledger that lost its newest leaves: state_dir/recovery.note.
struct DeclaredRecovery {
  Recovery recovery;
  std::string note;
  // Nothing: there is no such file. Not ok: it is not signed by enough of the policy's admins, or is of another log.
  static absl::StatusOr<std::optional<DeclaredRecovery>> Read(const AggregatorConfig& config, const std::string& policy_note, Fs& fs);
  // Before anything else: the declaration is the first leaf behind the head it names. Then the anchor, then the file gives way; a crash in
  // between comes back here.
  absl::Status Log(const AggregatorConfig& config, Ledger& ledger, Fs& fs, const Clock& clock) const;
};

class ControlLeaves {
 public:
  // All outlive it.
  ControlLeaves(const AggregatorConfig& config, Committer& committer, Fs& fs, const Clock& clock) : config_(config), committer_(committer), fs_(fs), clock_(clock) {}
  // What `orgtrail repair` did, as it left it in the state_dir; `by` is the own agent. Raises LEDGER_REPAIRED.
  absl::Status LogRepairs(const std::string& by, Alarms& alarms);
  absl::Status LogPolicy(const std::string& note, const std::string& body);   // unless this note was logged before

 private:
  absl::Status Log(std::string leaf);

  const AggregatorConfig& config_;
  Committer& committer_;
  Fs& fs_;
  const Clock& clock_;
};

}  // namespace orgtrail
