#include "aggregator/ingest/session.h"

#include <algorithm>
#include <unordered_set>

#include "aggregator/ingest/pace.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/merkle/tree.h"
#include "orgtrail/v1/ingest.pb.h"

namespace orgtrail {
namespace {

constexpr size_t kRequestOverhead = 64;            // protobuf's tag and length around a frame
constexpr size_t kRunBytes = 16;
constexpr size_t kHelloBytes = 4096;
constexpr size_t kReceiptLeaves = 2048;            // paths of 27 hashes: 1.8 MB at most
constexpr size_t kUnsentLeaves = 65536;            // an agent that far behind with its receipts is cut off
constexpr size_t kUnsentRefusals = 64;
constexpr size_t kRecoveries = 16;                 // shown to an agent: the newest
constexpr absl::Duration kIdle = absl::Seconds(30);
// While the ledger is full: agents pause for so long, and are told again well before it is over.
constexpr absl::Duration kPause = absl::Seconds(10), kPauseAgain = absl::Seconds(4);

std::string Bytes(const Hash& hash) { return std::string(hash.view()); }

// A PushRequest whose only field is `frame` is cut in place: its megabyte is not copied through a parser. Anything else is left.
bool CutFrame(std::string& message) {
  if (message.empty() || message[0] != 0x12) return false;   // field 2, length-delimited
  uint64_t length = 0;
  size_t at = 1;
  for (int shift = 0; shift < 35; shift += 7) {
    if (at >= message.size()) return false;
    const uint8_t byte = static_cast<uint8_t>(message[at++]);
    length |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) {
      if (length != message.size() - at) return false;
      message.erase(0, at);
      return true;
    }
  }
  return false;
}

}  // namespace

Sessions::Sessions(const SessionOptions& options, const LedgerReader& ledger, const Registry& registry, Streams& streams,
                   Findings findings, const Clock& clock, Metrics& metrics)
    : options_(options),
      ledger_(ledger),
      registry_(registry),
      streams_(streams),
      findings_(std::move(findings)),
      clock_(clock),
      metrics_(metrics),
      head_(ledger.head()),
      interval_ms_(options.least_interval_ms),
      receipts_(metrics.GetCounter("orgtrail_ingest_receipts_total", "Receipts sent; each proves the batches of one flush to one agent.")),
      receipt_leaves_(metrics.GetCounter("orgtrail_ingest_receipt_batches_total", "Batches proven to their agents.")),
      receipt_seconds_(metrics.GetHistogram("orgtrail_ingest_receipt_seconds", "Time to build one receipt.", Metrics::Latency())),
      open_gauge_(metrics.GetGauge("orgtrail_ingest_streams", "Agents' streams open now.")),
      interval_gauge_(metrics.GetGauge("orgtrail_ingest_batch_interval_seconds",
                                       "How often agents are told to close batches; over the configured value verification is busy.")) {
}

Sessions::~Sessions() = default;

// --- the door's side ----------------------------------------------------------------------------------------------------------

absl::StatusOr<StreamId> Sessions::Open(Caller caller) {
  if (caller.identity.kind != Identity::Kind::kAgent) {
    return absl::PermissionDeniedError("IDENTITY_MISMATCH only an agent's certificate brings batches");
  }
  RETURN_IF_ERROR(registry_.Admit(caller.identity, caller.serial));
  const std::string uri = caller.identity.ToUri();
  const Tick now = clock_.Now();
  StreamId replaced = 0;
  absl::StatusOr<StreamId> opened = state_.With([&](State& s) -> absl::StatusOr<StreamId> {
    if (s.shut) return absl::UnavailableError("the aggregator is shutting down");
    int& mine = s.per_identity[uri];
    if (mine >= options_.streams_per_identity) {
      // A stream that died without a word holds its place until keepalive notices: the one silent for longest gives way.
      Tick oldest = Tick::Never();
      for (auto& [id, session] : s.sessions) {
        if (session.doomed || session.caller->identity.ToUri() != uri || now - session.heard < kIdle || session.heard >= oldest) continue;
        oldest = session.heard;
        replaced = id;
      }
      if (replaced == 0) return absl::ResourceExhaustedError("RATE_LIMIT this identity has its streams open already");
      s.sessions[replaced].doomed = true;
      --mine;
    }
    ++mine;
    const StreamId id = s.next++;
    Session session;
    session.caller = std::make_shared<const Caller>(std::move(caller));
    session.opened = session.heard = session.moved = now;
    s.sessions.emplace(id, std::move(session));
    open_gauge_.Set(static_cast<double>(s.sessions.size()));
    return id;
  });
  if (replaced != 0) streams_.Close(replaced, absl::UnavailableError("a newer stream of this identity replaced this silent one"));
  return opened;
}

