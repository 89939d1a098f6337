// FullableLedger: the real ledger, on a disk that is full when told to be.
#pragma once

#include <atomic>
#include <vector>

#include "aggregator/ledger/ledger.h"

namespace orgtrail {

class FullableLedger final : public Ledger {
 public:
  explicit FullableLedger(Ledger& real) : real_(real) {}
  std::atomic<bool> full{false};
  std::vector<size_t> groups;

  absl::StatusOr<Flush> Append(std::span<Admitted> group) override {
    if (full) return absl::ResourceExhaustedError("no space left on device");
    groups.push_back(group.size());
    return real_.Append(group);
  }
  Tick MaybeAnchor(Tick now) override { return real_.MaybeAnchor(now); }
  void SetCarries(std::function<std::string(const Uuid&)> c) override { real_.SetCarries(std::move(c)); }
  Stats stats() const override { return real_.stats(); }
  std::vector<ShardFacts> shard_facts() const override { return real_.shard_facts(); }
  const std::string& origin() const override { return real_.origin(); }
  SignedHead head() const override { return real_.head(); }
  bool WaitBeyond(uint64_t size, absl::Duration limit) const override { return real_.WaitBeyond(size, limit); }
  void Wake() override { real_.Wake(); }
  absl::StatusOr<std::shared_ptr<const Leaf>> Read(uint64_t i) const override { return real_.Read(i); }
  absl::StatusOr<RawLeaf> ReadRaw(uint64_t i) const override { return real_.ReadRaw(i); }
  absl::StatusOr<std::string> ReadEntry(uint64_t i) const override { return real_.ReadEntry(i); }
  absl::StatusOr<Hash> LeafHashAt(uint64_t i) const override { return real_.LeafHashAt(i); }
  absl::StatusOr<Hash> Root(uint64_t size) const override { return real_.Root(size); }
  absl::StatusOr<std::vector<Hash>> Inclusion(uint64_t i, uint64_t n) const override { return real_.Inclusion(i, n); }
  absl::StatusOr<std::vector<Hash>> Consistency(uint64_t m, uint64_t n) const override { return real_.Consistency(m, n); }
  absl::StatusOr<std::vector<Hash>> Tile(int l, uint64_t t, uint32_t w) const override { return real_.Tile(l, t, w); }
  std::optional<uint64_t> Find(const BatchId& id) const override { return real_.Find(id); }
  std::optional<uint64_t> FindLeaf(const Hash& h, uint64_t from) const override { return real_.FindLeaf(h, from); }
  std::vector<AgentHead> Heads() const override { return real_.Heads(); }
  std::optional<AgentHead> HeadOf(const Uuid& u) const override { return real_.HeadOf(u); }
  std::vector<uint64_t> ControlLeaves(uint64_t from, size_t max) const override { return real_.ControlLeaves(from, max); }
  uint64_t FirstLoggedAt(int64_t ns) const override { return real_.FirstLoggedAt(ns); }

 private:
  Ledger& real_;
};

}  // namespace orgtrail
