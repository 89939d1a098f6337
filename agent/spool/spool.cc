#include "agent/spool/spool.h"

#include <algorithm>
#include <mutex>
#include <tuple>
#include <utility>

#include "agent/spool/values.h"
#include "common/base/bytes.h"
#include "common/base/guarded.h"
#include "common/base/status.h"
#include "common/format/frame.h"

namespace orgtrail {
namespace {

constexpr uint64_t kDefaultMaxBytes = 8ull << 30;
constexpr uint64_t kLeastMaxBytes = 16 << 20;
constexpr absl::Duration kReplyLife = absl::Hours(24);
constexpr uint64_t kReplies = 100'000;  // more than that in a day: the oldest go earlier
constexpr size_t kPruneStep = 64;       // expired batches or replies removed in one transaction
constexpr size_t kIdempotencyKeyBytes = 1024;
constexpr size_t kPositionKeyBytes = 500;  // LMDB takes keys up to 511
constexpr size_t kEvidenceFiles = 1000;
constexpr uint64_t kEntryRoom = 1024;   // for the copy of a batch's entry; an extension's second copy comes once in 1,024 batches

// LMDB copies pages on write, so even deleting needs free ones, and freed pages come back two commits later: the map is
// a quarter and 64 MiB larger than what Append may fill.
uint64_t MapBytes(uint64_t max_bytes) { return (max_bytes + max_bytes / 4 + (64ull << 20)) & ~uint64_t{4095}; }

std::string Megabytes(uint64_t bytes) { return absl::StrCat((bytes + (1 << 20) - 1) >> 20, " MiB"); }

}  // namespace

std::string Name(BatchKey key) { return absl::StrCat("epoch ", key.epoch, " batch ", key.batch_seq); }

struct Spool::Impl {
  struct Shared {  // what other threads see: as of the last commit, and receipts since
    SpoolCounters counters;
    absl::Time oldest_unacked = absl::InfiniteFuture();
    std::vector<Branch> branches;
    std::optional<Pin> pin;      // with counters.acked_through ahead of the disk: the next commit takes both along
    bool woken = false;
    absl::Status failed;   // of a commit, otherwise than for want of space: what the file holds is unknown until it is opened anew
  };

  Impl(SpoolOptions o, Fs& f, const Clock& c) : options(o), fs(f), clock(c) {}

  absl::Status Load();
  absl::StatusOr<std::unique_ptr<lmdb::WriteTxn>> Begin();
  absl::Status Store(lmdb::WriteTxn& txn);
  absl::Status AppendOnce(const Commit& commit, uint64_t need);
  absl::Status MakeRoom(lmdb::WriteTxn& txn, SpoolCounters& counters, uint64_t need);
  absl::Status Prune(lmdb::WriteTxn& txn, SpoolCounters& counters, uint64_t want_bytes);
  absl::Status PruneReplies(lmdb::WriteTxn& txn, SpoolCounters& counters);
  absl::Status PutReply(lmdb::WriteTxn& txn, SpoolCounters& counters, std::string_view key, std::string_view reply);
  absl::Status PutBatch(lmdb::WriteTxn& txn, BatchKey key, absl::Time stored, std::string_view frame, bool append);
  uint64_t CostOf(const lmdb::ReadTxn& txn, std::string_view key, size_t value_bytes) const;
  absl::Time FirstUnacked(const lmdb::ReadTxn& txn, BatchKey acked) const;
  absl::Status Finish(std::unique_ptr<lmdb::WriteTxn> txn, const SpoolCounters& counters);
  absl::Status Flush();
  absl::Status Full(std::string_view what) const;