bool Sessions::Take(StreamId stream, std::string& message) {
  struct Facts {
    bool known = false, greeted = false;
    std::shared_ptr<const Caller> caller;
    Uuid uuid;
  };
  const Tick now = clock_.Now();
  const Facts facts = state_.With([&](State& s) {
    Facts f;
    auto it = s.sessions.find(stream);
    if (it == s.sessions.end() || it->second.doomed) return f;
    it->second.heard = it->second.moved = now;
    it->second.held = false;
    f.known = true;
    f.greeted = it->second.greeted;
    f.caller = it->second.caller;
    f.uuid = it->second.uuid;
    return f;
  });
  if (!facts.known) return true;   // ended: what still comes is read and forgotten
  const auto refuse = [&](std::string_view code, std::string detail) {
    Refused r;
    r.from = stream;
    r.code = std::string(code);
    r.detail = std::move(detail);
    r.closes = true;
    Refuse(std::move(r));
    return true;
  };
  if (message.size() > limits::kFrameBytes + kRequestOverhead) {
    return refuse("SIZE_LIMIT", absl::StrCat("a message of ", message.size(), " bytes; at most ", limits::kFrameBytes));
  }
  const bool is_frame = CutFrame(message);
  if (!facts.greeted) {
    v1::PushRequest request;
    if (is_frame || message.size() > kHelloBytes || !request.ParseFromString(message) || !request.has_hello() ||
        request.hello().agent_uuid().size() != 16) {
      return refuse("FRAME_MALFORMED", "the first message of a stream is hello with the agent's uuid");
    }
    const v1::Hello& h = request.hello();
    Hello hello{Uuid::FromBytes(h.agent_uuid()), h.seen_size(), h.seen_root(), h.seen_origin(), h.version().substr(0, 64),
                {h.resend_from_epoch(), h.resend_from_batch_seq()}, {h.oldest_epoch(), h.oldest_batch_seq()}};
    const std::optional<AgentIdentityRecord> record = registry_.Agent(hello.uuid);
    if (!record || record->uri != facts.caller->identity.ToUri()) {
      if (findings_) {
        findings_("IDENTITY_MISMATCH", Severity::kPage, facts.caller->identity.ToUri(),
                  "a stream said to be agent " + hello.uuid.ToString() + ", which is not enrolled under this certificate's name");
      }
      return refuse("IDENTITY_MISMATCH", "uuid " + hello.uuid.ToString() + " is not enrolled as " + facts.caller->identity.ToUri());
    }
    fleet_.With([&](std::unordered_map<Uuid, AgentPresence>& fleet) {
      AgentPresence& l = fleet[hello.uuid];
      l.connected_ns = clock_.WallNanos();
      l.address = facts.caller->address;
      l.version = hello.version;
    });
    // What the same process sent on a stream it gave up may arrive after what it sends on this one. From another process it would be news.
    std::vector<StreamId> replaced;
    state_.With([&](State& s) {
      auto it = s.sessions.find(stream);
      if (it == s.sessions.end()) return;
      it->second.greeted = true;
      it->second.uuid = hello.uuid;
      it->second.run = h.run().substr(0, kRunBytes);
      for (const auto& [id, other] : s.sessions) {
        if (id < stream && !other.doomed && other.uuid == hello.uuid && !other.run.empty() && other.run == it->second.run) replaced.push_back(id);
      }
      s.hellos.emplace_back(stream, std::move(hello));
    });
    for (const StreamId id : replaced) End(id, absl::AbortedError("a newer stream of the same process replaced this one"));
    Poke();
    return true;
  }
  if (!is_frame) {
    v1::PushRequest request;
    if (message.size() > kHelloBytes || !request.ParseFromString(message) || !request.has_lacking()) {
      return refuse("FRAME_MALFORMED", "after hello a stream carries frames");
    }
    if (missing_ != nullptr) {
      for (const v1::BatchName& b : request.lacking().batches()) missing_->HasNot({facts.uuid, b.epoch(), b.batch_seq()});
    }
    return true;
  }
  Submission submission{stream, facts.caller, facts.uuid, std::move(message)};
  if (verifier_->TryEnter(submission)) return true;
  // Back into the shape in which it came: it is delivered again.
  std::string prefix(1, 0x12);
  uint64_t length = submission.frame.size();
  while (length >= 0x80) {
    prefix += static_cast<char>(length | 0x80);
    length >>= 7;
  }
  prefix += static_cast<char>(length);
  message = std::move(prefix) + submission.frame;
  state_.With([&](State& s) {
    if (auto it = s.sessions.find(stream); it != s.sessions.end()) it->second.held = true;
  });
  return false;
}

