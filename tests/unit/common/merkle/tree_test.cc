#include "common/merkle/tree.h"

#include <gtest/gtest.h>

#include <map>

#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr size_t kMost = 130;

// RFC 6962 §2.1 as it is written, recursion and all.
size_t Split(size_t n) {
  size_t k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}
Hash Mth(std::span<const Hash> d) {
  if (d.empty()) return Sha256(std::string_view());
  if (d.size() == 1) return d[0];
  const size_t k = Split(d.size());
  return Sha256({"\1", Mth(d.first(k)).view(), Mth(d.subspan(k)).view()});
}
std::vector<Hash> Path(size_t m, std::span<const Hash> d) {
  if (d.size() == 1) return {};
  const size_t k = Split(d.size());
  std::vector<Hash> path = m < k ? Path(m, d.first(k)) : Path(m - k, d.subspan(k));
  path.push_back(m < k ? Mth(d.subspan(k)) : Mth(d.first(k)));
  return path;
}
std::vector<Hash> SubProof(size_t m, std::span<const Hash> d, bool whole) {
  if (m == d.size()) return whole ? std::vector<Hash>() : std::vector<Hash>{Mth(d)};
  const size_t k = Split(d.size());
  std::vector<Hash> proof = m <= k ? SubProof(m, d.first(k), whole) : SubProof(m - k, d.subspan(k), false);
  proof.push_back(m <= k ? Mth(d.subspan(k)) : Mth(d.first(k)));
  return proof;
}

class StoredNodes final : public NodeReader {
 public:
  absl::StatusOr<Hash> Node(int level, uint64_t index) const override {
    const auto it = nodes.find({level, index});
    if (it == nodes.end()) return absl::NotFoundError(absl::StrCat("node ", level, "/", index));
    return it->second;
  }
  std::map<std::pair<int, uint64_t>, Hash> nodes;
};

std::vector<Hash> Leaves() {
  std::vector<Hash> leaves;
  for (size_t i = 0; i < kMost; ++i) leaves.push_back(LeafHash(std::to_string(i)));
  return leaves;
}

