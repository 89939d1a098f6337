#include "aggregator/query/whole_record.h"

#include <algorithm>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr std::string_view kPrefix = "{\"orgtrail:blob\":{\"sha256\":\"";
constexpr std::string_view kSize = "\",\"len\":";
constexpr size_t kMaxBatches = 64;   // that one record's chunks may spread over
constexpr uint64_t kNearLeaves = 256;

// The batch that follows on the same branch; null when it is not here. In quarantine one identity may have several leaves, and the
// one looked for was logged soon after.
absl::StatusOr<std::shared_ptr<const Leaf>> After(const LedgerReader& ledger, const Leaf& leaf) {
  const BatchHeader& h = leaf.header;
  const std::optional<uint64_t> next = ledger.Find({h.agent_uuid, h.epoch, h.batch_seq + 1});
  if (!next.has_value()) return std::shared_ptr<const Leaf>();
  ASSIGN_OR_RETURN(std::shared_ptr<const Leaf> found, ledger.Read(*next));
  if (found->header.prev_hash == leaf.hash) return found;
  const uint64_t end = std::min(ledger.head().size, leaf.index + kNearLeaves);
  for (uint64_t i = leaf.index + 1; i < end; ++i) {
    ASSIGN_OR_RETURN(found, ledger.Read(i));
    if (found->is_batch && found->header.agent_uuid == h.agent_uuid && found->header.prev_hash == leaf.hash) return found;
  }
  return std::shared_ptr<const Leaf>();
}

}  // namespace

bool BlobStub::Decode(std::string_view body, BlobStub* out) {
  if (body.substr(0, kPrefix.size()) != kPrefix) return false;
  body.remove_prefix(kPrefix.size());
  if (body.size() < 64) return false;
  const std::optional<std::string> hash = Unhex(body.substr(0, 64));
  body.remove_prefix(64);
  if (!hash.has_value() || body.substr(0, kSize.size()) != kSize) return false;
  body.remove_prefix(kSize.size());
  const size_t digits = body.find_first_not_of("0123456789");
  if (digits == std::string_view::npos) return false;
  const std::optional<uint64_t> size = ParseUint(body.substr(0, digits));
  if (!size.has_value()) return false;
  out->sha256 = Hash::From(*hash);
  out->size = *size;
  const size_t head = body.find(",\"head\":");  // the record's own text starts behind it
  out->truncated = body.substr(0, head).find("\"truncated\":true") != std::string_view::npos;
  return true;
}

absl::StatusOr<std::string> WholeRecord(const LedgerReader& ledger, const Leaf& leaf, size_t row, bool* whole) {
  const Row& stub_row = leaf.events.rows[row];
  *whole = true;
  BlobStub stub;
  if ((stub_row.flags & kFlagBlob) == 0 || !BlobStub::Decode(stub_row.body, &stub)) return std::string(stub_row.body);
  *whole = false;
  if (stub.truncated || stub.size > limits::kRecordBytes) return std::string(stub_row.body);
  std::string content;
  content.reserve(stub.size);
  std::shared_ptr<const Leaf> held;
  const Leaf* at = &leaf;
  size_t i = row + 1;
  // Chunks follow their stub in sequence order, over as many batches of the same epoch as it takes.
  for (size_t batches = 0; batches < kMaxBatches && content.size() < stub.size;) {
    if (i == at->events.rows.size()) {
      ASSIGN_OR_RETURN(held, After(ledger, *at));
      if (held == nullptr) break;
      at = held.get();
      i = 0;
      ++batches;
      continue;
    }
    const Row& chunk = at->events.rows[i++];
    if (chunk.event_class != static_cast<uint16_t>(EventClass::kChunk) || chunk.tombstone) break;
    content += chunk.body;
  }
  if (content.size() != stub.size || Sha256(content) != stub.sha256) return std::string(stub_row.body);
  *whole = true;
  return content;
}

}  // namespace orgtrail
