// Merkle trees of RFC 6962 §2.1: pure functions over hashes. leaf = H(00 || d), node = H(01 || l || r), empty = H("").
// Threads: any.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/crypto/digest.h"

namespace orgtrail {

Hash LeafHash(std::string_view data);
Hash LeafHash(std::string_view a, std::string_view b);  // of a || b, without building it
Hash NodeHash(const Hash& left, const Hash& right);
Hash EmptyRoot();

Hash RootOf(std::span<const Hash> leaves);
std::vector<Hash> InclusionPath(std::span<const Hash> leaves, uint64_t index);  // index < leaves.size()

// DataLoss when the path does not lead from leaf to root; InvalidArgument when index or length is impossible.
absl::Status VerifyInclusion(const Hash& leaf, uint64_t index, uint64_t size, std::span<const Hash> path, const Hash& root);
// RFC 9162 §2.1.4.2. old_size 0 needs an empty proof and proves nothing; equal sizes need an empty proof and equal roots.
absl::Status VerifyConsistency(uint64_t old_size, const Hash& old_root, uint64_t new_size, const Hash& new_root,
                               std::span<const Hash> proof);

// The O(log n) right edge of a tree: append leaves, know the root.
class Frontier {
 public:
  Frontier() = default;
  uint64_t size() const { return size_; }
  // Appends one leaf. `completed(level, index, hash)` is called for every node that became complete, the leaf (level 0) first.
  void Append(const Hash& leaf, const std::function<void(int level, uint64_t index, const Hash&)>& completed = nullptr);
  Hash Root() const;
  std::string Encode() const;                                     // u64 size, then the peaks from the largest
  static absl::StatusOr<Frontier> Decode(std::string_view bytes);

 private:
  uint64_t size_ = 0;
  std::vector<Hash> peaks_;  // one per set bit of size_, largest subtree first
};

// Complete nodes of a stored tree: level 0 are leaves. Fails only when storage does.
class NodeReader {
 public:
  virtual ~NodeReader() = default;
  virtual absl::StatusOr<Hash> Node(int level, uint64_t index) const = 0;
};
absl::StatusOr<Hash> RootAt(const NodeReader& nodes, uint64_t size);
absl::StatusOr<std::vector<Hash>> InclusionPathAt(const NodeReader& nodes, uint64_t index, uint64_t size);  // index < size
absl::StatusOr<std::vector<Hash>> ConsistencyPathAt(const NodeReader& nodes, uint64_t old_size, uint64_t new_size);

}  // namespace orgtrail