TEST(Tree, KnownHashes) {
  EXPECT_EQ(Hex(EmptyRoot().view()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Hex(LeafHash("").view()), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
  EXPECT_EQ(LeafHash("ab", "cd"), LeafHash("abcd"));
  EXPECT_EQ(NodeHash(LeafHash("a"), LeafHash("b")), Sha256({"\1", LeafHash("a").view(), LeafHash("b").view()}));
}

TEST(Tree, AllSizesAgreeWithTheRfc) {
  const std::vector<Hash> leaves = Leaves();
  Frontier frontier;
  StoredNodes stored;
  for (size_t n = 0; n <= kMost; ++n) {
    const std::span<const Hash> d = std::span(leaves).first(n);
    const Hash root = Mth(d);
    EXPECT_EQ(RootOf(d), root);
    EXPECT_EQ(frontier.Root(), root);
    EXPECT_EQ(frontier.size(), n);
    EXPECT_EQ(*RootAt(stored, n), root);
    absl::StatusOr<Frontier> again = Frontier::Decode(frontier.Encode());
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->Root(), root);
    EXPECT_EQ(again->Encode(), frontier.Encode());
    EXPECT_FALSE(Frontier::Decode(frontier.Encode() + "x").ok());
    EXPECT_FALSE(Frontier::Decode(frontier.Encode().substr(1)).ok());
    for (size_t i = 0; i < n; ++i) {
      const std::vector<Hash> path = Path(i, d);
      EXPECT_EQ(InclusionPath(d, i), path);
      EXPECT_EQ(*InclusionPathAt(stored, i, n), path);
      EXPECT_TRUE(VerifyInclusion(leaves[i], i, n, path, root).ok()) << i << " of " << n;
    }
    for (size_t m = 1; m < n; ++m) {
      const std::vector<Hash> proof = SubProof(m, d, true);
      EXPECT_EQ(*ConsistencyPathAt(stored, m, n), proof);
      EXPECT_TRUE(VerifyConsistency(m, Mth(d.first(m)), n, root, proof).ok()) << m << " to " << n;
    }
    if (n < kMost) {
      frontier = *again;  // what was written down goes on as well as what stayed in memory
      frontier.Append(leaves[n], [&](int level, uint64_t index, const Hash& hash) {
        EXPECT_TRUE(stored.nodes.emplace(std::pair(level, index), hash).second);
      });
    }
  }
}

TEST(Tree, WrongProofsFail) {
  const std::vector<Hash> leaves = Leaves();
  for (size_t n : {2u, 3u, 7u, 8u, 11u, 64u, 130u}) {
    const std::span<const Hash> d = std::span(leaves).first(n);
    const Hash root = Mth(d);
    for (size_t i = 0; i < n; ++i) {
      std::vector<Hash> path = Path(i, d);
      EXPECT_TRUE(absl::IsDataLoss(VerifyInclusion(LeafHash("other"), i, n, path, root)));
      for (size_t j = 0; j < n; ++j) {
        EXPECT_EQ(VerifyInclusion(leaves[i], j, n, path, root).ok(), i == j) << i << " as " << j << " of " << n;
      }
      for (Hash& hash : path) {
        hash.bytes[31] = static_cast<char>(hash.bytes[31] ^ 1);
        EXPECT_TRUE(absl::IsDataLoss(VerifyInclusion(leaves[i], i, n, path, root)));
        hash.bytes[31] = static_cast<char>(hash.bytes[31] ^ 1);
      }
      path.push_back(root);
      EXPECT_TRUE(absl::IsInvalidArgument(VerifyInclusion(leaves[i], i, n, path, root)));
      path.resize(path.size() - 2);
      EXPECT_TRUE(absl::IsInvalidArgument(VerifyInclusion(leaves[i], i, n, path, root)));
    }
    EXPECT_TRUE(absl::IsInvalidArgument(VerifyInclusion(leaves[0], n, n, {}, root)));
    EXPECT_TRUE(absl::IsInvalidArgument(VerifyInclusion(leaves[0], UINT64_MAX, UINT64_MAX, {}, root)));
    for (size_t m = 1; m < n; ++m) {
      std::vector<Hash> proof = SubProof(m, d, true);
      const Hash old_root = Mth(d.first(m));
      EXPECT_FALSE(VerifyConsistency(m, LeafHash("fork"), n, root, proof).ok());
      EXPECT_FALSE(VerifyConsistency(m, old_root, n, LeafHash("fork"), proof).ok());
      for (Hash& hash : proof) {
        hash.bytes[0] = static_cast<char>(hash.bytes[0] ^ 0x80);
        EXPECT_FALSE(VerifyConsistency(m, old_root, n, root, proof).ok());
        hash.bytes[0] = static_cast<char>(hash.bytes[0] ^ 0x80);
      }
      proof.push_back(root);
      EXPECT_FALSE(VerifyConsistency(m, old_root, n, root, proof).ok());
      proof.resize(proof.size() - 2);
      EXPECT_FALSE(VerifyConsistency(m, old_root, n, root, proof).ok());
    }
  }
}

TEST(Tree, ConsistencyAtTheEdges) {
  const Hash a = LeafHash("a"), b = LeafHash("b");
  const std::vector<Hash> one{a};
  EXPECT_TRUE(VerifyConsistency(0, EmptyRoot(), 5, a, {}).ok());
  EXPECT_FALSE(VerifyConsistency(0, a, 5, a, {}).ok());
  EXPECT_FALSE(VerifyConsistency(0, EmptyRoot(), 5, a, one).ok());
  EXPECT_TRUE(VerifyConsistency(5, a, 5, a, {}).ok());
  EXPECT_TRUE(absl::IsDataLoss(VerifyConsistency(5, a, 5, b, {})));
  EXPECT_FALSE(VerifyConsistency(5, a, 5, a, one).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(VerifyConsistency(5, a, 3, b, {})));
  EXPECT_FALSE(VerifyConsistency(UINT64_MAX - 1, a, UINT64_MAX, b, one).ok());
  StoredNodes none;
  EXPECT_TRUE(absl::IsInvalidArgument(ConsistencyPathAt(none, 5, 3).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(InclusionPathAt(none, 3, 3).status()));
  EXPECT_TRUE(absl::IsNotFound(InclusionPathAt(none, 0, 3).status()));
}

}  // namespace
}  // namespace orgtrail
