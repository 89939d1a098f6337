#include "aggregator/own/own_agent.h"

#include <utility>
#include <vector>

#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kCommitLimit = absl::Seconds(10);
constexpr absl::Duration kLeastInterval = absl::Milliseconds(5);
constexpr size_t kWaitingFrames = 64;

}  // namespace

OwnAgent::OwnAgent(const OwnAgentOptions& options, const LedgerReader& ledger, const Committer& committer, Fs& fs,
                   const Clock& clock, Rng& rng)
    : options_(options), ledger_(ledger), committer_(committer), fs_(fs), clock_(clock), rng_(rng) {}

OwnAgent::~OwnAgent() = default;

absl::StatusOr<std::unique_ptr<OwnAgent>> OwnAgent::Open(const OwnAgentOptions& options, const LedgerReader& ledger,
                                                         const Committer& committer, Fs& fs, const Clock& clock, Rng& rng) {
  std::unique_ptr<OwnAgent> own(new OwnAgent(options, ledger, committer, fs, clock, rng));
  RETURN_IF_ERROR(fs.MakeDirs(options.dir, 0700));
  const std::string key_path = JoinPath(options.dir, "identity.pem");
  const std::string uuid_path = JoinPath(options.dir, "uuid");
  absl::StatusOr<std::string> pem = ReadFile(fs, key_path);
  if (absl::IsNotFound(pem.status())) {
    own->key_ = SigningKey::Generate(rng);
    RETURN_IF_ERROR(WriteFileAtomically(fs, uuid_path, Uuid::Random(rng).ToString() + "\n", 0600));
    RETURN_IF_ERROR(WriteFileAtomically(fs, key_path, own->key_.ToPem(), 0600));
  } else {
    RETURN_IF_ERROR(pem.status());
    ASSIGN_OR_RETURN(own->key_, SigningKey::FromPem(*pem));
  }
  ASSIGN_OR_RETURN(std::string text, ReadFile(fs, uuid_path));
  std::optional<Uuid> uuid = Uuid::Parse(std::string_view(text).substr(0, 36));
  if (!uuid) return absl::DataLossError(absl::StrCat(uuid_path, ": not a uuid; restore the file from a backup"));
  own->identity_ = AgentIdentity{*uuid, options.org, options.account, options.region, "aggregator"};
  return own;
}

Seen OwnAgent::SeenNow() const {
  const SignedHead head = ledger_.head();
  Seen seen;
  seen.size = head.size;
  seen.root = head.root;
  return seen;
}

absl::Status OwnAgent::Start(std::function<absl::Status(std::string)> submit) {
  submit_ = std::move(submit);
  const std::optional<AgentHead> head = ledger_.HeadOf(identity_.uuid);
  const auto logged = [this](const OwnJournal::Batch& b) { return ledger_.Find({identity_.uuid, b.epoch, b.batch_seq}).has_value(); };
  ASSIGN_OR_RETURN(journal_, OwnJournal::Open(fs_, options_.dir, head, logged));
  if (options_.journal_when_full) {
    if (absl::Status reserved = journal_->Reserve(); !reserved.ok() && !absl::IsUnimplemented(reserved)) {
      LogWarn("the journal of reads has no room of its own; when the disk is full reads are refused", {{"error", Describe(reserved)}});
    }
  }
  return state_.With([&](State& s) -> absl::Status {
    s.sealer = std::make_unique<Sealer>(identity_, key_, clock_, rng_);
    EpochOpening opening;
    opening.origin = options_.origin;
    opening.boot_id = clock_.BootId();
    opening.executable = options_.executable;
    opening.config = options_.config;
    const ClockQuality quality = clock_.Quality();
    opening.clock_source = quality.source;
    opening.clock_synchronised = quality.synchronised;
    if (quality.estimated_error_us >= 0) opening.clock_error_us = static_cast<uint64_t>(quality.estimated_error_us);
    uint64_t epoch = 1;
    if (head) {
      epoch = head->epoch + 1;
      opening.reason = head->closed ? EpochReason::kClean : EpochReason::kUnclean;
      opening.previous_epoch = head->epoch;
      opening.previous_batch_seq = head->batch_seq;
      opening.previous_leaf = head->leaf;
      opening.previous_last_seq = head->last_seq;
    }
    ASSIGN_OR_RETURN(SealedBatch first, s.sealer->OpenEpoch(epoch, std::move(opening), SeenNow()));
    s.waiting.push_back(std::move(first.frame));
    s.started = true;
    s.last_close = clock_.Now();
    SubmitWaiting(s);
    return absl::OkStatus();
  });
}

