// What an aggregator may answer: any bytes into the agent's session, with a real spool behind it. A message after "~" has its checkpoint
// signed by the pinned log if it is one, so that what comes behind the signature is reached too. Whatever is said, nothing is acknowledged
// that was not sent.
#include "agent/uplink/session.h"

#include "common/merkle/tree.h"
#include "orgtrail/v1/ingest.pb.h"
#include <google/protobuf/stubs/logging.h>

#include "tests/fuzz/target.h"
#include "tests/support/ledger_builder.h"
#include "tests/support/temp_dir.h"

namespace orgtrail::fuzz {
namespace {

constexpr char kOrigin[] = "orgtrail.test/o-demo";

const AgentIdentity kId{Uuid::FromBytes("fedcba9876543210"), "o-demo", "111111111111", "eu-west-1", "web-1"};

// An epoch and three batches, sealed once: making keys takes longer than a thousand inputs.
struct Story {
  Story() : log_key(SigningKey::FromSeed(rng.Bytes(32))), identity_key(SigningKey::FromSeed(rng.Bytes(32))), sealer(kId, identity_key, clock, rng) {
    EpochOpening opening;
    opening.origin = kOrigin;
    opening.boot_id = clock.BootId();
    opening.clock_source = "ntp";
    opening.cert_serial = "0a";
    absl::StatusOr<SealedBatch> first = sealer.OpenEpoch(1, opening, {});
    CHECK_OK(first.status());
    Keep(*std::move(first));
    for (int i = 0; i < 3; ++i) {
      sealer.Add(EventClass::kManagement, 0, R"({"eventName":"PutObject"})");
      absl::StatusOr<std::vector<SealedBatch>> closed = sealer.Close(0, Seen{});
      CHECK_OK(closed.status());
      for (SealedBatch& b : *closed) Keep(std::move(b));
    }
  }
  void Keep(SealedBatch b) {
    sealer.Committed();
    leaves.push_back(LeafHash(FrameView::Decode(b.frame)->entry));
    batches.push_back(std::move(b));
  }
  static const Story& Told() {
    static const Story story;
    return story;
  }

  StillClock clock;
  SeededRng rng{7};
  SigningKey log_key, identity_key;
  Sealer sealer;
  std::vector<SealedBatch> batches;
  std::vector<Hash> leaves;
};

// The story in a spool; never do two inputs see what one of them did to it.
class World {
 public:
  World() : log_key_(Story::Told().log_key), leaves_(Story::Told().leaves) {
    SpoolOptions options;
    options.max_bytes = 16 << 20;
    options.min_free = 0;
    absl::StatusOr<std::unique_ptr<Spool>> spool = Spool::Open(dir_ / "spool", options, PosixFs(), clock_);
    CHECK_OK(spool.status());
    spool_ = *std::move(spool);
    Spool::Commit commit;
    for (const SealedBatch& b : Story::Told().batches) commit.batches.push_back(&b);
    CHECK_OK(spool_->Append(commit));
    last_ = {commit.batches.back()->header.epoch, commit.batches.back()->header.batch_seq};
  }

  void Run(std::string_view in) {
    UplinkSessionOptions options;
    options.uuid = kId.uuid;
    options.version = "fuzz";
    UplinkSession session(options, NoteKey{kOrigin, 1, log_key_.public_key()}, *spool_, clock_, {});
    session.Begin();
    Input input(in);
    BatchKey sent;
    while (!input.empty()) {
      const absl::Status status = session.OnMessage(Message(input.Piece()));
      for (int i = 0; i < 5; ++i) {
        absl::StatusOr<std::optional<std::string>> next = session.Next();
        if (!next.ok() || !*next) break;
      }
      const UplinkFacts facts = session.Facts();
      sent = std::max(sent, facts.sent);
      CHECK(facts.acked <= last_);
      used_ |= facts.acked != BatchKey{} || facts.evidence > 0 || facts.receipts > 0;
      clock_.Advance(absl::Milliseconds(10));
      session.CheckStalls().IgnoreError();   // only that it returns
      if (!status.ok()) break;
    }
    used_ |= !spool_->pin()->origin.empty();
  }
  bool used() const { return used_; }

  // A truthful conversation about what was sent.
  std::string Good() {
    std::string out;
    v1::PushResponse welcome;
    welcome.mutable_welcome()->set_origin(kOrigin);
    welcome.mutable_welcome()->set_log_vkey(NoteKey{kOrigin, 1, log_key_.public_key()}.Encode());
    welcome.mutable_welcome()->set_checkpoint(Checkpoint{kOrigin, 0, EmptyRoot()}.Text());
    welcome.mutable_welcome()->set_batch_interval_ms(20);
    out += Input::Pack("~" + welcome.SerializeAsString());
    v1::PushResponse receipt;
    receipt.mutable_receipt()->set_checkpoint(Checkpoint{kOrigin, leaves_.size(), RootOf(leaves_)}.Text());
    for (size_t i = 0; i < leaves_.size(); ++i) {
      v1::LeafReceipt& leaf = *receipt.mutable_receipt()->add_leaves();
      leaf.set_epoch(1);
      leaf.set_batch_seq(i);
      leaf.set_leaf_index(i);
      for (const Hash& h : InclusionPath(leaves_, i)) leaf.add_path(std::string(h.view()));
    }
    out += Input::Pack("~" + receipt.SerializeAsString());
    return out;
  }

 private:
  std::string Message(std::string_view piece) {
    v1::PushResponse response;
    if (!piece.starts_with('~') || !response.ParseFromArray(piece.data() + 1, static_cast<int>(piece.size() - 1))) return std::string(piece);
    std::string* const note = response.has_welcome()   ? response.mutable_welcome()->mutable_checkpoint()
                              : response.has_receipt() ? response.mutable_receipt()->mutable_checkpoint()
                                                       : nullptr;
    if (note != nullptr && Checkpoint::Decode(*note).ok()) *note = SignNote(*note, kOrigin, log_key_);
    return response.SerializeAsString();
  }

  TempDir dir_;
  StillClock clock_;
  const SigningKey& log_key_;
  const std::vector<Hash>& leaves_;
  std::unique_ptr<Spool> spool_;
  BatchKey last_;
  bool used_ = false;
};

}  // namespace

void One(std::string_view in) {
  static google::protobuf::LogSilencer quiet;   // about text that is not UTF-8, and fields that do not end
  static std::unique_ptr<World> world;
  if (world == nullptr || world->used()) world = std::make_unique<World>();
  world->Run(in);
}

std::vector<std::string> Seeds() {
  v1::PushResponse refusal;
  refusal.mutable_refusal()->set_code("CHAIN_EXPECT");
  refusal.mutable_refusal()->set_epoch(1);
  refusal.mutable_refusal()->set_batch_seq(2);
  const std::string good = World().Good();
  return {good, good + Input::Pack(refusal.SerializeAsString())};
}

}  // namespace orgtrail::fuzz
