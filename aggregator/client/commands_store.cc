#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "aggregator/client/context.h"
#include "aggregator/client/inspect.h"
#include "aggregator/client/progress.h"
#include "aggregator/client/shards.h"
#include "aggregator/client/table.h"
#include "aggregator/ledger/fsck.h"
#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/shard.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail::client {
namespace {

int FsckHere(Context& context, const std::string& dir, bool quick, const std::string& kek_file) {
  Progress progress("fsck", 0, context.clock);
  std::vector<Finding> findings;
  FsckTotals totals;
  FsckOptions options;
  options.dir = dir;
  options.records = !quick;
  absl::StatusOr<std::string> kek = LedgerKek(context.fs, kek_file, dir);
  if (!kek.ok()) return context.Fail(kek.status(), kVerifyUsage);
  options.kek = *std::move(kek);
  absl::Status checked = Fsck(options, [&](uint64_t done, uint64_t) { progress.At(done); }, &findings, &totals);
  if (!checked.ok()) {
    return context.Fail(checked, absl::IsDataLoss(checked) ? kTampered : absl::IsNotFound(checked) ? kVerifyUsage : kFailed);
  }
  for (const Finding& f : findings) {
    if (f.leaf != UINT64_MAX) std::printf("leaf %llu: ", static_cast<unsigned long long>(f.leaf));
    std::printf("%s: %s\n  remedy: %s\n", Printable(f.file).c_str(), Printable(f.what).c_str(), Printable(f.remedy).c_str());
  }
  std::printf("%s: %s leaves, %s batches, %s records, %s in %u shard%s\n", findings.empty() ? "clean" : "DAMAGED", HumanCount(static_cast<double>(totals.leaves)).c_str(),
              HumanCount(static_cast<double>(totals.batches)).c_str(), HumanCount(static_cast<double>(totals.events)).c_str(), HumanBytes(totals.bytes).c_str(), totals.shards, totals.shards == 1 ? "" : "s");
  if (totals.expired != 0) {
    std::printf("the bodies of %s of these records expired by governance's order: no damage\n", HumanCount(static_cast<double>(totals.expired)).c_str());
  }
  if (totals.bodies_missing != 0) {
    std::printf("%s of these records came without their bodies (an agent's disk damaged them; alarm BODIES_MISSING): no damage of this ledger\n",
                HumanCount(static_cast<double>(totals.bodies_missing)).c_str());
  }
  if (totals.records_unchecked != 0) {
    std::printf("the records of %s batches were not checked: their keys are encrypted. Give --key-encryption-key kek.key\n",
                HumanCount(static_cast<double>(totals.records_unchecked)).c_str());
  }
  return !findings.empty() ? kTampered : totals.records_unchecked != 0 ? kIncomplete : kOk;
}

// A damaged map can raise SIGBUS anywhere it is touched, so a child looks and this process reports how that went.
int FsckInChild(Context& context, const std::string& dir, bool quick, const std::string& kek_file) {
  const pid_t child = fork();
  if (child < 0) return context.Fail(absl::ResourceExhaustedError("cannot start a process to look in"), kFailed);
  if (child == 0) {
    const int code = FsckHere(context, dir, quick, kek_file);
    std::fflush(stdout);
    _exit(code);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return context.Fail(absl::InternalError("cannot wait for the checking process"), kFailed);
  }
  if (WIFSIGNALED(status)) {
    std::printf("%s: the files end before their own pages do, or the disk cannot read them (signal %d): restore the directory from a backup or a mirror\n",
                dir.c_str(), WTERMSIG(status));
    return kTampered;
  }
  return WEXITSTATUS(status);
}

// The ledger's directory that `path` means: itself, the state directory above it, one of its shards, or a shard's data file. "": none of these.
std::string LedgerDirOf(Context& context, const std::string& path) {
  const auto is_ledger = [&](const std::string& dir) { return context.fs.Facts(ShardDir(dir, 1)).ok(); };
  for (const std::string& dir : {path, JoinPath(path, "ledger")}) {
    if (is_ledger(dir)) return dir;
  }
  std::string up = path;
  for (int levels = 0; levels < 3 && up.size() > 1; ++levels) {   // …/ledger/shard-000001/packed/data.mdb
    up = DirName(up);
    if (is_ledger(up)) return BaseName(path) == "data.mdb" || BaseName(path).starts_with("shard-") || BaseName(path) == kPackedDir ? up : "";
  }
  return "";
}

absl::Status InspectLedger(Context& context, const std::string& dir) {
  LedgerOptions options;
  options.dir = dir;
  options.read_only = true;
  ASSIGN_OR_RETURN(std::unique_ptr<Ledger> ledger, Ledger::Open(options, "", nullptr, context.fs, context.clock));
  const std::vector<ShardFacts> shards = ledger->shard_facts();
  const SignedHead head = ledger->head();
  if (context.output() != Output::kTable) {
    std::printf("{\"origin\":%s,\"treeSize\":%llu,\"events\":%llu,\"shards\":%s}\n", JsonString(ledger->origin()).c_str(),
                static_cast<unsigned long long>(head.size), static_cast<unsigned long long>(head.events), ShardsJson(shards).c_str());
    return absl::OkStatus();
  }
  std::printf("ledger %s: docs/formats/ledger.md\n  log          %s\n  holds        %s leaves, %s records\n  shards       %s\n%s", Printable(dir).c_str(),
              Printable(ledger->origin()).c_str(), HumanCount(static_cast<double>(head.size)).c_str(), HumanCount(static_cast<double>(head.events)).c_str(),
              ShardsLine(shards).c_str(), ShardsTable(shards, context.color()).c_str());
  std::printf("Check it: orgtrail fsck %s    Prove it: orgtrail verify ledger %s\n", Printable(dir).c_str(), Printable(dir).c_str());
  return absl::OkStatus();
}

}  // namespace

