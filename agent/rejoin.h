// Rejoin: how an agent's chain goes on when what it would send cannot follow what the log has: the spool's disk damaged a signed entry beyond
// mending, the log was restored and lacks what the spool no longer has, or the spool was deleted and the log has what nobody here knows. A new epoch continues from the last batch the log has; what can
// still be read of the batches in between is recorded in it once more (flag 16, a Recovered record each); a loss record says what cannot.
//
// Path     uplink session says where the chain broke → [Rejoin] → pipeline, spool → uplink session sends from the new epoch on
// Threads  one. Step blocks until what it records is in the spool.
// Holds    until Abandon nothing of the new epoch is sent: whoever ends in between does it again, and nothing is recorded or said twice.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/record/pipeline.h"
#include "agent/spool/spool.h"
#include "agent/uplink/session.h"

namespace orgtrail {

class Rejoin {
 public:
  // References outlive it; `stopping`: whether to give up.
  Rejoin(Spool& spool, Pipeline& pipeline, UplinkSession& session, std::function<bool()> stopping)
      : spool_(spool), pipeline_(pipeline), session_(session), stopping_(std::move(stopping)) {}

  // What the uplink session reported: SPOOL_TAMPER, RECORDS_MISSING and SPOOL_LOST are for the next Step, other codes are not its business.
  void Report(std::string_view code, std::string_view detail);
  // Goes on behind what was reported. What fails is logged, and is reported again with the next stream.
  void Step();

 private:
  absl::Status BehindDamage(const std::string& detail);
  absl::Status BehindGap();
  absl::Status BehindLostSpool();
  struct Salvage {
    uint64_t recovered = 0, lost = 0;  // batches with records
  };
  absl::StatusOr<SignedEntry> EntryOf(BatchKey key) const;
  absl::StatusOr<SpoolTail> TailAt(BatchKey key) const;
  absl::StatusOr<BatchKey> OpenAfter(const SpoolTail& previous);
  absl::StatusOr<Salvage> Recover(BatchKey after, BatchKey opened);

  Spool& spool_;
  Pipeline& pipeline_;
  UplinkSession& session_;
  const std::function<bool()> stopping_;
  std::optional<std::string> damage_;   // reported, and not left behind yet
  bool gap_ = false, spool_lost_ = false;
};

}  // namespace orgtrail