void Sessions::Written(StreamId stream) {
  const bool owed = state_.With([&](State& s) {
    auto it = s.sessions.find(stream);
    if (it == s.sessions.end()) return false;
    it->second.writing = false;
    it->second.moved = clock_.Now();   // it reads
    return std::exchange(it->second.owed, false);
  });
  if (owed) Poke();
}

void Sessions::Closed(StreamId stream) {
  Uuid uuid;
  bool last = false;
  state_.With([&](State& s) {
    auto it = s.sessions.find(stream);
    if (it == s.sessions.end()) return;
    const Session& gone = it->second;
    if (!gone.doomed) {
      auto count = s.per_identity.find(gone.caller->identity.ToUri());
      if (count != s.per_identity.end() && --count->second <= 0) s.per_identity.erase(count);
    }
    if (gone.greeted) {
      uuid = gone.uuid;
      last = std::none_of(s.sessions.begin(), s.sessions.end(), [&](const auto& other) {
        return other.first != stream && other.second.greeted && other.second.uuid == uuid;
      });
    }
    s.sessions.erase(it);
    s.closed.push_back(stream);
    open_gauge_.Set(static_cast<double>(s.sessions.size()));
  });
  if (last) {
    fleet_.With([&](std::unordered_map<Uuid, AgentPresence>& fleet) {
      fleet[uuid].connected_ns = 0;
    });
  }
  Poke();
}

// --- the inner side -----------------------------------------------------------------------------------------------------------

void Sessions::Committed(const Flush& flush) {
  if (verifier_ != nullptr) verifier_->Committed(flush);
  state_.With([&](State& s) {
    s.head = flush.head;
    s.leaves.insert(s.leaves.end(), flush.batches.begin(), flush.batches.end());
  });
  Poke();
}

void Sessions::Held(bool held) {
  state_.With([&](State& s) { s.held = held; });
  Poke();
}

void Sessions::Refuse(Refused refused) {
  if (refused.from == 0) {   // no stream: the aggregator's own agent
    LogError("A batch of the aggregator's own agent was refused.", {{"code", refused.code}, {"detail", refused.detail}});
    return;
  }
  state_.With([&](State& s) {
    if (s.sessions.contains(refused.from)) s.refusals.push_back(std::move(refused));
  });
  Poke();
}

void Sessions::Room(StreamId stream) { streams_.Resume(stream); }

void Sessions::Disconnect(const Identity& identity, std::string_view code) {
  const std::string uri = identity.ToUri();
  state_.With([&](State& s) {
    for (auto& [id, session] : s.sessions) {
      if (session.doomed || session.caller->identity.ToUri() != uri) continue;
      Refused r;
      r.from = id;
      r.code = std::string(code);
      r.detail = "the agent was revoked; enrol it anew with a join token";
      r.closes = true;
      s.refusals.push_back(std::move(r));
    }
  });
  Poke();
}

void Sessions::Shutdown() {
  std::vector<StreamId> open;
  state_.With([&](State& s) {
    s.shut = true;
    for (auto& [id, session] : s.sessions) open.push_back(id);
  });
  for (StreamId id : open) End(id, absl::UnavailableError("the aggregator is shutting down: reconnect"));
}

std::optional<AgentPresence> Sessions::Of(const Uuid& uuid) const {
  return fleet_.Peek([&](const std::unordered_map<Uuid, AgentPresence>& fleet) -> std::optional<AgentPresence> {
    auto it = fleet.find(uuid);
    if (it == fleet.end()) return std::nullopt;
    return it->second;
  });
}

