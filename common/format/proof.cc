#include "common/format/proof.h"

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr std::string_view kFirstLine = "c2sp.org/tlog-proof@v1";
constexpr std::string_view kMagic = "OTQ1";
constexpr size_t kMostPath = 64;            // a tree of 2^64 leaves
constexpr size_t kMostHashLine = 44;        // base64 of 32 bytes
constexpr size_t kMostText = 8 << 20;       // a 1 MiB record, two key lists and leaves of 64 KiB, in base64, fit four times
constexpr size_t kMostBody = 2 * limits::kRecordInlineBytes;

absl::Status Damaged(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("proof: ", ToAbsl(what)));
}

void PutPath(std::string& out, const std::vector<Hash>& path) {
  CHECK(path.size() <= kMostPath);
  out.push_back(static_cast<char>(path.size()));
  for (const Hash& hash : path) out.append(hash.view());
}

// An absent leaf is an empty entry at index 0 without a path.
void PutLeaf(std::string& out, const ProvenLeaf& leaf) {
  CHECK(leaf.entry.size() <= limits::kEntryBytes);
  PutU16(out, static_cast<uint16_t>(leaf.entry.size()));
  out.append(leaf.entry);
  PutU64(out, leaf.index);
  PutPath(out, leaf.path);
}

void PutObject(std::string& out, std::string_view object) {
  CHECK(object.size() <= limits::kExtensionBytes);
  PutU32(out, static_cast<uint32_t>(object.size()));
  out.append(object);
}

// Reads the binary part and remembers what it was reading: an error says which field, and where.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : size_(bytes.size()), in_(bytes) {}
  ByteReader& At(std::string_view field) {
    if (in_.ok()) {
      field_ = field;
      offset_ = size_ - in_.left();
    }
    return in_;
  }
  Hash TakeHash(std::string_view field) {
    const std::string_view bytes = At(field).Bytes(32);
    return bytes.size() == 32 ? Hash::From(bytes) : Hash{};
  }
  std::vector<Hash> Path(std::string_view field) {
    std::vector<Hash> path;
    const size_t n = At(field).U8();
    if (n > kMostPath) Refuse(field);
    for (size_t i = 0; i < n && ok(); ++i) path.push_back(TakeHash(field));
    return path;
  }
  ProvenLeaf Leaf(std::string_view field) {
    ProvenLeaf leaf;
    leaf.entry = std::string(At(field).Bytes(At(field).U16()));
    leaf.index = At(field).U64();
    leaf.path = Path(field);
    if (leaf.entry.empty() && (leaf.index != 0 || !leaf.path.empty())) Refuse(field);
    return leaf;
  }
  std::string Object(std::string_view field) {
    const uint32_t n = At(field).U32();
    if (n > limits::kExtensionBytes) Refuse(field);
    return ok() ? std::string(At(field).Bytes(n)) : std::string();
  }
  void Refuse(std::string_view field) {
    if (ok()) At(field);
    refused_ = true;
  }
  bool ok() const { return in_.ok() && !refused_; }
  absl::Status Finish() {
    if (!ok()) return absl::InvalidArgumentError(absl::StrCat("proof: extra data is damaged or cut short in ", ToAbsl(field_), " at byte ", offset_));
    if (!in_.Done()) return absl::InvalidArgumentError(absl::StrCat("proof: extra data has ", in_.left(), " bytes too many at byte ", size_ - in_.left()));
    return absl::OkStatus();
  }

 private:
  size_t size_;
  ByteReader in_;
  std::string_view field_ = "magic";
  size_t offset_ = 0;
  bool refused_ = false;
};

// The next line, without its newline; nullopt when no newline is left.
std::optional<std::string_view> TakeLine(std::string_view& text) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end + 1);
  return line;
}

}  // namespace

