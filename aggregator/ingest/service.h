// Service: the gRPC door of ingest. Push is registered raw, so bytes are bytes and refusals are ours; reactions only move a message
// between the stream and the sessions. Not calling StartRead is the backpressure: HTTP/2 then fills the agent's spool.
//
// Threads  gRPC's reactions; Streams' calls from any.
// Owns     its reactors, each until its OnDone. Sessions outlives it; destroy the grpc::Server first.
#pragma once

#include <memory>
#include <string>

#include "aggregator/ingest/session.h"

namespace grpc {
class Service;
}

namespace orgtrail {

class IngestService final : public Streams {
 public:
  IngestService();
  ~IngestService() override;
  void Attach(Sessions& sessions);   // once, before the server starts
  grpc::Service* service();          // to register; lives as long as this

  void Send(StreamId stream, std::string response) override;
  void Resume(StreamId stream) override;
  void Close(StreamId stream, const absl::Status& status) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace orgtrail