size_t Sessions::open() const {
  return state_.Peek([](const State& s) { return s.sessions.size(); });
}

// --- answers: Step's thread ---------------------------------------------------------------------------------------------------

Tick Sessions::Step(Tick now) {
  Press(now);
  Answer(now);
  if (now - watched_ >= absl::Seconds(1)) {
    watched_ = now;
    Watch(now);
    Pace(now);
    Ask(now);
  }
  return watched_ + absl::Seconds(1);
}

bool Sessions::StartWrite(StreamId stream, Tick now) {
  return state_.With([&](State& s) {
    auto it = s.sessions.find(stream);
    if (it == s.sessions.end() || it->second.doomed) return false;
    if (it->second.writing) {
      it->second.owed = true;
      return false;
    }
    it->second.writing = true;
    it->second.writing_since = now;
    return true;
  });
}

void Sessions::End(StreamId stream, const absl::Status& status) {
  const bool first = state_.With([&](State& s) {
    auto it = s.sessions.find(stream);
    if (it == s.sessions.end() || it->second.doomed) return false;
    it->second.doomed = true;
    auto count = s.per_identity.find(it->second.caller->identity.ToUri());
    if (count != s.per_identity.end() && --count->second <= 0) s.per_identity.erase(count);
    return true;
  });
  if (first) streams_.Close(stream, status);
}

void Sessions::Answer(Tick now) {
  std::vector<std::pair<StreamId, Hello>> hellos;
  std::vector<Refused> refusals;
  std::vector<CommittedLeaf> leaves;
  std::vector<StreamId> closed;
  std::unordered_map<StreamId, std::shared_ptr<const Caller>> callers;
  state_.With([&](State& s) {
    hellos.swap(s.hellos);
    refusals.swap(s.refusals);
    leaves.swap(s.leaves);
    closed.swap(s.closed);
    if (s.head) head_ = *std::exchange(s.head, std::nullopt);
    for (auto& [id, hello] : hellos) {
      if (auto it = s.sessions.find(id); it != s.sessions.end()) callers[id] = it->second.caller;
    }
  });
  // Hellos before commits: a stream's own batches come after its hello.
  for (auto& [id, hello] : hellos) {
    auto caller = callers.find(id);
    if (caller == callers.end()) continue;
    Answering& a = answering_[id];
    a.uuid = hello.uuid;
    a.caller = caller->second;
    if (StartWrite(id, now)) Welcome(id, hello);
  }
  for (CommittedLeaf& leaf : leaves) {
    auto stream = answering_.find(leaf.from);
    if (stream == answering_.end()) continue;   // gone: its agent sends again when it is back, and hears then
    Answering& a = stream->second;
    if (a.leaves.size() >= kUnsentLeaves) {
      End(stream->first, absl::ResourceExhaustedError("RATE_LIMIT receipts are not read"));
      continue;
    }
    a.leaves.push_back(leaf);
    owing_.insert(stream->first);
  }
  for (Refused& r : refusals) {
    Answering& a = answering_[r.from];
    owing_.insert(r.from);
    if (a.refusals.size() < kUnsentRefusals) a.refusals.push_back(std::move(r));
  }
  for (StreamId id : closed) {
    answering_.erase(id);
    owing_.erase(id);
  }
  std::erase_if(owing_, [&](StreamId id) {
    Answering& a = answering_[id];
    if (!a.refusals.empty()) {
      if (!StartWrite(id, now)) return false;
      const Refused r = std::move(a.refusals.front());
      a.refusals.erase(a.refusals.begin());
      SendRefusal(id, r);
    } else if (a.welcomed && !a.leaves.empty()) {
      if (!StartWrite(id, now)) return false;
      if (!SendReceipt(id, a)) End(id, absl::UnavailableError("the ledger could not be read for a receipt: reconnect"));
    } else if (a.welcomed && !a.wanted.empty()) {
      if (!StartWrite(id, now)) return false;
      SendWanted(id, std::exchange(a.wanted, {}));
    }
    return a.refusals.empty() && a.leaves.empty() && a.wanted.empty();
  });
}

