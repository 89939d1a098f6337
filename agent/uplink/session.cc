#include "agent/uplink/session.h"

#include <algorithm>
#include <vector>

#include "agent/uplink/mend.h"
#include "common/base/bytes.h"
#include "common/base/log.h"
#include "common/base/mutant.h"
#include "common/base/status.h"
#include "common/format/chain.h"
#include "common/format/epoch.h"
#include "common/format/frame.h"
#include "common/merkle/tree.h"
#include "orgtrail/v1/ingest.pb.h"

namespace orgtrail {
namespace {

constexpr std::string_view kTamper = "SPOOL_TAMPER ";
constexpr int kExpectedTimes = 5;
absl::StatusOr<Hash> LeafOfFrame(std::string_view frame) {
  ASSIGN_OR_RETURN(const FrameView view, FrameView::Decode(frame));
  return LeafHash(view.entry);
}

}  // namespace

UplinkSession::UplinkSession(const UplinkSessionOptions& options, NoteKey log_key, Spool& spool, const Clock& clock,
                             UplinkReports reports)
    : options_(options), log_key_(std::move(log_key)), spool_(spool), clock_(clock), reports_(std::move(reports)), 
      state_(spool, LogView(log_key_, spool.pin().value_or(Pin{}), options.accept_restored_log)) {
  state_.With([&](State& s) {
    s.facts.acked = spool_.Facts().acked_through;
  });
}

std::string UplinkSession::Begin() {
  return state_.With([&](State& s) {
    s.welcomed = false;
    s.window.clear();
    s.window_bytes = 0;
    s.wanted.clear();
    s.lacking.clear();
    s.settling = s.pressed = false;   // an aggregator that is still full says so after its welcome
    s.log.BeginStream();
    s.paused_until = Tick{};
    s.gap_since = Tick{};
    s.progress = clock_.Now();
    s.cursor = s.branches.Past(s.facts.acked);
    v1::PushRequest request;
    v1::Hello& hello = *request.mutable_hello();
    hello.set_agent_uuid(std::string(options_.uuid.view()));
    hello.set_version(options_.version);
    hello.set_run(options_.run);
    if (const Pin& pin = s.log.pin(); pin.origin == log_key_.name && pin.size > 0) {
      hello.set_seen_size(pin.size);
      hello.set_seen_root(std::string(pin.root.view()));
      hello.set_seen_origin(pin.origin);
    }
    hello.set_resend_from_epoch(s.facts.acked.epoch);
    hello.set_resend_from_batch_seq(s.facts.acked.batch_seq);
    if (const std::optional<BatchKey> oldest = spool_.KeyAfter({})) {
      hello.set_oldest_epoch(oldest->epoch);
      hello.set_oldest_batch_seq(oldest->batch_seq);
    }
    return request.SerializeAsString();
  });
}

bool UplinkSession::welcomed() const {
  return state_.Peek([](const State& s) { return s.welcomed; });
}

absl::StatusOr<std::optional<std::string>> UplinkSession::Next() {
  if (std::optional<std::string> frame = NextWanted()) return frame;
  const Tick now = clock_.Now();
  const std::optional<BatchKey> after = state_.Peek([&](const State& s) -> std::optional<BatchKey> {
    if (!s.welcomed || now < s.paused_until || s.window_bytes >= options_.window_bytes) return std::nullopt;
    return s.cursor;
  });
  if (!after) return std::optional<std::string>();
  absl::StatusOr<std::optional<std::pair<BatchKey, std::string>>> next = spool_.Next(*after);
  if (absl::IsDataLoss(next.status())) {
    const std::optional<BatchKey> key = spool_.KeyAfter(*after);
    if (!key) return next.status();
    absl::StatusOr<Mended> mended = Mend(spool_, *key, reports_.bodies_lost);
    if (ToStd(mended.status().message()).starts_with(kTamper)) {
      const bool logged = state_.With([&](State& s) {   // it cannot be sent once more for its receipt, and need not be
        if (s.cursor != *after || *key > s.facts.log_has) return false;
        s.cursor = s.branches.Past(*key);
        return true;
      });
      if (logged) return std::optional<std::string>();
      return Stop(mended.status());
    }
    RETURN_IF_ERROR(mended.status());
    state_.With([&](State& s) { ++(mended->whole ? s.facts.repaired : s.facts.bodiless); });
    next = std::make_pair(*key, std::move(mended->frame));
  }
  RETURN_IF_ERROR(next.status());
  if (!next->has_value()) return std::optional<std::string>();
  auto& [key, frame] = **next;
  ASSIGN_OR_RETURN(const Hash leaf, LeafOfFrame(frame));
  absl::Status branch;
  const bool current = state_.With([&](State& s) {
    if (s.cursor != *after) return false;   // an answer moved it meanwhile
    if (key.batch_seq == 0) branch = CheckBranch(s, key, frame);
    if (!branch.ok()) return false;
    if (s.window.empty()) s.progress = now;
    s.facts.sent = key;
    s.cursor = s.branches.Past(key);
    s.window.push_back({key, leaf, frame.size(), false, now});
    s.window_bytes += frame.size();
    return true;
  });
  if (!branch.ok()) return Stop(branch);
  if (!current) return std::optional<std::string>();
  return std::optional<std::string>(std::move(frame));
}

// The chain cannot go on as it is. What was sent may be in the log with its receipt on the way, and a new epoch goes on from there: until it
// is here this waits; then it is reported, and the stream ends.
absl::StatusOr<std::optional<std::string>> UplinkSession::Stop(const absl::Status& why) {
  absl::Status stopped = why;
  const bool settled = state_.With([&](State& s) {
    s.settling = !s.window.empty() || s.pressed;
    if (s.settling || s.facts.quarantined || s.facts.log_has >= s.facts.acked || HasWhatFollows(s, s.facts.log_has)) return !s.settling;
    s.facts.gone_after = s.facts.log_has;   // what is damaged here would not continue the restored log either
    stopped = absl::FailedPreconditionError("RECORDS_MISSING the log was restored and goes on after " + Name(s.facts.log_has) + "; " + std::string(ToStd(why.message())));
    return true;
  });
  if (!settled) return std::optional<std::string>();
  const std::string_view words = ToStd(stopped.message());
  const size_t code = words.find(' ');
  if (reports_.report) reports_.report(words.substr(0, code), words.substr(code + 1));
  return stopped;
}

void UplinkSession::Wait(absl::Duration limit) {
  struct Due {
    bool blocked;
    BatchKey cursor;
  };
  const Tick now = clock_.Now();
  const Due due = state_.Peek([&](const State& s) {
    if (s.paused_until > now) limit = std::min(limit, s.paused_until - now);
    return Due{!s.welcomed || s.paused_until > now || s.window_bytes >= options_.window_bytes || s.settling, s.cursor};
  });
  if (due.blocked) {
    state_.WhenFor(
        limit,
        [&](const State& s) {
          if (s.woken || s.cursor != due.cursor) return true;
          if (s.settling) return s.window.empty() && !s.pressed;
          return s.welcomed && s.window_bytes < options_.window_bytes && s.paused_until <= now;
        },
        [](State& s, bool) { s.woken = s.settling = false; });
  } else {
    spool_.WaitBeyond(due.cursor, limit);
  }
}

absl::Status UplinkSession::OnMessage(std::string_view response) {
  v1::PushResponse r;
  if (!r.ParseFromArray(response.data(), static_cast<int>(response.size()))) {
    return absl::InvalidArgumentError("the aggregator answered with something that is not a PushResponse");
  }
  std::vector<std::function<void()>> calls;
  const absl::Status status = state_.With([&](State& s) -> absl::Status {
    absl::Status done;
    switch (r.kind_case()) {
      case v1::PushResponse::kWelcome: done = OnWelcome(s, r.welcome()); break;
      case v1::PushResponse::kReceipt: done = OnReceipt(s, r.receipt()); break;
      case v1::PushResponse::kRefusal: done = OnRefusal(s, r.refusal()); break;
      case v1::PushResponse::kWanted: OnWanted(s, r.wanted()); break;
      default: break;   // a newer aggregator says something this agent need not know
    }
    calls.swap(s.calls);
    return done;
  });
  for (auto& call : calls) call();
  return status;
}

// A new head. One that the log gave up an older one for, by governance's word or the operator's, leaves evidence; any other contradiction is a lie.
absl::StatusOr<Checkpoint> UplinkSession::Look(State& s, const std::string& note, uint64_t from, std::span<const Hash> proof, const v1::Welcome* welcome) {
  absl::StatusOr<LogView::Shown> shown = s.log.Look(note, from, proof, welcome);
  if (!shown.ok()) return Lie(s, "LOG_FORKED", std::string(ToStd(shown.status().message())), note);
  if (!shown->given_up.empty()) {
    const std::string where = KeepEvidence(s, "LOG_RESTORED", shown->given_up, note);
    Report(s, "LOG_RESTORED", shown->given_up + " (" + where + ")");
  }
  return std::move(shown->head);
}

absl::Status UplinkSession::OnWelcome(State& s, const v1::Welcome& w) {
  if (s.welcomed) return absl::InvalidArgumentError("a second welcome on one stream");
  if (w.origin() != log_key_.name) {
    Report(s, "ORIGIN_MISMATCH", "this endpoint serves the log " + w.origin() + "; the agent's epoch belongs to " + log_key_.name);
    return absl::FailedPreconditionError("ORIGIN_MISMATCH the endpoint serves the log " + w.origin());
  }
  ASSIGN_OR_RETURN(const std::vector<Hash> proof, ProofOf(w.consistency()));
  // An aggregator without its first leaf has no head to show yet.
  if (!w.checkpoint().empty() || s.log.pin().size > 0) {
    ASSIGN_OR_RETURN(const Checkpoint head, Look(s, w.checkpoint(), s.log.pin().size, proof, &w));
    const bool learnt = s.log.Learn(w);
    if (learnt || head.size != s.log.pin().size) {
      const Pin pin = s.log.PinOf(head, w.checkpoint());
      RETURN_IF_ERROR(spool_.SetPin(pin));
      Pinned(s, pin);
    }
  }
  const BatchKey head{w.head_epoch(), w.head_batch_seq()};
  s.facts.log_head = w.quarantined() ? s.facts.acked : head;
  s.facts.log_head_leaf = w.head_leaf().size() == 32 ? Hash::From(w.head_leaf()) : Hash{};
  s.facts.log_head_next_seq = w.head_next_seq();
  // The log's newest leaf of ours must be what we signed, if we still have it.
  const absl::StatusOr<SignedEntry> mine = spool_.ReadEntry(head);
  s.facts.log_head_held = mine.ok() ? LeafHash(mine->entry) == s.facts.log_head_leaf : absl::IsDataLoss(mine.status());
  // What was logged without its receipt counts, if it is this spool's: another's would hide that two of them ran.
  s.facts.log_has = s.facts.log_head <= s.facts.acked || s.facts.log_head_held ? s.facts.log_head : s.facts.acked;
  if (w.quarantined()) {   // the head stays where the contradiction was; what this process sends is logged beside it
    if (!std::exchange(s.facts.quarantined, true)) {
      Report(s, "QUARANTINED", "the log keeps this agent's batches apart since " + Name(head) + ": its identity was used twice");
    }
  } else if (LostItsPast(s, w.oldest_leaf())) {
    Report(s, "SPOOL_LOST", "the log has this agent's chain up to " + Name(head) + ", and this spool nothing of it: it was deleted or replaced");
    return absl::FailedPreconditionError("SPOOL_LOST behind " + Name(head));
  } else if (s.facts.log_head_held && s.branches.Abandoned(head)) {
    Report(s, "SPOOL_TAMPER", "the log took more of what was abandoned, up to " + Name(head) + ": it was under way when the new epoch was opened");
    return absl::FailedPreconditionError("SPOOL_TAMPER behind " + Name(head));
  } else if (mine.ok() && !s.facts.log_head_held && !s.branches.Abandoned(head)) {
    // The log made it up, or a copy of this spool ran before. The log is shown what we signed: only then can it tell, and alarm.
    Lie(s, "EQUIVOCATION", "the log holds another " + Name(head) + " of this agent than its spool: leaf " + Hex(w.head_leaf()) + ", ours " +
                               Hex(LeafHash(mine->entry).view()), w.checkpoint())
        .IgnoreError();  // its answer ends the stream
    s.cursor = std::min(s.cursor, Before(head));
  }
  if (head < s.facts.acked && !w.quarantined()) {
    // It proved these to us once and no longer has them: restored from a copy. We still have them.
    Report(s, "LOG_RESTORED", "the log stands at " + Name(head) + " and had acknowledged " + Name(s.facts.acked) + ": sending again from there");
    s.cursor = s.branches.Past(head);
  }
  s.welcomed = true;
  s.progress = clock_.Now();
  if (reports_.pace) {
    s.calls.push_back([this, ms = w.batch_interval_ms(), hb = w.heartbeat_interval_s()] { reports_.pace(ms, hb); });
  }
  if (reports_.policy && !w.policy().empty()) {
    s.calls.push_back([this, note = w.policy(), body = w.policy_body()] { reports_.policy(note, body); });
  }
  return absl::OkStatus();
}

absl::Status UplinkSession::OnReceipt(State& s, const v1::Receipt& r) {
  if (!s.welcomed) return absl::InvalidArgumentError("a receipt before the welcome");
  ASSIGN_OR_RETURN(const std::vector<Hash> proof, ProofOf(r.consistency()));
  ASSIGN_OR_RETURN(const Checkpoint head, Look(s, r.checkpoint(), r.consistency_from(), proof, nullptr));
  for (const v1::LeafReceipt& l : r.leaves()) {
    const BatchKey key{l.epoch(), l.batch_seq()};
    ASSIGN_OR_RETURN(const std::vector<Hash> path, ProofOf(l.path()));
    auto sent = std::lower_bound(s.window.begin(), s.window.end(), key, [](const Sent& a, BatchKey k) { return a.key < k; });
    if (sent == s.window.end() || sent->key != key) continue;   // not in question on this stream: it neither proves nor accuses
    if (absl::Status in = VerifyInclusion(sent->leaf, l.leaf_index(), head.size, path, head.root);
        !in.ok() && !Planted(Mutant::kUnverifiedReceipt)) {
      return Lie(s, "LEAF_MISSING", absl::StrCat("the receipt for ", Name(key), " does not prove its leaf ", Hex(sent->leaf.view()), " at ",
                                                 l.leaf_index(), ": ", Describe(in)), r.checkpoint());
    }
    sent->proven = true;
  }
  RETURN_IF_ERROR(Persist(s, head, r.checkpoint()));
  ++s.facts.receipts;
  s.facts.last_receipt_ns = clock_.WallNanos();
  if (reports_.pace && (r.batch_interval_ms() != 0 || r.heartbeat_interval_s() != 0)) {
    s.calls.push_back([this, ms = r.batch_interval_ms(), hb = r.heartbeat_interval_s()] { reports_.pace(ms, hb); });
  }
  return absl::OkStatus();
}

// Acked is what is proven with nothing unproven before it.
absl::Status UplinkSession::Persist(State& s, const Checkpoint& head, const std::string& note) {
  BatchKey through = s.facts.acked;
  const Tick now = clock_.Now();
  bool progress = false;
  while (!s.window.empty() && (s.window.front().proven || Planted(Mutant::kPrunedEarly))) {
    through = std::max(through, s.window.front().key);
    s.facts.log_has = std::max(s.facts.log_has, s.window.front().key);
    s.window_bytes -= s.window.front().bytes;
    s.window.pop_front();
    progress = true;
  }
  if (progress) {
    s.progress = now;
    s.expected_times = 0;
  }
  const bool gap = std::any_of(s.window.begin(), s.window.end(), [](const Sent& w) { return w.proven; });
  if (!gap) {
    s.gap_since = Tick{};
  } else if (s.gap_since == Tick{} || progress) {
    s.gap_since = now;
  }
  s.facts.unacked_bytes = s.window_bytes;
  const Pin pin = s.log.PinOf(head, note);
  if (through > s.facts.acked) {
    RETURN_IF_ERROR(spool_.Acked(through, pin));
  } else if (head.size != s.log.pin().size) {
    RETURN_IF_ERROR(spool_.SetPin(pin));
  }
  s.facts.acked = through;
  Pinned(s, pin);
  return absl::OkStatus();
}

absl::Status UplinkSession::OnRefusal(State& s, const v1::Refusal& r) {
  const Tick now = clock_.Now();
  const BatchKey named{r.epoch(), r.batch_seq()};
  s.facts.last_refusal = r.code();
  if (r.code() == "CHAIN_EXPECT") {
    s.expected_times = named == s.expected ? s.expected_times + 1 : 1;
    s.expected = named;
    const BatchKey head = named.epoch == 0 ? BatchKey{} : Before(named);
    const bool begins = named.epoch != 0 && named.batch_seq == 0;   // an epoch once more, as evidence: no gap
    if (!begins && !s.facts.quarantined && head < s.facts.acked && !HasWhatFollows(s, head)) {
      s.facts.gone_after = head;
      Report(s, "RECORDS_MISSING", "the log was restored and goes on after " + Name(head) + "; what followed it was acknowledged, and this spool no longer has it");
      return absl::FailedPreconditionError("RECORDS_MISSING the log expects " + Name(named));
    }
    if (s.expected_times > kExpectedTimes) {
      s.expected_times = 0;
      Report(s, "CHAIN_STUCK", "the log expects " + Name(named) + " and does not take what the spool has: " + r.detail());
      return absl::FailedPreconditionError("CHAIN_STUCK the log expects " + Name(named));
    }
    Rewind(s, named);
    return absl::OkStatus();
  }
  if (r.retry_ms() > 0) {   // RATE_LIMIT, SPOOL_PRESSURE, …: the data stays here
    s.paused_until = now + absl::Milliseconds(std::min<uint32_t>(r.retry_ms(), 60'000));
    if (named.epoch != 0) Rewind(s, named);
    s.progress = now;
    const bool pressed = r.code() == "SPOOL_PRESSURE" && r.retry_ms() > 1;
    if (pressed != s.pressed) Report(s, r.code(), r.detail());
    s.pressed = pressed;
    return absl::OkStatus();
  }
  Report(s, r.code(), r.detail());
  if (r.closes()) return absl::FailedPreconditionError(r.code() + " " + r.detail());
  return absl::OkStatus();
}

// Whether what this spool would send after `head` continues it.
bool UplinkSession::HasWhatFollows(const State& s, BatchKey head) const {
  const std::optional<BatchKey> next = spool_.KeyAfter(s.branches.Past(head));
  if (!next) return true;   // there is nothing to send
  if (head.epoch != 0 && *next == BatchKey{head.epoch, head.batch_seq + 1}) return true;
  if (next->batch_seq != 0) return false;
  absl::StatusOr<SignedEntry> opens = spool_.ReadEntry(*next);
  if (!opens.ok()) return true;   // damage, and not this question
  const absl::StatusOr<EpochOpening> opening = EpochOpening::Decode(opens->extension);
  return !opening.ok() || opening->reason == EpochReason::kHandover ||
         BatchKey{opening->previous_epoch, opening->previous_batch_seq} == head;
}

// Whether what the log has of this agent came from another spool, before this one: nothing of this one was ever acknowledged, its first batch
// is another than the log's, and what it would send does not continue the log's head.
bool UplinkSession::LostItsPast(const State& s, std::string_view logged_leaf) const {
  const std::optional<BatchKey> oldest = spool_.KeyAfter({});
  if (s.facts.acked != BatchKey{} || s.facts.log_head.epoch == 0 || logged_leaf.size() != 32 || !oldest) return false;
  const absl::StatusOr<SignedEntry> mine = spool_.ReadEntry(*oldest);
  if (!mine.ok() || LeafHash(mine->entry).view() == logged_leaf) return false;
  const std::optional<BatchKey> next = spool_.KeyAfter(s.branches.Past({}));
  const absl::StatusOr<SignedEntry> opens = next ? spool_.ReadEntry(*next) : absl::NotFoundError("");
  const absl::StatusOr<EpochOpening> opening = opens.ok() ? EpochOpening::Decode(opens->extension) : opens.status();
  return !opening.ok() || opening->reason == EpochReason::kHandover || opening->previous_leaf != s.facts.log_head_leaf;
}

// An epoch that leaves a branch behind which nobody abandoned: the run that opened it ended before it had recorded what the branch held.
// Nothing of it is sent before this run has done so.
absl::Status UplinkSession::CheckBranch(State& s, BatchKey opens, std::string_view frame) {
  if (s.facts.quarantined || s.branches.AbandonedFor(opens)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const FrameView view, FrameView::Decode(frame));
  ASSIGN_OR_RETURN(const EpochOpening opening, EpochOpening::Decode(view.extension));
  if (opening.reason == EpochReason::kHandover) return absl::OkStatus();
  const BatchKey previous{opening.previous_epoch, opening.previous_batch_seq};
  if (previous < s.facts.acked && s.facts.acked < opens && s.facts.log_has < s.facts.acked) {
    s.facts.gone_after = previous;
    return absl::FailedPreconditionError("RECORDS_MISSING " + Name(opens) + " goes on after " + Name(previous) +
                                         ", since the log was restored; what lies between is looked at again");
  }
  const std::optional<BatchKey> next = spool_.KeyAfter(previous);   // pruned since, when the log has it: then it says so itself
  if ((next && *next < opens) || (previous < s.facts.log_has && s.facts.log_has < opens)) {
    return absl::DataLossError("SPOOL_TAMPER " + Name(opens) + " goes on after " + Name(previous) + ", past damage; what lies between is looked at again");
  }
  return absl::OkStatus();
}

void UplinkSession::Rewind(State& s, BatchKey first) {
  s.cursor = s.branches.Past(Before(first));
  while (!s.window.empty() && s.window.back().key > s.cursor) {
    s.window_bytes -= s.window.back().bytes;
    s.window.pop_back();
  }
  s.facts.unacked_bytes = s.window_bytes;
}

absl::Status UplinkSession::CheckStalls() {
  const Tick now = clock_.Now();
  std::vector<std::function<void()>> calls;
  const absl::Status status = state_.With([&](State& s) -> absl::Status {
    if (s.gap_since != Tick{} && now - s.gap_since > options_.skip_limit && !s.window.empty()) {
      s.gap_since = Tick{};
      const absl::Status lie =
          Lie(s, "LEAF_MISSING", "the log proves later batches but not " + Name(s.window.front().key) + ": it was left out", s.log.pin().note);
      calls.swap(s.calls);
      return lie;
    }
    const bool waiting = !s.welcomed || (!s.window.empty() && now >= s.paused_until);
    if (waiting && now - s.progress > options_.ack_stall) {
      return absl::DeadlineExceededError(s.welcomed ? "no receipt for what was sent" : "no welcome");
    }
    return absl::OkStatus();
  });
  for (auto& call : calls) call();
  return status;
}

// What the log showed and what we hold against it, in one file; nothing is pruned on its word, and the stream ends.
absl::Status UplinkSession::Lie(State& s, std::string_view code, std::string detail, std::string_view note) {
  if (const std::string lie = std::string(code) + detail; lie == s.last_lie) {
    Report(s, code, detail + " (" + s.last_evidence + ")");
    return absl::DataLossError(std::string(code) + " " + detail);
  } else {
    s.last_lie = lie;
  }
  const std::string where = KeepEvidence(s, code, detail, note);
  LogError("The log contradicts itself. Nothing is pruned; keep the evidence and call governance.",
           {{"code", std::string(code)}, {"detail", detail}, {"evidence", where}});
  Report(s, code, detail + " (" + where + ")");
  return absl::DataLossError(std::string(code) + " " + detail);
}

// Both heads and what is wrong with them, in a file that is never pruned: its path.
std::string UplinkSession::KeepEvidence(State& s, std::string_view code, const std::string& detail, std::string_view note) {
  ++s.facts.evidence;
  const std::string name =
      absl::StrCat(ToAbsl(code), "-", absl::ToUnixMillis(clock_.Wall()), "-", s.facts.evidence, ".txt");
  std::string content = "orgtrail evidence v1\ncode " + std::string(code) + "\ntime " + Rfc3339(clock_.Wall(), 3) + "\nagent " +
                        options_.uuid.ToString() + "\nlog " + log_key_.Encode() + "\nfinding " + detail + "\n\npinned head:\n" + s.log.pin().note +
                        "\nhead shown:\n" + std::string(note) + "\n";
  const absl::StatusOr<std::string> path = spool_.KeepEvidence(name, content);
  const std::string where = path.ok() ? *path : "evidence could not be kept: " + Describe(path.status());
  s.last_evidence = where;
  return where;
}

bool UplinkSession::Drained() const {
  const BatchKey acked = state_.Peek([](const State& s) { return s.facts.acked; });
  return !spool_.KeyAfter(acked).has_value();
}

absl::Status UplinkSession::Abandon(BatchKey after, BatchKey opened) {
  return state_.With([&](State& s) -> absl::Status {
    RETURN_IF_ERROR(s.branches.Abandon(after, opened));
    s.cursor = s.branches.Past(s.cursor);
    std::erase_if(s.window, [&](const Sent& w) {
      if (w.key <= after || w.key >= opened) return false;
      s.window_bytes -= w.bytes;
      return true;
    });
    s.facts.unacked_bytes = s.window_bytes;
    return absl::OkStatus();
  });
}

void UplinkSession::Wake() {
  state_.With([](State& s) { s.woken = true; });
  spool_.Wake();
}

UplinkFacts UplinkSession::Facts() const {
  return state_.Peek([](const State& s) { return s.facts; });
}

void UplinkSession::Pinned(State& s, const Pin& pin) {
  s.log.SetPin(pin);
  if (reports_.pinned) s.calls.push_back([this, pin] { reports_.pinned(pin); });
}

void UplinkSession::Report(State& s, std::string_view code, std::string detail) {
  if (!reports_.report) return;
  s.calls.push_back([this, c = std::string(code), d = std::move(detail)] { reports_.report(c, d); });
}

}  // namespace orgtrail
