// The doors over a real gRPC connection in this process; who calls is what a header says.
#include "aggregator/feed/service.h"

#include <gtest/gtest.h>

#include <thread>

#include "aggregator/transparency/service.h"
#include "tests/support/temp_history.h"

namespace orgtrail {
namespace {

class Journal final : public ReadJournal {
 public:
  absl::Status Record(const Peer& who, std::string_view name, std::string details) override {
    return records.With([&](std::vector<std::string>& r) {
      r.push_back(who.identity.ToUri() + " " + std::string(name) + " " + details);
      return refuse ? absl::ResourceExhaustedError("disk full") : absl::OkStatus();
    });
  }
  size_t size() const {
    return records.Peek([](const auto& r) { return r.size(); });
  }
  Guarded<std::vector<std::string>> records;
  std::atomic<bool> refuse{false};
};

absl::StatusOr<Peer> PeerInHeader(const grpc::CallbackServerContext& context) {
  const auto found = context.client_metadata().find("who");
  if (found == context.client_metadata().end()) return absl::UnauthenticatedError("AUTH_NO_CERT");
  const std::optional<Identity> identity = Identity::Parse({found->second.data(), found->second.size()});
  if (!identity.has_value()) return absl::PermissionDeniedError("SAN_INVALID");
  Peer peer;
  peer.identity = *identity;
  return peer;
}

constexpr char kAuditor[] = "spiffe://o-demo/role/auditor/ann";
constexpr char kOperator[] = "spiffe://o-demo/role/operator/olga";

class DoorsTest : public testing::Test {
 protected:
  DoorsTest() : agent_(t_.builder.Enrol("111111111111", "eu-west-1", "web-1")) {
    CHECK_OK(registry_.Load(*t_.builder.ledger));
    completeness_ = std::make_unique<Completeness>(*t_.builder.ledger, registry_, *t_.history, [](const AgentHead&) { return true; }, SystemClock());
    lookup_ = std::make_unique<Lookup>(*t_.history, *t_.builder.ledger, *completeness_, std::string(32, 'k'));
    query_ = std::make_unique<QueryService>(*lookup_, journal_, t_.metrics, PeerInHeader);
    transparency_ = std::make_unique<Transparency>(*t_.builder.ledger, registry_, *lookup_, *completeness_, "vkey");
    proofs_ = std::make_unique<TransparencyService>(*transparency_, journal_, journal_, t_.metrics, PeerInHeader);
    FeedOptions options;
    options.stall = absl::Milliseconds(300);
    feed_ = std::make_unique<FeedService>(options, *t_.builder.ledger, *t_.history, registry_, *completeness_, journal_, std::string(32, 'k'),
                                          SystemClock(), t_.metrics, PeerInHeader);
    grpc::ServerBuilder server;
    int port = 0;
    server.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    server.RegisterService(query_.get());
    server.RegisterService(proofs_.get());
    server.RegisterService(feed_.get());
    server_ = server.BuildAndStart();
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials());
  }
  ~DoorsTest() override {
    feed_->Drain();
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
    t_.builder.ledger->Wake();
  }
  static void Call(grpc::ClientContext& context, const char* who) {
    context.AddMetadata("who", who);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  }
  void Fill(size_t n) {
    CHECK_OK(t_.builder.Fill(agent_, n));
    t_.history->Step(t_.clock.now);
  }

