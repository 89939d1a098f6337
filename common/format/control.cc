#include "common/format/control.h"

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr uint8_t kVersion = 1;
constexpr std::string_view kIdentity = "OTN1", kEvidence = "OTV1", kPolicy = "OTP1";
constexpr size_t kReasonBytes = 512;
constexpr size_t kCarriesBytes = 16 << 10;   // 1,260 account ids
constexpr size_t kTokenIdBytes = 16, kSerialBytes = 64, kCodeBytes = 32;
constexpr size_t kDetailBytes = 1024;
constexpr size_t kContentBytes = 60 << 10;   // of an evidence object or a policy body
constexpr size_t kNoteBytes = 4000;
// Each leaf at its largest fits an entry.
static_assert(2 * limits::kSpiffeBytes + kCarriesBytes + kReasonBytes + 512 <= limits::kEntryBytes);
static_assert(kContentBytes + limits::kSpiffeBytes + kDetailBytes + 128 <= limits::kEntryBytes);
static_assert(kContentBytes + kNoteBytes + 64 <= limits::kEntryBytes);

absl::Status Malformed(std::string_view magic, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("FRAME_MALFORMED ", ToAbsl(magic), ": ", ToAbsl(what)));
}
absl::Status Bounds(std::string_view magic, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("BOUNDS ", ToAbsl(magic), ": ", ToAbsl(what)));
}

std::string Begin(std::string_view magic) {
  std::string out(magic);
  out.push_back(static_cast<char>(kVersion));
  return out;
}

void PutText8(std::string& out, std::string_view text) {
  CHECK(text.size() <= 0xFF);
  out.push_back(static_cast<char>(text.size()));
  out.append(text);
}
void PutText16(std::string& out, std::string_view text) {
  CHECK(text.size() <= 0xFFFF);
  PutU16(out, static_cast<uint16_t>(text.size()));
  out.append(text);
}
std::string Text16(ByteReader& in) { return std::string(in.Bytes(in.U16())); }

// Magic and version.
absl::Status Open(std::string_view magic, ByteReader& in) {
  if (in.Bytes(4) != magic) return Malformed(magic, "does not start with its magic");
  const uint8_t version = in.U8();
  if (!in.ok()) return Malformed(magic, "cut short");
  if (version != kVersion) {
    return absl::InvalidArgumentError(absl::StrCat("VERSION_UNKNOWN ", ToAbsl(magic), " version ", version));
  }
  return absl::OkStatus();
}

bool IsGraphic(std::string_view text) {  // printable ASCII without spaces
  for (char c : text) {
    if (c <= ' ' || c > '~') return false;
  }
  return true;
}

bool IsLowerHex(std::string_view text) {
  for (char c : text) {
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
  }
  return true;
}

bool IsCode(std::string_view text) {
  if (text.empty() || text.size() > kCodeBytes) return false;
  for (char c : text) {
    if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_')) return false;
  }
  return true;
}

