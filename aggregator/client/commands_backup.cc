#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "aggregator/client/context.h"
#include "aggregator/client/governance.h"
#include "aggregator/client/progress.h"
#include "aggregator/client/table.h"
#include "aggregator/ledger/anchor.h"
#include "aggregator/ledger/backup.h"
#include "aggregator/ledger/ledger.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/sign.h"
#include "common/format/note_text.h"
#include "common/format/recovery.h"

namespace orgtrail::client {
namespace {

struct DeclareFlags {
  std::string lost;
  GovernanceFlags governance;
};

void AddDeclareFlags(CLI::App* app, const std::shared_ptr<DeclareFlags>& f, bool required) {
  AddPolicyFlag(app, &f->governance, required);
  AddSignatureFlags(app, &f->governance);
  app->add_option("--lost", f->lost, "A newer checkpoint that is given up: the lost anchor/head, or one that an agent or auditor kept");
}

absl::StatusOr<Checkpoint> ReadCheckpoint(Context& context, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string note, ReadFile(context.fs, path, 64 << 10));
  absl::StatusOr<Checkpoint> c = Checkpoint::Decode(NoteText(note));
  return c.ok() ? std::move(c) : Annotate(c.status(), path);
}

// Writes state_dir/recovery.note for the ledger that lies there, or adds signatures to the one that waits for them.
absl::Status Declare(Context& context, const std::string& state_dir, const DeclareFlags& f) {
  ASSIGN_OR_RETURN(const std::string policy, ReadFile(context.fs, f.governance.policy, 1 << 20));
  ASSIGN_OR_RETURN(const GovernanceKeys keys, GovernanceKeys::OfPolicy(policy));
  LedgerOptions options;
  options.dir = JoinPath(state_dir, "ledger");
  options.read_only = true;
  ASSIGN_OR_RETURN(const std::unique_ptr<Ledger> ledger, Ledger::Open(options, "", nullptr, context.fs, context.clock));
  const SignedHead head = ledger->head();
  Recovery r;
  r.origin = ledger->origin();
  r.restored_size = r.lost_size = head.size;
  r.restored_root = r.lost_root = head.root;
  r.time_ns = context.clock.WallNanos();
  for (const std::string& path : {f.lost, JoinPath(state_dir, "anchor/head")}) {
    if (path.empty() || (path != f.lost && !context.fs.Facts(path).ok())) continue;
    ASSIGN_OR_RETURN(const Checkpoint lost, ReadCheckpoint(context, path));
    if (lost.origin != r.origin) return absl::FailedPreconditionError(path + " is of the log " + lost.origin + ", not " + r.origin);
    if (lost.size < r.lost_size) continue;
    r.lost_size = lost.size;
    r.lost_root = lost.root;
  }
  if (head.size == 0) return absl::FailedPreconditionError("the ledger has no leaves: there is nothing to go on from; start the aggregator without a declaration");

  const std::string path = JoinPath(state_dir, "recovery.note");
  std::string note = r.Text();
  if (absl::StatusOr<std::string> waits = ReadFile(context.fs, UnsignedPath(path), 64 << 10); waits.ok()) {
    absl::StatusOr<Recovery> known = Recovery::Decode(NoteText(*waits));
    if (known.ok() && known->restored_size == r.restored_size && known->restored_root == r.restored_root && known->lost_size >= r.lost_size) {
      r = *std::move(known);
      note = *std::move(waits);
    }
  }
  ASSIGN_OR_RETURN(const GovernanceNote now, SignAsGovernance(context.fs, keys, f.governance, keys.threshold, path, std::move(note)));
  std::printf("%s: the log %s goes on from its first %llu leaves; %zu of %u signatures\n", now.path.c_str(), r.origin.c_str(),
              static_cast<unsigned long long>(r.restored_size), now.signatures, keys.threshold);
  if (r.lost_size > r.restored_size) {
    std::printf("  given up: %llu leaves that are known to have been signed\n", static_cast<unsigned long long>(r.lost_size - r.restored_size));
  }
  if (now.signatures < keys.threshold) {
    AskForSignatures(now.path);
  } else {
    std::printf("  Start the aggregator: it logs the declaration first, and agents send again what the log lacks.\n");
  }
  return absl::OkStatus();
}

}  // namespace

