#include "aggregator/ledger/blocks.h"

#include <iterator>
#include <utility>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kKept = 8, kIdle = 8;
constexpr size_t kLargest = kPackedBlockBytes + limits::kFrameRawBytes;

// RFC 8878 §3.1.1: a frame of raw blocks, single segment, content size in 4 bytes. Who reads it next is in this process, mostly.
void ZstdStore(std::string_view plain, std::string* out) {
  constexpr size_t kRawBlock = 128 << 10;
  CHECK(plain.size() <= UINT32_MAX);
  out->reserve(out->size() + 9 + plain.size() + 3 * (plain.size() / kRawBlock + 1));
  out->append("\x28\xB5\x2F\xFD\xA0");
  for (int shift = 0; shift < 32; shift += 8) out->push_back(static_cast<char>(plain.size() >> shift));
  do {
    const std::string_view block = plain.substr(0, kRawBlock);
    plain.remove_prefix(block.size());
    const size_t header = block.size() << 3 | (plain.empty() ? 1 : 0);
    for (int shift = 0; shift < 24; shift += 8) out->push_back(static_cast<char>(header >> shift));
    out->append(block);
  } while (!plain.empty());
}

uint32_t BlockCrc(uint64_t number, std::string_view packed) {
  std::string key;
  PutU64(key, number);
  return Crc32c(packed, Crc32c(key));
}

}  // namespace

std::string EncodeBlock(uint64_t number, std::string_view plain, ZstdCompressor& zstd) {
  std::string value(4, '\0');
  zstd.Compress(plain, &value);
  std::string crc;
  PutU32(crc, BlockCrc(number, std::string_view(value).substr(4)));
  value.replace(0, 4, crc);
  return value;
}

absl::Status DecodeBlock(uint64_t number, std::string_view value, ZstdDecompressor& zstd, std::string* plain) {
  if (value.size() < 4 || GetU32(value.data()) != BlockCrc(number, value.substr(4))) {
    return absl::DataLossError(absl::StrCat("the CRC of block ", number, " differs"));
  }
  return Annotate(zstd.Decompress(value.substr(4), kLargest, plain), absl::StrCat("block ", number));
}

absl::StatusOr<std::shared_ptr<const std::string>> Blocks::Get(const ShardView::Part& part, uint64_t number) const {
  using Found = std::pair<std::shared_ptr<const std::string>, std::unique_ptr<ZstdDecompressor>>;
  auto [kept, zstd] = state_.With([&](State& s) -> Found {
    for (auto it = s.recent.begin(); it != s.recent.end(); ++it) {
      if (it->number != number || it->dir != part.shard->env->dir()) continue;
      s.recent.splice(s.recent.begin(), s.recent, it);
      return {it->plain, nullptr};
    }
    if (s.idle.empty()) return {};
    Found found{nullptr, std::move(s.idle.back())};
    s.idle.pop_back();
    return found;
  });
  if (kept != nullptr) return std::move(kept);
  if (zstd == nullptr) zstd = std::make_unique<ZstdDecompressor>();
  const std::optional<std::string_view> value = part.Get(*part.shard->blocks, IndexKey(number));
  if (!value.has_value()) return absl::DataLossError(absl::StrCat("block ", number, " is missing"));
  auto plain = std::make_shared<std::string>();
  const absl::Status decoded = DecodeBlock(number, *value, *zstd, plain.get());
  part.txn->Unmap(*value);
  std::list<Block> evicted;  // freed after the lock
  state_.With([&](State& s) {
    if (s.idle.size() < kIdle) s.idle.push_back(std::move(zstd));
    if (!decoded.ok()) return;
    s.recent.push_front({part.shard->env->dir(), number, plain});
    if (s.recent.size() > kKept) evicted.splice(evicted.begin(), s.recent, std::prev(s.recent.end()));
  });
  if (!decoded.ok()) return decoded;
  return std::shared_ptr<const std::string>(std::move(plain));
}

absl::StatusOr<std::string> Blocks::Frame(const ShardView::Part& part, const StoredLeaf& leaf) const {
  if (!part.shard->blocks.has_value()) return absl::DataLossError("it names a block in a shard that has none");
  ASSIGN_OR_RETURN(const std::shared_ptr<const std::string> plain, Get(part, leaf.at.block));
  if (leaf.at.offset > plain->size() || leaf.at.size > plain->size() - leaf.at.offset) {
    return absl::DataLossError(absl::StrCat("block ", leaf.at.block, " is shorter than it says"));
  }
  std::string frame(leaf.bytes);
  ZstdStore(std::string_view(*plain).substr(leaf.at.offset, leaf.at.size), &frame);
  return frame;
}

}  // namespace orgtrail
