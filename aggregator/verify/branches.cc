#include "aggregator/verify/branches.h"

#include <algorithm>
#include <string>
#include <utility>

#include "aggregator/ledger/branch.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kEnds = 8;

bool Continues(const BatchHeader& h, const Branch& b) { return b.tip == h.prev_hash && b.epoch == h.epoch && b.batch_seq + 1 == h.batch_seq; }

}  // namespace

void Branches::Add(Branch branch) {
  if (ends_.size() == kEnds) ends_.pop_front();
  ends_.push_back(std::move(branch));
}

const Branch* Branches::Of(const LedgerReader& ledger, const BatchHeader& h) {
  const auto here = std::find_if(ends_.begin(), ends_.end(), [&](const Branch& b) { return Continues(h, b); });
  if (here != ends_.end()) return &*here;
  if (h.batch_seq == 0) return nullptr;
  const absl::StatusOr<uint64_t> before = AncestorOf(ledger, h, h.batch_seq - 1);
  if (!before.ok()) return nullptr;
  const absl::StatusOr<std::string> bytes = ledger.ReadEntry(*before);
  const absl::StatusOr<BatchEntry> entry = bytes.ok() ? BatchEntry::Decode(*bytes) : bytes.status();
  if (!entry.ok()) return nullptr;
  absl::StatusOr<std::shared_ptr<const SlotKeys>> tree = SlotKeys::LoadAfter(ledger, *before, entry->header);
  if (!tree.ok()) return nullptr;
  Add({h.prev_hash, h.epoch, h.batch_seq - 1, *std::move(tree), 0});
  return &ends_.back();
}

void Branches::Grow(const LedgerReader& ledger, const BatchHeader& h, const Hash& leaf, std::shared_ptr<const SlotKeys> tree, StreamId from) {
  if (h.batch_seq > 0) {
    if (const Branch* before = Of(ledger, h)) {
      if (tree == nullptr) tree = before->tree;
      std::erase_if(ends_, [&](const Branch& b) { return Continues(h, b); });
    }
  }
  Add({leaf, h.epoch, h.batch_seq, std::move(tree), from});
}

uint64_t Branches::NextOf(StreamId from, uint64_t epoch) const {
  const auto newest = std::find_if(ends_.rbegin(), ends_.rend(), [&](const Branch& b) { return b.from == from && b.epoch == epoch; });
  return newest == ends_.rend() ? 0 : newest->batch_seq + 1;
}

}  // namespace orgtrail
