#include "common/format/frame.h"

#include <cstring>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/crypto/cipher.h"
#include "common/format/expire.h"
#include "common/merkle/tree.h"

namespace orgtrail {
namespace {

constexpr std::string_view kMagic = "OTF1";
constexpr size_t kKeyBytes = 32;
constexpr size_t kTombstoneBytes = 32 + 1;  // event_leaf, reason
constexpr std::string_view kNoKey{"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", kKeyBytes};

template <class... Args>
absl::Status Malformed(const Args&... what) {
  return absl::InvalidArgumentError(absl::StrCat("FRAME_MALFORMED frame: ", what...));
}

constexpr uint32_t kNoBodies = 0xffffffff;  // as n_rows

bool IsReason(uint8_t reason) {
  return reason >= static_cast<uint8_t>(TombstoneReason::kCorrupt) && reason <= static_cast<uint8_t>(TombstoneReason::kExpired);
}

// The outer part up to and with n_rows.
std::string Outer(std::string_view entry, std::string_view extension, std::string_view batch_key, uint32_t n_rows) {
  CHECK(!entry.empty() && entry.size() <= limits::kEntryBytes);
  CHECK(extension.size() <= limits::kExtensionBytes);
  CHECK(batch_key.size() == kKeyBytes);
  std::string frame;
  frame.reserve(4 + 2 + entry.size() + 4 + extension.size() + kKeyBytes + 4);  // what waits in a spool or a window is no larger than it is
  frame.append(kMagic);
  PutU16(frame, static_cast<uint16_t>(entry.size()));
  frame.append(entry);
  PutU32(frame, static_cast<uint32_t>(extension.size()));
  frame.append(extension);
  frame.append(batch_key);
  PutU32(frame, n_rows);
  return frame;
}

// Offsets of the columns of n rows. Columns of one kind compress far better than rows of absolute numbers: after the first row
// a difference is mostly zero bytes (docs/formats/frame.md has the figures).
struct Columns {
  explicit Columns(size_t n) : classes(2 * n), lengths(4 * n), seqs(8 * n), walls(16 * n), boots(24 * n) {}
  size_t classes, lengths, seqs, walls, boots;  // flags are at 0
};

void Store16(char* p, uint16_t v) {
  v = __builtin_bswap16(v);
  std::memcpy(p, &v, 2);
}
void Store32(char* p, uint32_t v) {
  v = __builtin_bswap32(v);
  std::memcpy(p, &v, 4);
}
void Store64(char* p, uint64_t v) {
  v = __builtin_bswap64(v);
  std::memcpy(p, &v, 8);
}

// Rows as columns, limits::kRowBytes of room for each.
template <class R>
void StoreColumns(const std::vector<R>& rows, char* p) {
  const Columns at(rows.size());
  uint64_t seq = 0, wall = 0, boot = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const R& row = rows[i];
    Store16(p + 2 * i, row.flags);
    Store16(p + at.classes + 2 * i, row.event_class);
    Store32(p + at.lengths + 4 * i, row.body_len);
    Store64(p + at.seqs + 8 * i, row.seq - seq);
    Store64(p + at.walls + 8 * i, row.wall_ns - wall);
    Store64(p + at.boots + 8 * i, row.boot_ns - boot);
    seq = row.seq;
    wall = row.wall_ns;
    boot = row.boot_ns;
  }
}

}  // namespace

std::string_view TombstoneReasonName(TombstoneReason reason) {
  switch (reason) {
    case TombstoneReason::kCorrupt: return "corrupt";
    case TombstoneReason::kRedacted: return "redacted";
    case TombstoneReason::kExpired: return "expired";
  }
  return "unknown";
}

absl::StatusOr<FrameView> FrameView::Decode(std::string_view frame) {
  if (frame.size() > limits::kFrameBytes) return Malformed(frame.size(), " bytes, at most ", limits::kFrameBytes);
  ByteReader in(frame);
  if (in.Bytes(4) != kMagic) return Malformed("does not start with OTF1");
  FrameView view;
  view.entry = in.Bytes(in.U16());
  const uint32_t extension_len = in.U32();
  if (extension_len > limits::kExtensionBytes) return Malformed("extension of ", extension_len, " bytes");
  view.extension = in.Bytes(extension_len);
  view.batch_key = in.Bytes(kKeyBytes);
  view.n_rows = in.U32();
  view.packed = in.Bytes(in.left());
  if (!in.ok()) return Malformed("cut short");
  if (view.entry.empty()) return Malformed("no entry");
  if (view.n_rows == kNoBodies) {
    const auto reason = static_cast<uint8_t>(view.packed.empty() ? 0 : view.packed[0]);
    if (view.packed.size() != 1 || !IsReason(reason)) return Malformed("no bodies, and no reason for it");
    if (view.batch_key != kNoKey) return Malformed("a batch key without rows");
    view.bodies_gone = static_cast<TombstoneReason>(reason);
    view.n_rows = 0;
    view.packed = {};
    return view;
  }
  if (view.n_rows > limits::kBatchEvents) return Malformed(view.n_rows, " rows, at most ", limits::kBatchEvents);
  if ((view.n_rows == 0) != view.packed.empty()) return Malformed(view.n_rows, " rows in ", view.packed.size(), " bytes");
  if (view.n_rows == 0 && view.batch_key != kNoKey) return Malformed("a batch key without rows");
  return view;
}