  const SpoolOptions options;
  Fs& fs;
  const Clock& clock;
  std::function<void(absl::Duration)> on_fsync;
  std::string dir;
  FileFacts dir_facts, data_facts;
  uint64_t max_bytes = 0;
  SpoolTail opened_tail;
  std::unique_ptr<lmdb::Env> env;
  lmdb::Table batches, entries, meta, positions, replies, reply_times;
  std::mutex writing;  // one writer: its transaction, then the counters it committed
  Guarded<Shared> shared;
};

Spool::Spool() = default;

Spool::~Spool() {
  // What is not written is asked for again and answered as a repeat.
  if (impl_ != nullptr && impl_->env != nullptr) impl_->Flush().IgnoreError();
}

absl::StatusOr<std::unique_ptr<Spool>> Spool::Open(std::string_view dir, const SpoolOptions& options, Fs& fs,
                                                   const Clock& clock) {
  RETURN_IF_ERROR(fs.MakeDirs(dir, 0700));
  std::unique_ptr<Spool> spool(new Spool);
  spool->impl_ = std::make_unique<Impl>(options, fs, clock);
  Impl& impl = *spool->impl_;
  impl.dir = std::string(dir);
  impl.max_bytes = options.max_bytes;
  if (impl.max_bytes == 0) {
    ASSIGN_OR_RETURN(const uint64_t total, fs.TotalBytes(dir));
    impl.max_bytes = std::min(kDefaultMaxBytes, total / 10);
  }
  impl.max_bytes = std::max(impl.max_bytes, kLeastMaxBytes);
  lmdb::EnvOptions env;
  env.map_bytes = MapBytes(impl.max_bytes);
  env.tables = {"batches", "entries", "meta", "positions", "replies", "reply_times"};
  ASSIGN_OR_RETURN(impl.env, lmdb::Env::Open(dir, env));
  impl.batches = impl.env->table("batches");
  impl.entries = impl.env->table("entries");
  impl.meta = impl.env->table("meta");
  impl.positions = impl.env->table("positions");
  impl.replies = impl.env->table("replies");
  impl.reply_times = impl.env->table("reply_times");
  ASSIGN_OR_RETURN(impl.dir_facts, fs.Facts(dir));
  ASSIGN_OR_RETURN(impl.data_facts, fs.Facts(JoinPath(dir, "data.mdb")));
  RETURN_IF_ERROR(fs.SyncDir(dir));  // the new file's name survives a power cut
  absl::Status loaded = impl.Load();
  if (!loaded.ok()) return Annotate(loaded, "spool " + impl.dir);
  return spool;
}

absl::Status Spool::Impl::Load() {
  lmdb::ReadTxn txn(*env);
  Shared now;
  if (std::optional<std::string_view> stored = txn.Get(meta, kCountersKey)) {
    ASSIGN_OR_RETURN(now.counters, SpoolCounters::Decode(*stored));
  }
  if (std::optional<std::string_view> stored = txn.Get(meta, kTailKey)) {
    ASSIGN_OR_RETURN(opened_tail, DecodeTail(*stored));
  }
  if (std::optional<std::string_view> stored = txn.Get(meta, kBranchesKey)) {
    ASSIGN_OR_RETURN(now.branches, DecodeBranches(*stored));
  }
  lmdb::Cursor last(txn, batches);
  if (last.Last() && DecodeKey(last.key()) > now.counters.last) {
    return absl::DataLossError("holds batches its counters do not know: keep a copy of the state directory, and enrol this agent anew with an empty one");
  }
  if (BatchKey{opened_tail.epoch, opened_tail.batch_seq} != now.counters.last) {
    return absl::DataLossError("its tail and its counters disagree: keep a copy of the state directory, and enrol this agent anew with an empty one");
  }
  now.oldest_unacked = FirstUnacked(txn, now.counters.acked_through);
  shared.With([&](Shared& s) { s = now; });
  return absl::OkStatus();
}

absl::Time Spool::Impl::FirstUnacked(const lmdb::ReadTxn& txn, BatchKey acked) const {
  lmdb::Cursor cursor(txn, batches);
  if (!cursor.Seek(EncodeKey(Following(acked)))) return absl::InfiniteFuture();
  return StoredTime(cursor.value());
}

absl::StatusOr<std::unique_ptr<lmdb::WriteTxn>> Spool::Impl::Begin() {
  RETURN_IF_ERROR(shared.Peek([](const Shared& s) { return s.failed; }));
  return lmdb::WriteTxn::Begin(*env);
}

absl::Status Spool::Impl::Store(lmdb::WriteTxn& txn) {
  const Tick begin = clock.Now();
  absl::Status committed = txn.Commit();
  if (committed.ok() && on_fsync) on_fsync(clock.Now() - begin);
  if (!committed.ok() && !absl::IsResourceExhausted(committed)) shared.With([&](Shared& s) { s.failed = committed; });
  return committed;
}

void Spool::OnFsync(std::function<void(absl::Duration)> took) { impl_->on_fsync = std::move(took); }
SpoolTail Spool::tail() const { return impl_->opened_tail; }
const std::string& Spool::dir() const { return impl_->dir; }

absl::Status Spool::Impl::Full(std::string_view what) const {
  const SpoolCounters counters = shared.Peek([](const Shared& s) { return s.counters; });
  return absl::ResourceExhaustedError(
      absl::StrCat("spool ", dir, " is full: ", ToAbsl(what), "; ", counters.unacked_batches, " batches (",
                   Megabytes(counters.unacked_bytes),
                   ") wait for the aggregator. Nothing is lost: let the agent reach its aggregator, free "
                   "space, or raise spool.max_bytes / lower spool.min_free"));
}

absl::Status Spool::Impl::MakeRoom(lmdb::WriteTxn& txn, SpoolCounters& counters, uint64_t need) {
  uint64_t want = counters.stored_bytes + need > max_bytes ? counters.stored_bytes + need - max_bytes : 0;
  ASSIGN_OR_RETURN(const uint64_t free_bytes, fs.FreeBytes(dir));
  ASSIGN_OR_RETURN(const uint64_t total_bytes, fs.TotalBytes(dir));
  const auto least_free = static_cast<uint64_t>(static_cast<double>(total_bytes) * options.min_free);
  // Below min_free the file must not grow; what acknowledged batches leave behind inside it may be filled again.
  const bool tight = free_bytes < least_free;
  const uint64_t file_bytes = tight ? env->Stats().used_bytes : 0;
  const uint64_t inside = file_bytes > counters.stored_bytes ? file_bytes - counters.stored_bytes : 0;
  if (tight && inside < need) want = std::max(want, need - inside);
  const uint64_t before = counters.stored_bytes;
  RETURN_IF_ERROR(Prune(txn, counters, want));
  if (before - counters.stored_bytes >= want) return absl::OkStatus();
  if (counters.stored_bytes + need > max_bytes) {
    return Full(
        absl::StrCat(Megabytes(counters.stored_bytes), " of spool.max_bytes ", Megabytes(max_bytes), " are used"));
  }
  return Full(absl::StrCat("its disk has ", Megabytes(free_bytes), " free of ", Megabytes(total_bytes),
                           ", below spool.min_free (", Megabytes(least_free), ")"));
}

// Removes acknowledged batches, oldest first: as many as `want_bytes` takes, and a step of those past keep_acked.
absl::Status Spool::Impl::Prune(lmdb::WriteTxn& txn, SpoolCounters& counters, uint64_t want_bytes) {
  uint64_t freed = 0;
  const absl::Time expired = clock.Wall() - options.keep_acked;
  for (size_t n = 0;; ++n) {
    std::string key;
    uint64_t cost;
    {
      lmdb::Cursor oldest(txn, batches);
      if (!oldest.First() || DecodeKey(oldest.key()) > counters.acked_through) return absl::OkStatus();
      if (freed >= want_bytes && (n >= kPruneStep || StoredTime(oldest.value()) > expired)) return absl::OkStatus();
      key = std::string(oldest.key());
      cost = CostOf(txn, key, oldest.value().size());
    }
    RETURN_IF_ERROR(txn.Delete(batches, key));
    RETURN_IF_ERROR(txn.Delete(entries, key));
    freed += cost;
    counters.stored_bytes -= std::min(counters.stored_bytes, cost);
  }
}

absl::Status Spool::Impl::PruneReplies(lmdb::WriteTxn& txn, SpoolCounters& counters) {
  const absl::Time expired = clock.Wall() - kReplyLife;
  for (size_t n = 0; n < kPruneStep; ++n) {
    std::string time_key;
    {
      lmdb::Cursor oldest(txn, reply_times);
      if (!oldest.First()) return absl::OkStatus();
      const absl::Time stored = absl::FromUnixNanos(static_cast<int64_t>(GetU64(oldest.key().data())));
      if (stored > expired && counters.replies <= kReplies) return absl::OkStatus();
      time_key = std::string(oldest.key());
    }
    RETURN_IF_ERROR(txn.Delete(reply_times, time_key));
    const std::string_view hash = std::string_view(time_key).substr(8);
    RETURN_IF_ERROR(txn.Delete(replies, hash));
    if (counters.replies > 0) --counters.replies;
  }
  return absl::OkStatus();
}

absl::Status Spool::Impl::PutReply(lmdb::WriteTxn& txn, SpoolCounters& counters, std::string_view key,
                                   std::string_view reply) {
  const Hash hash = Sha256(key);
  // A repeated key gets the new reply; the old one's place in time goes with it.
  if (std::optional<std::string_view> old = txn.Get(replies, hash.view()); old && old->size() >= kReplyTimeAt + 8) {
    std::string old_time(old->substr(kReplyTimeAt, 8));
    old_time += hash.view();
    RETURN_IF_ERROR(txn.Delete(reply_times, old_time));
  } else {
    ++counters.replies;
  }
  std::string time_key;
  PutU64(time_key, static_cast<uint64_t>(clock.WallNanos()));
  std::string payload = time_key;
  payload += reply;
  RETURN_IF_ERROR(txn.Put(replies, hash.view(), Wrap(hash.view(), payload)));
  time_key += hash.view();
  return txn.Put(reply_times, time_key, "\x01");
}

absl::Status Spool::Impl::PutBatch(lmdb::WriteTxn& txn, BatchKey key, absl::Time stored, std::string_view frame,
                                   bool append) {
  const std::string encoded = EncodeKey(key);
  ASSIGN_OR_RETURN(char* room, txn.Reserve(batches, encoded, kBatchValueHead + frame.size(), append));
  FillBatchValue(room, encoded, stored, frame);
  return absl::OkStatus();
}

// Of a batch: its frame's value, and the copy of its entry.
uint64_t Spool::Impl::CostOf(const lmdb::ReadTxn& txn, std::string_view key, size_t value_bytes) const {
  const std::optional<std::string_view> copy = txn.Get(entries, key);
  return DiskCost(value_bytes) + (copy ? DiskCost(copy->size()) : 0);
}

absl::Status Spool::Impl::Finish(std::unique_ptr<lmdb::WriteTxn> txn, const SpoolCounters& counters) {
  const auto [acked, known, pin] =
      shared.Peek([](const Shared& s) { return std::make_tuple(s.counters.acked_through, s.oldest_unacked, s.pin); });
  if (pin) RETURN_IF_ERROR(txn->Put(meta, kPinKey, EncodePin(*pin)));
  RETURN_IF_ERROR(txn->Put(meta, kCountersKey, counters.Encode()));
  const bool same = acked == counters.acked_through && known != absl::InfiniteFuture();
  const absl::Time oldest = same ? known : FirstUnacked(*txn, counters.acked_through);
  RETURN_IF_ERROR(Store(*txn));
  shared.With([&](Shared& s) {
    s.counters = counters;
    s.oldest_unacked = oldest;
    s.pin.reset();
  });
  return absl::OkStatus();
}

absl::Status Spool::Impl::Flush() {
  std::lock_guard lock(writing);
  if (!shared.Peek([](const Shared& s) { return s.pin.has_value(); })) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, Begin());
  return Finish(std::move(txn), shared.Peek([](const Shared& s) { return s.counters; }));
}

