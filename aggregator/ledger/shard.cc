#include "aggregator/ledger/shard.h"

#include <algorithm>
#include <cstdio>
#include <optional>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/fs/file.h"

namespace orgtrail {
namespace {

constexpr uint8_t kVersion = 1;

uint32_t LeafCrc(uint64_t index, const char* header, std::string_view rest) {
  char head[8 + kLeafHeaderBytes - 4];
  const uint64_t be = __builtin_bswap64(index);
  std::memcpy(head, &be, 8);
  std::memcpy(head + 8, header, kLeafHeaderBytes - 4);
  return Crc32c(rest, Crc32c(std::string_view(head, sizeof head)));
}

}  // namespace

std::string ShardDir(const std::string& ledger_dir, uint32_t number) {
  char name[24];
  std::snprintf(name, sizeof name, "shard-%06u", number);
  return JoinPath(ledger_dir, name);
}

absl::StatusOr<std::vector<uint32_t>> ListShards(Fs& fs, const std::string& ledger_dir) {
  std::vector<uint32_t> numbers;
  const absl::StatusOr<std::vector<std::string>> names = fs.List(ledger_dir);
  if (absl::IsNotFound(names.status())) return numbers;
  if (!names.ok()) return names.status();
  constexpr std::string_view kPrefix = "shard-";
  for (const std::string& name : *names) {
    if (!name.starts_with(kPrefix)) continue;
    const std::optional<uint64_t> number = ParseUint(std::string_view(name).substr(kPrefix.size()));
    if (!number.has_value() || *number < 1 || *number > UINT32_MAX) continue;
    if (BaseName(ShardDir(ledger_dir, static_cast<uint32_t>(*number))) == name) numbers.push_back(static_cast<uint32_t>(*number));
  }
  std::sort(numbers.begin(), numbers.end());
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] == i + 1) continue;
    return absl::DataLossError(absl::StrCat(ShardDir(ledger_dir, static_cast<uint32_t>(i + 1)), " is missing, and ",
                                            ShardDir(ledger_dir, numbers[i]), " is there: put it back, or restore the ledger from a backup"));
  }
  return numbers;
}

namespace {

absl::StatusOr<Shard> OpenEnv(const std::string& dir, lmdb::EnvOptions options, bool packed = false) {
  options.tables = {"leaves", "nodes", "meta", "heads", "batches", "hashes", "control", "times"};
  if (packed) options.tables.push_back("blocks");
  Shard shard;
  ASSIGN_OR_RETURN(shard.env, lmdb::Env::Open(dir, options));
  shard.leaves = shard.env->table("leaves");
  shard.nodes = shard.env->table("nodes");
  shard.meta = shard.env->table("meta");
  shard.heads = shard.env->table("heads");
  shard.batches = shard.env->table("batches");
  shard.hashes = shard.env->table("hashes");
  shard.control = shard.env->table("control");
  shard.times = shard.env->table("times");
  if (packed) shard.blocks = shard.env->table("blocks");
  return shard;
}

}  // namespace

absl::StatusOr<Shard> Shard::Open(const std::string& dir, uint64_t map_bytes, bool read_only) {
  lmdb::EnvOptions options;
  options.map_bytes = map_bytes;
  options.read_only = read_only;
  return OpenEnv(dir, std::move(options));
}

absl::StatusOr<Shard> Shard::OpenPacking(const std::string& dir, uint64_t map_bytes) {
  lmdb::EnvOptions options;
  options.map_bytes = map_bytes;
  return OpenEnv(dir, std::move(options), /*packed=*/true);
}

absl::StatusOr<Shard> Shard::OpenSealed(const std::string& dir) {
  lmdb::EnvOptions options;
  options.map_bytes = 0;
  options.read_only = true;
  options.immutable = true;
  const std::string pruned = JoinPath(dir, kPrunedDir), packed = JoinPath(dir, kPackedDir);
  absl::StatusOr<Shard> opened = OpenEnv(pruned, options, /*packed=*/true);
  if (absl::IsNotFound(opened.status())) opened = OpenEnv(packed, options, /*packed=*/true);
  if (absl::IsNotFound(opened.status())) opened = OpenEnv(dir, options);
  if (absl::IsNotFound(opened.status())) opened = OpenEnv(packed, options, /*packed=*/true);  // rewritten between two looks
  if (absl::IsNotFound(opened.status())) opened = OpenEnv(pruned, options, /*packed=*/true);
  if (!opened.ok()) return opened.status();
  Shard shard = *std::move(opened);
  const lmdb::ReadTxn txn(*shard.env);
  const std::optional<std::string_view> seal = txn.Get(shard.meta, kSealKey);
  if (!seal.has_value()) {
    return absl::DataLossError(absl::StrCat(dir, "/data.mdb is not sealed although later shards exist: it is an older copy; restore the ledger from a backup"));
  }
  RETURN_IF_ERROR(Annotate(Seal::Decode(*seal).status(), dir + "/data.mdb"));
  return shard;
}

