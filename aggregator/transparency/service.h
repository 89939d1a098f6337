// TransparencyService: the log and its proofs over gRPC.
//
// Threads  gRPC reactions only hand over to a small pool. Destroy it after the server is shut down.
// Holds    hashes, checkpoints and consistency are for every caller; entries and statements for those who see the
//          account; whole frames and event proofs hold bodies: for those who may read them. All but hashes are recorded first.
#pragma once

#include <memory>
#include <string>

#include "aggregator/query/lookup.h"
#include "aggregator/query/pool.h"
#include "aggregator/query/read_journal.h"
#include "aggregator/query/service.h"
#include "common/metrics/metrics.h"
#include "orgtrail/v1/transparency.grpc.pb.h"

namespace orgtrail {

// The answers, without gRPC. Threads: any.
class Transparency {
 public:
  Transparency(const LedgerReader& ledger, const Registry& registry, const Lookup& lookup, const orgtrail::Completeness& completeness,
               std::string log_vkey);
  v1::CheckpointResponse Checkpoint() const;
  absl::StatusOr<v1::InclusionResponse> Inclusion(const v1::GetInclusionRequest& request) const;
  // InvalidArgument: old_size 0 or above new_size. OutOfRange: new_size above the newest checkpoint's.
  absl::StatusOr<v1::ConsistencyResponse> Consistency(const v1::GetConsistencyRequest& request) const;
  absl::StatusOr<v1::TileResponse> Tile(const v1::GetTileRequest& request) const;
  // Candidates instead of a proof when the event id is not unique.
  absl::StatusOr<v1::EventProofResponse> Proof(const Identity& who, const v1::GetEventProofRequest& request) const;
  absl::StatusOr<v1::CompletenessStatement> Completeness(const Identity& who, v1::GetCompletenessRequest request) const;
  // One leaf for ReadLeaves; false: the caller may not see it.
  absl::StatusOr<bool> ReadLeaf(const Access& access, uint64_t index, bool frame, v1::Leaf* out) const;
  const LedgerReader& ledger() const { return ledger_; }

 private:
  const LedgerReader& ledger_;
  const Registry& registry_;
  const Lookup& lookup_;
  const orgtrail::Completeness& completeness_;
  const std::string log_vkey_;
};

class TransparencyService final : public v1::Transparency::CallbackService {
 public:
  TransparencyService(const orgtrail::Transparency& transparency, ReadJournal& journal, ReadJournal& repeated, Metrics& metrics,
                      PeerSource peers = TlsPeers(), size_t threads = 2);
  grpc::ServerUnaryReactor* GetCheckpoint(grpc::CallbackServerContext*, const v1::GetCheckpointRequest*,
                                          v1::CheckpointResponse*) override;
  grpc::ServerUnaryReactor* GetInclusion(grpc::CallbackServerContext*, const v1::GetInclusionRequest*,
                                         v1::InclusionResponse*) override;
  grpc::ServerUnaryReactor* GetConsistency(grpc::CallbackServerContext*, const v1::GetConsistencyRequest*,
                                           v1::ConsistencyResponse*) override;
  grpc::ServerUnaryReactor* GetTile(grpc::CallbackServerContext*, const v1::GetTileRequest*, v1::TileResponse*) override;
  grpc::ServerWriteReactor<v1::Leaf>* ReadLeaves(grpc::CallbackServerContext*, const v1::ReadLeavesRequest*) override;
  grpc::ServerUnaryReactor* GetEventProof(grpc::CallbackServerContext*, const v1::GetEventProofRequest*,
                                          v1::EventProofResponse*) override;
  grpc::ServerUnaryReactor* GetCompleteness(grpc::CallbackServerContext*, const v1::GetCompletenessRequest*,
                                            v1::CompletenessStatement*) override;

 private:
  class Leaves;
  const orgtrail::Transparency& transparency_;
  ReadJournal& journal_;
  ReadJournal& repeated_;         // for what programs ask again and again: no bodies
  const PeerSource peers_;
  Counter& proofs_;
  Pool pool_;
};

}  // namespace orgtrail