absl::Status Spool::Impl::AppendOnce(const Commit& commit, uint64_t need) {
  SpoolCounters counters = shared.Peek([](const Shared& s) { return s.counters; });
  ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, Begin());
  RETURN_IF_ERROR(MakeRoom(*txn, counters, need));
  for (const SealedBatch* batch : commit.batches) {
    const BatchKey key{batch->header.epoch, batch->header.batch_seq};
    if (key <= counters.last) {
      return absl::FailedPreconditionError(absl::StrCat("spool ", dir, ": batch (", key.epoch, ", ", key.batch_seq,
                                                        ") does not follow (", counters.last.epoch, ", ",
                                                        counters.last.batch_seq, ")"));
    }
    RETURN_IF_ERROR(PutBatch(*txn, key, clock.Wall(), batch->frame, true));
    uint64_t cost = DiskCost(kBatchValueHead + batch->frame.size());
    if (const absl::StatusOr<FrameView> view = FrameView::Decode(batch->frame); view.ok()) {
      const std::string encoded = EncodeKey(key);
      const std::string copy = EncodeEntry(encoded, {std::string(view->entry), std::string(view->extension)});
      RETURN_IF_ERROR(txn->Append(entries, encoded, copy));
      cost += DiskCost(copy.size());
    }
    counters.last = key;
    counters.stored_bytes += cost;
    counters.unacked_bytes += cost;
    ++counters.unacked_batches;
  }
  if (!commit.batches.empty()) RETURN_IF_ERROR(txn->Put(meta, kTailKey, EncodeTail(*commit.batches.back())));
  for (const FilePosition& position : commit.positions) {
    if (position.key.empty() || position.key.size() > kPositionKeyBytes) {
      return absl::InvalidArgumentError(absl::StrCat("file position key of ", position.key.size(), " bytes"));
    }
    if (position.forget) {
      RETURN_IF_ERROR(txn->Delete(positions, position.key));
    } else {
      RETURN_IF_ERROR(txn->Put(positions, position.key, EncodePosition(position)));
    }
  }
  for (const auto& [key, reply] : commit.replies) {
    if (key.size() > kIdempotencyKeyBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("idempotency key of ", key.size(), " bytes; at most ", kIdempotencyKeyBytes));
    }
    RETURN_IF_ERROR(PutReply(*txn, counters, key, reply));
  }
  RETURN_IF_ERROR(PruneReplies(*txn, counters));
  return Finish(std::move(txn), counters);
}

