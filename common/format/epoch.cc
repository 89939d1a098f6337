#include "common/format/epoch.h"

#include <cstring>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/format/batch.h"
#include "common/format/fields.h"
#include "common/merkle/tree.h"

namespace orgtrail {
namespace {

constexpr std::string_view kMagic = "OTO1";
constexpr std::string_view kKeysMagic = "OTK1";
constexpr uint8_t kVersion = 1;
constexpr size_t kSerialBytes = 64;
constexpr size_t kReceiptBytes = 16 << 10;  // a checkpoint note with a hundred cosignatures

template <class... Args>
absl::Status Malformed(const Args&... what) {
  return absl::InvalidArgumentError(absl::StrCat("FRAME_MALFORMED epoch opening: ", what...));
}
template <class... Args>
absl::Status Bounds(const Args&... what) {
  return absl::InvalidArgumentError(absl::StrCat("BOUNDS epoch opening: ", what...));
}

bool IsLowerHex(std::string_view text) {
  for (char c : text) {
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
  }
  return true;
}

bool IsGraphic(std::string_view text) {  // printable ASCII without spaces
  for (char c : text) {
    if (c <= ' ' || c > '~') return false;
  }
  return true;
}

}  // namespace

std::string_view EpochReasonName(EpochReason reason) {
  switch (reason) {
    case EpochReason::kFirst: return "first";
    case EpochReason::kClean: return "clean";
    case EpochReason::kUnclean: return "unclean";
    case EpochReason::kUpgrade: return "upgrade";
    case EpochReason::kReenroll: return "reenroll";
    case EpochReason::kHandover: return "handover";
  }
  return "?";
}

std::string EpochOpening::Encode() const {
  CHECK(boot_id.size() == 16);
  CHECK(last_receipt.size() <= kReceiptBytes);
  std::string out;
  out.reserve(256 + last_receipt.size() + keys.size() * 32);
  out.append(kMagic);
  out.push_back(static_cast<char>(kVersion));
  out.push_back(static_cast<char>(reason));
  PutShort(out, origin);
  PutU64(out, previous_epoch);
  PutU64(out, previous_batch_seq);
  out.append(previous_leaf.view());
  PutU64(out, previous_last_seq);
  out.append(boot_id);
  out.append(executable.view());
  out.append(config.view());
  PutShort(out, cert_serial);
  PutShort(out, clock_source);
  out.push_back(clock_synchronised ? 1 : 0);
  PutU64(out, clock_error_us);
  PutU16(out, static_cast<uint16_t>(last_receipt.size()));
  out.append(last_receipt);
  out.append(EncodeKeyList(keys));
  return out;
}

absl::StatusOr<EpochOpening> EpochOpening::Decode(std::string_view bytes) {
  if (bytes.size() > limits::kExtensionBytes) return Bounds(bytes.size(), " bytes");
  ByteReader in(bytes);
  if (in.Bytes(4) != kMagic) return Malformed("does not start with OTO1");
  const uint8_t version = in.U8();
  const uint8_t reason = in.U8();
  if (!in.ok()) return Malformed("cut short");
  if (version != kVersion) {
    return absl::InvalidArgumentError(absl::StrCat("VERSION_UNKNOWN epoch opening version ", version));
  }
  if (reason > static_cast<uint8_t>(EpochReason::kHandover)) {
    return absl::InvalidArgumentError(absl::StrCat("VERSION_UNKNOWN epoch reason ", reason));
  }
  EpochOpening o;
  o.reason = static_cast<EpochReason>(reason);
  o.origin = std::string(in.Short());
  o.previous_epoch = in.U64();
  o.previous_batch_seq = in.U64();
  o.previous_leaf = TakeHash(in);
  o.previous_last_seq = in.U64();
  o.boot_id = std::string(in.Bytes(16));
  o.executable = TakeHash(in);
  o.config = TakeHash(in);
  o.cert_serial = std::string(in.Short());
  o.clock_source = std::string(in.Short());
  const uint8_t synchronised = in.U8();
  o.clock_error_us = in.U64();
  o.last_receipt = std::string(in.Bytes(in.U16()));
  if (!in.ok()) return Malformed("cut short");
  if (synchronised > 1) return Malformed("synchronised is neither 0 nor 1");
  o.clock_synchronised = synchronised == 1;
  if (o.origin.empty() || !IsGraphic(o.origin)) return Bounds("origin is empty or not printable");
  if (o.cert_serial.size() > kSerialBytes || !IsLowerHex(o.cert_serial)) return Bounds("certificate serial is not hex");
  if (o.clock_source.size() > limits::kNameBytes || !IsGraphic(o.clock_source)) return Bounds("clock source is no name");
  if (o.last_receipt.size() > kReceiptBytes) return Bounds("receipt of ", o.last_receipt.size(), " bytes");
  const bool none = o.previous_epoch == 0;
  if (none && (o.previous_batch_seq != 0 || o.previous_last_seq != 0 || !o.previous_leaf.IsZero())) {
    return Bounds("quotes a previous batch of no epoch");
  }
  if (o.reason == EpochReason::kFirst && !none) return Bounds("the first epoch has no previous one");
  ASSIGN_OR_RETURN(o.keys, DecodeKeyList(in.Bytes(in.left())));
  return o;
}

std::string EncodeKeyList(const std::vector<PublicKey>& keys) {
  std::string out;
  out.reserve(8 + keys.size() * 32);
  out.append(kKeysMagic);
  PutU32(out, static_cast<uint32_t>(keys.size()));
  for (const PublicKey& key : keys) out.append(View(key));
  return out;
}

absl::StatusOr<std::vector<PublicKey>> DecodeKeyList(std::string_view bytes) {
  ByteReader in(bytes);
  if (in.Bytes(4) != kKeysMagic) return absl::InvalidArgumentError("FRAME_MALFORMED key list: does not start with OTK1");
  const uint32_t n = in.U32();
  if (n != limits::kTreeSlots) {
    return absl::InvalidArgumentError(absl::StrCat("BOUNDS key list: ", n, " keys, expected ", limits::kTreeSlots));
  }
  if (in.left() != size_t{n} * 32) {
    return absl::InvalidArgumentError(absl::StrCat("FRAME_MALFORMED key list: ", in.left(), " bytes for ", n, " keys"));
  }
  std::vector<PublicKey> keys;
  keys.reserve(n);
  for (uint32_t i = 0; i < n; ++i) {
    absl::StatusOr<PublicKey> key = ParsePublicKey(in.Bytes(32));
    if (!key.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("BOUNDS key list: key ", i, ": ", key.status().message()));
    }
    keys.push_back(*key);
  }
  return keys;
}

Hash KeyTreeRoot(const std::vector<PublicKey>& keys) {
  std::vector<Hash> leaves;
  leaves.reserve(keys.size());
  for (uint32_t i = 0; i < keys.size(); ++i) leaves.push_back(KeyLeaf(i, keys[i]));
  return RootOf(leaves);
}

}  // namespace orgtrail
