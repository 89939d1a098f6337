#include "aggregator/ledger/fsck.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "aggregator/ledger/roll.h"
#include "aggregator/ledger/shard_check.h"
#include "aggregator/ledger/shards.h"
#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/format/retention.h"
#include "common/fs/file.h"

namespace orgtrail {
namespace {

// Its file, as it lies there now.
std::string ShardFile(const std::string& ledger_dir, uint32_t number) {
  const std::string dir = ShardDir(ledger_dir, number);
  for (const std::string_view rewritten : {kPrunedDir, kPackedDir}) {
    if (std::string file = JoinPath(JoinPath(dir, rewritten), "data.mdb"); PosixFs().Facts(file).ok()) return file;
  }
  return JoinPath(dir, "data.mdb");
}

// What the shards before `number` lead to, believed: for beginning with it, or for going on behind one that cannot be read.
absl::Status Begin(const Shards& shards, const Shards::Set& set, uint32_t number, CheckedLog* log) {
  log->sealed.assign(set.sealed.begin(), set.sealed.begin() + (number - 1));
  log->newest.clear();
  log->last_logged_ns = log->sealed.back().last_logged_ns;
  ASSIGN_OR_RETURN(const std::shared_ptr<const Shard> shard, shards.Get(set, number));
  const uint64_t first = log->sealed.back().end;
  {
    const lmdb::ReadTxn txn(*shard->env);
    std::string frontier;
    PutU64(frontier, first);
    uint64_t begin = 0;
    for (int level = 63; level >= 0; --level) {
      if ((first >> level & 1) == 0) continue;
      frontier += txn.Get(shard->nodes, NodeKey(level, begin >> level)).value_or("");
      begin += uint64_t{1} << level;
    }
    ASSIGN_OR_RETURN(log->frontier, Frontier::Decode(frontier));
    if (log->frontier.Root() != log->sealed.back().root) return absl::DataLossError("its copied peaks do not lead to the root of the shard before it");
    if (log->origin.empty()) log->origin = std::string(txn.Get(shard->meta, kOriginKey).value_or(""));
  }
  const absl::StatusOr<std::shared_ptr<const Shard>> before = shards.Get(set, number - 1);
  log->is_whole = before.ok();
  if (!before.ok()) return absl::OkStatus();
  const lmdb::ReadTxn txn(*(*before)->env);
  const absl::StatusOr<TreeState> state = TreeState::Decode(txn.Get((*before)->meta, kStateKey).value_or(""));
  log->is_whole = state.ok();
  if (state.ok()) log->events = state->events;
  lmdb::Cursor cursor(txn, (*before)->heads);
  for (bool more = cursor.First(); more; more = cursor.Next()) {
    absl::StatusOr<AgentHead> head = AgentHead::Decode(cursor.value());
    if (head.ok() && head->leaf_index < first) log->newest.emplace(head->uuid, *std::move(head));
  }
  return absl::OkStatus();
}

// What the whole log says about retention, whichever shards are looked at: the leaf that lets bodies go stands in a later one. Nothing: a
// shard cannot be read, so nobody can say what is missing without cause.
std::optional<RetentionHistory> Retention(const Shards& shards, const Shards::Set& set, const FsckOptions& options, std::string origin,
                                          std::vector<Finding>* findings) {
  std::optional<RetentionHistory> log(std::move(origin));
  for (uint32_t n = 1; n <= set.active_number(); ++n) {
    const absl::StatusOr<std::shared_ptr<const Shard>> shard = shards.Get(set, n);
    if (!shard.ok()) return std::nullopt;
    const lmdb::ReadTxn txn(*(*shard)->env);
    lmdb::Cursor cursor(txn, (*shard)->control);
    for (bool more = cursor.First(); more; more = cursor.Next()) {
      if (cursor.key().size() != 8) continue;
      const uint64_t index = GetU64(cursor.key().data());
      const absl::StatusOr<StoredLeaf> stored = ReadLeaf(index, txn.Get((*shard)->leaves, cursor.key()).value_or(""), Crc::kCheck);
      if (!stored.ok()) continue;   // said when its shard is looked at
      const auto find = [&](std::string what) {
        if (n < options.from_shard || n > options.to_shard || findings->size() >= options.max_findings) return;
        findings->push_back({index, (*shard)->env->dir() + "/data.mdb", "retention: " + std::move(what), std::string(kHowToRepair)});
      };
      const size_t before = log->raises().size();
      if (const absl::Status taken = log->Take(index, stored->bytes); !taken.ok()) find(std::string(taken.message()));
      if (log->raises().size() == before) continue;
      const RetentionHistory::Raise& raise = log->raises().back();
      const bool fits = std::any_of(set.sealed.begin(), set.sealed.end(),
                                    [&](const SealedShard& k) { return k.end == raise.minimum && k.last_logged_ns == raise.newest_ns; });
      if (!fits) find("it lets bodies expire below leaf " + std::to_string(raise.minimum) + ", which is not the end of a shard, or not of that time");
    }
  }
  return log;
}

}  // namespace

absl::Status Fsck(const FsckOptions& options, const std::function<void(uint64_t, uint64_t)>& progress,
                  std::vector<Finding>* findings, FsckTotals* totals) {
  *totals = FsckTotals{};
  absl::StatusOr<OpenedShards> opened = OpenShards(options.dir, options.map_bytes, /*read_only=*/true, PosixFs(), 0);
  if (absl::IsDataLoss(opened.status())) {
    findings->push_back({UINT64_MAX, options.dir, std::string(opened.status().message()), std::string(kHowToRepair)});
    return absl::OkStatus();
  }
  if (!opened.ok()) return opened.status();
  if (!opened->state.has_value()) return absl::NotFoundError("there is no ledger in " + options.dir);
  CheckedLog log;
  log.size = opened->state->size;
  Shards shards(options.dir);
  const uint32_t number = static_cast<uint32_t>(opened->sealed.size() + 1);
  std::shared_ptr<Shard> instead;
  if (!options.instead.empty()) {
    absl::StatusOr<Shard> candidate = options.is_packed ? Shard::OpenPacking(options.instead, options.map_bytes)
                                                        : Shard::Open(options.instead, options.map_bytes, /*read_only=*/false);
    if (!candidate.ok()) return candidate.status();
    if (options.from_shard == number) {
      std::swap(opened->active, *candidate);
    } else if (options.from_shard < number) {
      if (const absl::Status same = CheckContinued(opened->sealed[options.from_shard - 1], *candidate); !same.ok()) return same;
    }
    instead = std::make_shared<Shard>(*std::move(candidate));
  }
  shards.Begin(std::move(opened->sealed), std::move(opened->active));
  if (instead != nullptr && options.from_shard != number) shards.Adopt(options.from_shard, std::move(instead));
  if (opened->unsealed.has_value()) shards.Adopt(number - 1, std::make_shared<Shard>(*std::move(opened->unsealed)));
  const std::shared_ptr<const Shards::Set> set = shards.set();
  bool follows = options.from_shard <= 1;   // whether `log` is of all that is before shard n
  for (uint32_t n = std::max(options.from_shard, 1u); n <= std::min(options.to_shard, set->active_number()); ++n) {
    if (options.entering) options.entering(n, ShardFile(options.dir, n));
    absl::StatusOr<std::shared_ptr<const Shard>> shard = shards.Get(*set, n);
    if (shard.ok() && !follows && n > 1) {
      if (const absl::Status begun = Begin(shards, *set, n, &log); !begun.ok()) shard = begun;
    }
    follows = shard.ok();
    if (!shard.ok()) {
      findings->push_back({UINT64_MAX, ShardFile(options.dir, n), std::string(shard.status().message()), std::string(kHowToRepair)});
      continue;
    }
    ++totals->shards;
    follows = ShardCheck(options, shards, n, **shard, log, findings, totals).Run(progress);
    if (findings->size() >= options.max_findings) break;
  }
  if (const std::optional<RetentionHistory> retention = Retention(shards, *set, options, log.origin, findings)) {
    for (const CheckedLog::Expired& e : log.expired) {
      if (e.last < retention->minimum()) continue;
      findings->push_back({std::max(e.first, retention->minimum()), e.file,
                           "bodies are gone as expired up to leaf " + std::to_string(e.last) + ", and no order in the log covers them", std::string(kHowToRepair)});
    }
  }
  return absl::OkStatus();
}

}  // namespace orgtrail
