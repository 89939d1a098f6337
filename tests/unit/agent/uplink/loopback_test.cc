// Two agents, one aggregator, gRPC and mutual TLS on loopback; the connection is killed midway. Everything is stored once and acked.
#include <gtest/gtest.h>
#include <grpcpp/grpcpp.h>

#include <set>
#include <thread>

#include "agent/uplink/uplink.h"
#include "aggregator/ingest/service.h"
#include "common/base/status.h"
#include "common/base/worker.h"
#include "common/crypto/x509.h"
#include "common/rpc/credentials.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

struct AgentSide {
  AgentIdentity id;
  SigningKey key;
  std::unique_ptr<Spool> spool;
  std::unique_ptr<Sealer> sealer;
  std::unique_ptr<Uplink> uplink;
  BatchKey last;

  void Store(const SealedBatch& b) {
    CHECK_OK(spool->Append({.batches = {&b}, .positions = {}, .replies = {}}));
    sealer->Committed();
    last = {b.header.epoch, b.header.batch_seq};
  }
};

class LoopbackTest : public ::testing::Test {
 protected:
  LoopbackTest() : builder_(dir_ / "ledger", still_) {
    InitRpc();
    CHECK_OK(builder_.Open());
    auto ca = NewCa("o-demo", clock_.Wall(), absl::Hours(24));
    CHECK_OK(ca.status());
    ca_ = *std::move(ca);
    CHECK_OK(WriteFileAtomically(PosixFs(), dir_ / "ca.pem", ca_.cert_pem));
    Issue("server", Identity{Identity::Kind::kAggregator, "o-demo", "", "eu-west-1", ""}.ToUri());
  }
  ~LoopbackTest() override {
    for (auto& a : agents_) a->uplink->Stop();
    Down();
  }
  // The serial.
  std::string Issue(const std::string& name, const std::string& uri) {
    auto key = NewTlsKeyPem();
    CHECK_OK(key.status());
    auto csr = NewCsrPem(*key);
    CHECK_OK(csr.status());
    auto leaf = IssueLeafPem(ca_, {*csr, uri, {"localhost", "127.0.0.1"}, clock_.Wall() - absl::Minutes(1), clock_.Wall() + absl::Hours(1)});
    CHECK_OK(leaf.status());
    CHECK_OK(WriteFileAtomically(PosixFs(), dir_ / (name + ".pem"), *leaf));
    CHECK_OK(WriteFileAtomically(PosixFs(), dir_ / (name + ".key"), *key));
    return ReadCertificate(*leaf)->serial_hex;
  }
  void Up() {
    service_ = std::make_unique<IngestService>();
    SessionOptions options;
    options.log_vkey = log_key().Encode();
    sessions_ = std::make_unique<Sessions>(options, *builder_.ledger, registry_, *service_, findings(), clock_, metrics_);
    committer_ = std::make_unique<Committer>(*builder_.ledger, *sessions_, 1024, clock_);
    verifier_ = std::make_unique<Verifier>(VerifierOptions{.threads = 2}, *builder_.ledger, registry_, *committer_, *sessions_, findings(),
                                           clock_, metrics_);
    sessions_->Attach(*verifier_);
    service_->Attach(*sessions_);
    commit_worker_ = std::make_unique<Worker>("commit", *committer_, clock_);
    session_worker_ = std::make_unique<Worker>("receipts", *sessions_, clock_);
    committer_->Poked([this] { commit_worker_->Poke(); });
    sessions_->Poked([this] { session_worker_->Poke(); });
    verifier_->Start();
    commit_worker_->Start();
    session_worker_->Start();
    grpc::ServerBuilder b;
    SetServerLimits(b);
    b.AddListeningPort("127.0.0.1:" + std::to_string(port_),
                       MutualServerCredentials({dir_ / "server.pem", dir_ / "server.key", dir_ / "ca.pem"}, "o-demo", [](const Identity&) { return true; }),
                       &port_);
    b.RegisterService(service_->service());
    server_ = b.BuildAndStart();
    ASSERT_NE(server_, nullptr);
  }
  void Down() {
    if (!server_) return;
    sessions_->Shutdown();
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
    server_.reset();
    verifier_->Stop();
    commit_worker_->Stop();
    session_worker_->Stop();
    commit_worker_.reset();
    session_worker_.reset();
    service_.reset();
    verifier_.reset();
    committer_.reset();
    sessions_.reset();
  }
  Findings findings() {
    return [this](std::string_view code, Severity, std::string_view, std::string_view detail) {
      found_.With([&](auto& f) { f.push_back(std::string(code) + " " + std::string(detail)); });
    };
  }
  NoteKey log_key() const { return NoteKey{builder_.origin, 1, builder_.log_key.public_key()}; }

