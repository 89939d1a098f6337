// Both ends of the stream, without a network: a real spool and sealer on one side, a real ledger on the other, and a transport in
// memory that cuts, repeats and lies.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/spool/values.h"
#include "agent/uplink/session.h"
#include "common/merkle/tree.h"
#include "tests/support/ingest_world.h"

namespace orgtrail {

class UplinkTest : public ::testing::Test {
 protected:
  UplinkTest() {
    key_ = SigningKey::FromSeed(world_.builder.rng.Bytes(32));
    world_.Enrol(id_, key_);
    SpoolOptions options;
    options.max_bytes = 64 << 20;
    options.min_free = 0;
    auto spool = Spool::Open(world_.dir / "spool", options, PosixFs(), world_.clock);
    CHECK_OK(spool.status());
    spool_ = *std::move(spool);
    sealer_ = std::make_unique<Sealer>(id_, key_, world_.clock, world_.builder.rng);
    EpochOpening opening;
    opening.origin = world_.builder.origin;
    opening.boot_id = world_.clock.BootId();
    opening.clock_source = "ntp";
    opening.cert_serial = "0a";
    auto open = sealer_->OpenEpoch(1, opening, {});
    CHECK_OK(open.status());
    Store(*open);
    Resume();
  }
  void Resume(UplinkSessionOptions options = {}) {
    options.uuid = id_.uuid;
    options.version = "test";
    UplinkReports reports;
    reports.report = [this](std::string_view code, std::string_view) { reported_.emplace_back(code); };
    reports.bodies_lost = [this](const BatchHeader& h) { lost_.push_back(h.batch_seq); };
    reports.pace = [this](uint32_t ms, uint32_t) { interval_ = ms; };
    agent_ = std::make_unique<UplinkSession>(options, world_.log_key(), *spool_, world_.clock, reports);
  }
  // The disk changes what a value of the spool holds, wherever its file has it.
  void Damage(const std::vector<std::pair<std::string, std::string>>& changes) {
    agent_.reset();
    spool_.reset();
    const std::string path = world_.dir / "spool/data.mdb";
    std::string file = *ReadFile(PosixFs(), path, 1 << 30);
    for (const auto& [is, becomes] : changes) {
      size_t at = file.find(is);
      ASSERT_NE(at, std::string::npos);
      for (; at != std::string::npos; at = file.find(is, at)) file.replace(at, is.size(), becomes);
    }
    CHECK_OK(WriteFileAtomically(PosixFs(), path, file, 0600));
    spool_ = *Spool::Open(world_.dir / "spool", {.max_bytes = 64 << 20, .min_free = 0}, PosixFs(), world_.clock);
    Resume();
  }
  void Store(const SealedBatch& b) {
    CHECK_OK(spool_->Append({.batches = {&b}, .positions = {}, .replies = {}}));
    sealer_->Committed();
    last_ = {b.header.epoch, b.header.batch_seq};
  }
  void Capture(int batches) {
    for (int i = 0; i < batches; ++i) {
      sealer_->Add(EventClass::kManagement, 0, TestRecord(++n_, id_.account, id_.region, world_.clock.wall));
      world_.clock.Advance(absl::Milliseconds(1));
      const auto closed = sealer_->Close(0, Seen{});
      CHECK_OK(closed.status());
      for (const SealedBatch& b : *closed) Store(b);
    }
  }
  // A chain that goes on from `previous`, whatever the spool has behind it.
  void OpenEpochAfter(uint64_t epoch, BatchKey previous, Hash leaf, uint64_t last_seq) {
    EpochOpening opening;
    opening.origin = world_.builder.origin;
    opening.boot_id = world_.clock.BootId();
    opening.clock_source = "ntp";
    opening.cert_serial = "0a";
    opening.reason = EpochReason::kUnclean;
    opening.previous_epoch = previous.epoch;
    opening.previous_batch_seq = previous.batch_seq;
    opening.previous_leaf = leaf;
    opening.previous_last_seq = last_seq;
    sealer_ = std::make_unique<Sealer>(id_, key_, world_.clock, world_.builder.rng);
    auto open = sealer_->OpenEpoch(epoch, opening, {});
    CHECK_OK(open.status());
    Store(*open);
  }
  Hash LeafOf(BatchKey key) const { return LeafHash(FrameView::Decode(*spool_->Read(key))->entry); }
  void Connect() {
    auto id = world_.sessions->Open(world_.CallerOf(id_));
    ASSERT_TRUE(id.ok()) << id.status();
    stream_ = *id;
    std::string hello = agent_->Begin();
    ASSERT_TRUE(world_.sessions->Take(stream_, hello));
  }
  void Cut() {
    world_.sessions->Closed(stream_);
    world_.streams.out.erase(stream_);
    stream_ = 0;
  }
  // The agent's frames to the aggregator, at most `most`.
  int Send(int most = 1000) {
    int sent = 0;
    for (; sent < most; ++sent) {
      auto next = agent_->Next();
      EXPECT_TRUE(next.ok()) << next.status();
      if (!next.ok() || !*next) break;
      v1::PushRequest request;
      request.set_frame(**next);
      std::string bytes = request.SerializeAsString();
      EXPECT_TRUE(world_.sessions->Take(stream_, bytes));
    }
    return sent;
  }
  // The aggregator's answers to the agent, each through `edit` (false: it is lost).
  absl::Status Receive(const std::function<bool(v1::PushResponse&)>& edit = nullptr) {
    world_.Pump();
    while (!world_.streams.out[stream_].empty()) {
      std::string bytes = std::move(world_.streams.out[stream_].front());
      world_.streams.out[stream_].pop_front();
      if (edit) {
        v1::PushResponse response;
        CHECK(response.ParseFromString(bytes));
        if (!edit(response)) continue;
        bytes = response.SerializeAsString();
      }
      RETURN_IF_ERROR(agent_->OnMessage(bytes));
    }
    return absl::OkStatus();
  }
  BatchKey acked() const { return spool_->Facts().acked_through; }
  uint64_t size() const { return world_.builder.ledger->head().size; }
  size_t Evidence() const {
    size_t n = 0;
    std::error_code none;
    for (const auto& e : std::filesystem::directory_iterator(world_.dir / "spool/evidence", none)) n += e.is_regular_file();
    return n;
  }

  mutable IngestWorld world_;
  AgentIdentity id_{Uuid::FromBytes("fedcba9876543210"), "o-demo", "111111111111", "eu-west-1", "web-1"};
  SigningKey key_;
  std::unique_ptr<Spool> spool_;
  std::unique_ptr<Sealer> sealer_;
  std::unique_ptr<UplinkSession> agent_;
  StreamId stream_ = 0;
  BatchKey last_;
  uint64_t n_ = 0;
  uint32_t interval_ = 0;
  std::vector<std::string> reported_;
  std::vector<uint64_t> lost_;
};

}  // namespace orgtrail
