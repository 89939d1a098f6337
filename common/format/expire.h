// Expire: the rows of a frame without the zstd around them, and how bodies leave them: each row becomes a tombstone that keeps its hash.
// docs/formats/frame.md
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/format/frame.h"

namespace orgtrail {

// What a frame's `packed` inflates to, as rows that view it. Fails as InflateFrame does.
absl::Status SplitRows(std::string_view plain, size_t n, std::vector<Row>* rows);

// The same for rows whose bodies are gone. Their leaves are known (HashRows); what was a tombstone before keeps its reason.
std::string TombstonedRows(const std::vector<Row>& rows, TombstoneReason reason);

// A whole frame without its bodies. Fails as InflateFrame does.
absl::StatusOr<std::string> ExpiredFrame(const FrameView& frame, ZstdDecompressor& unzip, ZstdCompressor& zip);

}  // namespace orgtrail