std::string IndexKey(uint64_t index) {
  std::string key;
  PutU64(key, index);
  return key;
}

std::string NodeKey(int level, uint64_t index) {
  std::string key(1, static_cast<char>(level));
  PutU64(key, index);
  return key;
}

std::string BatchKey(const BatchId& id) {
  std::string key(id.uuid.view());
  PutU64(key, id.epoch);
  PutU64(key, id.batch_seq);
  return key;
}

std::vector<Hash> PeaksOf(const Frontier& frontier) {
  const std::string bytes = frontier.Encode();
  ByteReader in(std::string_view(bytes).substr(8));
  std::vector<Hash> peaks;
  while (in.left() > 0) peaks.push_back(Hash::From(in.Bytes(32)));
  return peaks;
}

std::string TreeState::Encode() const {
  std::string out(1, static_cast<char>(kVersion));
  PutU64(out, first);
  PutU64(out, size);
  PutU64(out, events);
  PutU64(out, static_cast<uint64_t>(last_logged_ns));
  out += root.view();
  out += frontier.Encode();
  PutU32(out, Crc32c(out));
  return out;
}

absl::StatusOr<TreeState> TreeState::Decode(std::string_view bytes) {
  constexpr size_t kFixed = 1 + 4 * 8 + 32, kCrc = 4;
  if (bytes.empty() || bytes[0] != static_cast<char>(kVersion)) {
    return absl::DataLossError("the ledger's state has an unknown version: a newer orgtrail wrote it, or it is damaged");
  }
  if (bytes.size() < kFixed + kCrc ||
      GetU32(bytes.data() + bytes.size() - kCrc) != Crc32c(bytes.substr(0, bytes.size() - kCrc))) {
    return absl::DataLossError("the ledger's state is damaged (CRC differs)");
  }
  ByteReader in(bytes.substr(1));
  TreeState s;
  s.first = in.U64();
  s.size = in.U64();
  s.events = in.U64();
  s.last_logged_ns = static_cast<int64_t>(in.U64());
  s.root = Hash::From(in.Bytes(32));
  ASSIGN_OR_RETURN(s.frontier, Frontier::Decode(bytes.substr(kFixed, bytes.size() - kFixed - kCrc)));
  if (s.frontier.size() != s.size || s.first > s.size) return absl::DataLossError("the ledger's state contradicts itself");
  return s;
}

std::string ShardList::Encode() const {
  std::string out(1, static_cast<char>(kVersion));
  PutU64(out, carried_bytes);
  PutU32(out, static_cast<uint32_t>(sealed.size()));
  for (const SealedShard& s : sealed) {
    PutU64(out, s.first);
    PutU64(out, s.end);
    PutU64(out, static_cast<uint64_t>(s.last_logged_ns));
    out += s.root.view();
  }
  PutU32(out, Crc32c(out));
  return out;
}

absl::StatusOr<ShardList> ShardList::Decode(std::string_view bytes) {
  constexpr size_t kEntry = 3 * 8 + 32;
  const auto damaged = [] { return absl::DataLossError("the list of shards is damaged, or a newer orgtrail wrote it"); };
  if (bytes.size() < 1 + 8 + 4 + 4 || bytes[0] != static_cast<char>(kVersion) ||
      GetU32(bytes.data() + bytes.size() - 4) != Crc32c(bytes.substr(0, bytes.size() - 4))) {
    return damaged();
  }
  ByteReader in(bytes.substr(1));
  ShardList list;
  list.carried_bytes = in.U64();
  const size_t count = in.U32();
  if (in.left() != count * kEntry + 4) return damaged();
  for (uint64_t end = 0; list.sealed.size() < count;) {
    SealedShard s;
    s.first = in.U64();
    s.end = in.U64();
    s.last_logged_ns = static_cast<int64_t>(in.U64());
    s.root = Hash::From(in.Bytes(32));
    if (s.first != end || s.end <= s.first) return damaged();
    end = s.end;
    list.sealed.push_back(s);
  }
  return list;
}

std::string Seal::Encode() const {
  std::string out(1, static_cast<char>(kVersion));
  PutU64(out, end);
  PutU64(out, static_cast<uint64_t>(sealed_ns));
  PutU32(out, Crc32c(out));
  return out;
}

