#include "aggregator/feed/service.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/worker.h"

namespace orgtrail {
namespace {

std::string DetailsOf(const v1::SubscribeRequest& request, std::string_view phase, uint64_t sent) {
  std::string out = "{\"phase\":" + JsonString(phase);
  const auto list = [&out](std::string_view key, const auto& names) {
    if (names.empty()) return;
    out += ",\"" + std::string(key) + "\":[";
    for (int i = 0; i < names.size() && i < 20; ++i) {
      if (i > 0) out += ',';
      out += JsonString(names[i].substr(0, 64));
    }
    out += ']';
  };
  list("accounts", request.accounts());
  list("regions", request.regions());
  if (request.attributes_size() > 0) {
    out += ",\"attributes\":[";
    for (int i = 0; i < request.attributes_size() && i < 20; ++i) {
      if (i > 0) out += ',';
      out += "{\"key\":" + JsonString(request.attributes(i).key().substr(0, 64)) +
             ",\"value\":" + JsonString(request.attributes(i).value().substr(0, 256)) + "}";
    }
    out += ']';
  }
  if (request.own()) out += ",\"own\":true";
  return out + absl::StrCat(",\"sent\":", sent, "}");
}

}  // namespace

// One subscriber. States: idle (waits for data) → queued → working → writing → queued … → finishing. A worker owns the
// subscription while the stream is working; everything shared is in state_.
class FeedService::Stream final : public grpc::ServerWriteReactor<v1::FeedMessage>,
                                  public std::enable_shared_from_this<FeedService::Stream> {
 public:
  Stream(FeedService& service, uint64_t id, grpc::CallbackServerContext* context, const v1::SubscribeRequest& request)
      : service_(service), id_(id), context_(context), request_(request) {}

  void OnWriteDone(bool ok) override {
    const bool queue = state_.With([&](State& s) {
      s.writing = false;
      if (!ok) s.cancelled = true;
      if (s.end.has_value() || s.cancelled) {
        FinishLocked(s);
        return false;
      }
      return Take(s);
    });
    if (queue) service_.Queue(shared_from_this());
  }
  void OnCancel() override {
    state_.With([&](State& s) {
      s.cancelled = true;
      if (!s.busy && !s.writing) FinishLocked(s);
    });
  }
  void OnDone() override {
    // The map's reference may be the last one: nothing of this object is touched after Forget.
    std::shared_ptr<Stream> self = shared_from_this();
    state_.With([](State& s) { s.done = true; });
    service_.Forget(id_);
    if (opened_) {
      // Best effort: the rows were recorded at the opening; what is missing then is only when it ended.
      (void)service_.pool_->TrySubmit([self] {
        self->service_.journal_.Record(self->peer_, "SubscribeFeed", DetailsOf(self->request_, "close", self->total_))
            .IgnoreError();
      });
    }
  }

  // The notifier: new data, or time for a word. Whether the stream is to be queued.
  bool Wake(Tick now, bool data) {
    return state_.With([&](State& s) {
      if (!s.idle || s.cancelled || s.finished) return false;
      if (!data && now < s.word_at) return false;
      return Take(s);
    });
  }
  bool Stalled(Tick now, absl::Duration limit) {
    return state_.With([&](State& s) { return s.writing && !s.finished && now - s.write_began > limit; });
  }
  void Cancel() {
    state_.With([&](State& s) {
      if (!s.done) context_->TryCancel();
    });
  }
  void End(absl::Status status) {
    state_.With([&](State& s) {
      if (!s.end.has_value()) s.end = std::move(status);
      if (!s.busy && !s.writing) FinishLocked(s);
    });
  }

  // A revoked reader's stream ends, whether or not there is anything to tell it.
  void EndIfRevoked() {
    if (!opened_) return;
    if (absl::Status admitted = service_.registry_.Admit(peer_.identity, peer_.serial_hex); !admitted.ok()) End(std::move(admitted));
  }

  // A worker's turn.
  void Work() {
    if (state_.Peek([](const State& s) { return s.cancelled || s.end.has_value(); })) return Done(absl::OkStatus(), false);
    const Tick now = service_.clock_.Now();
    absl::Status status = subscription_ == nullptr ? Open() : absl::OkStatus();
    if (status.ok() && now >= journal_at_) {
      journal_at_ = now + service_.options_.journal;
      status = service_.journal_.Record(peer_, "SubscribeFeed", DetailsOf(request_, "hourly", total_));
    }
    if (!status.ok()) return Done(std::move(status), false);
    absl::StatusOr<Subscription::Got> got = Subscription::Got::kProgress;
    for (int calls = 0; calls < kCallsPerTurn && got.ok() && *got == Subscription::Got::kProgress; ++calls) {
      got = subscription_->Next(&message_);
    }
    if (!got.ok()) return Done(got.status(), false);
    const bool ends = *got == Subscription::Got::kEnd || (*got == Subscription::Got::kCaughtUp && !request_.follow());
    const bool word = ends || now >= word_at_;
    if (word) {
      word_at_ = now + service_.options_.completeness;
      const uint64_t indexed = service_.history_.indexed_to();
      *message_.mutable_completeness() = service_.completeness_.Of(subscription_->access(), indexed, service_.ledger_.head().size);
      message_.mutable_completeness()->set_quarantined_matches(subscription_->quarantined());
      if (message_.cursor().empty()) {
        message_.set_cursor(subscription_->cursor());
      }
    }
    total_ = subscription_->sent();
    service_.sent_.Add(message_.events_size());
    if (ends) return Done(absl::OkStatus(), true);
    if (message_.events_size() > 0 || word || *got == Subscription::Got::kProgress) return Write();
    Rest();
  }

 private:
  static constexpr int kCallsPerTurn = 16;   // then the cursor is told, and others have their turn
  struct State {
    bool busy = true;          // queued or working
    bool idle = false;         // waits for the notifier
    bool writing = false;
    bool cancelled = false, finished = false, done = false;
    std::optional<absl::Status> end;
    Tick write_began, word_at;
  };
  static bool Take(State& s) {
    s.idle = false;
    s.busy = true;
    return true;
  }
  void FinishLocked(State& s) {
    if (s.finished) return;
    s.finished = true;
    Finish(s.cancelled ? grpc::Status::CANCELLED : ToGrpc(s.end.value_or(absl::OkStatus())));
  }

  absl::Status Open() {
    ASSIGN_OR_RETURN(peer_, service_.peers_(*context_));
    ASSIGN_OR_RETURN(subscription_,
                     Subscription::Open(peer_.identity, request_, service_.ledger_, service_.mac_key_, service_.clock_, service_.Recoveries()));
    const bool resumed = request_.from_case() == v1::SubscribeRequest::kCursor;
    RETURN_IF_ERROR(service_.journal_.Record(peer_, "SubscribeFeed", DetailsOf(request_, resumed ? "resume" : "open", 0)));
    journal_at_ = service_.clock_.Now() + service_.options_.journal;
    opened_ = true;
    return absl::OkStatus();
  }
  // Ends the stream, after the message made when `send`.
  void Done(absl::Status status, bool send) {
    state_.With([&](State& s) {
      s.busy = false;
      if (!s.end.has_value()) s.end = std::move(status);
      if (send && !s.cancelled && !s.finished) {
        s.writing = true;
        s.write_began = service_.clock_.Now();
        StartWrite(&message_);
      } else {
        FinishLocked(s);
      }
    });
  }
  void Write() {
    state_.With([&](State& s) {
      s.busy = false;
      if (s.cancelled || s.end.has_value()) return FinishLocked(s);
      s.writing = true;
      s.write_began = service_.clock_.Now();
      s.word_at = word_at_;
      StartWrite(&message_);
    });
  }
  void Rest() {
    const bool queue = state_.With([&](State& s) {
      s.busy = false;
      if (s.cancelled || s.end.has_value()) {
        FinishLocked(s);
        return false;
      }
      s.idle = true;
      s.word_at = word_at_;
      // What was logged since Next looked would not be told again.
      return service_.ledger_.head().size > subscription_->at().leaf && subscription_->at().event == 0 && Take(s);
    });
    if (queue) service_.Queue(shared_from_this());
  }

  FeedService& service_;
  const uint64_t id_;
  grpc::CallbackServerContext* const context_;
  const v1::SubscribeRequest request_;
  Guarded<State> state_;
  // A worker's, or the write's in flight.
  v1::FeedMessage message_;
  Peer peer_;
  std::unique_ptr<Subscription> subscription_;
  Tick word_at_{}, journal_at_{};
  std::atomic<bool> opened_{false};
  std::atomic<uint64_t> total_{0};
};

FeedService::FeedService(const FeedOptions& options, const LedgerReader& ledger, const History& history, const Registry& registry,
                         const Completeness& completeness, ReadJournal& journal, std::string mac_key, const Clock& clock, Metrics& metrics,
                         PeerSource peers)
    : options_(options), ledger_(ledger), history_(history), registry_(registry), completeness_(completeness), journal_(journal),
      mac_key_(std::move(mac_key)), clock_(clock), peers_(std::move(peers)),
      sent_(metrics.GetCounter("orgtrail_feed_records_total", "records sent to subscribers")),
      stalled_(metrics.GetCounter("orgtrail_feed_stalled_total", "subscribers disconnected because they did not read")),
      open_(metrics.GetGauge("orgtrail_feed_subscriptions", "open subscriptions")),
      pool_(std::make_unique<Pool>("feed", options.workers, options.max_streams * 2)),
      notifier_([this] {
        NameThread("feed-notify");
        Notify();
      }) {
  CHECK(mac_key_.size() == 32);
}

std::vector<uint64_t> FeedService::Recoveries() const {
  std::vector<uint64_t> leaves;
  for (const auto known = registry_.Recoveries(); const LoggedRecovery& r : *known) leaves.push_back(r.recovery.restored_size);
  return leaves;
}

FeedService::~FeedService() {
  stopping_.With([](bool& s) { s = true; });
  notifier_.join();
  pool_.reset();
}

grpc::ServerWriteReactor<v1::FeedMessage>* FeedService::Subscribe(grpc::CallbackServerContext* context,
                                                                  const v1::SubscribeRequest* request) {
  const uint64_t id = next_id_++;
  auto stream = std::make_shared<Stream>(*this, id, context, *request);
  const size_t open = streams_.With([&](Streams& s) {
    s.emplace(id, stream);
    return s.size();
  });
  open_.Set(static_cast<double>(open));
  if (open > options_.max_streams) {
    stream->End(absl::ResourceExhaustedError("too many subscriptions: try again later"));
    // A stream starts out as queued, and ends at its turn.
  }
  Queue(stream);
  return stream.get();
}

void FeedService::Queue(std::shared_ptr<Stream> stream) {
  // A stream is queued at most once, so the pool has room for all of them; it refuses only when it closes.
  Stream* const raw = stream.get();
  if (!pool_->TrySubmit([stream = std::move(stream)] { stream->Work(); })) raw->Cancel();
}

size_t FeedService::subscriptions() const {
  return streams_.Peek([](const Streams& s) { return s.size(); });
}

std::vector<std::shared_ptr<FeedService::Stream>> FeedService::All() const {
  return streams_.Peek([](const Streams& s) {
    std::vector<std::shared_ptr<Stream>> all;
    all.reserve(s.size());
    for (const auto& [id, stream] : s) all.push_back(stream);
    return all;
  });
}

void FeedService::Forget(uint64_t id) {
  const size_t open = streams_.With([&](Streams& s) {
    s.erase(id);
    return s.size();
  });
  open_.Set(static_cast<double>(open));
}

void FeedService::Drain() {
  for (const auto& stream : All()) stream->End(absl::UnavailableError("the aggregator is shutting down: reconnect with the last cursor"));
}

void FeedService::Notify() {
  uint64_t seen = ledger_.head().size;
  Tick look_at = clock_.Now();
  while (!stopping_.Peek([](bool s) { return s; })) {
    const bool more = ledger_.WaitBeyond(seen, absl::Milliseconds(200));
    const Tick now = clock_.Now();
    if (more) seen = ledger_.head().size;
    if (more || now >= look_at) {
      for (const auto& stream : All()) {
        if (stream->Wake(now, more)) Queue(stream);
      }
    }
    if (now >= look_at) {
      look_at = now + absl::Milliseconds(500);
      for (const auto& stream : All()) {
        stream->EndIfRevoked();
        if (!stream->Stalled(now, options_.stall)) continue;
        stalled_.Add();
        stream->Cancel();
      }
    }
    // After Wake() the ledger's waits return at once, until this service goes too.
    if (!more) stopping_.WhenFor(absl::Milliseconds(2), [](bool s) { return s; }, [](bool, bool) {});
  }
}

}  // namespace orgtrail
