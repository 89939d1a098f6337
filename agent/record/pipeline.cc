#include "agent/record/pipeline.h"

#include <algorithm>
#include <utility>

#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/mutant.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/format/own_record.h"

namespace orgtrail {
namespace {

constexpr size_t kReadyBytes = 8 << 20;                    // closed batches that may wait for the disk
constexpr absl::Duration kLeastInterval = absl::Milliseconds(5);
constexpr size_t kIdempotencyKeyBytes = 1024, kPositionKeyBytes = 500;   // what the spool takes
constexpr absl::Duration kHourly = absl::Hours(1);
constexpr int64_t kClockStepNs = 1'000'000'000;

// The mistake of Mutant::kOffsetApart.
absl::Status AppendApart(Spool& spool, const Spool::Commit& commit) {
  Spool::Commit without = commit, only;
  only.positions = std::exchange(without.positions, {});
  RETURN_IF_ERROR(spool.Append(without));
  return spool.Append(only);
}

std::string ClockJson(const ClockQuality& q) {
  std::string json = "{\"clock\":{\"source\":" + JsonString(q.source);
  json += ",\"synchronised\":";
  json += q.synchronised ? "true" : "false";
  if (q.estimated_error_us >= 0) json += ",\"estimatedErrorMicroseconds\":" + std::to_string(q.estimated_error_us);
  if (q.max_error_us >= 0) json += ",\"maximumErrorMicroseconds\":" + std::to_string(q.max_error_us);
  return json + "}}";
}

}  // namespace

void Pipeline::Closed::Merge(Closed other) {
  for (SealedBatch& b : other.batches) {
    bytes += b.frame.size();
    batches.push_back(std::move(b));
  }
  for (FilePosition& p : other.positions) positions.push_back(std::move(p));
  for (auto& r : other.replies) replies.push_back(std::move(r));
}

Pipeline::Pipeline(AgentIdentity identity, const SigningKey& identity_key, Spool& spool, const PipelineOptions& options,
                   const Clock& clock, Rng& rng, Metrics& metrics)
    : identity_(std::move(identity)), identity_key_(identity_key), spool_(spool), options_(options), clock_(clock), rng_(rng),
      batch_interval_ns_(absl::ToInt64Nanoseconds(options.batch_interval)),
      heartbeat_interval_ns_(absl::ToInt64Nanoseconds(options.heartbeat_interval)),
      records_(metrics.GetCounter("orgtrail_agent_records_total", "records captured: in the spool and fsynced or about to be")),
      wrapped_(metrics.GetCounter("orgtrail_agent_records_wrapped_total",
                                  "texts that are no valid records, kept whole inside a wrapper")),
      lost_(metrics.GetCounter("orgtrail_agent_events_lost_total", "events a source lost before capture; each has a signed loss record")),
      batches_(metrics.GetCounter("orgtrail_agent_batches_total", "batches sealed, heartbeats included")),
      commit_seconds_(metrics.GetHistogram("orgtrail_agent_spool_commit_seconds",
                                           "time of one spool transaction with its fsync", Metrics::Latency())),
      batch_events_(metrics.GetHistogram("orgtrail_agent_batch_events", "events in a sealed batch",
                                         {0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 999, 1000})) {
  state_.With([&](State& s) {
    s.sealer = std::make_unique<Sealer>(identity_, identity_key_, clock_, rng_);
    s.recorder = std::make_unique<Recorder>(identity_.account, identity_.region, clock_, rng_);
    s.wall_minus_boot_ns = clock_.WallNanos() - clock_.Now().ns;
  });
}

Pipeline::~Pipeline() = default;

Seen Pipeline::SeenNow() const {
  Seen seen;
  absl::StatusOr<Pin> pin = spool_.pin();
  if (!pin.ok()) return seen;  // a batch that quotes no head is valid; the spool's next write reports the damage
  seen.size = pin->size;
  seen.root = pin->root;
  seen.policy_version = pin->policy_version;
  seen.policy_hash = pin->policy_hash;
  return seen;
}

uint16_t Pipeline::BatchFlags() const {
  uint16_t flags = 0;
  if (!clock_.Quality().synchronised) flags |= kBatchClockUnsynced;
  if (spool_.Facts().pressure) flags |= kBatchBackpressure;
  return flags;
}

absl::Status Pipeline::Open() {
  const SpoolTail tail = spool_.tail();
  EpochReason reason = EpochReason::kFirst;
  if (tail.epoch != 0) reason = tail.closed ? EpochReason::kClean : EpochReason::kUnclean;
  absl::Status opened = state_.With([&](State& s) { return OpenLocked(s, reason, tail.epoch + 1, tail); });
  RETURN_IF_ERROR(opened);
  absl::Status stored = CommitReady();
  return absl::IsResourceExhausted(stored) ? absl::OkStatus() : stored;
}

absl::StatusOr<BatchKey> Pipeline::NewEpoch(EpochReason reason, const std::optional<SpoolTail>& previous) {
  RETURN_IF_ERROR(CommitReady());
  absl::StatusOr<BatchKey> opened = state_.With([&](State& s) -> absl::StatusOr<BatchKey> {
    if (s.closing) return absl::UnavailableError("the agent is shutting down");
    if (!s.sealer->empty() || !s.open.positions.empty() || !s.open.replies.empty()) CloseBatch(s, BatchFlags());
    const uint64_t epoch = std::max(s.sealer->epoch(), previous ? previous->epoch : 0) + 1;
    SpoolTail tail;
    tail.epoch = s.sealer->epoch();
    tail.leaf = s.sealer->head();
    tail.last_seq = s.sealer->next_seq() - 1;
    tail.batch_seq = s.last_batch_seq;
    s.sealer = std::make_unique<Sealer>(identity_, identity_key_, clock_, rng_);
    RETURN_IF_ERROR(OpenLocked(s, reason, epoch, previous.value_or(tail)));
    return BatchKey{epoch, 0};
  });
  RETURN_IF_ERROR(opened.status());
  RETURN_IF_ERROR(CommitReady());
  return opened;
}

absl::Status Pipeline::OpenLocked(State& s, EpochReason reason, uint64_t epoch, const SpoolTail& previous) {
  EpochOpening opening;
  opening.reason = reason;
  opening.origin = options_.origin;
  opening.previous_epoch = previous.epoch;
  opening.previous_batch_seq = previous.batch_seq;
  opening.previous_leaf = previous.leaf;
  opening.previous_last_seq = previous.last_seq;
  opening.boot_id = clock_.BootId();
  opening.executable = options_.executable;
  opening.config = options_.config;
  opening.cert_serial = options_.cert_serial;
  const ClockQuality quality = clock_.Quality();
  opening.clock_source = quality.source;
  opening.clock_synchronised = quality.synchronised;
  if (quality.estimated_error_us >= 0) opening.clock_error_us = static_cast<uint64_t>(quality.estimated_error_us);
  ASSIGN_OR_RETURN(SealedBatch first, s.sealer->OpenEpoch(epoch, std::move(opening), SeenNow()));
  s.last_batch_seq = first.header.batch_seq;
  Closed closed;
  closed.batches.push_back(std::move(first));
  s.ready.Merge(std::move(closed));
  ++s.sealed_turn;
  batches_.Add();
  s.open_first_seq = s.sealer->next_seq();
  s.last_close = s.last_clock_note = clock_.Now();
  return absl::OkStatus();
}

bool Pipeline::Full(const State& s, bool posted) {
  return s.sealer->full() || s.sealer->pending_events() + s.posted.size() + (posted ? 1 : 0) >= limits::kBatchEvents;
}

void Pipeline::NotePosted(State& s, std::string_view by, uint64_t seq) {
  if (by.empty()) return;
  auto it = std::find_if(s.posted.begin(), s.posted.end(), [&](const Posted& p) { return p.by == by; });
  if (it == s.posted.end()) it = s.posted.insert(it, Posted{std::string(by), 0, {}});
  ++it->records;
  if (it->ranges.empty() || it->ranges.back().second + 1 != seq) it->ranges.emplace_back(seq, seq);
  it->ranges.back().second = seq;
}

void Pipeline::CloseBatch(State& s, uint16_t flags) {
  for (const Posted& p : std::exchange(s.posted, {})) {
    std::string details = "{\"postedBy\":" + JsonString(p.by) + ",\"records\":" + std::to_string(p.records) + ",\"ranges\":[";
    for (const auto& [first, last] : p.ranges) {
      if (details.back() == ']') details += ',';
      details += "[" + std::to_string(first) + "," + std::to_string(last) + "]";
    }
    SealOwn(s, EventClass::kOwn, "RecordsPosted", details + "]}");
  }
  absl::StatusOr<std::vector<SealedBatch>> closed = s.sealer->Close(flags, SeenNow());
  CHECK_OK(closed.status());  // sealing touches neither disk nor network
  s.open_lost = 0;
  s.open.batches = *std::move(closed);
  for (const SealedBatch& b : s.open.batches) {
    s.last_batch_seq = b.header.batch_seq;
    batches_.Add();
    batch_events_.Observe(b.header.n_events);
  }
  s.ready.Merge(std::exchange(s.open, {}));
  ++s.sealed_turn;
  s.open_first_seq = s.sealer->next_seq();
  s.last_close = clock_.Now();
}

absl::Status Pipeline::CheckChunk(const RawChunk& chunk) {
  for (const FilePosition& p : chunk.positions) {
    if (p.key.empty() || p.key.size() > kPositionKeyBytes) return absl::InvalidArgumentError("a file position's key has 1 to 500 bytes");
  }
  const auto too_long = [](std::string_view key) { return key.size() > kIdempotencyKeyBytes; };
  bool keys_fit = !too_long(chunk.idempotency_key);
  for (const auto& [key, reply] : chunk.replies) keys_fit &= !too_long(key);
  return keys_fit ? absl::OkStatus() : absl::InvalidArgumentError("an idempotency key has at most 1,024 bytes");
}

absl::StatusOr<Taken> Pipeline::Take(const RawChunk& chunk) {
  RETURN_IF_ERROR(CheckChunk(chunk));
  struct Outcome {
    absl::Status status;
    Taken taken;
    uint64_t turn = 0;  // the close that covers this chunk
  };
  const auto may_enter = [](const State& s) { return s.closing || s.refusing || !s.ended.empty() || s.ready.bytes < kReadyBytes; };
  Outcome outcome = state_.When(
      [&](const State& s) { return chunk.sync || may_enter(s); },
      [&](State& s) -> Outcome {
        if (s.closing) return {absl::UnavailableError("the agent is shutting down; send again when it is back"), {}, 0};
        if (!s.ended.empty()) return {absl::ResourceExhaustedError(ToAbsl(s.ended)), {}, 0};
        if (s.refusing || s.ready.bytes >= kReadyBytes) {
          return {absl::ResourceExhaustedError("the spool is full: records wait for the aggregator to take what is stored, or for "
                                               "disk space; nothing of this was taken, send it again later"), {}, 0};
        }
        bool known = !chunk.idempotency_key.empty() && s.keys.contains(chunk.idempotency_key);
        for (const auto& [key, reply] : chunk.replies) known |= s.keys.contains(key);
        if (known) return {absl::UnavailableError("an earlier request with the same key is still being stored; send it again"), {}, 0};
        Outcome out;
        size_t bytes = 0;
        for (std::string_view text : chunk.texts) bytes += text.size();
        const bool posted = !chunk.posted_by.empty();
        const uint64_t open_events = s.sealer->next_seq() - s.open_first_seq + s.posted.size() + (posted ? 1 : 0);
        if (open_events + chunk.texts.size() > limits::kBatchEvents || s.sealer->pending_bytes() + bytes > limits::kBatchBytes) {
          if (!s.sealer->empty()) CloseBatch(s, BatchFlags());  // a chunk that fits a batch is not spread over two
        }
        bool split = false;  // a batch closed within this chunk
        const auto close_when_full = [&] {
          if (!Full(s, posted)) return;
          CloseBatch(s, BatchFlags());
          split = true;
        };
        for (std::string_view text : chunk.texts) {
          close_when_full();
          const StampedRecord& record = s.recorder->Stamp(text, chunk.cut);
          const uint64_t seq = s.sealer->Add(record.event_class, static_cast<uint16_t>(record.flags | (chunk.sync ? kFlagSync : 0)),
                                             record.body);
          NotePosted(s, chunk.posted_by, seq);
          if (out.taken.first_seq == 0) out.taken.first_seq = seq;
          if (chunk.sync) out.taken.event_ids.emplace_back(record.event_id);
          if (record.flags & kFlagWrapped) ++out.taken.wrapped;
          for (const std::string& piece : record.chunks) {
            close_when_full();
            s.sealer->Add(EventClass::kChunk, 0, piece);
          }
        }
        out.taken.accepted = chunk.texts.size();
        for (const FilePosition& p : chunk.positions) s.open.positions.push_back(p);
        if (!chunk.idempotency_key.empty()) s.open.replies.emplace_back(chunk.idempotency_key, chunk.idempotent_reply);
        for (const auto& reply : chunk.replies) s.open.replies.push_back(reply);
        for (const auto& [key, reply] : s.open.replies) s.keys.insert(key);
        // A chunk that began in a closed batch ends in one too: its position and reply must be in the commit that stores its first
        // record, or a crash between two commits would take that part again.
        if (split || Full(s, false)) CloseBatch(s, BatchFlags());
        s.sync_waits |= chunk.sync;
        out.turn = s.sealer->empty() && s.open.positions.empty() && s.open.replies.empty() ? s.sealed_turn : s.sealed_turn + 1;
        return out;
      });
  RETURN_IF_ERROR(outcome.status);
  records_.Add(static_cast<double>(outcome.taken.accepted));
  if (outcome.taken.wrapped != 0) wrapped_.Add(static_cast<double>(outcome.taken.wrapped));
  if (!chunk.sync) {
    if (poke_) poke_();
    return outcome.taken;
  }
  if (!AwaitCommit(outcome.turn).ok()) {
    return absl::UnavailableError("the spool did not store this in time; it may still: send it again with the same "
                                  "Idempotency-Key, or the same ids");
  }
  return outcome.taken;
}

absl::StatusOr<std::vector<FilePosition>> Pipeline::Positions() { return spool_.Positions(); }

absl::StatusOr<std::string> Pipeline::IdempotentReply(std::string_view key) {
  const bool settled = state_.WhenFor(
      options_.sync_limit, [&](const State& s) { return !s.keys.contains(key) || s.refusing; },
      [&](State& s, bool) { return !s.keys.contains(key); });
  if (!settled) return absl::UnavailableError("an earlier request with the same key is still being stored; send it again");
  return spool_.Reply(key);
}

void Pipeline::AddOwn(State& s, EventClass event_class, std::string_view name, std::string details) {
  if (Full(s, false)) CloseBatch(s, BatchFlags());
  SealOwn(s, event_class, name, std::move(details));
}

void Pipeline::SealOwn(State& s, EventClass event_class, std::string_view name, std::string details) {
  OwnRecord record;
  record.name = name;
  record.time = clock_.Wall();
  record.account = identity_.account;
  record.region = identity_.region;
  record.details = std::move(details);
  s.sealer->Add(event_class, 0, record.ToJson(Uuid::Random(rng_)));
}

void Pipeline::Note(std::string_view name, std::string details, EventClass event_class, const std::string& once) {
  if (!once.empty() && spool_.Reply(once).ok()) return;
  state_.With([&](State& s) {
    if (s.closing || (!once.empty() && s.keys.contains(once))) return;
    AddOwn(s, event_class, name, std::move(details));
    if (once.empty()) return;
    s.open.replies.emplace_back(once, "done");
    s.keys.insert(once);
  });
  if (poke_) poke_();
}

void Pipeline::Lost(std::string_view source, std::string_view cause, uint32_t count, std::string_view detail) {
  if (count == 0) return;
  lost_.Add(count);
  LogWarn("events lost at the source", {{"source", std::string(source)}, {"cause", std::string(cause)},
                                        {"count", std::to_string(count)}, {"detail", std::string(detail)}});
  state_.With([&](State& s) {
    if (s.closing) return;
    // The loss and its record stay in one batch, whose count of losses has 32 bits.
    if (Full(s, false) || count > UINT32_MAX - s.open_lost) CloseBatch(s, BatchFlags());
    s.open_lost += count;
    const uint64_t first = s.sealer->next_seq();
    s.sealer->Lose(count);
    std::string details = "{\"cause\":" + JsonString(cause) + ",\"count\":" + std::to_string(count) +
                          ",\"firstSequence\":" + std::to_string(first) +
                          ",\"lastSequence\":" + std::to_string(first + (count - 1)) + ",\"source\":" + JsonString(source) +
                          ",\"detail\":" + JsonString(detail) + "}";
    AddOwn(s, EventClass::kLoss, "Loss", std::move(details));
  });
  if (poke_) poke_();
}

absl::Status Pipeline::Recover(const BatchHeader& from, const std::vector<Row>& rows, BatchKey opened) {
  const std::string key = absl::StrCat("recovered:", from.epoch, ":", from.batch_seq, ":for:", opened.epoch);
  const absl::StatusOr<std::string> before = spool_.Reply(key);
  if (before.ok()) return absl::OkStatus();
  if (!absl::IsNotFound(before.status())) return before.status();
  uint64_t turn = 0;
  const absl::Status sealed = state_.When(
      [](const State& s) { return s.closing || s.refusing || s.ready.bytes < kReadyBytes; },
      [&](State& s) -> absl::Status {
        if (s.closing) return absl::UnavailableError("the agent is shutting down");
        if (s.refusing) return absl::ResourceExhaustedError("the spool is full");
        if (!s.sealer->empty() || !s.open.positions.empty() || !s.open.replies.empty()) CloseBatch(s, BatchFlags());
        AddOwn(s, EventClass::kOwn, kRecovered,
               absl::StrCat("{\"epoch\":", from.epoch, ",\"batch\":", from.batch_seq, ",\"firstSequence\":", from.first_seq, ",\"lastSequence\":",
                            from.last_seq, ",\"records\":", rows.size(), ",\"newFirstSequence\":", s.sealer->next_seq() + 1, ",\"closed\":\"",
                            ToAbsl(Rfc3339(absl::FromUnixNanos(static_cast<int64_t>(from.wall_close_ns)), 9)), "\"}"));
        for (const Row& row : rows) {
          if (Full(s, false)) CloseBatch(s, BatchFlags());
          s.sealer->Add(static_cast<EventClass>(row.event_class), static_cast<uint16_t>(row.flags | kFlagRecovered), row.body);
        }
        s.open.replies.emplace_back(key, "done");
        s.keys.insert(key);
        CloseBatch(s, BatchFlags());   // all of it waits for one commit: nobody took what closed meanwhile
        turn = s.sealed_turn;
        return absl::OkStatus();
      });
  RETURN_IF_ERROR(sealed);
  return AwaitCommit(turn);
}

absl::Status Pipeline::Flush() {
  return AwaitCommit(state_.With([&](State& s) {
    if (!s.sealer->empty() || !s.open.positions.empty() || !s.open.replies.empty()) CloseBatch(s, BatchFlags());
    return s.sealed_turn;
  }));
}

absl::Status Pipeline::AwaitCommit(uint64_t turn) {
  if (poke_) poke_();
  const bool committed = state_.WhenFor(
      options_.sync_limit, [&](const State& s) { return s.committed_turn >= turn || s.refusing; },
      [&](State& s, bool) { return s.committed_turn >= turn; });
  return committed ? absl::OkStatus() : absl::ResourceExhaustedError("the spool did not store it in time");
}

void Pipeline::Refuse(std::string why) {
  state_.With([&](State& s) { s.ended = std::move(why); });
}

void Pipeline::SetIntervals(absl::Duration batch, absl::Duration heartbeat) {
  if (batch > absl::ZeroDuration()) {
    batch_interval_ns_ = absl::ToInt64Nanoseconds(std::clamp(batch, kLeastInterval, absl::Seconds(1)));
  }
  if (heartbeat > absl::ZeroDuration()) {
    heartbeat_interval_ns_ = absl::ToInt64Nanoseconds(std::clamp(heartbeat, absl::Seconds(1), absl::Seconds(60)));
  }
}

void Pipeline::WatchClock(State& s, Tick now) {
  const int64_t offset = clock_.WallNanos() - clock_.Now().ns;
  const int64_t step = offset - s.wall_minus_boot_ns;
  if (step > kClockStepNs || step < -kClockStepNs) {
    s.wall_minus_boot_ns = offset;
    AddOwn(s, EventClass::kOwn, "ClockStep", "{\"stepNanoseconds\":" + std::to_string(step) + "}");
    LogWarn("the wall clock was set", {{"step_ms", std::to_string(step / 1'000'000)}});
  } else {
    s.wall_minus_boot_ns += step / 8;  // slewing by a time service is no step
  }
  if (now - s.last_clock_note >= kHourly) {
    s.last_clock_note = now;
    AddOwn(s, EventClass::kOwn, "ClockQuality", ClockJson(clock_.Quality()));
  }
}

Tick Pipeline::Step(Tick now) {
  const absl::Duration interval = absl::Nanoseconds(batch_interval_ns_.load());
  const absl::Duration beat = absl::Nanoseconds(heartbeat_interval_ns_.load());
  const uint16_t flags = BatchFlags();
  Tick due = state_.With([&](State& s) {
    if (s.closing) return Tick::Never();
    WatchClock(s, now);
    const absl::Duration since = now - s.last_close;
    const bool waiting = !s.sealer->empty() || !s.open.positions.empty() || !s.open.replies.empty();
    const absl::Duration wait = s.sync_waits ? kLeastInterval : interval;
    if (waiting && since >= wait) {
      s.sync_waits = false;
      CloseBatch(s, flags);
      return now + interval;
    }
    if (since >= beat && s.ready.batches.empty() && s.ended.empty()) {
      CloseBatch(s, flags);
      return now + beat;
    }
    return waiting ? s.last_close + wait : std::min(s.last_close + beat, now + absl::Seconds(1));
  });
  absl::Status committed = CommitReady();
  if (absl::IsResourceExhausted(committed)) return now + absl::Seconds(1);
  CHECK_OK(committed);
  return std::min(due, clock_.Now() + absl::Seconds(1));
}

absl::Status Pipeline::CommitReady() {
  std::lock_guard one_at_a_time(committing_);
  uint64_t turn = 0;
  Closed group = state_.With([&](State& s) {
    turn = s.sealed_turn;
    Closed taken = std::exchange(s.ready, {});
    s.ready.bytes = taken.bytes;  // still counted against the bound until it is on disk
    return taken;
  });
  if (group.batches.empty()) {
    return absl::OkStatus();
  }
  Spool::Commit commit;
  for (const SealedBatch& b : group.batches) commit.batches.push_back(&b);
  commit.positions = group.positions;
  commit.replies = group.replies;
  const Tick before = clock_.Now();
  absl::Status stored = Planted(Mutant::kOffsetApart) ? AppendApart(spool_, commit) : spool_.Append(commit);
  const size_t bytes = group.bytes;
  if (!stored.ok()) {
    state_.With([&](State& s) {  // put back in front, in order
      s.ready.bytes -= bytes;
      Closed later = std::exchange(s.ready, std::move(group));
      s.ready.Merge(std::move(later));
      if (!s.refusing) LogError("the spool cannot store", {{"error", std::string(stored.message())}});
      s.refusing = true;
    });
    return stored;
  }
  commit_seconds_.Observe(absl::ToDoubleSeconds(clock_.Now() - before));
  state_.With([&](State& s) {
    s.ready.bytes -= bytes;
    s.sealer->Committed();
    s.committed_turn = std::max(s.committed_turn, turn);
    for (const auto& [key, reply] : group.replies) s.keys.erase(key);
    if (s.refusing) LogInfo("the spool stores again");
    s.refusing = false;
  });
  return absl::OkStatus();
}

absl::Status Pipeline::Close(bool retire) {
  const uint16_t flags = static_cast<uint16_t>(BatchFlags() | (retire ? kBatchRetired : 0));
  absl::Status sealed = state_.With([&](State& s) -> absl::Status {
    if (s.closing) return absl::OkStatus();
    s.closing = true;
    if (!s.sealer->empty() || !s.open.positions.empty() || !s.open.replies.empty()) CloseBatch(s, BatchFlags());
    ASSIGN_OR_RETURN(std::vector<SealedBatch> last, s.sealer->CloseEpoch(flags, SeenNow()));
    Closed closed;
    closed.batches = std::move(last);
    s.ready.Merge(std::move(closed));
    ++s.sealed_turn;
    return absl::OkStatus();
  });
  RETURN_IF_ERROR(sealed);
  return CommitReady();
}

}  // namespace orgtrail
