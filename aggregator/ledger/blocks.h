// Blocks: rows and bodies of repacked leaves, put back into the frames they came from. The last few blocks stay inflated, so that reading
// on inflates each once. Threads: any. Bounds: 8 blocks of up to 4.5 MiB.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/ledger/shards.h"
#include "common/base/guarded.h"
#include "common/compress/zstd.h"

namespace orgtrail {

inline constexpr size_t kPackedBlockBytes = 1 << 20;   // a block is closed when it has as much

class Blocks {
 public:
  // The frame of a packed leaf, its rows in a zstd frame of raw blocks: inflating it is a copy. DataLoss: the block is missing, damaged or too short.
  absl::StatusOr<std::string> Frame(const ShardView::Part& part, const StoredLeaf& leaf) const;

 private:
  struct Block {
    std::string dir;                                     // a rewritten shard has other blocks
    uint64_t number = 0;
    std::shared_ptr<const std::string> plain;
  };
  struct State {
    std::list<Block> recent;                             // the last used in front
    std::vector<std::unique_ptr<ZstdDecompressor>> idle;
  };
  absl::StatusOr<std::shared_ptr<const std::string>> Get(const ShardView::Part& part, uint64_t number) const;
  mutable Guarded<State> state_;
};

// What is stored for a block.
std::string EncodeBlock(uint64_t number, std::string_view plain, ZstdCompressor& zstd);
absl::Status DecodeBlock(uint64_t number, std::string_view value, ZstdDecompressor& zstd, std::string* plain);

}  // namespace orgtrail