absl::Status Spool::Append(const Commit& commit) {
  uint64_t need = 0;
  for (const SealedBatch* batch : commit.batches) need += DiskCost(kBatchValueHead + batch->frame.size()) + kEntryRoom;
  std::lock_guard lock(impl_->writing);
  absl::Status stored = impl_->AppendOnce(commit, need);
  // Room enough by our count, but not in one piece inside LMDB's file: acknowledged batches make more.
  for (int tries = 0; tries < 2 && absl::IsResourceExhausted(stored); ++tries) {
    SpoolCounters counters = impl_->shared.Peek([](const Impl::Shared& s) { return s.counters; });
    const uint64_t before = counters.stored_bytes;
    ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, impl_->Begin());
    if (!impl_->Prune(*txn, counters, 4 * need).ok() || counters.stored_bytes == before) return stored;
    if (absl::Status pruned = impl_->Finish(std::move(txn), counters); !pruned.ok()) {
      return absl::IsResourceExhausted(pruned) ? stored : pruned;
    }
    stored = impl_->AppendOnce(commit, need);
  }
  if (stored.ok() && !commit.batches.empty()) {
    // What commits look at lies around the newest batch: while nobody reads that far, this is what gives it back.
    const BatchHeader& newest = commit.batches.back()->header;
    lmdb::ReadTxn txn(*impl_->env);
    if (const std::optional<std::string_view> value = txn.Get(impl_->batches, EncodeKey({newest.epoch, newest.batch_seq}))) txn.Unmap(*value);
  }
  return stored;
}

