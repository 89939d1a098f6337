#include "aggregator/transparency/service.h"

#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kQueued = 256;
constexpr uint64_t kSkippedPerTurn = 4096;   // leaves not shown before others have their turn

}  // namespace

TransparencyService::TransparencyService(const orgtrail::Transparency& transparency, ReadJournal& journal, ReadJournal& repeated,
                                         Metrics& metrics, PeerSource peers, size_t threads)
    : transparency_(transparency), journal_(journal), repeated_(repeated), peers_(std::move(peers)),
      proofs_(metrics.GetCounter("orgtrail_proofs_total", "event proofs handed out")), pool_("proofs", threads, kQueued) {}

grpc::ServerUnaryReactor* TransparencyService::GetCheckpoint(grpc::CallbackServerContext* context, const v1::GetCheckpointRequest*,
                                                             v1::CheckpointResponse* response) {
  return FinishOnPool(pool_, context, [this, context, response]() -> absl::Status {
    RETURN_IF_ERROR(peers_(*context).status());
    *response = transparency_.Checkpoint();
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* TransparencyService::GetInclusion(grpc::CallbackServerContext* context, const v1::GetInclusionRequest* request,
                                                            v1::InclusionResponse* response) {
  return FinishOnPool(pool_, context, [this, context, request, response]() -> absl::Status {
    RETURN_IF_ERROR(peers_(*context).status());
    ASSIGN_OR_RETURN(*response, transparency_.Inclusion(*request));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* TransparencyService::GetConsistency(grpc::CallbackServerContext* context,
                                                              const v1::GetConsistencyRequest* request,
                                                              v1::ConsistencyResponse* response) {
  return FinishOnPool(pool_, context, [this, context, request, response]() -> absl::Status {
    RETURN_IF_ERROR(peers_(*context).status());
    ASSIGN_OR_RETURN(*response, transparency_.Consistency(*request));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* TransparencyService::GetTile(grpc::CallbackServerContext* context, const v1::GetTileRequest* request,
                                                       v1::TileResponse* response) {
  return FinishOnPool(pool_, context, [this, context, request, response]() -> absl::Status {
    RETURN_IF_ERROR(peers_(*context).status());
    ASSIGN_OR_RETURN(*response, transparency_.Tile(*request));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* TransparencyService::GetEventProof(grpc::CallbackServerContext* context,
                                                             const v1::GetEventProofRequest* request,
                                                             v1::EventProofResponse* response) {
  return FinishOnPool(pool_, context, [this, context, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(const Peer peer, peers_(*context));
    ASSIGN_OR_RETURN(v1::EventProofResponse made, transparency_.Proof(peer.identity, *request));
    RETURN_IF_ERROR(journal_.Record(peer, "GetEventProof",
                                    request->at_set() ? absl::StrCat("{\"leaf\":", request->leaf_index(), ",\"event\":",
                                                                     request->event_index(), "}")
                                                      : "{\"eventID\":" + JsonString(request->event_id().substr(0, 256)) + "}"));
    proofs_.Add();
    *response = std::move(made);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* TransparencyService::GetCompleteness(grpc::CallbackServerContext* context,
                                                               const v1::GetCompletenessRequest* request,
                                                               v1::CompletenessStatement* response) {
  return FinishOnPool(pool_, context, [this, context, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(const Peer peer, peers_(*context));
    ASSIGN_OR_RETURN(v1::CompletenessStatement made, transparency_.Completeness(peer.identity, *request));
    std::string details = "{\"account\":" + JsonString(request->account().substr(0, 64)) + ",\"region\":" + JsonString(request->region().substr(0, 64));
    if (request->start_ns() != 0) details += ",\"start\":" + JsonString(Rfc3339(absl::FromUnixNanos(request->start_ns())));
    if (request->end_ns() != 0) details += ",\"end\":" + JsonString(Rfc3339(absl::FromUnixNanos(request->end_ns())));
    RETURN_IF_ERROR(repeated_.Record(peer, "GetCompleteness", details + "}"));
    *response = std::move(made);
    return absl::OkStatus();
  });
}

// One ReadLeaves call: one leaf in flight, the next one made on the pool when it is written.
class TransparencyService::Leaves final : public grpc::ServerWriteReactor<v1::Leaf> {
 public:
  Leaves(TransparencyService& service, grpc::CallbackServerContext* context, const v1::ReadLeavesRequest& request)
      : service_(service), context_(context), request_(request) {}

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    Continue();
  }
  void OnCancel() override {}   // the write in flight fails, or the next turn sees it
  void OnDone() override { delete this; }

  void Continue() {
    if (!service_.pool_.TrySubmit([this] { Work(); })) {
      Finish(ToGrpc(absl::ResourceExhaustedError("too many reads at once: try again from the last leaf")));
    }
  }

 private:
  void Work() {
    if (context_->IsCancelled()) return Finish(grpc::Status::CANCELLED);
    const absl::StatusOr<bool> more = Next();
    if (!more.ok()) return Finish(ToGrpc(more.status()));
    if (shown_) return StartWrite(&leaf_);
    if (*more) return Continue();
    Finish(grpc::Status::OK);
  }
  // Whether there may be more; shown_: leaf_ is to be sent.
  absl::StatusOr<bool> Next() {
    shown_ = false;
    if (!opened_) {
      ASSIGN_OR_RETURN(const Peer peer, service_.peers_(*context_));
      ASSIGN_OR_RETURN(access_, HeaderAccessOf(peer.identity));
      const uint64_t size = service_.transparency_.ledger().head().size;
      next_ = request_.from();
      end_ = request_.to() == 0 ? size : request_.to();
      if (end_ > size || next_ > end_) {
        return absl::OutOfRangeError(absl::StrCat("leaves ", request_.from(), " to ", request_.to(), ": the log has ", size));
      }
      if (request_.frames()) {
        ASSIGN_OR_RETURN(const Access bodies, AccessOf(peer.identity));
        if (!bodies.all) return absl::PermissionDeniedError("frames hold whole batches: only auditors and governance may have them");
        RETURN_IF_ERROR(service_.journal_.Record(peer, "ReadLeaves", absl::StrCat("{\"from\":", next_, ",\"to\":", end_, ",\"bodies\":true}")));
      } else {
        RETURN_IF_ERROR(service_.repeated_.Record(peer, "ReadLeaves", absl::StrCat("{\"from\":", next_, ",\"to\":", end_, "}")));
      }
      opened_ = true;
    }
    for (uint64_t skipped = 0; next_ < end_ && !shown_ && skipped < kSkippedPerTurn; ++skipped) {
      ASSIGN_OR_RETURN(shown_, service_.transparency_.ReadLeaf(access_, next_, request_.frames(), &leaf_));
      ++next_;
    }
    return next_ < end_;
  }

  TransparencyService& service_;
  grpc::CallbackServerContext* const context_;
  const v1::ReadLeavesRequest request_;
  Access access_;
  bool opened_ = false, shown_ = false;
  uint64_t next_ = 0, end_ = 0;
  v1::Leaf leaf_;
};

grpc::ServerWriteReactor<v1::Leaf>* TransparencyService::ReadLeaves(grpc::CallbackServerContext* context,
                                                                    const v1::ReadLeavesRequest* request) {
  auto* leaves = new Leaves(*this, context, *request);   // deletes itself in OnDone
  leaves->Continue();
  return leaves;
}

}  // namespace orgtrail
