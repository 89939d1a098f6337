// IngestWorld: the aggregator's write path on a real ledger, one thread, with streams in memory.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "aggregator/ingest/session.h"
#include "common/format/note.h"
#include "orgtrail/v1/ingest.pb.h"
#include "tests/support/forger.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {

class MemoryStreams final : public Streams {
 public:
  void Send(StreamId stream, std::string response) override { out[stream].push_back(std::move(response)); }
  void Resume(StreamId stream) override { resumed.insert(stream); }
  void Close(StreamId stream, const absl::Status& status) override { closed.emplace(stream, status); }
  std::map<StreamId, std::deque<std::string>> out;
  std::set<StreamId> resumed;
  std::map<StreamId, absl::Status> closed;
};

class IngestWorld {
 public:
  explicit IngestWorld(VerifierOptions verify = {}) : builder(dir / "ledger", clock) {
    CHECK_OK(builder.Open());
    options.log_vkey = log_key().Encode();
    Start(verify);
  }
  void Start(VerifierOptions verify = {}) {
    findings_fn = [this](std::string_view code, Severity, std::string_view, std::string_view detail) {
      findings.emplace_back(std::string(code), std::string(detail));
    };
    sessions = std::make_unique<Sessions>(options, *builder.ledger, registry, streams, findings_fn, clock, metrics);
    committer = std::make_unique<Committer>(*builder.ledger, *sessions, 1024, clock);
    verifier = std::make_unique<Verifier>(verify, *builder.ledger, registry, *committer, *sessions, findings_fn, clock, metrics);
    sessions->Attach(*verifier);
  }

  NoteKey log_key() const { return NoteKey{builder.origin, 1, builder.log_key.public_key()}; }

  void Enrol(const AgentIdentity& id, const SigningKey& key, const std::string& serial = "0a") {
    IdentityLeaf leaf;
    leaf.act = IdentityLeaf::Act::kEnrolled;
    leaf.wall_ns = static_cast<uint64_t>(clock.WallNanos());
    leaf.uuid = id.uuid;
    leaf.uri = CallerOf(id).identity.ToUri();
    leaf.identity_key = std::string(View(key.public_key()));
    leaf.token_id = "0011223344556677";
    leaf.approver = "spiffe://o-demo/role/governance/root";
    leaf.serial = serial;
    leaf.not_after_ns = leaf.wall_ns + 86'400'000'000'000;
    Admitted item = ControlItem(leaf.Encode());
    CHECK_OK(builder.Append(item));
    registry.Apply(leaf, builder.ledger->head().size - 1);
  }
  Caller CallerOf(const AgentIdentity& id) const {
    return Caller{Identity{Identity::Kind::kAgent, id.org, id.account, id.region, id.name}, "0a", "127.0.0.1:1"};
  }

  // What is queued goes through; answers are in streams.out.
  void Pump() {
    for (int i = 0; i < 6; ++i) {
      verifier->Step(clock.now);
      clock.Advance(absl::Milliseconds(6));
      committer->Step(clock.now);
      sessions->Step(clock.now);
      for (auto& [id, out] : streams.out) sessions->Written(id);
    }
  }

  bool Found(std::string_view code) const {
    return std::any_of(findings.begin(), findings.end(), [&](const auto& f) { return f.first == code; });
  }

  TempDir dir;
  StillClock clock;
  LedgerBuilder builder;
  Registry registry;
  MemoryStreams streams;
  Metrics metrics;
  SessionOptions options;
  std::vector<std::pair<std::string, std::string>> findings;
  Findings findings_fn;
  std::unique_ptr<Sessions> sessions;
  std::unique_ptr<Committer> committer;
  std::unique_ptr<Verifier> verifier;
};

}  // namespace orgtrail