absl::StatusOr<std::optional<std::pair<BatchKey, std::string>>> Spool::Next(BatchKey after) const {
  lmdb::ReadTxn txn(*impl_->env);
  lmdb::Cursor cursor(txn, impl_->batches);
  if (!cursor.Seek(EncodeKey(Following(after)))) return std::nullopt;
  ASSIGN_OR_RETURN(const std::string_view frame, CheckBatchValue(cursor.key(), cursor.value()));
  auto found = std::make_pair(DecodeKey(cursor.key()), std::string(frame));
  txn.Unmap(frame);  // the spool may be gigabytes, and the agent reads it once
  return found;
}

std::optional<BatchKey> Spool::KeyAfter(BatchKey after) const {
  lmdb::ReadTxn txn(*impl_->env);
  lmdb::Cursor cursor(txn, impl_->batches);
  if (!cursor.Seek(EncodeKey(Following(after)))) return std::nullopt;
  return DecodeKey(cursor.key());
}

absl::StatusOr<std::string> Spool::Read(BatchKey key) const {
  lmdb::ReadTxn txn(*impl_->env);
  const std::string encoded = EncodeKey(key);
  std::optional<std::string_view> value = txn.Get(impl_->batches, encoded);
  if (!value)
    return absl::NotFoundError(absl::StrCat("batch (", key.epoch, ", ", key.batch_seq, ") is not in the spool"));
  ASSIGN_OR_RETURN(const std::string_view frame, CheckBatchValue(encoded, *value));
  return std::string(frame);
}

