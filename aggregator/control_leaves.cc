#include "aggregator/control_leaves.h"

#include <memory>
#include <span>
#include <utility>

#include "aggregator/ledger/anchor.h"
#include "aggregator/ledger/repair.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "common/format/control.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kLogLimit = absl::Seconds(10);

Admitted Control(std::string bytes) {
  Admitted item;
  item.leaf = std::make_shared<Leaf>();
  item.leaf->bytes = std::move(bytes);
  return item;
}

}  // namespace

absl::StatusOr<std::optional<DeclaredRecovery>> DeclaredRecovery::Read(const AggregatorConfig& config, const std::string& policy_note, Fs& fs) {
  const std::string path = JoinPath(config.state_dir, "recovery.note");
  absl::StatusOr<std::string> note = ReadFile(fs, path, 64 << 10);
  if (absl::IsNotFound(note.status())) return std::optional<DeclaredRecovery>();
  RETURN_IF_ERROR(note.status());
  absl::StatusOr<GovernanceKeys> keys = GovernanceKeys::OfPolicy(policy_note);
  if (!keys.ok()) return Annotate(keys.status(), path + " cannot be checked");
  absl::StatusOr<Recovery> recovery = OpenRecovery(*note, *keys, config.Origin());
  if (!recovery.ok()) return Annotate(recovery.status(), path);
  return std::optional(DeclaredRecovery{*std::move(recovery), *std::move(note)});
}

absl::Status DeclaredRecovery::Log(const AggregatorConfig& config, Ledger& ledger, Fs& fs, const Clock& clock) const {
  if (ledger.head().size == recovery.restored_size) {
    Admitted item = Control(RecoveryLeaf{static_cast<uint64_t>(clock.WallNanos()), note}.Encode());
    RETURN_IF_ERROR(ledger.Append(std::span(&item, 1)).status());
  }
  const std::string path = JoinPath(config.state_dir, "recovery.note"), anchor_dir = JoinPath(config.state_dir, "anchor");
  const std::string lost = JoinPath(anchor_dir, "head"), evidence = absl::StrCat(lost, ".lost-", recovery.restored_size);
  if (fs.Facts(lost).ok() && !fs.Facts(evidence).ok()) {
    ASSIGN_OR_RETURN(const std::string given_up, ReadFile(fs, lost, 64 << 10));
    RETURN_IF_ERROR(WriteFileAtomically(fs, evidence, given_up));
  }
  RETURN_IF_ERROR(Anchor(anchor_dir, fs).Store(ledger.head().note));
  RETURN_IF_ERROR(fs.Rename(path, absl::StrCat(path, ".", recovery.restored_size), Fsync::kYes));
  LogWarn("The log goes on from an older head, as governance declared; agents send again what it lacks.",
          {{"restored", std::to_string(recovery.restored_size)}, {"lost", std::to_string(recovery.lost_size)}});
  return absl::OkStatus();
}

absl::Status ControlLeaves::Log(std::string leaf) { return committer_.SubmitAndWait(Control(std::move(leaf)), kLogLimit).status(); }

absl::Status ControlLeaves::LogRepairs(const std::string& by, Alarms& alarms) {
  const std::string path = JoinPath(config_.state_dir, kRepairedFile);
  const absl::StatusOr<std::string> text = ReadFile(fs_, path, 1 << 20);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  EvidenceLeaf evidence;
  evidence.code = "LEDGER_REPAIRED";
  evidence.wall_ns = static_cast<uint64_t>(clock_.WallNanos());
  evidence.uri = by;
  evidence.detail = text->substr(0, 1000);
  evidence.object = text->substr(0, 60 << 10);
  RETURN_IF_ERROR(Log(evidence.Encode()));
  alarms.Raise(evidence.code, Severity::kInfo, "ledger", evidence.detail, AlarmKind::kEvent);
  return fs_.Remove(path);
}

absl::Status ControlLeaves::LogPolicy(const std::string& note, const std::string& body) {
  const std::string path = JoinPath(config_.state_dir, "own/policy-logged");
  const std::string hash = Hex(Sha256(note).view()) + "\n";
  if (const absl::StatusOr<std::string> logged = ReadFile(fs_, path); logged.ok() && *logged == hash) return absl::OkStatus();
  PolicyLeaf policy;
  policy.wall_ns = static_cast<uint64_t>(clock_.WallNanos());
  policy.note = note;
  policy.body = body;
  RETURN_IF_ERROR(Log(policy.Encode()));
  return WriteFileAtomically(fs_, path, hash);
}

}  // namespace orgtrail
