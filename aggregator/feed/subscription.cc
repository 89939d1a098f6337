#include "aggregator/feed/subscription.h"

#include <algorithm>

#include "aggregator/query/envelope.h"
#include "aggregator/query/whole_record.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr int kMessageEvents = 500;
constexpr size_t kMessageBytes = 256 << 10;
constexpr size_t kLeavesPerCall = 512;
constexpr size_t kEnvelopeBytes = 300;   // about
constexpr int kMaxNames = 1000;          // accounts or regions of one request
// How long a stub waits for its chunks, which come in the agent's next batches.
constexpr absl::Duration kBlobWait = absl::Seconds(5);

bool AnyOf(const std::vector<std::string>& names, std::string_view name) {
  return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

Subscription::Subscription(const Identity& who, const v1::SubscribeRequest& request, Access access, Filter filter,
                           const LedgerReader& ledger, std::string mac_key, const Clock& clock)
    : access_(std::move(access)), filter_(std::move(filter)),
      accounts_(request.accounts().begin(), request.accounts().end()),
      regions_(request.regions().begin(), request.regions().end()), own_(request.own()), bodies_only_(request.bodies_only()),
      max_(request.max()), ledger_(ledger), expiry_(ledger), cursors_(std::move(mac_key), who, ledger), clock_(clock) {}

absl::StatusOr<std::unique_ptr<Subscription>> Subscription::Open(const Identity& who, const v1::SubscribeRequest& request,
                                                                 const LedgerReader& ledger, std::string mac_key,
                                                                 const Clock& clock, const std::vector<uint64_t>& recoveries) {
  ASSIGN_OR_RETURN(Access access, AccessOf(who));
  if (request.accounts_size() > kMaxNames || request.regions_size() > kMaxNames) {
    return absl::InvalidArgumentError(absl::StrCat("at most ", kMaxNames, " accounts and as many regions"));
  }
  for (const std::string& account : request.accounts()) {
    if (!access.Sees(account)) {
      return absl::PermissionDeniedError(absl::StrCat(who.ToUri(), " may not read account ", account));
    }
  }
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const v1::Attribute& a : request.attributes()) pairs.emplace_back(a.key(), a.value());
  ASSIGN_OR_RETURN(Filter filter, Filter::Make(pairs));
  FeedCursor at;
  const uint64_t size = ledger.head().size;
  switch (request.from_case()) {
    case v1::SubscribeRequest::kNow:
      at.leaf = size;
      break;
    case v1::SubscribeRequest::kTimeNs:
      at.leaf = ledger.FirstLoggedAt(request.time_ns());
      break;
    case v1::SubscribeRequest::kCursor: {
      const absl::StatusOr<FeedCursor> cursor = FeedCursor::Decode(request.cursor(), mac_key, who, ledger);
      if (absl::IsOutOfRange(cursor.status())) {
        // Behind the newest head that the log went on from, everything may be new to this reader; before it nothing is.
        const FeedCursor from{recoveries.empty() ? 0 : recoveries.back(), 0};
        return absl::OutOfRangeError(absl::StrCat(
            cursor.status().message(), from.leaf == 0 ? std::string("; oldest cursor: ")
                                                      : absl::StrCat("; the log was restored at leaf ", from.leaf, ", what stands before it is as it was; "
                                                                     "resume from there (what was read after it comes again): "),
            CursorWriter(mac_key, who, ledger).Text(from)));
      }
      RETURN_IF_ERROR(cursor.status());
      at = *cursor;
      break;
    }
    case v1::SubscribeRequest::kStart:
    case v1::SubscribeRequest::FROM_NOT_SET:
      break;
  }
  auto subscription = std::unique_ptr<Subscription>(
      new Subscription(who, request, std::move(access), std::move(filter), ledger, std::move(mac_key), clock));
  subscription->at_ = at;
  return subscription;
}

bool Subscription::Wanted(const Leaf& leaf, size_t i) {
  const Row& row = leaf.events.rows[i];
  if (row.event_class == static_cast<uint16_t>(EventClass::kChunk)) return false;
  if (!own_ && (row.event_class == static_cast<uint16_t>(EventClass::kOwn) ||
                row.event_class == static_cast<uint16_t>(EventClass::kLoss))) {
    return false;
  }
  const RowFacts& facts = leaf.facts[i];
  if (!access_.Sees(facts.account) || !AnyOf(accounts_, facts.account) || !AnyOf(regions_, facts.region)) return false;
  return filter_.empty() || (filter_.MayMatch(leaf, i) && filter_.Matches(leaf, i));
}

absl::StatusOr<Subscription::Got> Subscription::Next(v1::FeedMessage* out) {
  out->Clear();
  if (max_ > 0 && sent_ >= max_) return Got::kEnd;
  const uint64_t size = ledger_.head().size;
  size_t bytes = 0;
  bool full = false, held = false;
  for (size_t leaves = 0; at_.leaf < size && leaves < kLeavesPerCall && !full && !held; ++leaves) {
    ASSIGN_OR_RETURN(const std::shared_ptr<const Leaf> leaf, ledger_.Read(at_.leaf));
    const size_t rows = leaf->is_batch ? leaf->events.rows.size() : 0;
    while (at_.event < rows) {
      const size_t i = at_.event;
      if (Wanted(*leaf, i)) {
        if ((leaf->flags & kLeafQuarantined) != 0) {
          ++quarantined_;
          ++at_.event;
          continue;
        }
        const Row& row = leaf->events.rows[i];
        bool whole;
        ASSIGN_OR_RETURN(std::string body, WholeRecord(ledger_, *leaf, i, &whole));
        BlobStub stub;
        if (!whole && BlobStub::Decode(row.body, &stub) && !stub.truncated &&
            clock_.Wall() - absl::FromUnixNanos(leaf->logged_ns) < kBlobWait) {
          held = true;
          break;
        }
        if (out->events_size() > 0 && bytes + body.size() > kMessageBytes) {
          full = true;
          break;
        }
        bytes += body.size() + (bodies_only_ ? 8 : kEnvelopeBytes);
        v1::Event* event = out->add_events();
        event->set_record(std::move(body));
        ++at_.event;
        if (!bodies_only_) {
          FillEnvelope(*leaf, i, whole, expiry_, event->mutable_envelope());
          event->mutable_envelope()->set_cursor(cursors_.Text(at_));
        }
        ++sent_;
        full = out->events_size() >= kMessageEvents || bytes >= kMessageBytes || (max_ > 0 && sent_ >= max_);
        if (full) break;
      } else {
        ++at_.event;
      }
    }
    if (at_.event >= rows) at_ = {at_.leaf + 1, 0};
  }
  out->set_cursor(cursors_.Text(at_));
  const bool caught_up = at_.leaf >= size;
  out->set_caught_up(caught_up);
  if (max_ > 0 && sent_ >= max_) return Got::kEnd;
  if (caught_up || (held && out->events_size() == 0)) return Got::kCaughtUp;
  return out->events_size() > 0 ? Got::kEvents : Got::kProgress;
}

}  // namespace orgtrail