absl::StatusOr<std::string> Spool::ReadUnchecked(BatchKey key) const {
  lmdb::ReadTxn txn(*impl_->env);
  std::optional<std::string_view> value = txn.Get(impl_->batches, EncodeKey(key));
  if (!value)
    return absl::NotFoundError(absl::StrCat("batch (", key.epoch, ", ", key.batch_seq, ") is not in the spool"));
  return std::string(value->substr(std::min(value->size(), kBatchValueHead)));
}

absl::StatusOr<SignedEntry> Spool::ReadEntry(BatchKey key) const {
  lmdb::ReadTxn txn(*impl_->env);
  const std::string encoded = EncodeKey(key);
  std::optional<std::string_view> value = txn.Get(impl_->entries, encoded);
  if (!value)
    return absl::NotFoundError(absl::StrCat("the entry of batch (", key.epoch, ", ", key.batch_seq, ") is not in the spool"));
  return DecodeEntry(encoded, *value);
}

bool Spool::WaitBeyond(BatchKey after, absl::Duration limit) const {
  return impl_->shared.WhenFor(
      limit, [&](const Impl::Shared& s) { return s.woken || s.counters.last > after; },
      [&](Impl::Shared& s, bool) {
        s.woken = false;
        return s.counters.last > after;
      });
}

void Spool::Wake() {
  impl_->shared.With([](Impl::Shared& s) { s.woken = true; });
}

