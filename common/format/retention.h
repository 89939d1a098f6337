// Retention: which bodies of the log may be gone, and on whose word. docs/formats/control.md (OTR2)
//
// Governance signs an order: keep bodies for so many days. The log carries it (OTR2), for everybody to see, before it takes effect, and
// carries another OTR2 each time bodies go: all below the leaf it names. Entries, hashes and proofs of those leaves stay.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/format/recovery.h"

namespace orgtrail {

inline constexpr uint32_t kRetentionFloorDays = 400;   // nothing younger is ever pruned, whoever orders it

// Who may order: the admins of a policy, as many as weakening takes (its lines `weaken-threshold` and `weaken-delay`).
struct RetentionGovernance {
  GovernanceKeys keys;
  uint32_t weaken_threshold = 0;     // without the line every admin
  int64_t weaken_delay_s = 86'400;   // from the log's telling to the effect; at most ten years
  static absl::StatusOr<RetentionGovernance> OfPolicy(std::string_view policy_note);
};

struct RetentionOrder {
  std::string origin;
  uint32_t keep_days = 0;        // from the floor to 100 years
  int64_t time_ns = 0;           // of the order; the newest counts

  absl::Duration keep() const { return absl::Hours(24) * keep_days; }
  std::string Text() const;      // of the note, without signatures
  // OutOfRange: below the floor.
  static absl::StatusOr<RetentionOrder> Decode(std::string_view text);
};
// The order, when enough signed it and it is of this log. PermissionDenied: not enough.
absl::StatusOr<RetentionOrder> OpenRetentionOrder(std::string_view note, const RetentionGovernance& governance, std::string_view origin);

// OTR2: an order as logged. With the minimum there was it announces the order; with a higher one, bodies below it go.
struct RetentionLeaf {
  uint64_t wall_ns = 0;          // the aggregator's clock
  uint64_t minimum = 0;          // bodies of leaves below may be gone
  int64_t newest_ns = 0;         // when the newest of them, minimum - 1, was logged; 0 with minimum 0
  std::string note;              // the order, 1 to 8,000 bytes
  std::string Encode() const;
  static absl::StatusOr<RetentionLeaf> Decode(std::string_view bytes);
};

// What the leaves of one log say about retention, folded in order. Threads: one.
class RetentionHistory {
 public:
  explicit RetentionHistory(std::string origin) : origin_(std::move(origin)) {}

  // A control leaf. Not ok: an OTR2 that may not stand there; it counts for nothing, and whoever verifies calls it tampering.
  absl::Status Take(uint64_t index, std::string_view entry);
  // Whether the leaf may be logged as number `index`. PermissionDenied, OutOfRange (floor, age), FailedPrecondition (not announced, too
  // early, replaced), InvalidArgument.
  absl::Status Check(uint64_t index, const RetentionLeaf& leaf) const;

  struct Raise {
    uint64_t leaf = 0;           // the OTR2
    uint64_t from = 0, minimum = 0;
    int64_t wall_ns = 0, newest_ns = 0;
    uint32_t keep_days = 0;
  };
  struct Announced {
    RetentionOrder order;
    std::string note;
    uint64_t leaf = 0;
    int64_t wall_ns = 0;         // of the leaf
    int64_t effective_ns = 0;    // nothing goes before: the policy's weaken-delay later
  };
  uint64_t minimum() const { return raises_.empty() ? 0 : raises_.back().minimum; }
  const std::vector<Raise>& raises() const { return raises_; }
  const Raise* Of(uint64_t leaf) const;              // by which the leaf's bodies may be gone; null: they must be here
  const std::optional<Announced>& newest() const { return newest_; }
  const std::optional<RetentionGovernance>& governance() const { return governance_; }

 private:
  const std::string origin_;
  std::optional<RetentionGovernance> governance_;  // of the first policy of the log, then of each that those before it signed
  std::vector<Raise> raises_;
  std::optional<Announced> newest_;
  int64_t last_wall_ns_ = 0;
};

}  // namespace orgtrail
