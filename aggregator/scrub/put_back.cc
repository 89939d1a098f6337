#include "aggregator/scrub/put_back.h"

#include <unistd.h>

#include <memory>
#include <vector>

#include "aggregator/ledger/fsck.h"
#include "aggregator/ledger/repair.h"
#include "aggregator/ledger/shard.h"
#include "aggregator/scrub/child.h"
#include "aggregator/scrub/lines.h"
#include "common/base/bytes.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kMostInput = 64 << 20, kMostFindings = 20'000;

void Say(std::string line) {
  if (!line.ends_with('\n')) line += '\n';
  [[maybe_unused]] const ssize_t written = ::write(STDOUT_FILENO, line.data(), line.size());
}

absl::StatusOr<std::map<uint64_t, std::string>> ReadFrames() {
  std::string input, piece(1 << 20, '\0');
  for (;;) {
    const ssize_t n = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (n < 0) return absl::InternalError("the frames cannot be read");
    if (n == 0) break;
    input.append(piece, 0, static_cast<size_t>(n));
    if (input.size() > kMostInput) return absl::ResourceExhaustedError("more frames than fit");
  }
  std::map<uint64_t, std::string> frames;
  ByteReader in(input);
  while (in.left() > 0) {
    const uint64_t leaf = in.U64();
    const uint32_t size = in.U32();
    frames[leaf] = std::string(in.Bytes(size));
    if (!in.ok()) return absl::InvalidArgumentError("the frames end early");
  }
  return frames;
}

absl::Status Work(const PutBackOrder& what, Fs& fs, const Clock& clock) {
  RepairOrder order;
  order.ledger_dir = what.ledger_dir;
  order.shard = what.shard;
  if (!what.kek_file.empty()) {
    ASSIGN_OR_RETURN(order.kek, ReadFile(fs, what.kek_file, 1024));
  }
  ASSIGN_OR_RETURN(order.returned, ReadFrames());
  for (const auto& [leaf, frame] : order.returned) order.leaves.push_back(leaf);
  ASSIGN_OR_RETURN(const Candidate candidate, CopyAndPatch(order, fs, clock));
  if (candidate.repaired.empty()) return absl::FailedPreconditionError("none of them is what this shard lost");
  FsckOptions check;
  check.dir = what.ledger_dir;
  check.kek = order.kek;
  check.from_shard = check.to_shard = what.shard;
  check.max_findings = kMostFindings;
  check.instead = JoinPath(ShardDir(what.ledger_dir, what.shard), kRepairingDir);
  check.is_packed = candidate.is_packed;
  std::vector<Finding> findings;
  FsckTotals totals;
  check.fix = true;
  RETURN_IF_ERROR(Fsck(check, nullptr, &findings, &totals));
  findings.clear();
  check.fix = false;
  RETURN_IF_ERROR(Fsck(check, nullptr, &findings, &totals));
  {
    ASSIGN_OR_RETURN(const std::unique_ptr<File> made, fs.Open(JoinPath(check.instead, "data.mdb"), OpenMode::kAppend, 0600));
    RETURN_IF_ERROR(made->Sync());   // here, where it costs nobody the disk
  }
  if (candidate.is_packed) Say("packed");
  for (const RepairedLeaf& r : candidate.repaired) Say("put\t" + std::to_string(r.leaf));
  for (const Finding& f : findings) Say(ScrubLine::Found(f).Encode());
  return absl::OkStatus();
}

}  // namespace

int RunPutBackChild(const PutBackOrder& order, Fs& fs, const Clock& clock) {
  TakeTheLastPlace();
  const absl::Status done = Work(order, fs, clock);
  if (!done.ok()) Say(Describe(done));
  return done.ok() ? 0 : 1;
}

}  // namespace orgtrail