absl::Status Spool::Acked(BatchKey through, const Pin& pin) {
  std::lock_guard lock(impl_->writing);
  SpoolCounters counters = impl_->shared.Peek([](const Impl::Shared& s) { return s.counters; });
  if (through > counters.last) {
    return absl::InvalidArgumentError(
        absl::StrCat("receipt for batch (", through.epoch, ", ", through.batch_seq, "), which this spool never held"));
  }
  lmdb::ReadTxn txn(*impl_->env);
  {
    lmdb::Cursor cursor(txn, impl_->batches);
    for (bool more = cursor.Seek(EncodeKey(Following(counters.acked_through)));
         more && DecodeKey(cursor.key()) <= through; more = cursor.Next()) {
      counters.unacked_bytes -= std::min(counters.unacked_bytes, impl_->CostOf(txn, cursor.key(), cursor.value().size()));
      if (counters.unacked_batches > 0) --counters.unacked_batches;
    }
  }
  counters.acked_through = std::max(counters.acked_through, through);
  const absl::Time oldest = impl_->FirstUnacked(txn, counters.acked_through);
  impl_->shared.With([&](Impl::Shared& s) {
    s.counters = counters;
    s.oldest_unacked = oldest;
    s.pin = pin;
  });
  return absl::OkStatus();
}

absl::StatusOr<Pin> Spool::pin() const {
  if (std::optional<Pin> newer = impl_->shared.Peek([](const Impl::Shared& s) { return s.pin; })) return *newer;
  lmdb::ReadTxn txn(*impl_->env);
  std::optional<std::string_view> value = txn.Get(impl_->meta, kPinKey);
  if (!value) return Pin{};
  return DecodePin(*value);
}

absl::Status Spool::SetPin(const Pin& pin) {
  impl_->shared.With([&](Impl::Shared& s) { s.pin = pin; });
  return impl_->Flush();
}

std::vector<Branch> Spool::branches() const {
  return impl_->shared.Peek([](const Impl::Shared& s) { return s.branches; });
}

absl::Status Spool::SetBranches(std::vector<Branch> branches) {
  std::lock_guard lock(impl_->writing);
  ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, impl_->Begin());
  {
    lmdb::Cursor oldest(*txn, impl_->batches);
    const bool any = oldest.First();
    std::erase_if(branches, [&](const Branch& b) { return any && b.opened <= DecodeKey(oldest.key()); });
  }
  RETURN_IF_ERROR(txn->Put(impl_->meta, kBranchesKey, EncodeBranches(branches)));
  RETURN_IF_ERROR(impl_->Finish(std::move(txn), impl_->shared.Peek([](const Impl::Shared& s) { return s.counters; })));
  impl_->shared.With([&](Impl::Shared& s) { s.branches = std::move(branches); });
  return absl::OkStatus();
}

absl::Status Spool::Repair(BatchKey key, std::string_view frame) {
  std::lock_guard lock(impl_->writing);
  SpoolCounters counters = impl_->shared.Peek([](const Impl::Shared& s) { return s.counters; });
  ASSIGN_OR_RETURN(std::unique_ptr<lmdb::WriteTxn> txn, impl_->Begin());
  std::optional<std::string_view> old = txn->Get(impl_->batches, EncodeKey(key));
  if (!old)
    return absl::NotFoundError(absl::StrCat("batch (", key.epoch, ", ", key.batch_seq, ") is not in the spool"));
  const uint64_t was = DiskCost(old->size()), is = DiskCost(kBatchValueHead + frame.size());
  counters.stored_bytes = counters.stored_bytes - std::min(counters.stored_bytes, was) + is;
  if (key > counters.acked_through)
    counters.unacked_bytes = counters.unacked_bytes - std::min(counters.unacked_bytes, was) + is;
  RETURN_IF_ERROR(impl_->PutBatch(*txn, key, StoredTime(*old), frame, false));
  return impl_->Finish(std::move(txn), counters);
}

