// Frame (OTF1): a batch as it travels, waits in the spool and lies in the ledger. docs/formats/frame.md
//
//   "OTF1" || u16 entry_len || entry || u32 ext_len || extension || batch_key (32) || u32 n_rows || zstd( rows || bodies )
//
// Rows are kept by column, times and numbers as differences to the row before (32 bytes a row; see frame.md). A tombstone row
// has flag bit 15 set and its body is event_leaf (32 bytes) || u8 reason: events_root still verifies after corruption,
// redaction or expiry of a body. n_rows == 0: the key is zeros and nothing follows it. n_rows == 0xffffffff: all bodies of the
// batch are gone with their hashes; the key is zeros and u8 reason follows. Such a batch still proves that it was signed, its
// place in the chain and how many events it held; events_root cannot be checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/buffer.h"
#include "common/base/limits.h"
#include "common/compress/zstd.h"
#include "common/format/batch.h"
#include "common/format/event.h"

namespace orgtrail {

inline constexpr uint16_t kRowTombstone = 0x8000;
enum class TombstoneReason : uint8_t { kCorrupt = 1, kRedacted = 2, kExpired = 3 };
std::string_view TombstoneReasonName(TombstoneReason reason);   // "corrupt", …

// The cheap outer split: views into the frame, nothing inflated.
struct FrameView {
  std::string_view entry, extension, batch_key, packed;
  uint32_t n_rows = 0;
  std::optional<TombstoneReason> bodies_gone;  // set: no rows, no key, nothing packed
  // InvalidArgument "FRAME_MALFORMED …" for anything that is not exactly one frame.
  static absl::StatusOr<FrameView> Decode(std::string_view frame);
};

// One event of an inflated frame.
struct Row {
  uint16_t flags = 0, event_class = 0;
  uint64_t seq = 0, wall_ns = 0, boot_ns = 0;
  uint32_t body_len = 0;             // of the body as it was hashed; a tombstone keeps it although the body is gone
  std::string_view body;             // into Events::storage; for a tombstone: empty
  bool tombstone = false;
  TombstoneReason reason = TombstoneReason::kCorrupt;
  Hash leaf;                         // tombstones: as stored; others: filled by HashRows
};

// Inflated rows and the bytes they view. Movable; views stay valid.
struct Events {
  Buffer storage;
  std::vector<Row> rows;
};

// Inflates and splits. ResourceExhausted "DECOMP_LIMIT …", InvalidArgument "FRAME_MALFORMED …" or "COUNT_MISMATCH …",
// FailedPrecondition "BODIES_MISSING …" for a frame without its bodies: GoneEvents stands for them.
absl::StatusOr<Events> InflateFrame(const FrameView& frame, ZstdDecompressor& zstd);

// A frame whose bodies are gone. The header must hold events.
std::string BodilessFrame(std::string_view entry, std::string_view extension, TombstoneReason reason);
// What is known of the events of such a frame: as many tombstones as the header signed, without leaf, class (0) and length. seq is
// that of the event, or 0 when losses within the batch leave it open; times are those of the batch's close.
Events GoneEvents(const BatchHeader& header, TombstoneReason reason);

// Computes every row's leaf (salt from the batch key) and the root over them, body_bytes included.
struct RowHashes {
  Hash root;
  uint64_t body_bytes = 0;           // sum of full EV1 lengths; a tombstone counts the length its row keeps
};
RowHashes HashRows(std::string_view batch_key, std::vector<Row>& rows);

// The EV1 prefix of one row, salt included: what a proof shows.
EventPrefix PrefixOf(std::string_view batch_key, const Row& row);

// Builds the packed part while events come in; the sealer appends entry and extension at the end.
class FramePacker {
 public:
  FramePacker();  // at most limits::kBatchEvents rows
  void Add(uint16_t flags, uint16_t event_class, uint64_t seq, uint64_t wall_ns, uint64_t boot_ns, std::string_view body);
  void AddTombstone(uint16_t event_class, uint64_t seq, uint64_t wall_ns, uint64_t boot_ns, uint32_t body_len,
                    const Hash& leaf, TombstoneReason reason);
  size_t rows() const { return rows_.size(); }
  size_t body_bytes() const { return plain_.size() - kRowRoom; }
  // What was added, from byte `offset` of body_bytes(); until the next Add.
  std::string_view body(size_t offset, size_t size) const { return std::string_view(plain_).substr(kRowRoom + offset, size); }
  // The whole frame; clears the packer for the next batch.
  std::string Finish(std::string_view entry, std::string_view extension, std::string_view batch_key, ZstdCompressor& zstd);

 private:
  // Bodies are appended behind room for every possible row, so that Finish can put the rows before them without moving them.
  static constexpr size_t kRowRoom = limits::kBatchEvents * limits::kRowBytes;
  struct RawRow {
    uint16_t flags, event_class;
    uint32_t body_len;
    uint64_t seq, wall_ns, boot_ns;
  };
  void AddRow(const RawRow& row);
  std::vector<RawRow> rows_;
  std::string plain_;
};

}  // namespace orgtrail