  AgentSide& Agent(const std::string& name) {
    auto a = std::make_unique<AgentSide>();
    a->id = {Uuid::Random(SystemRng()), "o-demo", "111111111111", "eu-west-1", name};
    a->key = SigningKey::Generate(SystemRng());
    const std::string uri = Identity{Identity::Kind::kAgent, "o-demo", "111111111111", "eu-west-1", name}.ToUri();
    IdentityLeaf leaf;
    leaf.wall_ns = 1;
    leaf.uuid = a->id.uuid;
    leaf.uri = uri;
    leaf.identity_key = std::string(View(a->key.public_key()));
    leaf.serial = Issue(name, uri);
    leaf.not_after_ns = 1ull << 62;
    CHECK_OK(builder_.Append(ControlItem(leaf.Encode())));
    registry_.Apply(leaf, builder_.ledger->head().size - 1);
    SpoolOptions options;
    options.max_bytes = 64 << 20;
    options.min_free = 0;
    auto spool = Spool::Open(dir_ / ("spool-" + name), options, PosixFs(), clock_);
    CHECK_OK(spool.status());
    a->spool = *std::move(spool);
    a->sealer = std::make_unique<Sealer>(a->id, a->key, clock_, SystemRng());
    EpochOpening opening;
    opening.origin = builder_.origin;
    opening.boot_id = clock_.BootId();
    opening.clock_source = "ntp";
    opening.cert_serial = "0a";
    auto open = a->sealer->OpenEpoch(1, opening, {});
    CHECK_OK(open.status());
    a->Store(*open);
    UplinkOptions o;
    o.endpoints = {"127.0.0.1:" + std::to_string(port_)};
    o.cert = dir_ / (name + ".pem");
    o.key = dir_ / (name + ".key");
    o.ca = dir_ / "ca.pem";
    o.session.uuid = a->id.uuid;
    o.session.version = "test";
    a->uplink = std::make_unique<Uplink>(o, log_key(), *a->spool, clock_, SystemRng(), metrics_, UplinkReports{});
    agents_.push_back(std::move(a));
    return *agents_.back();
  }
  void Capture(AgentSide& a, int batches) {
    for (int i = 0; i < batches; ++i) {
      a.sealer->Add(EventClass::kManagement, 0, TestRecord(++n_, a.id.account, a.id.region, clock_.Wall()));
      auto closed = a.sealer->Close(0, Seen{});
      CHECK_OK(closed.status());
      for (const SealedBatch& b : *closed) a.Store(b);
    }
  }

  const Clock& clock_ = SystemClock();
  TempDir dir_;
  StillClock still_;
  LedgerBuilder builder_;
  CaCertificate ca_;
  Registry registry_;
  Metrics metrics_;
  Guarded<std::vector<std::string>> found_;
  int port_ = 0;
  uint64_t n_ = 0;
  std::unique_ptr<IngestService> service_;
  std::unique_ptr<Sessions> sessions_;
  std::unique_ptr<Committer> committer_;
  std::unique_ptr<Verifier> verifier_;
  std::unique_ptr<Worker> commit_worker_, session_worker_;
  std::unique_ptr<grpc::Server> server_;
  std::vector<std::unique_ptr<AgentSide>> agents_;
};

