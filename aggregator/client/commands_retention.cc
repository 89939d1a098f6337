#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "aggregator/client/context.h"
#include "aggregator/client/governance.h"
#include "aggregator/ledger/ledger.h"
#include "common/base/status.h"
#include "common/format/note_text.h"
#include "common/format/retention.h"

namespace orgtrail::client {
namespace {

struct OrderFlags {
  std::string dir;
  uint32_t keep_days = 0;
  GovernanceFlags governance;
};

// Writes state_dir/retention.note, or adds signatures to the one that waits for them when it orders the same.
absl::Status Order(Context& context, const OrderFlags& f) {
  if (f.keep_days < kRetentionFloorDays) {
    return absl::InvalidArgumentError(absl::StrCat("--keep ", f.keep_days, ": at least ", kRetentionFloorDays, " days; aggregator and verifiers refuse less"));
  }
  ASSIGN_OR_RETURN(const std::string policy, ReadFile(context.fs, f.governance.policy, 1 << 20));
  ASSIGN_OR_RETURN(const RetentionGovernance governance, RetentionGovernance::OfPolicy(policy));
  LedgerOptions options;
  options.dir = JoinPath(f.dir, "ledger");
  options.read_only = true;
  ASSIGN_OR_RETURN(const std::unique_ptr<Ledger> ledger, Ledger::Open(options, "", nullptr, context.fs, context.clock));
  RetentionOrder order;
  order.origin = ledger->origin();
  order.keep_days = f.keep_days;
  order.time_ns = context.clock.WallNanos();

  const std::string path = JoinPath(f.dir, "retention.note");
  std::string note = order.Text();
  if (absl::StatusOr<std::string> waits = ReadFile(context.fs, UnsignedPath(path), 64 << 10); waits.ok()) {
    const absl::StatusOr<RetentionOrder> known = RetentionOrder::Decode(NoteText(*waits));
    if (known.ok() && known->origin == order.origin && known->keep_days == order.keep_days) note = *std::move(waits);
  }
  ASSIGN_OR_RETURN(const GovernanceNote now, SignAsGovernance(context.fs, governance.keys, f.governance, governance.weaken_threshold, path, std::move(note)));
  std::printf("%s: bodies of the log %s are kept for %u days; %zu of %u signatures\n", now.path.c_str(), order.origin.c_str(), f.keep_days, now.signatures, governance.weaken_threshold);
  if (now.signatures < governance.weaken_threshold) {
    AskForSignatures(now.path);
  } else {
    std::printf("  The aggregator logs it within a minute. It takes effect %s after that, where ledger.retention is set.\n",
                absl::FormatDuration(absl::Seconds(governance.weaken_delay_s)).c_str());
  }
  return absl::OkStatus();
}

}  // namespace

void AddRetention(CLI::App& app, Context& context) {
  CLI::App* retention = app.add_subcommand("retention", "How long bodies are kept: governance's orders");
  retention->require_subcommand(1);
  auto f = std::make_shared<OrderFlags>();
  CLI::App* order = retention->add_subcommand("order", "Order that bodies are kept for so many days; sign it, or add a signature");
  order->add_option("dir", f->dir, "The aggregator's state_dir; it may run")->required();
  order->add_option("--keep", f->keep_days, "Days; 400 at least")->required();
  AddPolicyFlag(order, &f->governance, true);
  AddSignatureFlags(order, &f->governance);
  order->footer("What expires is the text of records, never their hashes, batches, signatures or proofs. The log announces the order for the policy's\n"
                "weaken-delay before it takes effect, and says so again before the first body goes: orgtrail status, verify ledger.\n\n"
                "Example:\n  orgtrail retention order /var/lib/orgtrail-aggregator --keep 400 --policy policy-1.note --governance-key-file ann.key\n");
  order->callback([f, &context] { context.Run([&] { return Order(context, *f); }); });
}

}  // namespace orgtrail::client
