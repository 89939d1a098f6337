// QueryService: the gRPC door to Lookup. Every read is recorded before its rows are returned: one record a lookup (not a page).
// Threads: gRPC reactions only hand over to a small pool; the pool works. Destroy it after the server is shut down.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "aggregator/ledger/registry.h"
#include "aggregator/query/lookup.h"
#include "aggregator/query/pool.h"
#include "aggregator/query/read_journal.h"
#include "common/metrics/metrics.h"
#include "common/rpc/credentials.h"
#include "orgtrail/v1/query.grpc.pb.h"

namespace orgtrail {

// Who calls; PeerOf unless a test says otherwise.
using PeerSource = std::function<absl::StatusOr<Peer>(const grpc::CallbackServerContext&)>;
PeerSource TlsPeers();
// … and is not revoked, as of this call. `registry` outlives what uses it.
PeerSource AdmittedPeers(const Registry& registry);

// Runs `work` on the pool and finishes the call with its status; RESOURCE_EXHAUSTED when the pool's queue is full.
grpc::ServerUnaryReactor* FinishOnPool(Pool& pool, grpc::CallbackServerContext* context, std::function<absl::Status()> work);

class QueryService final : public v1::Query::CallbackService {
 public:
  QueryService(const orgtrail::Lookup& lookup, ReadJournal& journal, Metrics& metrics, PeerSource peers = TlsPeers(), size_t threads = 2);
  grpc::ServerUnaryReactor* Lookup(grpc::CallbackServerContext* context, const v1::LookupRequest* request,
                                   v1::LookupResponse* response) override;
  grpc::ServerUnaryReactor* GetEvent(grpc::CallbackServerContext* context, const v1::GetEventRequest* request,
                                     v1::GetEventResponse* response) override;

 private:
  const orgtrail::Lookup& lookup_;
  ReadJournal& journal_;
  const PeerSource peers_;
  Histogram& seconds_;
  Counter& denied_;
  Pool pool_;
};

}  // namespace orgtrail