void OwnAgent::CloseBatch(State& s) {
  absl::StatusOr<std::vector<SealedBatch>> closed = s.sealer->Close(0, SeenNow());
  CHECK_OK(closed.status());
  for (SealedBatch& b : *closed) {
    s.uncommitted.push_back({b.header.last_seq, b.header.batch_seq});
    s.waiting.push_back(std::move(b.frame));
  }
  s.sealer->Committed();
  s.sealed_seq = s.sealer->next_seq() - 1;
  s.last_close = clock_.Now();
}

void OwnAgent::SubmitWaiting(State& s) {
  if (s.hold_frames) return;
  size_t sent = 0;
  for (; sent < s.waiting.size(); ++sent) {
    if (!submit_(s.waiting[sent]).ok()) break;  // the verifier's inbox is full: the worker tries again
  }
  s.waiting.erase(s.waiting.begin(), s.waiting.begin() + static_cast<ptrdiff_t>(sent));
}

// Records that were journalled go into the chain piece by piece; the next piece when the ledger has the last one.
void OwnAgent::ReplayJournal() {
  if (journal_ == nullptr || journal_->empty() || committer_.held()) return;
  if (replayed_seq_ != 0) {
    if (state_.Peek([](const State& s) { return s.committed_seq; }) < replayed_seq_) return;
    replayed_seq_ = 0;
    if (absl::Status done = journal_->Done(); !done.ok()) LogError("the journal of reads cannot be removed", {{"error", Describe(done)}});
  }
  // What waited for the disk when it was journalled goes first: then it is known whether the ledger has it.
  if (state_.Peek([](const State& s) { return s.committed_seq < s.journalled_seq; })) return;
  absl::StatusOr<std::vector<std::string>> lines = journal_->Next();
  if (!lines.ok()) {
    LogError("the journal of reads cannot be read", {{"error", Describe(lines.status())}});
    return;
  }
  if (lines->empty()) return;
  uint64_t epoch = 0, first = 0;
  const bool added = state_.With([&](State& s) {
    if (s.closed) return false;
    s.hold_frames = true;
    epoch = s.sealer->epoch();
    first = s.sealer->next_seq();
    for (const std::string& line : *lines) {
      if (s.sealer->full()) CloseBatch(s);
      s.sealer->Add(EventClass::kOwn, 0, line);
    }
    return true;
  });
  if (!added) return;  // the next start replays them
  replayed_seq_ = first + lines->size() - 1;
  if (absl::Status begun = journal_->Begin(epoch, first); !begun.ok()) {
    LogWarn("the journal of reads cannot be marked; a crash now would log its records twice", {{"error", Describe(begun)}});
  }
  state_.With([](State& s) { s.hold_frames = false; });
}

absl::StatusOr<std::string> OwnAgent::Record(OwnRecord record) {
  const Uuid id = Uuid::Random(rng_);
  const std::string json = record.ToJson(id);
  if (json.size() > limits::kRecordInlineBytes) return absl::InvalidArgumentError("what was asked is too long to be logged: at most 1 MiB");
  if (committer_.held() && journal_ != nullptr) {
    return Journal(id, json, std::nullopt);
  }
  uint64_t seq = 0;
  const bool open = state_.With([&](State& s) {
    if (!s.started || s.closed || s.waiting.size() > kWaitingFrames) return false;
    if (s.sealer->full()) CloseBatch(s);
    seq = s.sealer->Add(EventClass::kOwn, 0, json);
    return true;
  });
  if (!open) return absl::UnavailableError("the aggregator is starting, stopping or overloaded; try again");
  if (poke_) poke_();
  enum class End { kCommitted, kHeld, kLate };
  const End end = state_.WhenFor(
      kCommitLimit, [&](const State& s) { return s.committed_seq >= seq || s.held; },
      [&](State& s, bool) { return s.committed_seq >= seq ? End::kCommitted : s.held ? End::kHeld : End::kLate; });
  if (end == End::kHeld) return Journal(id, json, seq);
  if (end == End::kLate) return absl::UnavailableError("this read could not be logged within 10 s, so it was not answered; try again");
  return id.ToString();
}