// "", "any", or account ids separated by commas.
bool IsCarries(std::string_view text) {
  if (text.empty() || text == "any") return true;
  for (;;) {
    const size_t comma = text.find(',');
    if (!IsAccountId(text.substr(0, comma))) return false;
    if (comma == std::string_view::npos) return true;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace

std::string_view ActName(IdentityLeaf::Act act) {
  switch (act) {
    case IdentityLeaf::Act::kTokenCreated: return "token created";
    case IdentityLeaf::Act::kEnrolled: return "enrolled";
    case IdentityLeaf::Act::kRenewed: return "renewed";
    case IdentityLeaf::Act::kRevoked: return "revoked";
    case IdentityLeaf::Act::kRetired: return "retired";
    case IdentityLeaf::Act::kUserCreated: return "user created";
    case IdentityLeaf::Act::kUserRevoked: return "user revoked";
  }
  return "?";
}

std::string IdentityLeaf::Encode() const {
  CHECK(identity_key.empty() || identity_key.size() == 32);
  std::string out = Begin(kIdentity);
  out.push_back(static_cast<char>(act));
  PutU64(out, wall_ns);
  out.append(uuid.view());
  PutText16(out, uri);
  out.append(certificate.view());
  PutText8(out, identity_key);
  PutText8(out, token_id);
  PutText16(out, approver);
  PutText16(out, carries);
  PutU64(out, not_after_ns);
  PutText8(out, serial);
  PutText16(out, std::string_view(reason).substr(0, kReasonBytes));
  return out;
}

absl::StatusOr<IdentityLeaf> IdentityLeaf::Decode(std::string_view bytes) {
  ByteReader in(bytes);
  RETURN_IF_ERROR(Open(kIdentity, in));
  IdentityLeaf leaf;
  const uint8_t act = in.U8();
  leaf.wall_ns = in.U64();
  if (const std::string_view uuid = in.Bytes(16); uuid.size() == 16) leaf.uuid = Uuid::FromBytes(uuid);
  leaf.uri = Text16(in);
  if (const std::string_view hash = in.Bytes(32); hash.size() == 32) leaf.certificate = Hash::From(hash);
  leaf.identity_key = std::string(in.Short());
  leaf.token_id = std::string(in.Short());
  leaf.approver = Text16(in);
  leaf.carries = Text16(in);
  leaf.not_after_ns = in.U64();
  leaf.serial = std::string(in.Short());
  leaf.reason = Text16(in);
  if (!in.Done()) return Malformed(kIdentity, in.ok() ? "trailing bytes" : "cut short");
  if (act < static_cast<uint8_t>(Act::kTokenCreated) || act > static_cast<uint8_t>(Act::kUserRevoked)) {
    return absl::InvalidArgumentError(absl::StrCat("VERSION_UNKNOWN OTN1 act ", act));
  }
  leaf.act = static_cast<Act>(act);
  if (leaf.uri.size() > limits::kSpiffeBytes || !IsGraphic(leaf.uri)) return Bounds(kIdentity, "uri");
  if (leaf.approver.size() > limits::kSpiffeBytes || !IsGraphic(leaf.approver)) return Bounds(kIdentity, "approver");
  if (!leaf.identity_key.empty()) {
    if (!ParsePublicKey(leaf.identity_key).ok()) return Bounds(kIdentity, "identity key is not an Ed25519 point that may be used");
  }
  if (leaf.token_id.size() > kTokenIdBytes || !IsLowerHex(leaf.token_id)) return Bounds(kIdentity, "token id");
  if (leaf.carries.size() > kCarriesBytes || !IsCarries(leaf.carries)) return Bounds(kIdentity, "carries");
  if (leaf.serial.size() > kSerialBytes || !IsLowerHex(leaf.serial)) return Bounds(kIdentity, "serial");
  if (leaf.reason.size() > kReasonBytes) return Bounds(kIdentity, "reason");
  return leaf;
}

std::string EvidenceLeaf::Encode() const {
  std::string out = Begin(kEvidence);
  PutText8(out, code);
  PutU64(out, wall_ns);
  PutText16(out, std::string_view(uri).substr(0, limits::kSpiffeBytes));
  PutU64(out, related_leaf);
  PutText16(out, std::string_view(detail).substr(0, kDetailBytes));
  PutText16(out, std::string_view(object).substr(0, kContentBytes));
  return out;
}

absl::StatusOr<EvidenceLeaf> EvidenceLeaf::Decode(std::string_view bytes) {
  ByteReader in(bytes);
  RETURN_IF_ERROR(Open(kEvidence, in));
  EvidenceLeaf leaf;
  leaf.code = std::string(in.Short());
  leaf.wall_ns = in.U64();
  leaf.uri = Text16(in);
  leaf.related_leaf = in.U64();
  leaf.detail = Text16(in);
  leaf.object = Text16(in);
  if (!in.Done()) return Malformed(kEvidence, in.ok() ? "trailing bytes" : "cut short");
  if (!IsCode(leaf.code)) return Bounds(kEvidence, "code");
  if (leaf.uri.size() > limits::kSpiffeBytes) return Bounds(kEvidence, "uri");
  if (leaf.detail.size() > kDetailBytes) return Bounds(kEvidence, "detail");
  if (leaf.object.size() > kContentBytes) return Bounds(kEvidence, "object");
  return leaf;
}

std::string PolicyLeaf::Encode() const {
  CHECK(note.size() <= kNoteBytes);
  std::string out = Begin(kPolicy);
  PutU64(out, wall_ns);
  PutText16(out, note);
  PutText16(out, body.size() <= kContentBytes ? std::string_view(body) : std::string_view());
  return out;
}

absl::StatusOr<PolicyLeaf> PolicyLeaf::Decode(std::string_view bytes) {
  ByteReader in(bytes);
  RETURN_IF_ERROR(Open(kPolicy, in));
  PolicyLeaf leaf;
  leaf.wall_ns = in.U64();
  leaf.note = Text16(in);
  leaf.body = Text16(in);
  if (!in.Done()) return Malformed(kPolicy, in.ok() ? "trailing bytes" : "cut short");
  if (leaf.note.size() > kNoteBytes) return Bounds(kPolicy, "note");
  if (leaf.body.size() > kContentBytes) return Bounds(kPolicy, "body");
  return leaf;
}

std::string_view LeafMagic(std::string_view entry) {
  static constexpr std::string_view kMagics[] = {"OTB1", "OTN1", "OTV1", "OTP1", "OTC1", "OTD1", "OTW1", "OTR2", "OTX1", "OTL1"};
  for (std::string_view magic : kMagics) {
    if (entry.starts_with(magic)) return entry.substr(0, 4);
  }
  return {};
}

}  // namespace orgtrail
