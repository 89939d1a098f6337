// ReadLog: records of reads that people and dashboards repeat (status, fleet, alarms), without flooding the log: the first read of a
// kind by somebody is recorded before it is answered, like any other; the same read within a minute is counted, and when the minute is
// over one more record says how many there were.
//
// Path     admin, transparency → [ReadLog] → ReadJournal (the own agent) → ledger
// Threads  Record: any but gRPC reactions (the first of a minute waits for the log). Step: one Worker ("reads").
// Holds    nothing is answered before a record that covers it is durable. One exception, when `full_answers`: while neither ledger nor
//          journal can write one byte, these reads are answered, since they are what the person who makes room looks at; they are
//          counted and recorded once there is room.
// Bounds   10,000 kinds at a time; what is beyond is recorded one by one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <tuple>

#include "aggregator/query/read_journal.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/stage.h"
#include "common/rpc/credentials.h"

namespace orgtrail {

class ReadLog final : public ReadJournal, public Stage {
 public:
  ReadLog(ReadJournal& journal, const Clock& clock, bool full_answers) : journal_(journal), clock_(clock), full_answers_(full_answers) {}
  // `details` are part of the kind: other names asked for are another read.
  absl::Status Record(const Peer& who, std::string_view name, std::string details) override;
  Tick Step(Tick now) override;    // records what was counted in minutes that are over
  void Finish();                   // … and in those that are not, before the log closes

 private:
  using Kind = std::tuple<std::string, std::string, std::string>;   // who, name, details
  struct Minute {
    Peer who;
    Tick until{};
    int64_t first_ns = 0, last_ns = 0;   // of the reads counted
    uint64_t count = 0;
    bool covered = false;                // the record that opens it is durable
  };
  bool Write(const Kind& kind, const Minute& minute);
  void WriteOver(Tick now);

  ReadJournal& journal_;
  const Clock& clock_;
  const bool full_answers_;
  Guarded<std::map<Kind, Minute>> minutes_;
};

}  // namespace orgtrail
