// Any agent: what comes on its stream, into the real sessions, verifier, committer and ledger. A piece is a message as it is, or, after "~",
// a batch whose header fields the input chooses and which is signed as that agent would: only then are the chain's checks reached.
// Whatever came, the aggregator goes on and its tree is whole.
#include <google/protobuf/stubs/logging.h>

#include "tests/fuzz/target.h"
#include "tests/support/ingest_world.h"

namespace orgtrail::fuzz {
namespace {

constexpr int kInputsPerWorld = 500;
constexpr uint64_t kSeed = 1;

class World {
 public:
  World() : forger_({Uuid::FromBytes("0123456789abcdef"), "o-demo", "111111111111", "eu-west-1", "web-0"}, kSeed, world_.clock) {
    SeededRng same(kSeed);   // as the forger drew them
    CHECK(same.Bytes(32).size() == 32);
    slot_seeds_ = same.Bytes(32 * limits::kTreeSlots);
  }

  void Run(std::string_view in) {
    NewAgent();
    absl::StatusOr<StreamId> stream = world_.sessions->Open(world_.CallerOf(forger_.id));
    CHECK_OK(stream.status());
    Input input(in);
    if (input.Byte() % 8 != 0) Say(*stream, Hello());
    for (int n = 0; n < 16 && !input.empty() && !world_.streams.closed.contains(*stream); ++n) {
      std::string_view piece = input.Piece();
      if (!piece.starts_with('~')) {
        Say(*stream, std::string(piece));
        continue;
      }
      piece.remove_prefix(1);
      v1::PushRequest request;
      request.set_frame(Signed(Input(piece)));
      Say(*stream, request.SerializeAsString());
    }
    world_.Pump();
    const SignedHead head = world_.builder.ledger->head();
    CHECK(head.size >= size_);
    size_ = head.size;
    world_.sessions->Closed(*stream);
    world_.Pump();
    world_.streams.out.clear();
    world_.streams.closed.clear();
    world_.streams.resumed.clear();
    world_.findings.clear();
    ++inputs_;
  }
  bool worn() const { return inputs_ >= kInputsPerWorld; }
  std::string Hello() const {
    v1::PushRequest request;
    request.mutable_hello()->set_agent_uuid(std::string(forger_.id.uuid.view()));
    request.mutable_hello()->set_version("fuzz");
    return request.SerializeAsString();
  }

 private:
  // The same keys, another agent: making a key list takes longer than a thousand inputs.
  void NewAgent() {
    forger_.id.uuid = Uuid::Random(world_.builder.rng);
    forger_.id.name = "web-" + std::to_string(++agents_);
    forger_.state = {};
    forger_.state.uuid = forger_.id.uuid;
    world_.Enrol(forger_.id, forger_.key);
  }
  void Say(StreamId stream, std::string message) {
    if (!world_.sessions->Take(stream, message)) world_.Pump();
    world_.clock.Advance(absl::Milliseconds(20));
  }
  // First byte: kind and which fields are not what they ought to be; then their values.
  std::string Signed(Input input) {
    const uint8_t kind = input.Byte();
    Forger::Odd odd;
    odd.dry = (kind & 0x80) != 0;
    // A one-time key signs once; this one as often as it is asked to, from the same seed.
    odd.zero_signature = true;
    if ((kind & 0x40) == 0) {
      odd.entry = [this](std::string& entry) {
        const absl::StatusOr<BatchHeader> header = BatchHeader::Decode(std::string_view(entry).substr(0, entry.size() - 64));
        const size_t after = header.ok() ? 64 : 128;   // epoch_open has two signatures
        const std::string signed_part = entry.substr(0, entry.size() - after);
        const absl::StatusOr<BatchHeader> h = BatchHeader::Decode(signed_part);
        if (!h.ok()) return;
        const SigningKey key = SigningKey::FromSeed(std::string_view(slot_seeds_).substr(h->key_slot % limits::kTreeSlots * 32, 32));
        const Signature signature = key.Sign(kBatchLabel, signed_part);
        entry.replace(signed_part.size(), 64, View(signature));
      };
    }
    odd.header = [&input](BatchHeader& h) {
      const uint64_t which = input.Number(2);
      const auto change = [&](int bit, auto& field, size_t bytes) {
        if (which >> bit & 1) field = static_cast<std::remove_reference_t<decltype(field)>>(input.Number(bytes));
      };
      change(0, h.epoch, 1);
      change(1, h.batch_seq, 1);
      change(2, h.first_seq, 8);
      change(3, h.last_seq, 8);
      change(4, h.n_events, 4);
      change(5, h.cum_events, 8);
      change(6, h.cum_lost, 8);
      change(7, h.wall_close_ns, 8);
      change(8, h.boot_close_ns, 8);
      change(9, h.key_slot, 2);
      change(10, h.flags, 2);
      change(11, h.seen_size, 8);
      change(12, h.body_bytes, 8);
      change(13, h.prev_hash.bytes[0], 1);
      if (which >> 14 & 1) h.account = std::string(input.Take(12));
      if (which >> 15 & 1) h.agent = std::string(input.Take(8));
    };
    odd.opening = [&input](EpochOpening& o) {
      const uint8_t which = input.Byte();
      if (which & 1) o.previous_epoch = input.Number(1);
      if (which & 2) o.previous_batch_seq = input.Number(1);
      if (which & 4) o.previous_last_seq = input.Number(8);
      if (which & 8) o.origin = std::string(input.Take(16));
      if (which & 16) o.reason = static_cast<EpochReason>(input.Byte() % 8);
    };
    std::vector<std::string> bodies;
    switch (kind & 3) {
      case 0:
        return forger_.Open(odd);
      case 1:
        break;   // a heartbeat
      default:
        for (int i = 0; i < (kind >> 2 & 7); ++i) bodies.emplace_back(input.Take(input.Byte()));
    }
    return forger_.Batch(bodies, odd);
  }

  IngestWorld world_;
  Forger forger_;
  std::string slot_seeds_;
  uint64_t size_ = 0;
  int inputs_ = 0, agents_ = 0;
};

}  // namespace

void One(std::string_view in) {
  static google::protobuf::LogSilencer quiet;   // about text that is not UTF-8, and fields that do not end
  static std::unique_ptr<World> world;
  if (world == nullptr || world->worn()) world = std::make_unique<World>();
  world->Run(in);
}

std::vector<std::string> Seeds() {
  const std::string open = Input::Pack(std::string("~\0\0\0\0", 5));
  const std::string data = Input::Pack(std::string("~\x0a\x05{\"a\":\x03 1}\0\0", 14)), beat = Input::Pack(std::string("~\1\0\0", 4));
  return {"\1" + open + beat + data, "\1" + open + data + data + Input::Pack(std::string("~\0\0\0\0", 5)), "\1" + Input::Pack("no message"),
          std::string(1, '\0') + open};
}

}  // namespace orgtrail::fuzz