TEST_F(LoopbackTest, AKilledConnectionLosesNothing) {
  Up();
  AgentSide& a = Agent("web-1");
  AgentSide& b = Agent("web-2");
  a.uplink->Start();
  b.uplink->Start();
  Capture(a, 100);
  Capture(b, 100);
  // Midway: when something of `a` is acked, the aggregator goes down and comes back on the same port.
  for (int i = 0; i < 1000 && a.spool->Facts().acked_through == BatchKey(); ++i) a.spool->WaitBeyond(a.last, absl::Milliseconds(10));
  EXPECT_NE(a.spool->Facts().acked_through, BatchKey());
  Down();
  Capture(a, 100);
  Capture(b, 100);
  Up();
  EXPECT_TRUE(a.uplink->Drain(absl::Seconds(20))) << a.uplink->last_error();
  EXPECT_TRUE(b.uplink->Drain(absl::Seconds(20))) << b.uplink->last_error();
  EXPECT_EQ(a.spool->Facts().acked_through, a.last);
  EXPECT_EQ(b.spool->Facts().acked_through, b.last);
  EXPECT_EQ(a.uplink->state(), UplinkState::kDraining);
  // 2 enrolments, 2 epochs, 400 batches: each once.
  EXPECT_EQ(builder_.ledger->head().size, 404u);
  EXPECT_EQ(builder_.ledger->head().events, 400u);
  for (AgentSide* s : {&a, &b}) {
    for (uint64_t seq = 0; seq <= 200; ++seq) EXPECT_TRUE(builder_.ledger->Find({s->id.uuid, 1, seq})) << seq;
  }
  found_.Peek([](const auto& f) { EXPECT_TRUE(f.empty()) << f.front(); });
}

TEST_F(LoopbackTest, ARenewedStreamOpensBeforeTheOldOneEnds) {
  Up();
  AgentSide& a = Agent("web-1");
  a.uplink->Start();
  const auto acked = [&] {
    for (int i = 0; i < 2000 && a.spool->Facts().acked_through != a.last; ++i) a.spool->WaitBeyond(a.last, absl::Milliseconds(10));
    return a.spool->Facts().acked_through == a.last;
  };
  const auto streams = [&] { return metrics_.GetCounter("orgtrail_uplink_streams_total", "").Value(); };
  Capture(a, 10);
  ASSERT_TRUE(acked());
  ASSERT_EQ(streams(), 1);
  // The log knows the renewed certificate; the old one is not known any more: only a new connection can carry this stream on.
  const std::string uri = Identity{Identity::Kind::kAgent, "o-demo", "111111111111", "eu-west-1", "web-1"}.ToUri();
  IdentityLeaf renewed;
  renewed.act = IdentityLeaf::Act::kRenewed;
  renewed.wall_ns = 2;
  renewed.uuid = a.id.uuid;
  renewed.uri = uri;
  renewed.serial = Issue("web-1", uri);
  renewed.not_after_ns = 1ull << 62;
  registry_.Apply(renewed, 0);
  a.uplink->Renewed();
  for (int i = 0; i < 1000 && streams() == 1; ++i) {
    Capture(a, 1);
    EXPECT_TRUE(acked());
  }
  EXPECT_EQ(streams(), 2);
  Capture(a, 10);
  EXPECT_TRUE(acked());
  // One that the aggregator's CA did not sign costs nothing: the stream in use goes on.
  const CaCertificate ours = std::exchange(ca_, *NewCa("o-other", clock_.Wall(), absl::Hours(24)));
  Issue("web-1", uri);
  a.uplink->Renewed();
  const absl::Time begin = clock_.Wall();
  while (clock_.Wall() - begin < absl::Seconds(1)) {
    Capture(a, 1);
    EXPECT_TRUE(acked());
  }
  EXPECT_EQ(streams(), 2);
  EXPECT_EQ(metrics_.GetCounter("orgtrail_uplink_failures_total", "").Value(), 0);
  EXPECT_EQ(a.uplink->state(), UplinkState::kConnected);
}

TEST_F(LoopbackTest, StrangersAreTurnedAway) {
  Up();
  AgentSide& a = Agent("web-1");
  // A certificate of the right CA whose agent was never enrolled.
  Issue("web-1", Identity{Identity::Kind::kAgent, "o-demo", "999999999999", "eu-west-1", "web-1"}.ToUri());
  a.uplink->Start();
  for (int i = 0; i < 500 && a.uplink->last_error().empty(); ++i) a.spool->WaitBeyond(a.last, absl::Milliseconds(10));
  EXPECT_NE(a.uplink->last_error().find("AUTH_UNKNOWN"), std::string::npos) << a.uplink->last_error();
  EXPECT_EQ(builder_.ledger->head().size, 1u);
}

}  // namespace
}  // namespace orgtrail
