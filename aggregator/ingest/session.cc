#include "aggregator/ingest/session.h"

#include <algorithm>
#include <unordered_set>

#include "aggregator/ingest/answers.h"
#include "aggregator/ingest/pace.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/format/push_request.h"
#include "orgtrail/v1/ingest.pb.h"

namespace orgtrail {
namespace {

constexpr size_t kRequestOverhead = 64;            // protobuf's tag and length around a frame
constexpr size_t kLackingBytes = 4096;
constexpr size_t kReceiptLeaves = 2048;            // paths of 27 hashes: 1.8 MB at most
constexpr size_t kUnsentLeaves = 65536;            // an agent that far behind with its receipts is cut off
constexpr size_t kUnsentRefusals = 64;
constexpr absl::Duration kIdle = absl::Seconds(30);
// While the ledger is full: agents pause for so long, and are told again well before it is over.
constexpr absl::Duration kPause = absl::Seconds(10), kPauseAgain = absl::Seconds(4);

Refused Closing(StreamId stream, std::string_view code, std::string detail) {
  Refused r;
  r.from = stream;
  r.code = std::string(code);
  r.detail = std::move(detail);
  r.closes = true;
  return r;
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
      desk_(ledger, registry, findings_),
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
    Refuse(Closing(stream, code, std::move(detail)));
    return true;
  };
  if (message.size() > limits::kFrameBytes + kRequestOverhead) {
    return refuse("SIZE_LIMIT", absl::StrCat("a message of ", message.size(), " bytes; at most ", limits::kFrameBytes));
  }
  const bool is_frame = CutFrame(message);
  if (!facts.greeted) {
    std::optional<Hello> hello = is_frame ? std::nullopt : Hello::Parse(message);
    if (!hello) return refuse("FRAME_MALFORMED", "the first message of a stream is hello with the agent's uuid");
    const std::optional<AgentIdentityRecord> record = registry_.Agent(hello->uuid);
    if (!record || record->uri != facts.caller->identity.ToUri()) {
      if (findings_) {
        findings_("IDENTITY_MISMATCH", Severity::kPage, facts.caller->identity.ToUri(),
                  "a stream said to be agent " + hello->uuid.ToString() + ", which is not enrolled under this certificate's name");
      }
      return refuse("IDENTITY_MISMATCH", "uuid " + hello->uuid.ToString() + " is not enrolled as " + facts.caller->identity.ToUri());
    }
    Greet(stream, *facts.caller, *std::move(hello));
    return true;
  }
  if (!is_frame) {
    v1::PushRequest request;
    if (message.size() > kLackingBytes || !request.ParseFromString(message) || !request.has_lacking()) {
      return refuse("FRAME_MALFORMED", "after hello a stream carries frames");
    }
    if (missing_ != nullptr) {
      for (const v1::BatchName& b : request.lacking().batches()) missing_->HasNot({facts.uuid, b.epoch(), b.batch_seq()});
    }
    return true;
  }
  Submission submission{stream, facts.caller, facts.uuid, std::move(message)};
  if (verifier_->TryEnter(submission)) return true;
  message = std::move(submission.frame);
  message.insert(0, FramePrefix(message.size()));   // it is delivered again
  state_.With([&](State& s) {
    if (auto it = s.sessions.find(stream); it != s.sessions.end()) it->second.held = true;
  });
  return false;
}

void Sessions::Greet(StreamId stream, const Caller& caller, Hello hello) {
  fleet_.With([&](std::unordered_map<Uuid, AgentPresence>& fleet) {
    AgentPresence& l = fleet[hello.uuid];
    l.connected_ns = clock_.WallNanos();
    l.address = caller.address;
    l.version = hello.version;
  });
  // What the same process sent on a stream it gave up may arrive after what it sends on this one. From another process it would be news.
  std::vector<StreamId> replaced;
  state_.With([&](State& s) {
    auto it = s.sessions.find(stream);
    if (it == s.sessions.end()) return;
    it->second.greeted = true;
    it->second.uuid = hello.uuid;
    it->second.run = hello.run;
    for (const auto& [id, other] : s.sessions) {
      if (id < stream && !other.doomed && other.uuid == hello.uuid && !other.run.empty() && other.run == hello.run) replaced.push_back(id);
    }
    s.hellos.emplace_back(stream, std::move(hello));
  });
  for (const StreamId id : replaced) End(id, absl::AbortedError("a newer stream of the same process replaced this one"));
  Poke();
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
      s.refusals.push_back(Closing(id, code, "the agent was revoked; enrol it anew with a join token"));
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
      streams_.Send(id, WantedMessage(std::exchange(a.wanted, {})));
    }
    return a.refusals.empty() && a.leaves.empty() && a.wanted.empty();
  });
}

void Sessions::Welcome(StreamId stream, const Hello& hello) {
  Answering& a = answering_[stream];
  head_ = ledger_.head().size > head_.size ? ledger_.head() : head_;
  const Identity& id = a.caller->identity;
  v1::PushResponse response;
  v1::Welcome& w = *response.mutable_welcome();
  w = desk_.Answer(hello, id.account + "/" + id.region + "/" + id.name, head_);
  w.set_log_vkey(options_.log_vkey);
  w.set_batch_interval_ms(interval_ms_);
  w.set_heartbeat_interval_s(options_.heartbeat_s);
  if (options_.policy) {
    auto [note, body] = options_.policy();
    w.set_policy(std::move(note));
    w.set_policy_body(std::move(body));
  }
  a.sent_size = head_.size;
  a.sent_interval_ms = interval_ms_;
  a.welcomed = true;
  streams_.Send(stream, response.SerializeAsString());
}

bool Sessions::SendReceipt(StreamId stream, Answering& a) {
  const Tick begun = clock_.Now();
  const size_t n = std::min(a.leaves.size(), kReceiptLeaves);
  const uint32_t interval_ms = a.sent_interval_ms == interval_ms_ ? 0 : interval_ms_;
  absl::StatusOr<std::string> receipt = ReceiptMessage(ledger_, head_, a.sent_size, std::span(a.leaves).first(n), interval_ms);
  if (!receipt.ok()) {
    LogError("A receipt cannot be built: run orgtrail fsck", {{"error", Describe(receipt.status())}});
    return false;
  }
  a.leaves.erase(a.leaves.begin(), a.leaves.begin() + static_cast<ptrdiff_t>(n));
  a.sent_size = head_.size;
  a.sent_interval_ms = interval_ms_;
  receipts_.Add();
  receipt_leaves_.Add(static_cast<double>(n));
  receipt_seconds_.Observe(absl::ToDoubleSeconds(clock_.Now() - begun));
  streams_.Send(stream, *std::move(receipt));
  return true;
}

void Sessions::SendRefusal(StreamId stream, const Refused& r) {
  metrics_.GetCounter("orgtrail_ingest_refusals_total", "Refusals sent to agents, by code.", {{"code", r.code}}).Add();
  streams_.Send(stream, RefusalMessage(r));
  if (r.closes) End(stream, ClosingStatus(r));
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
      const std::string_view text = ToStd(s.message()), code = text.substr(0, text.find(' '));
      Refuse(Closing(seen.id, code.starts_with("AUTH_") ? code : "AUTH_REVOKED", std::string(text)));
    }
  }
}

void Sessions::Pace(Tick now) {
  if (verifier_ == nullptr) return;
  interval_ms_ = NextBatchInterval(interval_ms_, options_.least_interval_ms, verifier_->TakeStrain(now));
  interval_gauge_.Set(interval_ms_ / 1000.0);
}

}  // namespace orgtrail