// The record of a read that the ledger cannot take. `seq`: it is in the chain already, and its batch waits for the disk too.
absl::StatusOr<std::string> OwnAgent::Journal(const Uuid& id, std::string_view json, std::optional<uint64_t> seq) {
  if (!options_.journal_when_full) {
    return absl::ResourceExhaustedError("this read cannot be logged because the ledger's disk is full, and reads: refuse is set");
  }
  std::optional<OwnJournal::Batch> waiting;
  if (seq) {
    state_.With([&](State& s) {
      if (s.sealed_seq < *seq) CloseBatch(s);
      for (const State::Closed& c : s.uncommitted) {
        if (c.last_seq < *seq) continue;
        waiting = OwnJournal::Batch{s.sealer->epoch(), c.batch_seq};
        s.journalled_seq = std::max(s.journalled_seq, *seq);
        break;
      }
    });
    if (poke_) poke_();
    if (!waiting) return id.ToString();   // committed meanwhile
  }
  RETURN_IF_ERROR(journal_->Append(json, waiting));
  return id.ToString();
}

void OwnAgent::Held(bool held) {
  state_.With([&](State& s) { s.held = held; });
  if (poke_) poke_();
}

void OwnAgent::Post(OwnRecord record) {
  const std::string json = record.ToJson(Uuid::Random(rng_));
  const bool gave_up = state_.With([&](State& s) {
    if (!s.started || s.closed) return false;
    const bool room = s.waiting.size() <= kWaitingFrames && json.size() <= limits::kRecordInlineBytes;
    if (!room) return !std::exchange(s.gave_up, true);
    s.gave_up = false;
    if (s.sealer->full()) CloseBatch(s);
    s.sealer->Add(EventClass::kOwn, 0, json);
    return false;
  });
  if (gave_up) LogError("orgtrail's own records are not logged: the ledger takes none", {{"first", json.substr(0, 1000)}});
  if (poke_) poke_();
}

void OwnAgent::Committed(const Flush& flush) {
  for (const CommittedLeaf& leaf : flush.batches) {
    if (leaf.batch.uuid != identity_.uuid) continue;
    const std::optional<AgentHead> head = ledger_.HeadOf(identity_.uuid);
    if (!head) continue;
    state_.With([&](State& s) {
      if (s.sealer && head->epoch == s.sealer->epoch()) {
        s.committed_seq = head->last_seq;
        while (!s.uncommitted.empty() && s.uncommitted.front().batch_seq <= head->batch_seq) s.uncommitted.pop_front();
        s.has_committed_close = head->closed;
      }
    });
    return;
  }
}

Tick OwnAgent::Step(Tick now) {
  if (state_.Peek([](const State& s) { return s.started && !s.closed; })) ReplayJournal();
  return state_.With([&](State& s) {
    if (!s.started) return Tick::Never();
    if (s.closed) {  // what the verifier had no room for, last words among it
      SubmitWaiting(s);
      return s.waiting.empty() ? Tick::Never() : now + absl::Milliseconds(20);
    }
    const absl::Duration since = now - s.last_close;
    // While frames or the disk wait the open batch grows instead, and nobody needs a heartbeat.
    if (s.held) {
      if (s.sealer->full()) CloseBatch(s);
    } else if (!s.sealer->empty() && since >= kLeastInterval && (s.waiting.empty() || s.sealer->full())) {
      CloseBatch(s);
    } else if (s.sealer->empty() && s.waiting.empty() && since >= options_.heartbeat_interval) {
      CloseBatch(s);
    }
    SubmitWaiting(s);
    if (!s.waiting.empty()) return now + absl::Milliseconds(20);
    if (!s.sealer->empty()) return s.last_close + kLeastInterval;
    return std::min(s.last_close + options_.heartbeat_interval, now + absl::Seconds(1));
  });
}

absl::Status OwnAgent::Close() {
  const bool sealed = state_.With([&](State& s) {
    if (!s.started || s.closed) return false;
    if (!s.sealer->empty()) CloseBatch(s);
    absl::StatusOr<std::vector<SealedBatch>> last = s.sealer->CloseEpoch(0, SeenNow());
    CHECK_OK(last.status());
    for (SealedBatch& b : *last) s.waiting.push_back(std::move(b.frame));
    s.closed = true;
    SubmitWaiting(s);
    return true;
  });
  if (!sealed) return absl::OkStatus();
  if (poke_) poke_();
  const bool committed = state_.WhenFor(
      kCommitLimit, [](const State& s) { return s.has_committed_close || s.held; }, [](State& s, bool) { return s.has_committed_close; });
  return committed ? absl::OkStatus()
                   : absl::UnavailableError("the own agent's last batch was not logged; its next epoch will say unclean");
}

}  // namespace orgtrail