void Sessions::Welcome(StreamId stream, const Hello& hello) {
  Answering& a = answering_[stream];
  head_ = ledger_.head().size > head_.size ? ledger_.head() : head_;
  v1::PushResponse response;
  v1::Welcome& w = *response.mutable_welcome();
  w.set_origin(ledger_.origin());
  w.set_log_vkey(options_.log_vkey);
  const std::optional<AgentHead> head = ledger_.HeadOf(hello.uuid);
  if (head) {
    w.set_head_epoch(head->epoch);
    w.set_head_batch_seq(head->batch_seq);
    w.set_head_leaf(Bytes(head->leaf));
    w.set_head_next_seq(head->last_seq + 1);
    w.set_quarantined(head->quarantined);
    if (const std::optional<uint64_t> oldest = ledger_.Find({hello.uuid, hello.oldest.first, hello.oldest.second})) {
      if (const absl::StatusOr<Hash> leaf = ledger_.LeafHashAt(*oldest); leaf.ok()) w.set_oldest_leaf(Bytes(*leaf));
    }
  }
  w.set_checkpoint(head_.note);
  a.sent_size = head_.size;
  const Identity& id = a.caller->identity;
  const std::string subject = id.account + "/" + id.region + "/" + id.name;
  ShowRecoveries(hello, head, subject, w);
  // The agent's view of this log, checked against ours as ours will be against its.
  if (hello.seen_size > 0 && hello.seen_origin == ledger_.origin()) {
    const auto suspect = [&](std::string detail) {
      if (!findings_) return;
      for (const auto known = registry_.Recoveries(); const LoggedRecovery& r : *known) {
        if (r.recovery.restored_size >= hello.seen_size) continue;
        return findings_("LOG_RESTORED", Severity::kInfo, subject, detail + "; that branch was given up by the recovery declared in leaf " +
                                                                       std::to_string(r.recovery.restored_size));
      }
      findings_("SPLIT_VIEW_SUSPECT", Severity::kPage, subject, detail);
    };
    if (hello.seen_size > head_.size) {
      suspect(absl::StrCat("the agent saw this log at ", hello.seen_size, " leaves; it has ", head_.size,
                           ": it was rolled back, or somebody shows another log in its name"));
    } else if (const absl::StatusOr<Hash> root = ledger_.Root(hello.seen_size); !root.ok() || root->view() != hello.seen_root) {
      suspect(absl::StrCat("the agent saw another root than ours at ", hello.seen_size, " leaves"));
    } else if (hello.seen_size < head_.size) {
      const absl::StatusOr<std::vector<Hash>> proof = ledger_.Consistency(hello.seen_size, head_.size);
      if (proof.ok()) {
        for (const Hash& h : *proof) w.add_consistency(Bytes(h));
      }
    }
  }
  w.set_batch_interval_ms(interval_ms_);
  a.sent_interval_ms = interval_ms_;
  w.set_heartbeat_interval_s(options_.heartbeat_s);
  if (options_.policy) {
    auto [note, body] = options_.policy();
    w.set_policy(std::move(note));
    w.set_policy_body(std::move(body));
  }
  a.welcomed = true;
  streams_.Send(stream, response.SerializeAsString());
}

// What governance declared, proven; and, when the log lacks what it once acknowledged to this agent, what nobody has any more.
void Sessions::ShowRecoveries(const Hello& hello, const std::optional<AgentHead>& head, const std::string& subject, v1::Welcome& w) {
  const auto recoveries = registry_.Recoveries();
  for (size_t i = recoveries->size() - std::min(recoveries->size(), kRecoveries); i < recoveries->size(); ++i) {
    const LoggedRecovery& r = (*recoveries)[i];
    const uint64_t at = r.recovery.restored_size;
    if (at >= head_.size) continue;
    const absl::StatusOr<std::vector<Hash>> path = ledger_.Inclusion(at, head_.size), proof = ledger_.Consistency(at, head_.size);
    if (!path.ok() || !proof.ok()) continue;
    v1::Recovery& out = *w.add_recoveries();
    out.set_leaf(r.leaf);
    for (const Hash& h : *path) out.add_path(Bytes(h));
    for (const Hash& h : *proof) out.add_consistency(Bytes(h));
  }
  const std::pair<uint64_t, uint64_t> ours = head ? std::pair(head->epoch, head->batch_seq) : std::pair<uint64_t, uint64_t>(0, 0);
  if (hello.acked <= ours || (head && head->quarantined) || !findings_) return;
  const auto name = [](std::pair<uint64_t, uint64_t> b) { return absl::StrCat("epoch ", b.first, " batch ", b.second); };
  const bool has_next = hello.oldest <= ours || hello.oldest == std::pair(ours.first, ours.second + 1) || hello.oldest == std::pair(ours.first + 1, uint64_t{0});
  if (hello.oldest != std::pair<uint64_t, uint64_t>(0, 0) && has_next) {
    if (!recoveries->empty()) findings_("LOG_RESTORED", Severity::kInfo, subject,
              "had acknowledgements through " + name(hello.acked) + ", the log stands at " + name(ours) + ": it sends again what came between");
  } else {
    findings_("RECORDS_MISSING", Severity::kPage, subject,
              "had acknowledgements through " + name(hello.acked) + "; the log stands at " + name(ours) + " and the agent's spool begins at " +
                  (hello.oldest.first == 0 ? std::string("nothing") : name(hello.oldest)) +
                  ": what lies between is neither in the log nor in the spool. A newer backup may have it; otherwise it is lost, and this "
                  "record says so");
  }
}