absl::StatusOr<Events> InflateFrame(const FrameView& frame, ZstdDecompressor& zstd) {
  Events events;
  if (frame.bodies_gone) {
    return absl::FailedPreconditionError(absl::StrCat("BODIES_MISSING the bodies of this batch are gone (",
                                                      ToAbsl(TombstoneReasonName(*frame.bodies_gone)), ")"));
  }
  if (frame.n_rows == 0) return events;
  if (absl::Status inflated = zstd.Decompress(frame.packed, limits::kFrameRawBytes, &events.storage); !inflated.ok()) {
    if (absl::IsResourceExhausted(inflated)) return inflated;
    return Malformed(inflated.message());
  }
  RETURN_IF_ERROR(SplitRows(events.storage.view(), frame.n_rows, &events.rows));
  return events;
}

absl::Status SplitRows(std::string_view plain, size_t n, std::vector<Row>* rows) {
  if (plain.size() < n * limits::kRowBytes) {
    return absl::InvalidArgumentError(absl::StrCat("COUNT_MISMATCH frame: ", n, " rows do not fit in ", plain.size(), " bytes"));
  }
  const Columns at(n);
  const char* p = plain.data();
  std::string_view bodies = plain.substr(n * limits::kRowBytes);
  rows->resize(n);
  uint64_t seq = 0, wall = 0, boot = 0;
  for (size_t i = 0; i < n; ++i) {
    Row& row = (*rows)[i];
    row.flags = GetU16(p + 2 * i);
    row.event_class = GetU16(p + at.classes + 2 * i);
    row.body_len = GetU32(p + at.lengths + 4 * i);
    seq += GetU64(p + at.seqs + 8 * i);  // differences are modulo 2^64, so every value has one encoding
    wall += GetU64(p + at.walls + 8 * i);
    boot += GetU64(p + at.boots + 8 * i);
    row.seq = seq;
    row.wall_ns = wall;
    row.boot_ns = boot;
    row.tombstone = (row.flags & kRowTombstone) != 0;
    const size_t stored = row.tombstone ? kTombstoneBytes : row.body_len;
    if (bodies.size() < stored) {
      return absl::InvalidArgumentError(absl::StrCat("COUNT_MISMATCH frame: row ", i, " of ", n, " goes past the end"));
    }
    if (row.tombstone) {
      const auto reason = static_cast<uint8_t>(bodies[32]);
      if (!IsReason(reason)) {
        return Malformed("row ", i, ": tombstone for reason ", reason);
      }
      row.leaf = Hash::From(bodies.substr(0, 32));
      row.reason = static_cast<TombstoneReason>(reason);
    } else {
      row.body = bodies.substr(0, stored);
    }
    bodies.remove_prefix(stored);
  }
  if (!bodies.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("COUNT_MISMATCH frame: ", bodies.size(), " bytes belong to no row"));
  }
  return absl::OkStatus();
}

std::string TombstonedRows(const std::vector<Row>& rows, TombstoneReason reason) {
  std::string plain(rows.size() * limits::kRowBytes, '\0');
  std::vector<Row> marked = rows;
  for (Row& row : marked) row.flags |= kRowTombstone;
  StoreColumns(marked, plain.data());
  plain.reserve(plain.size() + rows.size() * kTombstoneBytes);
  for (const Row& row : rows) {
    plain.append(row.leaf.view());
    plain.push_back(static_cast<char>(row.tombstone ? row.reason : reason));
  }
  return plain;
}

absl::StatusOr<std::string> ExpiredFrame(const FrameView& frame, ZstdDecompressor& unzip, ZstdCompressor& zip) {
  ASSIGN_OR_RETURN(Events events, InflateFrame(frame, unzip));
  std::string expired = Outer(frame.entry, frame.extension, kNoKey, frame.n_rows);
  if (frame.n_rows == 0) return expired;
  HashRows(frame.batch_key, events.rows);
  zip.Compress(TombstonedRows(events.rows, TombstoneReason::kExpired), &expired);
  return expired;
}

