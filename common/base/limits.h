// Limits: every bound of the protocol, with the arithmetic beside it. docs/formats/ quotes this file.
#pragma once

#include <cstddef>
#include <cstdint>

namespace orgtrail::limits {

inline constexpr size_t kBatchEvents = 1000;               // a batch closes at this many events …
inline constexpr size_t kBatchBytes = 1 << 20;             // … or when bodies reach 1 MiB
inline constexpr size_t kRecordInlineBytes = 1 << 20;      // a record up to 1 MiB stays whole; beyond it is chunked
inline constexpr size_t kChunkBytes = 1 << 20;             // one class-8 chunk
inline constexpr size_t kRecordBytes = 16 << 20;           // beyond this only hash and length are kept (BLOB_TRUNCATED)
inline constexpr size_t kRowBytes = 32;                    // one row of a frame: flags, class, body_len, seq, wall, boot
inline constexpr size_t kFrameRawBytes = 7 << 19;          // 3.5 MiB: most that a frame may inflate to
inline constexpr size_t kFrameBytes = 4 << 20;             // most on the wire (gRPC receive limit)
inline constexpr int kZstdWindowLog = 23;
inline constexpr size_t kEntryBytes = 65535;               // C2SP tlog-tiles: entry bundles have 16-bit lengths
inline constexpr size_t kExtensionBytes = 256 << 10;       // key list 32 KiB plus the epoch's opening object
#ifndef ORGTRAIL_TREE_SLOTS
#define ORGTRAIL_TREE_SLOTS 1024                           // the simulator has small ones, so that it sees them roll
#endif
inline constexpr uint32_t kTreeSlots = ORGTRAIL_TREE_SLOTS;  // one-time keys of one tree; the last one signs the roll
inline constexpr int kJsonDepth = 64;
inline constexpr size_t kJsonKeyBytes = 1024;
inline constexpr size_t kJsonNumberBytes = 64;             // longer: the text is kept, the record is flagged
inline constexpr size_t kIndexValueBytes = 256;            // longer values are indexed by their first 256 bytes and a marker
inline constexpr size_t kNameBytes = 64;
inline constexpr size_t kSpiffeBytes = 2048;

// A batch that is about to close may take one more record of the largest inline size: 1 MiB - 1 + 1 MiB, rows, prefixes.
static_assert(kBatchBytes + kRecordInlineBytes + kBatchEvents * 64 < kFrameRawBytes);
static_assert(kFrameRawBytes + kExtensionBytes < kFrameBytes);

}  // namespace orgtrail::limits
