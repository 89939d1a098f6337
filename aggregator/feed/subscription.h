// Subscription: one reader's place in the merged feed, in the order of arrival. Pull only: plain code, no threads, no waiting.
//
// Threads  one at a time. LedgerReader and Clock outlive it.
// Holds    the cursor of a message resumes after it: nothing is lost and nothing comes twice, whatever the filters are.
// Bounds   500 events or 256 KiB a message (one record may be larger); 512 leaves looked at a call.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/query/cursor.h"
#include "aggregator/ledger/expiry.h"
#include "aggregator/ledger/reader.h"
#include "aggregator/query/access.h"
#include "aggregator/query/filter.h"
#include "common/base/clock.h"
#include "orgtrail/v1/feed.pb.h"

namespace orgtrail {

class Subscription {
 public:
  // PermissionDenied, OutOfRange (with the cursor to go on from in the message) and InvalidArgument as FeedCursor and Filter say.
  // `recoveries`: where this log went on from an older head, in order.
  static absl::StatusOr<std::unique_ptr<Subscription>> Open(const Identity& who, const v1::SubscribeRequest& request,
                                                            const LedgerReader& ledger, std::string mac_key, const Clock& clock,
                                                            const std::vector<uint64_t>& recoveries = {});
  enum class Got { kEvents, kProgress, kCaughtUp, kEnd };
  // The next message. kEvents: it holds some. kProgress: none matched so far, the cursor moved on, call again. kCaughtUp: all
  // that is logged was looked at (the message may hold events). kEnd: the wanted number was sent.
  // Clears `out` first and sets its cursor, events and caught_up.
  absl::StatusOr<Got> Next(v1::FeedMessage* out);

  const FeedCursor& at() const { return at_; }
  std::string cursor() { return cursors_.Text(at_); }
  const Access& access() const { return access_; }
  uint64_t sent() const { return sent_; }
  uint64_t quarantined() const { return quarantined_; }   // matches that were left out

 private:
  Subscription(const Identity& who, const v1::SubscribeRequest& request, Access access, Filter filter, const LedgerReader& ledger,
               std::string mac_key, const Clock& clock);
  bool Wanted(const Leaf& leaf, size_t row);

  const Access access_;
  Filter filter_;
  const std::vector<std::string> accounts_, regions_;
  const bool own_, bodies_only_;
  const uint64_t max_;
  const LedgerReader& ledger_;
  const Expiry expiry_;
  CursorWriter cursors_;
  const Clock& clock_;
  FeedCursor at_;
  uint64_t sent_ = 0, quarantined_ = 0;
};

}  // namespace orgtrail