std::string BodilessFrame(std::string_view entry, std::string_view extension, TombstoneReason reason) {
  std::string frame = Outer(entry, extension, kNoKey, kNoBodies);
  frame.push_back(static_cast<char>(reason));
  return frame;
}

Events GoneEvents(const BatchHeader& header, TombstoneReason reason) {
  Events events;
  events.rows.resize(header.n_events);
  for (uint32_t i = 0; i < header.n_events; ++i) {
    Row& row = events.rows[i];
    row.flags = kRowTombstone;
    row.seq = header.n_lost == 0 ? header.first_seq + i : 0;
    row.wall_ns = header.wall_close_ns;
    row.boot_ns = header.boot_close_ns;
    row.tombstone = true;
    row.reason = reason;
  }
  return events;
}

RowHashes HashRows(std::string_view batch_key, std::vector<Row>& rows) {
  RowHashes hashes;
  if (rows.empty()) {
    hashes.root = EmptyRoot();
    return hashes;
  }
  SaltCipher salts(batch_key);
  EventPrefix prefix, waiting_prefix;
  Row* waiting = nullptr;  // for a second row: two are hashed at once
  for (Row& row : rows) {
    hashes.body_bytes += kEventPrefixBytes + row.body_len;
    if (row.tombstone) continue;
    salts.Salt(row.seq, prefix.salt);
    prefix.seq = row.seq;
    prefix.wall_ns = row.wall_ns;
    prefix.boot_ns = row.boot_ns;
    prefix.event_class = row.event_class;
    prefix.flags = row.flags;
    prefix.body_len = row.body_len;
    if (waiting == nullptr) {
      waiting = &row;
      waiting_prefix = prefix;
    } else {
      EventLeaves(waiting_prefix, waiting->body, prefix, row.body, &waiting->leaf, &row.leaf);
      waiting = nullptr;
    }
  }
  if (waiting != nullptr) waiting->leaf = EventLeaf(waiting_prefix, waiting->body);
  std::vector<Hash> leaves;
  leaves.reserve(rows.size());
  for (const Row& row : rows) leaves.push_back(row.leaf);
  hashes.root = RootOf(leaves);
  return hashes;
}

EventPrefix PrefixOf(std::string_view batch_key, const Row& row) {
  EventPrefix prefix;
  SaltCipher(batch_key).Salt(row.seq, prefix.salt);
  prefix.seq = row.seq;
  prefix.wall_ns = row.wall_ns;
  prefix.boot_ns = row.boot_ns;
  prefix.event_class = row.event_class;
  prefix.flags = row.flags;
  prefix.body_len = row.body_len;
  return prefix;
}

FramePacker::FramePacker() {
  rows_.reserve(limits::kBatchEvents);
  plain_.reserve(kRowRoom + limits::kBatchBytes + limits::kRecordInlineBytes / 4);
  plain_.resize(kRowRoom);
}

void FramePacker::AddRow(const RawRow& row) {
  CHECK(rows_.size() < limits::kBatchEvents);
  rows_.push_back(row);
}

void FramePacker::Add(uint16_t flags, uint16_t event_class, uint64_t seq, uint64_t wall_ns, uint64_t boot_ns,
                      std::string_view body) {
  AddRow({flags, event_class, static_cast<uint32_t>(body.size()), seq, wall_ns, boot_ns});
  plain_.append(body);
}

void FramePacker::AddTombstone(uint16_t event_class, uint64_t seq, uint64_t wall_ns, uint64_t boot_ns, uint32_t body_len,
                               const Hash& leaf, TombstoneReason reason) {
  AddRow({kRowTombstone, event_class, body_len, seq, wall_ns, boot_ns});
  plain_.append(leaf.view());
  plain_.push_back(static_cast<char>(reason));
}

std::string FramePacker::Finish(std::string_view entry, std::string_view extension, std::string_view batch_key,
                                ZstdCompressor& zstd) {
  const size_t n = rows_.size();
  CHECK(batch_key.size() == kKeyBytes);
  std::string frame = Outer(entry, extension, n == 0 ? kNoKey : batch_key, static_cast<uint32_t>(n));
  if (n == 0) return frame;

  const size_t begin = kRowRoom - n * limits::kRowBytes;
  char* p = plain_.data() + begin;
  StoreColumns(rows_, p);
  zstd.Compress(std::string_view(plain_).substr(begin), &frame);
  rows_.clear();
  plain_.resize(kRowRoom);
  return frame;
}

}  // namespace orgtrail
