#include "common/rpc/call_limit.h"

#include <gtest/gtest.h>
#include <grpcpp/security/auth_metadata_processor.h>

#include <atomic>
#include <mutex>
#include <set>
#include <vector>

#include "common/base/clock.h"
#include "common/rpc/allowance.h"
#include "common/rpc/credentials.h"
#include "orgtrail/v1/enrol.grpc.pb.h"

namespace orgtrail {
namespace {

TEST(Allowance, IsABurstAndSoManyASecond) {
  Allowance allowance(3, 2);
  const Tick start{1};
  using Took = Allowance::Took;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(allowance.Take("a", start), Took::kOne) << i;
  EXPECT_EQ(allowance.Take("a", start), Took::kTooMany);
  EXPECT_EQ(allowance.Take("a", start), Took::kStillTooMany);
  EXPECT_EQ(allowance.Take("b", start), Took::kOne);            // a name of its own
  EXPECT_EQ(allowance.Take("a", start + absl::Seconds(1)), Took::kOne);
  EXPECT_EQ(allowance.Take("a", start + absl::Seconds(1)), Took::kOne);
  EXPECT_EQ(allowance.Take("a", start + absl::Seconds(1)), Took::kTooMany);
  EXPECT_EQ(allowance.Take("a", start + absl::Hours(1)), Took::kOne);
}

TEST(Allowance, ForgetsNamesThatTookNothingForAMinute) {
  Allowance allowance(1, 0.001);
  for (int i = 0; i < 16384; ++i) allowance.Take(std::to_string(i), Tick{1});
  EXPECT_EQ(allowance.Take("0", Tick{1}), Allowance::Took::kTooMany);
  // Full of names that are remembered: a newcomer is not counted. Later there is room.
  EXPECT_EQ(allowance.Take("new", Tick{1}), Allowance::Took::kOne);
  EXPECT_EQ(allowance.Take("new", Tick{1}), Allowance::Took::kOne);
  const Tick later = Tick{1} + absl::Seconds(61);
  EXPECT_EQ(allowance.Take("new", later), Allowance::Took::kOne);
  EXPECT_EQ(allowance.Take("new", later), Allowance::Took::kTooMany);
}

class Answers final : public v1::Enrol::Service {
 public:
  grpc::Status Renew(grpc::ServerContext* context, const v1::RenewRequest*, v1::EnrolResponse* response) override {
    response->set_origin(AddressOf(context->peer()));
    return grpc::Status::OK;
  }
};

// What gRPC keeps of a connection's peer.
class Connection final : public grpc::AuthContext {
 public:
  bool IsPeerAuthenticated() const override { return true; }
  std::vector<grpc::string_ref> GetPeerIdentity() const override { return {}; }
  std::string GetPeerIdentityPropertyName() const override { return ""; }
  std::vector<grpc::string_ref> FindPropertyValues(const std::string& name) const override {
    std::vector<grpc::string_ref> values;
    for (const auto& [key, value] : properties) {
      if (key == name) values.emplace_back(value);
    }
    return values;
  }
  grpc::AuthPropertyIterator begin() const override { return Nowhere(); }
  grpc::AuthPropertyIterator end() const override { return Nowhere(); }
  void AddProperty(const std::string& key, const grpc::string_ref& value) override { properties.emplace_back(key, std::string(value.data(), value.size())); }
  bool SetPeerIdentityPropertyName(const std::string&) override { return false; }

  std::vector<std::pair<std::string, std::string>> properties;

 private:
  struct Nowhere : grpc::AuthPropertyIterator {
    Nowhere() = default;
  };
};

TEST(CallGate, RefusesOneConnectionBeyondTwiceTheLimitOfEachKind) {
  CallLimit limit;
  limit.burst = 5, limit.per_second = 0.001;
  limit.single = "/s/Once", limit.single_burst = 2, limit.single_per_second = 0.001;
  const std::shared_ptr<grpc::AuthMetadataProcessor> gate = MakeCallGate(limit, SystemClock());
  EXPECT_FALSE(gate->IsBlocking());
  Connection one, other;
  const auto taken = [&](Connection& connection, const std::string& path, int tries) {
    int n = 0;
    for (int i = 0; i < tries; ++i) {
      const grpc::AuthMetadataProcessor::InputMetadata headers = {{":path", path}};
      grpc::AuthMetadataProcessor::OutputMetadata consumed, answer;
      const grpc::Status status = gate->Process(headers, &connection, &consumed, &answer);
      EXPECT_TRUE(status.ok() || status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
      n += status.ok();
    }
    return n;
  };
  EXPECT_EQ(taken(one, "/s/Once", 10), 4);
  EXPECT_EQ(taken(one, "/s/Often", 20), 10);
  EXPECT_EQ(taken(other, "/s/Once", 10), 4);
  EXPECT_EQ(one.properties.size(), 1u);   // named once, and no other's name
  EXPECT_NE(one.properties, other.properties);
}

TEST(CallLimit, ClosesOnlyTheConnectionThatBeganTooManyCalls) {
  Answers service;
  std::mutex mu;
  std::vector<std::string> cut;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  CallLimit limit;
  limit.burst = 20;
  limit.per_second = 0.001;
  limit.cut = [&](const std::string& address) {
    const std::scoped_lock lock(mu);
    cut.push_back(address);
  };
  AddCallLimit(builder, std::move(limit), SystemClock());
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  const std::string address = "127.0.0.1:" + std::to_string(port);
  const auto channel = OpenChannel(address, grpc::InsecureChannelCredentials()), other = OpenChannel(address, grpc::InsecureChannelCredentials());
  // Who the server saw; empty: the call failed.
  const auto call = [](const std::shared_ptr<grpc::Channel>& on) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::EnrolResponse response;
    return v1::Enrol::NewStub(on)->Renew(&context, {}, &response).ok() ? response.origin() : std::string();
  };
  const std::string bystander = call(other), greedy = call(channel);
  ASSERT_NE(bystander, "");
  ASSERT_NE(greedy, bystander);
  for (int i = 1; i < 20; ++i) EXPECT_EQ(call(channel), greedy) << i;
  // The one call too many fails, or is made again by gRPC on a new connection; that one has an allowance of its own.
  std::string next;
  for (int i = 0; i < 100 && next.empty(); ++i) next = call(channel);
  EXPECT_NE(next, "");
  EXPECT_NE(next, greedy);
  EXPECT_EQ(call(other), bystander);
  const std::scoped_lock lock(mu);
  EXPECT_EQ(cut, std::vector<std::string>{greedy});
}

TEST(CallLimit, OfTheMethodThatIsCalledOnceAFewAreTooMany) {
  Answers service;
  std::atomic<int> cuts = 0;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  CallLimit limit;
  limit.single = "/orgtrail.v1.Enrol/Renew";
  limit.single_burst = 3;
  limit.single_per_second = 0.001;
  limit.cut = [&](const std::string&) { ++cuts; };
  AddCallLimit(builder, std::move(limit), SystemClock());
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  const auto stub = v1::Enrol::NewStub(OpenChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials()));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(cuts, 0);
    grpc::ClientContext context;
    v1::EnrolResponse response;
    stub->Renew(&context, {}, &response);
  }
  EXPECT_EQ(cuts, 1);
}

TEST(CutConnection, KnowsOnlyItsOwn) {
  EXPECT_FALSE(CutConnection("127.0.0.1:1"));
  EXPECT_FALSE(CutConnection("[::1]:1"));
  EXPECT_FALSE(CutConnection("nobody"));
}

}  // namespace
}  // namespace orgtrail
