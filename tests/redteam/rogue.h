// Rogue: an agent that enrolled like any other and then signs what a test tells it to, over a real stream to a real aggregator.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/sync_stream.h>

#include "agent/enrol/enrolment.h"
#include "orgtrail/v1/ingest.pb.h"
#include "tests/e2e/support/organization.h"
#include "tests/support/forger.h"

namespace orgtrail::e2e {

// One Ingest/Push stream, by hand. Ends by itself after `limit`.
class PushStream {
 public:
  PushStream(const std::string& server, const TlsFiles& files, absl::Duration limit = absl::Seconds(20));
  ~PushStream();
  PushStream(const PushStream&) = delete;

  bool Hello(const Uuid& uuid);
  bool Frame(const std::string& frame);
  bool Raw(std::string bytes);                       // one message, whatever is in it
  std::optional<v1::PushResponse> Next();            // nullopt: it ended
  grpc::Status Finish();                             // what it ended with; ends it when it is open

 private:
  using Stream = grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;
  std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  std::unique_ptr<Stream> stream_;
  std::optional<grpc::Status> finished_;
  bool ended_ = false;                               // by the other side
};

// What came of some frames.
struct Answer {
  std::string code;                                  // of the refusal; empty: a receipt for the last frame
  std::string detail;
  uint64_t epoch = 0, batch_seq = 0;
  uint32_t retry_ms = 0;
  bool closes = false, duplicate = false;
  uint64_t leaf_index = 0;
  grpc::StatusCode status = grpc::StatusCode::OK;    // of the stream, when it ended
};

class Rogue {
 public:
  // Enrols NAME in the account with a token of its own, or with `token`.
  Rogue(Organization& organization, const std::string& name, const std::string& account = kAlice, const std::string& token = "");

  Forger Signer() const;                             // at its first epoch; two of them hold the same one-time keys
  absl::Status Renew();                              // its certificate, with its identity key
  TlsFiles files() const { return enrolment_->tls_files(); }
  const Uuid& uuid() const { return enrolment_->enrolled()->uuid; }
  const EnrolledAs& as() const { return *enrolment_->enrolled(); }
  std::string subject() const { return as().account + "/" + as().region + "/" + as().name; }
  // On a new stream: hello, the frames, and what is answered to the last, or the first refusal.
  Answer Send(const std::vector<std::string>& frames, absl::Duration limit = absl::Seconds(20)) const;
  Answer SendAs(const TlsFiles& files, const Uuid& hello, const std::vector<std::string>& frames) const;

  const std::string name;

 private:
  Organization& organization_;
  std::string state_dir_;
  uint64_t seed_;
  std::unique_ptr<Enrolment> enrolment_;
};

// The entry of a frame says which batch it is.
BatchHeader HeaderOf(const std::string& frame);

}  // namespace orgtrail::e2e