void AddStore(CLI::App& app, Context& context) {
  auto dir = std::make_shared<std::string>();
  auto quick = std::make_shared<bool>(false);
  CLI::App* fsck = app.add_subcommand("fsck", "Check a ledger's files: checksums, hashes, tree nodes, heads, indexes. 0 clean, 2 damaged, 3 not all could be checked");
  fsck->add_option("dir", *dir, "The ledger's directory (…/state/ledger); the aggregator may run meanwhile")->required();
  fsck->add_flag("--quick", *quick, "Checksums and indexes only; records are not inflated and hashed again");
  auto kek = std::make_shared<std::string>();
  fsck->add_option("--key-encryption-key", *kek, "The ledger's kek.key; default: where org init puts it, ../../kek.key");
  fsck->callback([dir, quick, kek, &context] { context.exit_code = FsckInChild(context, *dir, *quick, *kek); });

  auto file = std::make_shared<std::string>();
  CLI::App* inspect = app.add_subcommand("inspect", "Explain any file orgtrail wrote: frame, proof, checkpoint, token, certificate, …; and a ledger: its shards");
  inspect->add_option("file", *file, "The file, or a ledger's directory (…/state/ledger); - for standard input")->required();
  inspect->callback([file, &context] {
    context.Run([&]() -> absl::Status {
      std::string bytes;
      if (*file == "-") {
        char buffer[65536];
        for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, stdin)) > 0;) bytes.append(buffer, n);
      } else if (const std::string ledger = LedgerDirOf(context, *file); !ledger.empty()) {
        return InspectLedger(context, ledger);
      } else {
        ASSIGN_OR_RETURN(bytes, ReadFile(context.fs, *file, 64 << 20));
      }
      absl::StatusOr<std::string> text = Explain(bytes);
      if (!text.ok()) return Annotate(absl::FailedPreconditionError(std::string(text.status().message())), *file);
      std::fputs(text->c_str(), stdout);
      return absl::OkStatus();
    });
  });
}

}  // namespace orgtrail::client