bool Sessions::SendReceipt(StreamId stream, Answering& a) {
  const Tick begun = clock_.Now();
  v1::PushResponse response;
  v1::Receipt& receipt = *response.mutable_receipt();
  receipt.set_checkpoint(head_.note);
  receipt.set_consistency_from(a.sent_size);
  if (a.sent_size > 0 && a.sent_size < head_.size) {
    const absl::StatusOr<std::vector<Hash>> proof = ledger_.Consistency(a.sent_size, head_.size);
    if (!proof.ok()) return false;
    for (const Hash& h : *proof) receipt.add_consistency(Bytes(h));
  }
  const size_t n = std::min(a.leaves.size(), kReceiptLeaves);
  for (size_t i = 0; i < n; ++i) {
    const CommittedLeaf& leaf = a.leaves[i];
    const absl::StatusOr<std::vector<Hash>> path = ledger_.Inclusion(leaf.leaf_index, head_.size);
    if (!path.ok()) {
      LogError("A receipt cannot be built: run orgtrail fsck", {{"leaf", std::to_string(leaf.leaf_index)}, {"error", Describe(path.status())}});
      return false;
    }
    v1::LeafReceipt& l = *receipt.add_leaves();
    l.set_epoch(leaf.batch.epoch);
    l.set_batch_seq(leaf.batch.batch_seq);
    l.set_leaf_index(leaf.leaf_index);
    l.set_duplicate(leaf.duplicate);
    for (const Hash& h : *path) l.add_path(Bytes(h));
  }
  a.leaves.erase(a.leaves.begin(), a.leaves.begin() + static_cast<ptrdiff_t>(n));
  a.sent_size = head_.size;
  if (a.sent_interval_ms != interval_ms_) receipt.set_batch_interval_ms(a.sent_interval_ms = interval_ms_);
  receipts_.Add();
  receipt_leaves_.Add(static_cast<double>(n));
  receipt_seconds_.Observe(absl::ToDoubleSeconds(clock_.Now() - begun));
  streams_.Send(stream, response.SerializeAsString());
  return true;
}

void Sessions::SendRefusal(StreamId stream, const Refused& r) {
  metrics_.GetCounter("orgtrail_ingest_refusals_total", "Refusals sent to agents, by code.", {{"code", r.code}}).Add();
  v1::PushResponse response;
  v1::Refusal& refusal = *response.mutable_refusal();
  refusal.set_code(r.code);
  refusal.set_detail(r.detail);
  refusal.set_retry_ms(r.retry_ms);
  refusal.set_epoch(r.epoch);
  refusal.set_batch_seq(r.batch_seq);
  refusal.set_closes(r.closes);
  streams_.Send(stream, response.SerializeAsString());
  if (!r.closes) return;
  const std::string message = r.code + " " + r.detail;
  absl::Status status = absl::InvalidArgumentError(message);
  if (r.code.starts_with("AUTH_")) status = absl::UnauthenticatedError(message);
  if (r.code == "IDENTITY_MISMATCH") status = absl::PermissionDeniedError(message);
  if (r.code == "SIZE_LIMIT" || r.code == "DECOMP_LIMIT" || r.code == "RATE_LIMIT") status = absl::ResourceExhaustedError(message);
  if (r.code == "EPOCH_STALE" || r.code == "EPOCH_CONFLICT" || r.code == "ORIGIN_MISMATCH") status = absl::FailedPreconditionError(message);
  if (r.code == "EQUIVOCATION" || r.code == "MONO_ROLLBACK") status = absl::AbortedError(message);
  End(stream, status);
}

