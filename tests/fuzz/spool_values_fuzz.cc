// Values of the spool's tables: as they are, and behind a good checksum.
#include "agent/spool/values.h"
#include "tests/fuzz/target.h"

namespace orgtrail::fuzz {
namespace {

void Decode(std::string_view key, std::string_view value) {
  if (absl::StatusOr<std::string_view> payload = Unwrap(key, value); payload.ok()) CHECK(Wrap(key, *payload) == value);
  if (absl::StatusOr<std::string_view> frame = CheckBatchValue(key, value); frame.ok()) CHECK(frame->size() < value.size());
  if (absl::StatusOr<SpoolCounters> counters = SpoolCounters::Decode(value); counters.ok()) CHECK(counters->Encode() == value);
  DecodeTail(value).IgnoreError();
  if (absl::StatusOr<std::vector<Branch>> branches = DecodeBranches(value); branches.ok()) CHECK(EncodeBranches(*branches) == value);
  if (absl::StatusOr<Pin> pin = DecodePin(value); pin.ok()) CHECK(EncodePin(*pin) == value);
  if (absl::StatusOr<FilePosition> position = DecodePosition(key, value); position.ok()) CHECK(DecodePosition(key, EncodePosition(*position)).ok());
}

}  // namespace

void One(std::string_view in) {
  for (std::string_view key : {kCountersKey, kTailKey, kPinKey, std::string_view("/var/log/a.jsonl")}) {
    Decode(key, in);
    Decode(key, Wrap(key, in));
  }
}

std::vector<std::string> Seeds() {
  SpoolCounters counters;
  counters.last = {3, 17};
  counters.acked_through = {3, 16};
  counters.unacked_batches = 1;
  Pin pin;
  pin.origin = "orgtrail.example/o-example";
  pin.size = 90;
  pin.note = "note";
  FilePosition position;
  position.key = "/var/log/a.jsonl";
  position.offset = 4096;
  std::vector<std::string> seeds;
  for (const std::string& value : {counters.Encode(), EncodePin(pin), EncodePosition(position)}) {
    seeds.push_back(value);
    seeds.push_back(value.substr(kValueHead));
  }
  pin.recovered_ns = 1'763'712'000'000'000'000;
  seeds.push_back(EncodePin(pin).substr(kValueHead));
  seeds.push_back(seeds.back().substr(0, seeds.back().size() - 8) + std::string(8, '\0'));
  return seeds;
}

}  // namespace orgtrail::fuzz
