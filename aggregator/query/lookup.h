// Lookup: who did what, newest first. A pure function of a request, the history and the ledger.
//
// Path     history, ledger ⇒ [Lookup] → Query service, HTTPS gateway
// Threads  any; one call works on one thread. Blocks on disk: not for gRPC reactions.
// Holds    times are inclusive, by eventTime; attributes are ANDed; identical records (account and bytes) are shown once.
//          A record whose event id another one has, that the caller may see and that is not identical, has the note EVENTID_REUSE: always where
//          an event id or a position is asked for, elsewhere when both have the same eventTime.
//          INDEX_CUT: it has a value beyond 256 bytes, by the first of which it is found.
//          A page token fixes the tree size, so pages neither repeat nor skip while records arrive. It is bound to the caller
//          and the request: PermissionDenied when it is forged or another's.
// Bounds   1,000 records, some 3 MiB and 20,000 candidates a page; a page may be short, or empty, and still have a next one.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "aggregator/index/history.h"
#include "aggregator/index/leaves.h"
#include "aggregator/index/search.h"
#include "aggregator/ledger/expiry.h"
#include "aggregator/query/access.h"
#include "aggregator/query/completeness.h"
#include "aggregator/query/filter.h"
#include "common/base/ids.h"
#include "orgtrail/v1/query.pb.h"

namespace orgtrail {

class Lookup {
 public:
  // References outlive it. `mac_key` is 32 bytes, secret, the same after a restart.
  Lookup(const History& history, const LedgerReader& ledger, const Completeness& completeness, std::string mac_key);

  absl::StatusOr<v1::LookupResponse> Find(const Identity& who, const v1::LookupRequest& request) const;
  absl::StatusOr<v1::GetEventResponse> Get(const Identity& who, const v1::GetEventRequest& request) const;

  // Where records with this event id lie, newest first, at most `max`; only those the caller may see.
  absl::StatusOr<std::vector<EventRef>> Locate(const Access& access, std::string_view event_id, size_t max) const;

  const LedgerReader& ledger() const { return ledger_; }

 private:
  struct Question {
    const HistoryQuery& query;
    const Access& access;
    bool quarantined;                         // quarantined records too
    bool names_id;                            // an event id is asked for
  };
  struct Copies {
    bool shown_before = false;                // an identical record comes earlier in the order of answers
    bool id_reused = false;                   // one that is not identical has its event id
    uint32_t count = 1;
  };
  absl::StatusOr<Copies> CountCopies(const HistorySnapshot& snapshot, const Question& question, const HistoryRecord& record, Leaves& leaves) const;
  absl::StatusOr<bool> Differ(const std::vector<EventRef>& refs) const;   // whether two of these records say different things
  std::string Mac(const Identity& who, const v1::LookupRequest& request, std::string_view payload) const;

  const History& history_;
  const LedgerReader& ledger_;
  const Completeness& completeness_;
  const std::string mac_key_;
  const Expiry expiry_;
};

// What is recorded of a read: the request, as a JSON object.
std::string DetailsOf(const v1::LookupRequest& request);

}  // namespace orgtrail