// Once a second: what the ledger lost of an agent's batches, and nobody brought since.
void Sessions::Ask(Tick now) {
  if (missing_ == nullptr || pressing_) return;
  for (auto& [id, a] : answering_) {
    if (!a.welcomed || !a.wanted.empty()) continue;
    a.wanted = missing_->AskOf(a.uuid, now);
    if (!a.wanted.empty()) owing_.insert(id);
  }
}

void Sessions::SendWanted(StreamId stream, const std::vector<MissingBodies::Leaf>& wanted) {
  v1::PushResponse response;
  for (const MissingBodies::Leaf& leaf : wanted) {
    v1::BatchName& b = *response.mutable_wanted()->add_batches();
    b.set_epoch(leaf.batch.epoch);
    b.set_batch_seq(leaf.batch.batch_seq);
    b.set_leaf(Bytes(leaf.hash));
  }
  streams_.Send(stream, response.SerializeAsString());
}

// While nothing can be committed nobody shall send: what is sent already waits here and is committed first, the rest stays in the
// agents' spools. A stream that says hello meanwhile is told right after its welcome.
void Sessions::Press(Tick now) {
  std::vector<StreamId> told;
  const bool held = state_.Peek([&](const State& s) {
    const bool everybody = s.held ? !pressing_ || now - pressed_ >= kPauseAgain : pressing_;
    if (everybody) {
      for (const auto& [id, session] : s.sessions) {
        if (session.greeted && !session.doomed) told.push_back(id);
      }
      pressed_ = now;
    } else if (s.held) {
      for (const auto& [id, hello] : s.hellos) told.push_back(id);
    }
    return s.held;
  });
  pressing_ = held;
  for (const StreamId id : told) {
    Refused r;
    r.from = id;
    r.code = "SPOOL_PRESSURE";
    r.detail = held ? "the aggregator's ledger is full and waits for space: keep what you have" : "the ledger is written again";
    r.retry_ms = held ? static_cast<uint32_t>(absl::ToInt64Milliseconds(kPause)) : 1;
    Refuse(std::move(r));
  }
}

// Once a second: who never said hello, who does not read, whose message does not end, who may no longer be here.
void Sessions::Watch(Tick now) {
  struct Seen {
    StreamId id;
    std::shared_ptr<const Caller> caller;
    bool mute, stalled, trickles;
  };
  std::vector<Seen> all;
  const absl::Duration whole = std::max(options_.whole_message, absl::Seconds(3 * options_.heartbeat_s));
  state_.Peek([&](const State& s) {
    all.reserve(s.sessions.size());
    for (const auto& [id, session] : s.sessions) {
      if (session.doomed) continue;
      all.push_back({id, session.caller, !session.greeted && now - session.opened > options_.first_message,
                     session.writing && now - session.writing_since > options_.ack_stall,
                     session.greeted && !session.held && !s.held && now - session.moved > whole});
    }
  });
  for (const Seen& seen : all) {
    if (seen.mute) {
      End(seen.id, absl::DeadlineExceededError("no hello within 10 s"));
    } else if (seen.stalled) {
      End(seen.id, absl::DeadlineExceededError("receipts were not read for 30 s"));
    } else if (seen.trickles) {
      End(seen.id, absl::DeadlineExceededError(absl::StrCat("no whole message within ", absl::FormatDuration(whole), ": reconnect")));
    } else if (absl::Status s = registry_.Admit(seen.caller->identity, seen.caller->serial); !s.ok()) {
      Refused r;
      r.from = seen.id;
      const std::string_view text = ToStd(s.message());
      r.code = std::string(text.substr(0, text.find(' ')));
      if (!r.code.starts_with("AUTH_")) r.code = "AUTH_REVOKED";
      r.detail = std::string(text);
      r.closes = true;
      Refuse(std::move(r));
    }
  }
}

void Sessions::Pace(Tick now) {
  if (verifier_ == nullptr) return;
  interval_ms_ = NextBatchInterval(interval_ms_, options_.least_interval_ms, verifier_->TakeStrain(now));
  interval_gauge_.Set(interval_ms_ / 1000.0);
}

}  // namespace orgtrail
