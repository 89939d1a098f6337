#include "aggregator/ledger/repack.h"

#include <utility>

#include "common/base/log.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kBetweenLooks = absl::Seconds(10), kAfterFailure = absl::Hours(1);

constexpr ShardRewrite::Dirs kDirs{kPackingDir, kPackedDir};

}  // namespace

Repacker::Repacker(Shards& shards, Fs& fs, const Clock& clock) : shards_(shards), fs_(fs), clock_(clock) {}
Repacker::~Repacker() = default;

bool Repacker::NextShard() {
  const std::shared_ptr<const Shards::Set> set = shards_.set();
  const auto is_dense = [&](const std::string& dir) {
    return fs_.Facts(JoinPath(dir, kPackedDir)).ok() || fs_.Facts(JoinPath(dir, kPrunedDir)).ok();
  };
  while (next_ <= set->sealed.size() && is_dense(ShardDir(shards_.dir(), next_))) ++next_;
  progress_.With([&](RepackProgress& p) { p.waiting = static_cast<uint32_t>(set->sealed.size() - (next_ - 1)); });
  return next_ <= set->sealed.size();
}

absl::Status Repacker::Begin(uint32_t number) {
  ASSIGN_OR_RETURN(job_, ShardRewrite::Begin(shards_, number, kDirs, nullptr, fs_));
  progress_.With([&](RepackProgress& p) {
    p.shard = number;
    p.done = 0;
    p.total = 2 * job_->leaves();  // written, then compared
  });
  return absl::OkStatus();
}

absl::Status Repacker::Advance() {
  ASSIGN_OR_RETURN(const bool complete, job_->Advance());
  progress_.With([&](RepackProgress& p) { p.done = job_->done(); });
  if (!complete) return absl::OkStatus();
  RETURN_IF_ERROR(job_->Finish());
  progress_.With([&](RepackProgress& p) {
    p.bytes_before += job_->bytes_before();
    p.bytes_after += job_->bytes_after();
    p.shard = 0;
    p.done = p.total = 0;
    --p.waiting;
  });
  LogInfo("A sealed shard was repacked.",
          {{"dir", job_->dir()}, {"bytes", std::to_string(job_->bytes_before())}, {"now", std::to_string(job_->bytes_after())}});
  ++next_;
  job_.reset();
  return absl::OkStatus();
}

Tick Repacker::Step(Tick now) {
  absl::Status done;
  if (job_ != nullptr) {
    done = Advance();
  } else {
    if (!NextShard()) return now + kBetweenLooks;
    done = Begin(next_);
  }
  if (done.ok()) return clock_.Now() + (clock_.Now() - now);  // as long a rest: at most half a core
  if (absl::IsUnavailable(done)) return now + kBetweenLooks;
  const std::string dir = ShardDir(shards_.dir(), next_);
  LogError("A sealed shard cannot be repacked. It stays as it is, and is tried again in an hour.", {{"dir", dir}, {"error", Describe(done)}});
  if (job_ != nullptr) job_->Abandon();
  job_.reset();
  progress_.With([](RepackProgress& p) { p.shard = 0; });
  return now + kAfterFailure;
}

}  // namespace orgtrail