absl::StatusOr<Seal> Seal::Decode(std::string_view bytes) {
  ByteReader in(bytes);
  Seal seal;
  const uint8_t version = in.U8();
  seal.end = in.U64();
  seal.sealed_ns = static_cast<int64_t>(in.U64());
  const uint32_t crc = in.U32();
  if (!in.Done() || version != kVersion || crc != Crc32c(bytes.substr(0, bytes.size() - 4))) {
    return absl::DataLossError("the shard's seal is damaged, or a newer orgtrail wrote it");
  }
  return seal;
}

size_t StoredSize(const StoredLeaf& leaf) { 
  return kLeafHeaderBytes + leaf.sealed_key.size() + (leaf.IsPacked() ? kPackedAtBytes : 0) + leaf.bytes.size();
}

void WriteLeaf(uint64_t index, const StoredLeaf& leaf, char* out) {
  std::string header;
  header += static_cast<char>(kVersion);
  header += static_cast<char>(leaf.form);
  PutU16(header, leaf.flags);
  PutU64(header, static_cast<uint64_t>(leaf.logged_ns));
  char* const rest = out + kLeafHeaderBytes;
  std::string before(leaf.sealed_key);
  if (leaf.IsPacked()) {
    PutU64(before, leaf.at.block);
    PutU32(before, leaf.at.offset);
    PutU32(before, leaf.at.size);
  }
  std::memcpy(rest, before.data(), before.size());
  std::memcpy(rest + before.size(), leaf.bytes.data(), leaf.bytes.size());
  PutU32(header, LeafCrc(index, header.data(), {rest, before.size() + leaf.bytes.size()}));
  std::memcpy(out, header.data(), kLeafHeaderBytes);
}

absl::StatusOr<StoredLeaf> ReadLeaf(uint64_t index, std::string_view value, Crc crc) {
  if (value.size() < kLeafHeaderBytes) return absl::DataLossError("shorter than a leaf's header");
  ByteReader in(value);
  const uint8_t version = in.U8(), form = in.U8();
  StoredLeaf leaf;
  leaf.form = static_cast<LeafForm>(form);
  leaf.flags = in.U16();
  leaf.logged_ns = static_cast<int64_t>(in.U64());
  const uint32_t stored_crc = in.U32();
  const std::string_view rest = value.substr(kLeafHeaderBytes);
  if (crc == Crc::kCheck && stored_crc != LeafCrc(index, value.data(), rest)) return absl::DataLossError("its CRC differs");
  if (version != kVersion || form > static_cast<uint8_t>(LeafForm::kPackedSealedKey)) {
    return absl::DataLossError(absl::StrCat("its version ", version, ".", form, " is unknown"));
  }
  if (leaf.HasSealedKey()) leaf.sealed_key = in.Bytes(kSealedKeyBytes);
  if (leaf.IsPacked()) {
    leaf.at.block = in.U64();
    leaf.at.offset = in.U32();
    leaf.at.size = in.U32();
  }
  if (!in.ok() || in.left() == 0) return absl::DataLossError("it ends early");
  leaf.bytes = in.Bytes(in.left());
  return leaf;
}

bool IsBatch(std::string_view leaf_bytes) { return leaf_bytes.starts_with("OTF1"); }

std::string_view EntryOf(std::string_view leaf_bytes) {
  if (!IsBatch(leaf_bytes)) return leaf_bytes;
  if (leaf_bytes.size() < 6) return {};
  const size_t size = GetU16(leaf_bytes.data() + 4);
  return leaf_bytes.size() < 6 + size ? std::string_view() : leaf_bytes.substr(6, size);
}

size_t BatchKeyOffset(std::string_view frame) {
  const std::string_view entry = EntryOf(frame);
  const size_t extension = 6 + entry.size();
  if (entry.empty() || frame.size() < extension + 4) return std::string_view::npos;
  const size_t key = extension + 4 + GetU32(frame.data() + extension);
  return frame.size() < key + 32 ? std::string_view::npos : key;
}

std::string LeafKeyContext(std::string_view origin, uint64_t index) {
  std::string context("orgtrail/leafkey/v1\0", 20);
  context += origin;
  context += '\0';
  PutU64(context, index);
  return context;
}

absl::Status DamagedLeaf(uint64_t index, const std::string& shard_dir, std::string_view what) {
  return absl::DataLossError(absl::StrCat("leaf ", index, " in ", JoinPath(shard_dir, "data.mdb"), ": ", ToAbsl(what),
                                          ". Run orgtrail fsck for the whole extent; then ", ToAbsl(kHowToRepair)));
}

}  // namespace orgtrail
