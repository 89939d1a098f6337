// Paths and roots from stored nodes. Only complete nodes are stored, so a subtree on the right edge is folded from the complete
// ones below it.
#include <bit>

#include "common/base/status.h"
#include "common/merkle/tree.h"

namespace orgtrail {
namespace {

// Root of leaves [begin, end): begin is a multiple of the smallest power of two >= end - begin, as in every RFC 6962 split.
absl::StatusOr<Hash> RangeRoot(const NodeReader& nodes, uint64_t begin, uint64_t end) {
  std::vector<Hash> peaks;
  while (begin < end) {
    const uint64_t width = std::bit_floor(end - begin);
    const int level = std::countr_zero(width);
    ASSIGN_OR_RETURN(Hash peak, nodes.Node(level, begin >> level));
    peaks.push_back(peak);
    begin += width;
  }
  Hash root = peaks.back();
  for (size_t i = peaks.size() - 1; i-- > 0;) root = NodeHash(peaks[i], root);
  return root;
}

}  // namespace

absl::StatusOr<Hash> RootAt(const NodeReader& nodes, uint64_t size) {
  if (size == 0) return EmptyRoot();
  return RangeRoot(nodes, 0, size);
}

absl::StatusOr<std::vector<Hash>> InclusionPathAt(const NodeReader& nodes, uint64_t index, uint64_t size) {
  if (index >= size) {
    return absl::InvalidArgumentError(absl::StrCat("leaf ", index, " does not exist in a tree of ", size));
  }
  // From the root down: at each split the half without the leaf is a sibling. The path lists them from the leaf up.
  std::vector<Hash> path;
  uint64_t begin = 0, end = size;
  while (end - begin > 1) {
    const uint64_t middle = begin + std::bit_floor(end - begin - 1);
    if (index < middle) {
      ASSIGN_OR_RETURN(Hash right, RangeRoot(nodes, middle, end));
      path.push_back(right);
      end = middle;
    } else {
      ASSIGN_OR_RETURN(Hash left, RangeRoot(nodes, begin, middle));
      path.push_back(left);
      begin = middle;
    }
  }
  return std::vector<Hash>(path.rbegin(), path.rend());
}

absl::StatusOr<std::vector<Hash>> ConsistencyPathAt(const NodeReader& nodes, uint64_t old_size, uint64_t new_size) {
  if (old_size > new_size) {
    return absl::InvalidArgumentError(absl::StrCat("a tree of ", new_size, " cannot extend one of ", old_size));
  }
  if (old_size == 0 || old_size == new_size) return std::vector<Hash>();
  // SUBPROOF of RFC 6962 §2.1.2, as a walk from the root down to the old tree's right edge.
  std::vector<Hash> path;
  uint64_t begin = 0, end = new_size;
  while (end != old_size) {
    const uint64_t middle = begin + std::bit_floor(end - begin - 1);
    if (old_size <= middle) {
      ASSIGN_OR_RETURN(Hash right, RangeRoot(nodes, middle, end));
      path.push_back(right);
      end = middle;
    } else {
      ASSIGN_OR_RETURN(Hash left, RangeRoot(nodes, begin, middle));
      path.push_back(left);
      begin = middle;
    }
  }
  if (begin != 0) {  // else the old root itself, which the verifier has
    ASSIGN_OR_RETURN(Hash edge, RangeRoot(nodes, begin, end));
    path.push_back(edge);
  }
  return std::vector<Hash>(path.rbegin(), path.rend());
}

}  // namespace orgtrail