  TempHistory t_;
  Registry registry_;
  Journal journal_;
  TestAgent& agent_;
  std::unique_ptr<Completeness> completeness_;
  std::unique_ptr<Lookup> lookup_;
  std::unique_ptr<QueryService> query_;
  std::unique_ptr<Transparency> transparency_;
  std::unique_ptr<TransparencyService> proofs_;
  std::unique_ptr<FeedService> feed_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(DoorsTest, AFollowerGetsEveryRecordAsItIsLogged) {
  Fill(10);
  auto stub = v1::Feed::NewStub(channel_);
  grpc::ClientContext context;
  Call(context, kAuditor);
  v1::SubscribeRequest request;
  request.set_start(true);
  request.set_follow(true);
  auto reader = stub->Subscribe(&context, request);
  v1::FeedMessage m;
  int got = 0;
  bool first = true;
  double worst_ms = 0;
  for (int round = 0; round < 20; ++round) {
    const Tick began = SystemClock().Now();
    while (got < 10 + round * 3) {
      ASSERT_TRUE(reader->Read(&m));
      if (first) {
        EXPECT_TRUE(m.has_completeness());
      }
      first = false;
      got += m.events_size();
    }
    if (round > 0) worst_ms = std::max(worst_ms, absl::ToDoubleMilliseconds(SystemClock().Now() - began));
    Fill(3);
  }
  EXPECT_EQ(feed_->subscriptions(), 1u);
  context.TryCancel();
  while (reader->Read(&m)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(got, 10 + 19 * 3);
  EXPECT_LT(worst_ms, 2000);   // a loaded machine; milliseconds on an idle one
  EXPECT_GE(journal_.size(), 1u);
}

TEST_F(DoorsTest, WithoutFollowItEndsAndMaxIsKept) {
  Fill(30);
  auto stub = v1::Feed::NewStub(channel_);
  for (const uint64_t max : {0u, 7u}) {
    grpc::ClientContext context;
    Call(context, kAuditor);
    v1::SubscribeRequest request;
    request.set_start(true);
    request.set_max(max);
    auto reader = stub->Subscribe(&context, request);
    v1::FeedMessage m;
    int got = 0;
    while (reader->Read(&m)) got += m.events_size();
    EXPECT_TRUE(reader->Finish().ok());
    EXPECT_EQ(got, max == 0 ? 30 : 7);
    EXPECT_TRUE(m.has_completeness());
  }
}

TEST_F(DoorsTest, ASlowReaderIsDisconnectedAndHarmsNobody) {
  for (int i = 0; i < 60; ++i) Fill(900);   // far more than flow control lets through
  auto stub = v1::Feed::NewStub(channel_);
  grpc::ClientContext slow, quick;
  Call(slow, kAuditor);
  Call(quick, kAuditor);
  v1::SubscribeRequest request;
  request.set_start(true);
  request.set_bodies_only(true);
  auto asleep = stub->Subscribe(&slow, request);
  auto reader = stub->Subscribe(&quick, request);
  v1::FeedMessage m;
  int got = 0;
  while (reader->Read(&m)) got += m.events_size();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(got, 60 * 900);
  while (feed_->subscriptions() > 0) std::this_thread::yield();   // the stall ends the other one
  std::string cursor;
  int before = 0;
  while (asleep->Read(&m)) {
    before += m.events_size();
    cursor = m.cursor();
  }
  EXPECT_FALSE(asleep->Finish().ok());
  EXPECT_LT(before, 60 * 900);
  if (cursor.empty()) return;
  grpc::ClientContext again;
  Call(again, kAuditor);
  request.set_cursor(cursor);
  auto resumed = stub->Subscribe(&again, request);
  int after = 0;
  while (resumed->Read(&m)) after += m.events_size();
  EXPECT_EQ(before + after, 60 * 900);
}

TEST_F(DoorsTest, RefusalsCarryTheirCode) {
  Fill(5);
  auto feed = v1::Feed::NewStub(channel_);
  struct Case {
    const char* who;
    const char* cursor;
    grpc::StatusCode want;
  };
  const std::string foreign = FeedCursor{1, 0}.Encode(std::string(32, 'x'), *Identity::Parse(kAuditor), t_.builder.origin, "rootroot");
  const std::string future = FeedCursor{999, 0}.Encode(std::string(32, 'k'), *Identity::Parse(kAuditor), t_.builder.origin, "rootroot");
  for (const Case& c : {Case{kOperator, "", grpc::StatusCode::PERMISSION_DENIED}, {kAuditor, "junk", grpc::StatusCode::INVALID_ARGUMENT},
                        {kAuditor, foreign.c_str(), grpc::StatusCode::PERMISSION_DENIED},
                        {kAuditor, future.c_str(), grpc::StatusCode::OUT_OF_RANGE}}) {
    grpc::ClientContext context;
    Call(context, c.who);
    v1::SubscribeRequest request;
    if (c.cursor[0] != '\0') request.set_cursor(c.cursor);
    auto reader = feed->Subscribe(&context, request);
    v1::FeedMessage m;
    EXPECT_FALSE(reader->Read(&m));
    EXPECT_EQ(reader->Finish().error_code(), c.want);
  }
}

TEST_F(DoorsTest, AReadThatCannotBeRecordedIsRefused) {
  Fill(5);
  auto stub = v1::Query::NewStub(channel_);
  for (const bool refuse : {false, true}) {
    journal_.refuse = refuse;
    grpc::ClientContext context;
    Call(context, kAuditor);
    v1::LookupResponse response;
    const grpc::Status status = stub->Lookup(&context, v1::LookupRequest(), &response);
    EXPECT_EQ(status.ok(), !refuse);
    EXPECT_EQ(response.events_size(), refuse ? 0 : 5);
    EXPECT_EQ(journal_.size(), refuse ? 2u : 1u);
  }
}

TEST_F(DoorsTest, LeavesAreReadByThoseWhoMay) {
  Fill(5);
  auto stub = v1::Transparency::NewStub(channel_);
  struct Case {
    const char* who;
    bool frames;
    int leaves;   // -1: refused
  };
  const int size = static_cast<int>(t_.builder.ledger->head().size);
  for (const Case& c : {Case{kAuditor, true, size}, {kOperator, false, size}, {kOperator, true, -1},
                        {"spiffe://o-demo/account/111111111111/user/uma", false, 2},
                        {"spiffe://o-demo/account/222222222222/user/vic", false, 0}}) {
    grpc::ClientContext context;
    Call(context, c.who);
    v1::ReadLeavesRequest request;
    request.set_frames(c.frames);
    auto reader = stub->ReadLeaves(&context, request);
    v1::Leaf leaf;
    int got = 0;
    while (reader->Read(&leaf)) {
      ++got;
      EXPECT_FALSE(leaf.entry().empty());
    }
    EXPECT_EQ(reader->Finish().ok(), c.leaves >= 0) << c.who;
    EXPECT_EQ(got, std::max(c.leaves, 0)) << c.who;
  }
}

}  // namespace
}  // namespace orgtrail