absl::StatusOr<std::string> Spool::KeepEvidence(std::string_view name, std::string_view content) {
  const std::string folder = JoinPath(impl_->dir, "evidence");
  RETURN_IF_ERROR(impl_->fs.MakeDirs(folder, 0700));
  ASSIGN_OR_RETURN(const std::vector<std::string> kept, impl_->fs.List(folder));
  if (kept.size() >= kEvidenceFiles) {
    return absl::ResourceExhaustedError(
        absl::StrCat(folder, " holds ", kept.size(), " files; move them to a safe place"));
  }
  std::string safe;
  for (const char c : name.substr(0, 100)) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    safe += plain && !(c == '.' && safe.empty()) ? c : '_';
  }
  if (safe.empty()) safe = "evidence";
  std::string file = safe;
  for (int n = 2; std::binary_search(kept.begin(), kept.end(), file); ++n) file = absl::StrCat(safe, "-", n);
  const std::string path = JoinPath(folder, file);
  RETURN_IF_ERROR(WriteFileAtomically(impl_->fs, path, content, 0600));
  return path;
}

absl::StatusOr<std::vector<FilePosition>> Spool::Positions() const {
  lmdb::ReadTxn txn(*impl_->env);
  lmdb::Cursor cursor(txn, impl_->positions);
  std::vector<FilePosition> all;
  for (bool more = cursor.First(); more; more = cursor.Next()) {
    ASSIGN_OR_RETURN(FilePosition position, DecodePosition(cursor.key(), cursor.value()));
    all.push_back(std::move(position));
  }
  return all;
}

absl::StatusOr<std::string> Spool::Reply(std::string_view idempotency_key) const {
  lmdb::ReadTxn txn(*impl_->env);
  const Hash hash = Sha256(idempotency_key);
  std::optional<std::string_view> value = txn.Get(impl_->replies, hash.view());
  if (!value) return absl::NotFoundError("no reply is kept for this idempotency key");
  ASSIGN_OR_RETURN(const std::string_view payload, Unwrap(hash.view(), *value));
  if (payload.size() < 8) return absl::DataLossError("a kept reply is cut short");
  const absl::Time stored = absl::FromUnixNanos(static_cast<int64_t>(GetU64(payload.data())));
  if (stored + kReplyLife < impl_->clock.Wall())
    return absl::NotFoundError("the reply for this idempotency key has expired");
  return std::string(payload.substr(8));
}

SpoolFacts Spool::Facts() const {
  const auto [counters, oldest] =
      impl_->shared.Peek([](const Impl::Shared& s) { return std::make_pair(s.counters, s.oldest_unacked); });
  SpoolFacts facts;
  facts.unacked_batches = counters.unacked_batches;
  facts.unacked_bytes = counters.unacked_bytes;
  facts.used_bytes = counters.stored_bytes;
  facts.max_bytes = impl_->max_bytes;
  facts.oldest_unacked = oldest;
  facts.acked_through = counters.acked_through;
  facts.pressure = counters.unacked_bytes > impl_->max_bytes / 5 * 4;
  return facts;
}

absl::Status Spool::CheckAlive() const {
  const auto same = [&](const std::string& path, const FileFacts& opened) -> absl::Status {
    absl::StatusOr<FileFacts> now = impl_->fs.Facts(path);
    if (now.ok() && now->device == opened.device && now->inode == opened.inode) return absl::OkStatus();
    if (!now.ok() && !absl::IsNotFound(now.status())) return now.status();
    return absl::DataLossError(
        absl::StrCat("SPOOL_TAMPER ", path, now.ok() ? " was replaced" : " was deleted",
                     " while the agent ran; batches not yet acknowledged exist only in this process"));
  };
  RETURN_IF_ERROR(impl_->shared.Peek([](const Impl::Shared& s) { return s.failed; }));
  RETURN_IF_ERROR(same(impl_->dir, impl_->dir_facts));
  return same(JoinPath(impl_->dir, "data.mdb"), impl_->data_facts);
}

uint64_t Spool::OldestReaderTxns() const { return impl_->env->Stats().oldest_reader_txns; }

}  // namespace orgtrail
