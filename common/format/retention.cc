#include "common/format/retention.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/format/control.h"
#include "common/format/note_text.h"

namespace orgtrail {
namespace {

constexpr std::string_view kLabel = "orgtrail/retention/v1", kMagic = "OTR2";
constexpr uint8_t kVersion = 1;
constexpr size_t kNoteBytes = 8000;
constexpr uint32_t kMostDays = 36'500;
constexpr int64_t kSecond = 1'000'000'000, kMostDelay = 86'400 * 3650ll;

absl::Status NoOrder(std::string_view what) { return absl::InvalidArgumentError(absl::StrCat("no retention order: ", ToAbsl(what))); }

std::string When(int64_t ns) { return Rfc3339(absl::FromUnixNanos(ns)); }

}  // namespace

absl::StatusOr<RetentionGovernance> RetentionGovernance::OfPolicy(std::string_view policy_note) {
  const auto bad = [](std::string_view what) { return absl::FailedPreconditionError(absl::StrCat("policy: ", ToAbsl(what))); };
  RetentionGovernance g;
  ASSIGN_OR_RETURN(g.keys, GovernanceKeys::OfPolicy(policy_note));
  g.weaken_threshold = static_cast<uint32_t>(g.keys.admins.size());
  for (absl::string_view line : absl::StrSplit(ToAbsl(policy_note.substr(0, policy_note.find("\n\n"))), '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, ' ');
    if (parts[0] == "weaken-threshold" && (parts.size() != 2 || !absl::SimpleAtoi(parts[1], &g.weaken_threshold))) return bad("`weaken-threshold` is a number");
    if (parts[0] == "weaken-delay" && (parts.size() != 2 || !absl::SimpleAtoi(parts[1], &g.weaken_delay_s) || g.weaken_delay_s < 0 ||
                                       g.weaken_delay_s > kMostDelay)) {
      return bad("`weaken-delay` is a number of seconds, at most ten years");
    }
  }
  if (g.weaken_threshold < g.keys.threshold || g.weaken_threshold > g.keys.admins.size()) {
    return bad("`weaken-threshold` is between the threshold of `admins` and the number of their keys");
  }
  return g;
}

std::string RetentionOrder::Text() const {
  return std::string(kLabel) + "\norigin " + origin + "\nkeep " + std::to_string(keep_days) + "\ntime " + std::to_string(time_ns) + "\n";
}

absl::StatusOr<RetentionOrder> RetentionOrder::Decode(std::string_view text) {
  const std::vector<absl::string_view> lines = absl::StrSplit(ToAbsl(text), '\n');
  if (lines.size() != 5 || lines[0] != ToAbsl(kLabel) || !lines[4].empty()) return NoOrder("not the four lines of orgtrail/retention/v1");
  RetentionOrder o;
  if (lines[1].substr(0, 7) != "origin " || lines[1].size() == 7) return NoOrder("its second line is `origin NAME`");
  o.origin = std::string(lines[1].substr(7));
  if (lines[2].substr(0, 5) != "keep " || !absl::SimpleAtoi(lines[2].substr(5), &o.keep_days)) return NoOrder("its third line is `keep DAYS`");
  if (lines[3].substr(0, 5) != "time " || !absl::SimpleAtoi(lines[3].substr(5), &o.time_ns)) return NoOrder("its fourth line is `time NANOSECONDS`");
  if (o.time_ns <= 0 || o.keep_days > kMostDays || o.Text() != text) return NoOrder("its numbers are not what an order has");
  if (o.keep_days < kRetentionFloorDays) {
    return absl::OutOfRangeError(absl::StrCat("the retention order keeps ", o.keep_days, " days; no order may keep less than ", kRetentionFloorDays));
  }
  return o;
}

absl::StatusOr<RetentionOrder> OpenRetentionOrder(std::string_view note, const RetentionGovernance& governance, std::string_view origin) {
  if (note.size() > kNoteBytes) return NoOrder("longer than 8,000 bytes");
  ASSIGN_OR_RETURN(RetentionOrder o, RetentionOrder::Decode(NoteText(note)));
  if (o.origin != origin) return NoOrder("it is of the log " + o.origin + ", not " + std::string(origin));
  if (const size_t valid = ValidSignatures(note, governance.keys); valid < governance.weaken_threshold) {
    return absl::PermissionDeniedError(absl::StrCat("the retention order carries ", valid, " valid signatures of governance; the policy wants ",
                                                    governance.weaken_threshold, " (weaken-threshold)"));
  }
  return o;
}

std::string RetentionLeaf::Encode() const {
  CHECK(!note.empty() && note.size() <= kNoteBytes);
  std::string out(kMagic);
  out += static_cast<char>(kVersion);
  PutU64(out, wall_ns);
  PutU64(out, minimum);
  PutU64(out, static_cast<uint64_t>(newest_ns));
  PutU16(out, static_cast<uint16_t>(note.size()));
  return out + note;
}

absl::StatusOr<RetentionLeaf> RetentionLeaf::Decode(std::string_view bytes) {
  ByteReader in(bytes);
  const auto malformed = [](std::string_view what) { return absl::InvalidArgumentError(absl::StrCat("FRAME_MALFORMED OTR2: ", ToAbsl(what))); };
  const auto bounds = [](std::string_view what) { return absl::InvalidArgumentError(absl::StrCat("BOUNDS OTR2: ", ToAbsl(what))); };
  if (in.Bytes(4) != kMagic) return malformed("does not start with its magic");
  const uint8_t version = in.U8();
  if (!in.ok()) return malformed("cut short");
  if (version != kVersion) return absl::InvalidArgumentError(absl::StrCat("VERSION_UNKNOWN OTR2 version ", version));
  RetentionLeaf leaf;
  leaf.wall_ns = in.U64();
  leaf.minimum = in.U64();
  const uint64_t newest = in.U64();
  leaf.note = std::string(in.Bytes(in.U16()));
  if (!in.Done()) return malformed("cut short, or bytes behind its end");
  if (leaf.note.empty() || leaf.note.size() > kNoteBytes) return bounds("its note is of 1 to 8,000 bytes");
  if (leaf.wall_ns > INT64_MAX || newest > INT64_MAX) return bounds("its times are below 2^63");
  if ((leaf.minimum == 0) != (newest == 0)) return bounds("a minimum and no time of the leaf before it, or the reverse");
  leaf.newest_ns = static_cast<int64_t>(newest);
  return leaf;
}

absl::Status RetentionHistory::Check(uint64_t index, const RetentionLeaf& leaf) const {
  if (!governance_) return absl::FailedPreconditionError("no policy in the log before it says who may order retention");
  ASSIGN_OR_RETURN(const RetentionOrder order, OpenRetentionOrder(leaf.note, *governance_, origin_));
  const auto wall_ns = static_cast<int64_t>(leaf.wall_ns);
  if (wall_ns < last_wall_ns_) return absl::FailedPreconditionError("it is of an earlier time than the one before it");
  if (newest_ && (order.time_ns < newest_->order.time_ns || (order.time_ns == newest_->order.time_ns && order.Text() != newest_->order.Text()))) {
    return absl::FailedPreconditionError(absl::StrCat("its order of ", When(order.time_ns), " was replaced by that of ", When(newest_->order.time_ns)));
  }
  if (leaf.minimum > index) return absl::InvalidArgumentError("its minimum is beyond its own place");
  if (leaf.minimum < minimum()) return absl::FailedPreconditionError(absl::StrCat("it lowers the minimum from ", minimum(), ": what is gone does not come back"));
  if (leaf.minimum == minimum()) return absl::OkStatus();
  if (!newest_ || newest_->order.Text() != order.Text()) {
    return absl::FailedPreconditionError("bodies go by an order that was not announced in the log before");
  }
  if (wall_ns < newest_->effective_ns) {
    return absl::FailedPreconditionError(absl::StrCat("its order was announced in leaf ", newest_->leaf, " and takes effect at ", When(newest_->effective_ns)));
  }
  if (leaf.newest_ns > wall_ns || absl::Nanoseconds(wall_ns - leaf.newest_ns) < order.keep()) {
    return absl::OutOfRangeError(absl::StrCat("leaf ", leaf.minimum - 1, " was logged at ", When(leaf.newest_ns), " and is to be kept for ", order.keep_days,
                                              " days: it was pruned too early, at ", When(wall_ns)));
  }
  return absl::OkStatus();
}

absl::Status RetentionHistory::Take(uint64_t index, std::string_view entry) {
  const std::string_view magic = LeafMagic(entry);
  if (magic == "OTP1") {
    const absl::StatusOr<PolicyLeaf> policy = PolicyLeaf::Decode(entry);
    if (!policy.ok()) return absl::OkStatus();   // said by who decodes it
    const absl::StatusOr<RetentionGovernance> named = RetentionGovernance::OfPolicy(policy->note);
    // The first is what every agent pins; whoever comes after it needs the word of those before.
    if (named.ok() && (!governance_ || ValidSignatures(policy->note, governance_->keys) >= governance_->keys.threshold)) governance_ = *named;
    return absl::OkStatus();
  }
  if (magic != kMagic) return absl::OkStatus();
  ASSIGN_OR_RETURN(const RetentionLeaf leaf, RetentionLeaf::Decode(entry));
  RETURN_IF_ERROR(Check(index, leaf));
  ASSIGN_OR_RETURN(RetentionOrder order, OpenRetentionOrder(leaf.note, *governance_, origin_));
  last_wall_ns_ = static_cast<int64_t>(leaf.wall_ns);
  if (leaf.minimum > minimum()) raises_.push_back({index, minimum(), leaf.minimum, last_wall_ns_, leaf.newest_ns, order.keep_days});
  if (!newest_ || newest_->order.Text() != order.Text()) {
    newest_ = Announced{std::move(order), leaf.note, index, last_wall_ns_, last_wall_ns_ + governance_->weaken_delay_s * kSecond};
  }
  return absl::OkStatus();
}

const RetentionHistory::Raise* RetentionHistory::Of(uint64_t leaf) const {
  const auto it = std::upper_bound(raises_.begin(), raises_.end(), leaf, [](uint64_t l, const Raise& r) { return l < r.minimum; });
  return it == raises_.end() ? nullptr : &*it;
}

}  // namespace orgtrail