std::string EventProof::Encode() const {
  std::string extra(kMagic);
  char head[kEventPrefixBytes];
  prefix.Encode(head);
  extra.append(head, sizeof head);
  extra.append(body);
  PutU32(extra, event_index);
  PutPath(extra, event_path);
  CHECK(batch.entry.size() <= limits::kEntryBytes);
  PutU16(extra, static_cast<uint16_t>(batch.entry.size()));
  extra.append(batch.entry);
  extra.append(View(slot_key));
  PutPath(extra, slot_path);
  PutLeaf(extra, epoch_open);
  PutObject(extra, epoch_object);
  PutLeaf(extra, roll);
  PutObject(extra, roll_object);
  PutLeaf(extra, enrolment);

  std::string out(kFirstLine);
  out += "\nextra ";
  out += Base64(extra);
  out += "\nindex ";
  out += std::to_string(batch.index);
  out.push_back('\n');
  for (const Hash& hash : batch.path) {
    out += Base64(hash.view());
    out.push_back('\n');
  }
  out.push_back('\n');
  out += checkpoint;
  return out;
}

absl::StatusOr<EventProof> EventProof::Decode(std::string_view text) {
  if (text.size() > kMostText) return Damaged("larger than 8 MiB");
  EventProof proof;
  std::optional<std::string_view> line = TakeLine(text);
  if (!line || *line != kFirstLine) return Damaged("line 1 is not 'c2sp.org/tlog-proof@v1'");
  line = TakeLine(text);
  if (!line || !line->starts_with("extra ")) return Damaged("line 2 is not 'extra BASE64'");
  const std::optional<std::string> extra = Unbase64(line->substr(6));
  if (!extra) return Damaged("line 2: extra data is not base64");
  line = TakeLine(text);
  if (!line || !line->starts_with("index ")) return Damaged("line 3 is not 'index NUMBER'");
  const std::optional<uint64_t> index = ParseUint(line->substr(6));
  if (!index || std::to_string(*index) != line->substr(6)) return Damaged("line 3: the index is not a decimal number");
  proof.batch.index = *index;
  for (int number = 4;; ++number) {
    line = TakeLine(text);
    if (!line) return absl::InvalidArgumentError(absl::StrCat("proof: cut short at line ", number));
    if (line->empty()) break;
    const std::optional<std::string> hash = line->size() == kMostHashLine ? Unbase64(*line) : std::nullopt;
    if (!hash || hash->size() != 32) return absl::InvalidArgumentError(absl::StrCat("proof: line ", number, " is not a hash in base64"));
    if (proof.batch.path.size() == kMostPath) return Damaged("more than 64 hashes");
    proof.batch.path.push_back(Hash::From(*hash));
  }
  proof.checkpoint = std::string(text);
  if (proof.checkpoint.empty()) return Damaged("no checkpoint behind the empty line");

  Fields in(*extra);
  if (in.At("magic").Bytes(4) != kMagic) in.Refuse("magic");
  const std::string_view prefix = in.At("event prefix").Bytes(kEventPrefixBytes);
  if (!EventPrefix::Decode(prefix, &proof.prefix) || proof.prefix.body_len > kMostBody) in.Refuse("event prefix");
  if (in.ok()) proof.body = std::string(in.At("record").Bytes(proof.prefix.body_len));
  proof.event_index = in.At("event index").U32();
  proof.event_path = in.Path("event path");
  proof.batch.entry = std::string(in.At("batch entry").Bytes(in.At("batch entry").U16()));
  if (const std::string_view key = in.At("slot key").Bytes(32); key.size() == 32) std::memcpy(proof.slot_key.data(), key.data(), 32);
  proof.slot_path = in.Path("slot path");
  proof.epoch_open = in.Leaf("epoch_open");
  proof.epoch_object = in.Object("epoch object");
  proof.roll = in.Leaf("keytree_roll");
  proof.roll_object = in.Object("keytree_roll list");
  proof.enrolment = in.Leaf("enrolment");
  RETURN_IF_ERROR(in.Finish());
  return proof;
}

}  // namespace orgtrail
