#include "aggregator/query/service.h"

#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kQueued = 256;

}  // namespace

PeerSource TlsPeers() {
  return [](const grpc::CallbackServerContext& context) { return PeerOf(context); };
}

PeerSource AdmittedPeers(const Registry& registry) {
  return [&registry](const grpc::CallbackServerContext& context) -> absl::StatusOr<Peer> {
    ASSIGN_OR_RETURN(Peer peer, PeerOf(context));
    RETURN_IF_ERROR(registry.Admit(peer.identity, peer.serial_hex));
    return peer;
  };
}

grpc::ServerUnaryReactor* FinishOnPool(Pool& pool, grpc::CallbackServerContext* context, std::function<absl::Status()> work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (!pool.TrySubmit([reactor, context, work = std::move(work)] {
        if (context->IsCancelled()) return reactor->Finish(grpc::Status::CANCELLED);
        reactor->Finish(ToGrpc(work()));
      })) {
    reactor->Finish(ToGrpc(absl::ResourceExhaustedError("too many reads at once: try again")));
  }
  return reactor;
}

QueryService::QueryService(const orgtrail::Lookup& lookup, ReadJournal& journal, Metrics& metrics, PeerSource peers, size_t threads)
    : lookup_(lookup), journal_(journal), peers_(std::move(peers)),
      seconds_(metrics.GetHistogram("orgtrail_query_seconds", "time to answer a lookup, its record included", Metrics::Latency())),
      denied_(metrics.GetCounter("orgtrail_query_denied_total", "reads refused because the caller may not see what was asked for")),
      pool_("query", threads, kQueued) {}

grpc::ServerUnaryReactor* QueryService::Lookup(grpc::CallbackServerContext* context, const v1::LookupRequest* request,
                                               v1::LookupResponse* response) {
  return FinishOnPool(pool_, context, [this, context, request, response]() -> absl::Status {
    const Tick begin = SystemClock().Now();
    const absl::Status done = [&]() -> absl::Status {
      ASSIGN_OR_RETURN(const Peer peer, peers_(*context));
      ASSIGN_OR_RETURN(*response, lookup_.Find(peer.identity, *request));
      // Recorded when it is known that something would be shown, and before it is: a refused request has its own record there.
      if (!request->page_token().empty()) return absl::OkStatus();
      return journal_.Record(peer, "LookupEvents", DetailsOf(*request));
    }();
    if (absl::IsPermissionDenied(done)) denied_.Add();
    if (!done.ok()) response->Clear();
    seconds_.Observe(absl::ToDoubleSeconds(SystemClock().Now() - begin));
    return done;
  });
}

grpc::ServerUnaryReactor* QueryService::GetEvent(grpc::CallbackServerContext* context, const v1::GetEventRequest* request,
                                                 v1::GetEventResponse* response) {
  return FinishOnPool(pool_, context, [this, context, request, response]() -> absl::Status {
    const absl::Status done = [&]() -> absl::Status {
      ASSIGN_OR_RETURN(const Peer peer, peers_(*context));
      ASSIGN_OR_RETURN(*response, lookup_.Get(peer.identity, *request));
      std::string details = request->at_set() ? absl::StrCat("{\"leaf\":", request->leaf_index(), ",\"event\":", request->event_index(), "}")
                                              : "{\"eventID\":" + JsonString(request->event_id().substr(0, 256)) + "}";
      return journal_.Record(peer, "GetEvent", std::move(details));
    }();
    if (absl::IsPermissionDenied(done)) denied_.Add();
    if (!done.ok()) response->Clear();
    return done;
  });
}

}  // namespace orgtrail
