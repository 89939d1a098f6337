#include "agent/spool/values.h"

#include <cstring>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/crypto/digest.h"

namespace orgtrail {
namespace {

constexpr char kVersion = 1;

void PutText(std::string& out, std::string_view text) {
  PutU32(out, static_cast<uint32_t>(text.size()));
  out += text;
}
std::string GetText(ByteReader& in) { return std::string(in.Bytes(in.U32())); }
Hash GetHash(ByteReader& in) {
  Hash hash;
  const std::string_view bytes = in.Bytes(32);
  if (bytes.size() == 32) hash = Hash::From(bytes);
  return hash;
}

absl::Status CutShort(std::string_view what) {
  return absl::DataLossError(absl::StrCat("the spool's ", ToAbsl(what), " record has the wrong length"));
}

}  // namespace

std::string Wrap(std::string_view key, std::string_view payload) {
  std::string value(1, kVersion);
  PutU32(value, Crc32c(payload, Crc32c(key)));
  value += payload;
  return value;
}

absl::StatusOr<std::string_view> Unwrap(std::string_view key, std::string_view value) {
  if (value.size() < kValueHead) return absl::DataLossError("a value of the spool is cut short");
  const std::string_view payload = value.substr(kValueHead);
  const bool sound = GetU32(value.data() + 1) == Crc32c(payload, Crc32c(key));
  if (value[0] != kVersion && !sound) {
    return absl::FailedPreconditionError(absl::StrCat("a value of the spool has version ", static_cast<int>(value[0]),
                                                      ", this program knows 1: run the newer release again"));
  }
  if (!sound || value[0] != kVersion) return absl::DataLossError("a value of the spool fails its CRC: the disk changed it");
  return payload;
}

std::string EncodeKey(BatchKey key) {
  std::string out;
  PutU64(out, key.epoch);
  PutU64(out, key.batch_seq);
  return out;
}

BatchKey DecodeKey(std::string_view sixteen) {
  ByteReader in(sixteen);
  BatchKey key;
  key.epoch = in.U64();
  key.batch_seq = in.U64();
  return key;
}

BatchKey Following(BatchKey key) {
  if (++key.batch_seq == 0) ++key.epoch;
  return key;
}

void FillBatchValue(char* out, std::string_view key, absl::Time stored, std::string_view frame) {
  std::string time;
  PutU64(time, static_cast<uint64_t>(absl::ToUnixNanos(stored)));
  std::string head(1, kVersion);
  PutU32(head, Crc32c(frame, Crc32c(time, Crc32c(key))));
  head += time;
  std::memcpy(out, head.data(), head.size());
  std::memcpy(out + head.size(), frame.data(), frame.size());
}

absl::StatusOr<std::string_view> CheckBatchValue(std::string_view key, std::string_view value) {
  absl::StatusOr<std::string_view> payload = Unwrap(key, value);
  if (payload.ok() && payload->size() < 8) payload = CutShort("batch");
  if (!payload.ok()) {
    const BatchKey k = DecodeKey(key);
    return Annotate(payload.status(), absl::StrCat("batch (", k.epoch, ", ", k.batch_seq, ")"));
  }
  return payload->substr(8);
}

std::string EncodeEntry(std::string_view key, const SignedEntry& signed_entry) {
  std::string payload;
  payload.reserve(2 + signed_entry.entry.size() + signed_entry.extension.size());
  PutU16(payload, static_cast<uint16_t>(signed_entry.entry.size()));
  payload += signed_entry.entry;
  payload += signed_entry.extension;
  return Wrap(key, payload);
}

absl::StatusOr<SignedEntry> DecodeEntry(std::string_view key, std::string_view value) {
  ASSIGN_OR_RETURN(const std::string_view payload, Unwrap(key, value));
  ByteReader in(payload);
  SignedEntry out;
  out.entry = std::string(in.Bytes(in.U16()));
  out.extension = std::string(in.Bytes(in.left()));
  if (!in.ok() || out.entry.empty()) return CutShort("entry");
  return out;
}

absl::Time StoredTime(std::string_view batch_value) {
  if (batch_value.size() < kBatchValueHead) return absl::InfinitePast();
  return absl::FromUnixNanos(static_cast<int64_t>(GetU64(batch_value.data() + kValueHead)));
}

uint64_t DiskCost(uint64_t value_bytes) {
  constexpr uint64_t kPage = 4096, kPageHead = 16, kNode = 48, kInline = 2000;
  if (value_bytes <= kInline) return value_bytes + kNode;
  return (value_bytes + kPageHead + kPage - 1) / kPage * kPage + kNode;
}

std::string SpoolCounters::Encode() const {
  std::string out = EncodeKey(last) + EncodeKey(acked_through);
  for (const uint64_t n : {unacked_batches, unacked_bytes, stored_bytes, replies}) PutU64(out, n);
  return Wrap(kCountersKey, out);
}

absl::StatusOr<SpoolCounters> SpoolCounters::Decode(std::string_view value) {
  ASSIGN_OR_RETURN(const std::string_view payload, Unwrap(kCountersKey, value));
  ByteReader in(payload);
  SpoolCounters c;
  for (uint64_t* n : {&c.last.epoch, &c.last.batch_seq, &c.acked_through.epoch, &c.acked_through.batch_seq,
                      &c.unacked_batches, &c.unacked_bytes, &c.stored_bytes, &c.replies}) {
    *n = in.U64();
  }
  if (!in.Done()) return CutShort("counters");
  return c;
}

std::string EncodeTail(const SealedBatch& last) {
  const BatchHeader& h = last.header;
  std::string out;
  PutU64(out, h.epoch);
  PutU64(out, h.batch_seq);
  PutU64(out, h.last_seq);
  out += last.leaf.view();
  const bool closed = h.kind == BatchKind::kEpochClose;
  out += static_cast<char>(closed);
  out += static_cast<char>(closed && (h.flags & kBatchRetired) != 0);
  return Wrap(kTailKey, out);
}

absl::StatusOr<SpoolTail> DecodeTail(std::string_view value) {
  ASSIGN_OR_RETURN(const std::string_view payload, Unwrap(kTailKey, value));
  ByteReader in(payload);
  SpoolTail tail;
  tail.epoch = in.U64();
  tail.batch_seq = in.U64();
  tail.last_seq = in.U64();
  tail.leaf = GetHash(in);
  tail.closed = in.U8() != 0;
  tail.retired = in.U8() != 0;
  if (!in.Done()) return CutShort("tail");
  return tail;
}

std::string EncodePin(const Pin& pin) {
  std::string out;
  for (const std::string* text : {&pin.origin, &pin.log_vkey, &pin.note, &pin.policy, &pin.policy_body})
    PutText(out, *text);
  PutU64(out, pin.size);
  out += pin.root.view();
  PutU64(out, pin.policy_version);
  out += pin.policy_hash.view();
  if (pin.recovered_ns != 0) PutU64(out, static_cast<uint64_t>(pin.recovered_ns));
  return Wrap(kPinKey, out);
}

absl::StatusOr<Pin> DecodePin(std::string_view value) {
  ASSIGN_OR_RETURN(const std::string_view payload, Unwrap(kPinKey, value));
  ByteReader in(payload);
  Pin pin;
  for (std::string* text : {&pin.origin, &pin.log_vkey, &pin.note, &pin.policy, &pin.policy_body}) *text = GetText(in);
  pin.size = in.U64();
  pin.root = GetHash(in);
  pin.policy_version = in.U64();
  pin.policy_hash = GetHash(in);
  const bool recovered = in.left() == 8;   // one encoding of each: left out when there was none
  if (recovered) pin.recovered_ns = static_cast<int64_t>(in.U64());
  if (!in.Done() || (recovered && pin.recovered_ns == 0)) return CutShort("pin");
  return pin;
}

std::string EncodeBranches(const std::vector<Branch>& branches) {
  std::string out;
  for (const Branch& b : branches) out += EncodeKey(b.after) + EncodeKey(b.opened);
  return Wrap(kBranchesKey, out);
}

absl::StatusOr<std::vector<Branch>> DecodeBranches(std::string_view value) {
  ASSIGN_OR_RETURN(const std::string_view payload, Unwrap(kBranchesKey, value));
  constexpr size_t kKeyBytes = 16;
  if (payload.size() % (2 * kKeyBytes) != 0) return CutShort("branches");
  std::vector<Branch> branches;
  for (size_t at = 0; at < payload.size(); at += 2 * kKeyBytes) {
    branches.push_back({DecodeKey(payload.substr(at, kKeyBytes)), DecodeKey(payload.substr(at + kKeyBytes, kKeyBytes))});
  }
  return branches;
}

std::string EncodePosition(const FilePosition& position) {
  std::string out;
  PutText(out, position.path);
  PutU64(out, position.offset);
  out += static_cast<char>(position.finished);
  PutText(out, position.mark);
  return Wrap(position.key, out);
}

absl::StatusOr<FilePosition> DecodePosition(std::string_view key, std::string_view value) {
  ASSIGN_OR_RETURN(const std::string_view payload, Unwrap(key, value));
  ByteReader in(payload);
  FilePosition position;
  position.key = std::string(key);
  position.path = GetText(in);
  position.offset = in.U64();
  position.finished = in.U8() != 0;
  position.mark = GetText(in);
  if (!in.Done()) return CutShort("file position");
  return position;
}

}  // namespace orgtrail
