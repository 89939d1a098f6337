#include "aggregator/own/own_agent.h"

#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kCommitLimit = absl::Seconds(10);
constexpr absl::Duration kLeastInterval = absl::Milliseconds(5);
constexpr size_t kWaitingFrames = 64;
constexpr uint64_t kJournalBytes = 64 << 20;

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
  own->state_.With([&](State& s) {
    const std::string journal = JoinPath(options.dir, "journal.ndjson");
    if (fs.Facts(journal).ok()) s.journal = journal;
  });
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
  for (SealedBatch& b : *closed) s.waiting.push_back(std::move(b.frame));
  s.sealer->Committed();
  s.sealed_seq = s.sealer->next_seq() - 1;
  s.last_close = clock_.Now();
}

void OwnAgent::SubmitWaiting(State& s) {
  size_t sent = 0;
  for (; sent < s.waiting.size(); ++sent) {
    if (!submit_(s.waiting[sent]).ok()) break;  // the verifier's inbox is full: the worker tries again
  }
  s.waiting.erase(s.waiting.begin(), s.waiting.begin() + static_cast<ptrdiff_t>(sent));
}

absl::Status OwnAgent::Journal(std::string_view json) {
  const std::string path = JoinPath(options_.dir, "journal.ndjson");
  absl::StatusOr<FileFacts> facts = fs_.Facts(path);
  if (facts.ok() && facts->size > kJournalBytes) {
    return absl::ResourceExhaustedError("the ledger cannot write and the local journal of reads is full: free disk space");
  }
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs_.Open(path, OpenMode::kAppend, 0600));
  RETURN_IF_ERROR(file->Append(std::string(json) + "\n"));
  RETURN_IF_ERROR(file->Sync());
  state_.With([&](State& s) { s.journal = path; });
  return absl::OkStatus();
}

void OwnAgent::ReplayJournal(State& s) {
  if (s.journal.empty() || committer_.held()) return;
  absl::StatusOr<std::string> text = ReadFile(fs_, s.journal, kJournalBytes * 2);
  if (!text.ok()) {
    LogError("the journal of reads cannot be read", {{"error", Describe(text.status())}});
    return;
  }
  std::string_view rest = *text;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) break;  // torn tail: was never answered
    if (s.sealer->full()) CloseBatch(s);
    s.sealer->Add(EventClass::kOwn, 0, rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  if (absl::Status removed = fs_.Remove(s.journal); !removed.ok()) {
    LogError("the journal of reads cannot be removed; its records will be logged again", {{"error", Describe(removed)}});
  }
  s.journal.clear();
}

absl::StatusOr<std::string> OwnAgent::Record(OwnRecord record) {
  const Uuid id = Uuid::Random(rng_);
  const std::string json = record.ToJson(id);
  if (committer_.held()) {
    if (!options_.journal_when_full) {
      return absl::ResourceExhaustedError("this read cannot be logged because the ledger's disk is full, and reads: refuse is set");
    }
    RETURN_IF_ERROR(Journal(json));
    return id.ToString();
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
  const bool committed = state_.WhenFor(
      kCommitLimit, [&](const State& s) { return s.committed_seq >= seq; }, [](State&, bool is_ready) { return is_ready; });
  if (!committed) return absl::UnavailableError("this read could not be logged within 10 s, so it was not answered; try again");
  return id.ToString();
}

void OwnAgent::Post(OwnRecord record) {
  const std::string json = record.ToJson(Uuid::Random(rng_));
  state_.With([&](State& s) {
    if (!s.started || s.closed) return;
    if (s.sealer->full()) CloseBatch(s);
    s.sealer->Add(EventClass::kOwn, 0, json);
  });
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
        s.has_committed_close = head->closed;
      }
    });
    return;
  }
}

Tick OwnAgent::Step(Tick now) {
  return state_.With([&](State& s) {
    if (!s.started || s.closed) return Tick::Never();
    ReplayJournal(s);
    const absl::Duration since = now - s.last_close;
    if (!s.sealer->empty() && since >= kLeastInterval) {
      CloseBatch(s);
    } else if (s.sealer->empty() && since >= options_.heartbeat_interval) {
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
  const bool committed = state_.WhenFor(
      kCommitLimit, [](const State& s) { return s.has_committed_close; }, [](State&, bool is_ready) { return is_ready; });
  return committed ? absl::OkStatus()
                   : absl::UnavailableError("the own agent's last batch was not logged; its next epoch will say unclean");
}

}  // namespace orgtrail
