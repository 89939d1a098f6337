// Inflater: stored bytes → Leaf, for leaves that left the tail. Remembers the last few, so that lookups that hit one batch many
// times inflate it once. Threads: any. Bounds: 16 leaves and 32 MiB.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/admit/admitter.h"
#include "aggregator/ledger/reader.h"
#include "common/base/guarded.h"
#include "common/compress/zstd.h"

namespace orgtrail {

class Inflater {
 public:
  std::shared_ptr<const Leaf> Remembered(uint64_t index) const;
  // DataLoss: the bytes are no leaf, or not the one whose hash is `hash`.
  absl::StatusOr<std::shared_ptr<const Leaf>> Inflate(RawLeaf raw, const Hash& hash);
  void Forget(uint64_t index);   // what is stored of it has changed
  void SetCarries(std::function<std::string(const Uuid&)> carries);

 private:
  struct Tools {  // one thread at a time
    ZstdDecompressor zstd;
    Admitter admitter;
  };
  struct State {
    std::list<std::shared_ptr<const Leaf>> recent;  // newest use first
    size_t bytes = 0;
    std::vector<std::unique_ptr<Tools>> idle;       // at most as many as threads ever inflated at once
    std::shared_ptr<const std::function<std::string(const Uuid&)>> carries;
  };
  mutable Guarded<State> state_;
};

}  // namespace orgtrail
