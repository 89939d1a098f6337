#include "common/merkle/tree.h"

#include <bit>
#include <cstring>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/crypto/sha256_pair.h"

namespace orgtrail {
namespace {

constexpr char kLeafPrefix = 0;
constexpr char kNodePrefix = 1;
constexpr size_t kHashBytes = sizeof(Hash::bytes);
static_assert(sizeof(Hash) == kHashBytes);  // so that neighbours in a vector are one input

// Folds peaks, largest subtree first, into a root.
Hash Fold(std::span<const Hash> peaks) {
  Hash root = peaks.back();
  for (size_t i = peaks.size() - 1; i-- > 0;) root = NodeHash(peaks[i], root);
  return root;
}

}  // namespace

Hash LeafHash(std::string_view data) { return Sha256({std::string_view(&kLeafPrefix, 1), data}); }

Hash LeafHash(std::string_view a, std::string_view b) { return Sha256({std::string_view(&kLeafPrefix, 1), a, b}); }

Hash NodeHash(const Hash& left, const Hash& right) {
  char node[1 + 2 * kHashBytes];  // one contiguous input: one update, one block and a bit
  node[0] = kNodePrefix;
  std::memcpy(node + 1, left.bytes.data(), kHashBytes);
  std::memcpy(node + 1 + kHashBytes, right.bytes.data(), kHashBytes);
  return Sha256(std::string_view(node, sizeof node));
}

Hash EmptyRoot() { return Sha256(std::string_view()); }

Hash RootOf(std::span<const Hash> leaves) {
  if (leaves.empty()) return EmptyRoot();
  // One level at a time, in place: an odd last node moves up unhashed, which is what RFC 6962's uneven split amounts to.
  std::vector<Hash> level(leaves.begin(), leaves.end());
  for (size_t n = level.size(); n > 1; n = (n + 1) / 2) {
    size_t i = 0;
    for (; i + 3 < n; i += 4) {  // two nodes at once; their inputs lie side by side
      const char byte[] = {kNodePrefix};
      const std::string_view prefix(byte, 1);
      const char* const at = reinterpret_cast<const char*>(level.data() + i);
      Hash left, right;
      Sha256Two({prefix, {at, 2 * kHashBytes}}, {prefix, {at + 2 * kHashBytes, 2 * kHashBytes}}, &left, &right);
      level[i / 2] = left;
      level[i / 2 + 1] = right;
    }
    for (; i + 1 < n; i += 2) level[i / 2] = NodeHash(level[i], level[i + 1]);
    if (n % 2 != 0) level[n / 2] = level[n - 1];
  }
  return level[0];
}

std::vector<Hash> InclusionPath(std::span<const Hash> leaves, uint64_t index) {
  CHECK(index < leaves.size());
  std::vector<Hash> level(leaves.begin(), leaves.end());
  std::vector<Hash> path;
  for (size_t n = level.size(); n > 1; n = (n + 1) / 2, index /= 2) {
    const size_t sibling = index ^ 1;
    if (sibling < n) path.push_back(level[sibling]);
    for (size_t i = 0; i + 1 < n; i += 2) level[i / 2] = NodeHash(level[i], level[i + 1]);
    if (n % 2 != 0) level[n / 2] = level[n - 1];
  }
  return path;
}

absl::Status VerifyInclusion(const Hash& leaf, uint64_t index, uint64_t size, std::span<const Hash> path,
                             const Hash& root) {
  if (index >= size) {
    return absl::InvalidArgumentError(absl::StrCat("leaf ", index, " does not exist in a tree of ", size));
  }
  uint64_t node = index, last = size - 1;
  Hash hash = leaf;
  for (const Hash& sibling : path) {
    if (last == 0) return absl::InvalidArgumentError("inclusion path is too long for the tree");
    if ((node & 1) != 0 || node == last) {
      hash = NodeHash(sibling, hash);
      while ((node & 1) == 0) {  // the right edge skips the levels where it has no sibling
        node >>= 1;
        last >>= 1;
      }
    } else {
      hash = NodeHash(hash, sibling);
    }
    node >>= 1;
    last >>= 1;
  }
  if (last != 0) return absl::InvalidArgumentError("inclusion path is too short for the tree");
  if (hash != root) return absl::DataLossError(absl::StrCat("leaf ", index, " is not under the root of size ", size));
  return absl::OkStatus();
}

absl::Status VerifyConsistency(uint64_t old_size, const Hash& old_root, uint64_t new_size, const Hash& new_root,
                               std::span<const Hash> proof) {
  if (old_size > new_size) {
    return absl::InvalidArgumentError(absl::StrCat("a tree of ", new_size, " cannot extend one of ", old_size));
  }
  if (old_size == new_size || old_size == 0) {
    if (!proof.empty()) return absl::InvalidArgumentError("consistency proof must be empty here");
    if (old_size == new_size && old_root != new_root) {
      return absl::DataLossError(absl::StrCat("two different roots for size ", old_size));
    }
    if (old_size == 0 && old_root != EmptyRoot()) return absl::DataLossError("root of the empty tree is wrong");
    return absl::OkStatus();
  }
  uint64_t node = old_size - 1, last = new_size - 1;
  while ((node & 1) != 0) {
    node >>= 1;
    last >>= 1;
  }
  size_t next = 0;
  Hash from_old, from_new;
  if (node == 0) {  // old_size is a power of two: the old root itself is the first node
    from_old = from_new = old_root;
  } else {
    if (proof.empty()) return absl::InvalidArgumentError("consistency proof is too short");
    from_old = from_new = proof[next++];
  }
  for (; next < proof.size(); ++next) {
    if (last == 0) return absl::InvalidArgumentError("consistency proof is too long");
    const Hash& sibling = proof[next];
    if ((node & 1) != 0 || node == last) {
      from_old = NodeHash(sibling, from_old);
      from_new = NodeHash(sibling, from_new);
      while ((node & 1) == 0 && node != 0) {
        node >>= 1;
        last >>= 1;
      }
    } else {
      from_new = NodeHash(from_new, sibling);
    }
    node >>= 1;
    last >>= 1;
  }
  if (last != 0) return absl::InvalidArgumentError("consistency proof is too short");
  if (from_old != old_root) return absl::DataLossError(absl::StrCat("proof does not lead to the root of size ", old_size));
  if (from_new != new_root) return absl::DataLossError(absl::StrCat("proof does not lead to the root of size ", new_size));
  return absl::OkStatus();
}

void Frontier::Append(const Hash& leaf, const std::function<void(int, uint64_t, const Hash&)>& completed) {
  Hash hash = leaf;
  uint64_t index = size_;
  int level = 0;
  if (completed) completed(level, index, hash);
  while ((index & 1) != 0) {  // a complete left sibling waits: join it
    hash = NodeHash(peaks_.back(), hash);
    peaks_.pop_back();
    index >>= 1;
    ++level;
    if (completed) completed(level, index, hash);
  }
  peaks_.push_back(hash);
  ++size_;
}

Hash Frontier::Root() const { return peaks_.empty() ? EmptyRoot() : Fold(peaks_); }

std::string Frontier::Encode() const {
  std::string out;
  out.reserve(8 + peaks_.size() * kHashBytes);
  PutU64(out, size_);
  for (const Hash& peak : peaks_) out.append(peak.view());
  return out;
}

absl::StatusOr<Frontier> Frontier::Decode(std::string_view bytes) {
  ByteReader in(bytes);
  Frontier frontier;
  frontier.size_ = in.U64();
  const int peaks = std::popcount(frontier.size_);
  if (!in.ok() || in.left() != static_cast<size_t>(peaks) * kHashBytes) {
    return absl::InvalidArgumentError(absl::StrCat("frontier of size ", frontier.size_, " needs ", peaks, " peaks"));
  }
  for (int i = 0; i < peaks; ++i) frontier.peaks_.push_back(Hash::From(in.Bytes(kHashBytes)));
  return frontier;
}

}  // namespace orgtrail
