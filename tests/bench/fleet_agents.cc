// orgtrail-fleet: many agents' uplinks in one process, for measuring an aggregator: real enrolment, real sealers, one stream each,
// no spool. What the agents of many hosts would cost each on its own does not fit on the aggregator's machine.
//
// Lines on standard input: "load" starts the records; the end of it stops everything. Standard output: "ready", then "sent N".
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include "agent/enrol/enrolment.h"
#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/fs/file.h"
#include "common/rpc/credentials.h"
#include "common/seal/sealer.h"
#include "orgtrail/v1/ingest.pb.h"

namespace orgtrail {
namespace {

struct Options {
  std::string enrol, endpoint, token_file, dir, lines;
  std::string account = "222222222222", region = "us-east-1";
  int agents = 500;
  double rate = 10, seconds = 30;
};

grpc::ByteBuffer Message(const v1::PushRequest& request) {
  const grpc::Slice slice(request.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

// One agent: seals on the driver's thread, writes and reads in gRPC's.
class Member final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  Member(const Options& options, std::string name, std::unique_ptr<Enrolment> enrolment)
      : name_(std::move(name)), enrolment_(std::move(enrolment)) {
    const EnrolledAs& as = *enrolment_->enrolled();
    sealer_ = std::make_unique<Sealer>(AgentIdentity{as.uuid, as.org, as.account, as.region, as.name}, enrolment_->identity_key(),
                                       SystemClock(), SystemRng());
    channel_ = OpenChannel(options.endpoint, MutualChannelCredentials(enrolment_->tls_files()));
    stub_ = std::make_unique<grpc::GenericStub>(channel_);
    stub_->PrepareBidiStreamingCall(&context_, "/orgtrail.v1.Ingest/Push", grpc::StubOptions(), this);
    v1::PushRequest hello;
    hello.mutable_hello()->set_agent_uuid(std::string(as.uuid.view()));
    hello.mutable_hello()->set_version("fleet");
    EpochOpening opening;
    opening.reason = EpochReason::kFirst;
    opening.origin = as.origin;
    opening.boot_id = SystemClock().BootId();
    absl::StatusOr<SealedBatch> first = sealer_->OpenEpoch(1, std::move(opening), {});
    CHECK_OK(first.status());
    AddHold();
    StartCall();
    StartRead(&incoming_);
    Send(Message(hello));
    SendFrame(*first);
    last_close_ = SystemClock().Now();
  }

  void Add(std::string_view line) { sealer_->Add(EventClass::kManagement, 0, line); }
  void CloseWhenDue(Tick now) {
    const absl::Duration since = now - last_close_;
    if (sealer_->empty() ? since < absl::Seconds(heartbeat_s_.load()) : since < absl::Milliseconds(interval_ms_.load())) return;
    absl::StatusOr<std::vector<SealedBatch>> closed = sealer_->Close(0, {});
    CHECK_OK(closed.status());
    sealer_->Committed();
    for (const SealedBatch& batch : *closed) SendFrame(batch);
    last_close_ = now;
  }
  bool acked() const { return acked_.load() >= sent_; }
  bool failed() const { return failed_.load(); }
  void Cancel() { context_.TryCancel(); RemoveHold(); }
  void Join() { done_.When([](bool d) { return d; }, [](bool) {}); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    v1::PushResponse response;
    grpc::Slice whole;
    if (incoming_.DumpToSingleSlice(&whole).ok() && response.ParseFromArray(whole.begin(), static_cast<int>(whole.size()))) {
      if (response.has_receipt()) {
        acked_ += static_cast<uint64_t>(response.receipt().leaves_size());
        if (response.receipt().batch_interval_ms() > 0) interval_ms_ = response.receipt().batch_interval_ms();
        if (response.receipt().heartbeat_interval_s() > 0) heartbeat_s_ = response.receipt().heartbeat_interval_s();
      } else if (response.has_refusal()) {
        std::fprintf(stderr, "%s: refused: %s %s\n", name_.c_str(), response.refusal().code().c_str(), response.refusal().detail().c_str());
        failed_ = true;
      }
    }
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return;
    waiting_.With([&](std::deque<grpc::ByteBuffer>& q) {
      q.pop_front();
      if (!q.empty()) StartWrite(&q.front());
    });
  }
  void OnDone(const grpc::Status& status) override {
    if (!status.ok() && status.error_code() != grpc::StatusCode::CANCELLED) {
      std::fprintf(stderr, "%s: %s\n", name_.c_str(), status.error_message().c_str());
      failed_ = true;
    }
    done_.With([](bool& d) { d = true; });
  }

 private:
  void SendFrame(const SealedBatch& batch) {
    v1::PushRequest request;
    request.set_frame(batch.frame);
    ++sent_;
    Send(Message(request));
  }
  void Send(grpc::ByteBuffer message) {
    waiting_.With([&](std::deque<grpc::ByteBuffer>& q) {
      q.push_back(std::move(message));
      if (q.size() == 1) StartWrite(&q.front());
    });
  }

  const std::string name_;
  const std::unique_ptr<Enrolment> enrolment_;
  std::unique_ptr<Sealer> sealer_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::GenericStub> stub_;
  grpc::ClientContext context_;
  grpc::ByteBuffer incoming_;
  Guarded<std::deque<grpc::ByteBuffer>> waiting_;   // the first one is being written
  Guarded<bool> done_;
  std::atomic<uint64_t> acked_{0};
  uint64_t sent_ = 0;
  std::atomic<uint32_t> interval_ms_{20}, heartbeat_s_{10};
  std::atomic<bool> failed_{false};
  Tick last_close_;
};

absl::StatusOr<std::unique_ptr<Enrolment>> Join(const Options& options, const std::string& name, const std::string& token) {
  for (;;) {
    ASSIGN_OR_RETURN(std::unique_ptr<Enrolment> enrolment, Enrolment::Open(options.dir + "/" + name, PosixFs(), SystemClock(), SystemRng()));
    const absl::Status joined = enrolment->Enrol(options.enrol, token, options.account, options.region, name, "fleet");
    if (joined.ok()) return enrolment;
    if (!absl::IsResourceExhausted(joined)) return joined;
    std::this_thread::sleep_for(std::chrono::milliseconds(200));   // the door limits attempts by address
  }
}

bool InputReady(int timeout_ms) {
  pollfd in{0, POLLIN, 0};
  return poll(&in, 1, timeout_ms) > 0;
}

int Drive(const Options& options) {
  std::vector<std::string> lines;
  std::ifstream in(options.lines);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  std::ifstream token_in(options.token_file);
  std::string token;
  std::getline(token_in, token);
  if (lines.empty() || token.empty()) {
    std::fprintf(stderr, "orgtrail-fleet: no lines or no token\n");
    return 1;
  }
  std::vector<std::unique_ptr<Member>> members;
  for (int n = 0; n < options.agents; ++n) {
    char name[32];
    std::snprintf(name, sizeof name, "fleet-%04d", n);
    std::filesystem::create_directories(options.dir + "/" + name);
    absl::StatusOr<std::unique_ptr<Enrolment>> enrolment = Join(options, name, token);
    if (!enrolment.ok()) {
      std::fprintf(stderr, "%s: %s\n", name, Describe(enrolment.status()).c_str());
      return 1;
    }
    members.push_back(std::make_unique<Member>(options, name, *std::move(enrolment)));
    for (auto& m : members) m->CloseWhenDue(SystemClock().Now());
  }
  std::printf("ready\n");
  std::fflush(stdout);

  const Clock& clock = SystemClock();
  const absl::Duration gap = absl::Seconds(1) / (options.rate * options.agents);
  const auto most = static_cast<uint64_t>(options.rate * options.seconds * options.agents);
  uint64_t sent = 0;
  Tick begun = Tick::Never();
  for (;;) {
    if (InputReady(2)) {   // also the pace of this loop: every 2 ms
      char command[16];
      if (read(0, command, sizeof command) <= 0) break;
      begun = clock.Now();
    }
    const Tick now = clock.Now();
    if (begun != Tick::Never()) {
      for (; sent < most && begun + gap * static_cast<double>(sent) <= now; ++sent) {
        members[sent % members.size()]->Add(lines[sent % lines.size()]);
      }
    }
    for (auto& m : members) m->CloseWhenDue(now);
    if (sent == most && begun != Tick::Never()) {
      std::printf("sent %llu\n", static_cast<unsigned long long>(sent));
      std::fflush(stdout);
      begun = Tick::Never();
    }
  }
  int failed = 0;
  for (auto& m : members) {
    m->Cancel();
    m->Join();
    failed += m->failed() ? 1 : 0;
  }
  if (failed > 0) std::fprintf(stderr, "orgtrail-fleet: %d agents were refused or cut off\n", failed);
  return failed > 0 ? 1 : 0;
}

}  // namespace
}  // namespace orgtrail

int main(int argc, char** argv) {
  orgtrail::Options options;
  CLI::App app{"orgtrail-fleet: many agents' uplinks in one process, for measuring an aggregator."};
  app.add_option("--enrol", options.enrol, "HOST:PORT of the enrolment door")->required();
  app.add_option("--endpoint", options.endpoint, "HOST:PORT of the aggregator")->required();
  app.add_option("--token", options.token_file, "A file with a join token good for all of them")->required();
  app.add_option("--dir", options.dir, "Where identities go")->required();
  app.add_option("--lines", options.lines, "Records, one a line, sent over and over")->required();
  app.add_option("--agents", options.agents, "How many")->capture_default_str();
  app.add_option("--rate", options.rate, "Records a second of each")->capture_default_str();
  app.add_option("--seconds", options.seconds, "How long")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  orgtrail::InitRpc();
  return orgtrail::Drive(options);
}
