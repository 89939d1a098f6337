#include "aggregator/ingest/service.h"

#include <optional>
#include <unordered_map>

#include "common/base/guarded.h"
#include "common/base/status.h"
#include "common/rpc/credentials.h"
#include "orgtrail/v1/ingest.grpc.pb.h"

namespace orgtrail {
namespace {

class Reactor;

// Streams by id. A reactor leaves before it is deleted, so whoever found it here under the lock may use it.
using Map = Guarded<std::unordered_map<StreamId, Reactor*>>;

void Flatten(const grpc::ByteBuffer& buffer, std::string* out) {
  out->clear();
  out->reserve(buffer.Length());
  std::vector<grpc::Slice> slices;
  if (!buffer.Dump(&slices).ok()) return;
  for (const grpc::Slice& s : slices) out->append(reinterpret_cast<const char*>(s.begin()), s.size());
}

grpc::ByteBuffer Wrap(std::string bytes) {
  auto* kept = new std::string(std::move(bytes));
  grpc::Slice slice(kept->data(), kept->size(), [](void* p) { delete static_cast<std::string*>(p); }, kept);
  return grpc::ByteBuffer(&slice, 1);
}

class Reactor final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  Reactor(StreamId id, grpc::CallbackServerContext* context, Sessions& sessions, Map& map)
      : id_(id), context_(context), sessions_(sessions), map_(map) {
    map_.With([&](auto& m) { m.emplace(id_, this); });
    StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      state_.With([&](State& s) {
        s.read_over = true;
        MaybeFinish(s, grpc::Status::OK);
      });
      return;
    }
    Flatten(incoming_, &message_);
    incoming_.Clear();
    Offer();
  }
  // Hands over what was read; unread it stays until Resume. Only one thread is here: a read is followed by its offer, a held
  // offer by one Resume.
  void Offer() {
    state_.With([](State& s) {
      s.held = false;
      s.resumed = false;
    });
    for (;;) {
      if (sessions_.Take(id_, message_)) {
        state_.With([&](State& s) {
          if (!s.finished) StartRead(&incoming_);
        });
        return;
      }
      const bool again = state_.With([](State& s) {
        if (s.resumed) {   // room came while Take was refusing
          s.resumed = false;
          return true;
        }
        s.held = true;
        return false;
      });
      if (!again) return;
    }
  }
  void OnWriteDone(bool ok) override {
    state_.With([&](State& s) {
      s.writing = false;
      if (!ok) s.pending.reset();
      Pump(s);
      if (s.closing) MaybeFinish(s, *s.closing);
    });
    if (ok) sessions_.Written(id_);
  }
  void OnCancel() override {
    state_.With([&](State& s) { MaybeFinish(s, grpc::Status::CANCELLED); });
  }
  void OnDone() override {
    map_.With([&](auto& m) { m.erase(id_); });
    sessions_.Closed(id_);
    state_.With([](State&) {});   // whoever still holds the lock is out before the object goes
    delete this;
  }

  // From the map, under its lock.
  void Send(std::string response) {
    state_.With([&](State& s) {
      if (s.finished) return;
      s.pending = Wrap(std::move(response));
      Pump(s);
    });
  }
  bool Held() {   // true: the caller offers again, outside the map's lock
    return state_.With([](State& s) {
      if (!s.held) {
        s.resumed = true;
        return false;
      }
      s.held = false;
      return !s.finished;
    });
  }
  void Close(const absl::Status& status) {
    state_.With([&](State& s) {
      s.closing = ToGrpc(status);
      // Nobody reads: what was sent will not go out, and the status would wait behind it for ever.
      if (absl::IsDeadlineExceeded(status) && s.writing) context_->TryCancel();
      MaybeFinish(s, *s.closing);
    });
  }

 private:
  struct State {
    bool writing = false, finished = false, held = false, resumed = false, read_over = false;
    std::optional<grpc::ByteBuffer> pending;   // Sessions sends one at a time; a closing refusal may come on top
    std::optional<grpc::Status> closing;
  };
  void Pump(State& s) {
    if (s.writing || s.finished || !s.pending) return;
    outgoing_ = *std::move(s.pending);
    s.pending.reset();
    s.writing = true;
    StartWrite(&outgoing_);
  }
  void MaybeFinish(State& s, const grpc::Status& status) {
    if (s.finished) return;
    if (s.closing && (s.writing || s.pending) && !s.read_over) return;   // what was sent goes out first
    s.finished = true;
    Finish(status);
  }

  const StreamId id_;
  grpc::CallbackServerContext* const context_;   // gRPC's, until OnDone
  Sessions& sessions_;
  Map& map_;
  grpc::ByteBuffer incoming_, outgoing_;
  std::string message_;
  Guarded<State> state_;
};

class Refusing final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit Refusing(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

}  // namespace

struct IngestService::Impl final : public v1::Ingest::WithRawCallbackMethod_Push<v1::Ingest::Service> {
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Push(grpc::CallbackServerContext* context) override {
    const absl::StatusOr<Peer> peer = PeerOf(*context);
    if (!peer.ok()) return new Refusing(ToGrpc(peer.status()));
    const absl::StatusOr<StreamId> id = sessions->Open({peer->identity, peer->serial_hex, peer->address});
    if (!id.ok()) return new Refusing(ToGrpc(id.status()));
    return new Reactor(*id, context, *sessions, map);
  }
  Sessions* sessions = nullptr;
  Map map;
};

IngestService::IngestService() : impl_(std::make_unique<Impl>()) {}
IngestService::~IngestService() = default;
void IngestService::Attach(Sessions& sessions) { impl_->sessions = &sessions; }
grpc::Service* IngestService::service() { return impl_.get(); }

void IngestService::Send(StreamId stream, std::string response) {
  impl_->map.Peek([&](const auto& m) {
    if (auto it = m.find(stream); it != m.end()) it->second->Send(std::move(response));
  });
}

void IngestService::Resume(StreamId stream) {
  // Offering takes time (a copy into the verifier's queue) but no lock that leads back here.
  impl_->map.Peek([&](const auto& m) {
    if (auto it = m.find(stream); it != m.end() && it->second->Held()) it->second->Offer();
  });
}

void IngestService::Close(StreamId stream, const absl::Status& status) {
  impl_->map.Peek([&](const auto& m) {
    if (auto it = m.find(stream); it != m.end()) it->second->Close(status);
  });
}

}  // namespace orgtrail