void AddBackup(CLI::App& app, Context& context) {
  struct Flags {
    std::string dir, to;
  };
  auto b = std::make_shared<Flags>();
  CLI::App* backup = app.add_subcommand("backup", "Copy an aggregator's state, running or not: consistent, checked, and only what changed");
  backup->add_option("dir", b->dir, "The aggregator's state_dir")->required();
  backup->add_option("--to", b->to, "Where the backup is, or will be: a directory on another disk")->required();
  backup->footer("Keys and configuration are not in it: docs/KEYS.md says which to keep, and apart from it.\n\n"
                 "Example:\n  orgtrail backup /var/lib/orgtrail-aggregator --to /mnt/backup/orgtrail\n");
  backup->callback([b, &context] {
    context.Run([&]() -> absl::Status {
      Progress progress("backup", 0, context.clock);
      ASSIGN_OR_RETURN(const BackupFacts made, Backup(b->dir, b->to, context.fs, context.clock, [&](uint64_t bytes) { progress.At(bytes); }));
      std::printf("%s: %llu leaves of %s, %s copied, %s as it was, checked\n", b->to.c_str(), static_cast<unsigned long long>(made.size),
                  made.origin.c_str(), HumanBytes(made.copied_bytes).c_str(), HumanBytes(made.kept_bytes).c_str());
      return absl::OkStatus();
    });
  });

  auto r = std::make_shared<Flags>();
  auto d = std::make_shared<DeclareFlags>();
  CLI::App* restore = app.add_subcommand("restore", "Put a backup in place, and declare that the log goes on from it");
  restore->add_option("backup", r->dir, "The backup's directory")->required();
  restore->add_option("--to", r->to, "The state_dir: without a ledger; nothing is overwritten")->required();
  AddDeclareFlags(restore, d, false);
  restore->footer("What was logged after the backup is given up, and the log says so: the declaration is its next leaf. Agents check it\n"
                  "against the governance keys they know and send again what they still have.\n\n"
                  "Example:\n  orgtrail restore /mnt/backup/orgtrail --to /var/lib/orgtrail-aggregator --policy policy-1.note --governance-key-file ann.key\n");
  restore->callback([r, d, &context] {
    context.Run([&]() -> absl::Status {
      const bool declares = !d->governance.policy.empty();
      if (!declares && !(d->governance.key_files.empty() && d->governance.signature_files.empty())) {
        return absl::InvalidArgumentError("--policy: the note that names the governance keys; without it nothing is declared");
      }
      Progress progress("restore", 0, context.clock);
      ASSIGN_OR_RETURN(const BackupFacts made, Restore(r->dir, r->to, context.fs, context.clock, [&](uint64_t bytes) { progress.At(bytes); }));
      std::printf("%s: %llu leaves of %s, checked\n", r->to.c_str(), static_cast<unsigned long long>(made.size), made.origin.c_str());
      if (declares) return Declare(context, r->to, *d);
      std::printf("  The aggregator starts on it once governance has declared it: orgtrail recovery declare %s\n", r->to.c_str());
      return absl::OkStatus();
    });
  });

  CLI::App* recovery = app.add_subcommand("recovery", "Declarations that the log goes on from an older head");
  recovery->require_subcommand(1);
  CLI::App* declare = recovery->add_subcommand("declare", "Declare that the log goes on from the ledger as it is here; sign it, or add a signature");
  auto p = std::make_shared<std::string>();
  auto e = std::make_shared<DeclareFlags>();
  declare->add_option("dir", *p, "The aggregator's state_dir; stop the aggregator first")->required();
  AddDeclareFlags(declare, e, true);
  declare->callback([p, e, &context] { context.Run([&] { return Declare(context, *p, *e); }); });
}

}  // namespace orgtrail::client
