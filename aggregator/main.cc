// orgtrail-aggregator: flags, signals and exit code.
#include <signal.h>

#include <optional>
#include <string>
#include <string_view>

#include "aggregator/aggregator.h"
#include "aggregator/config.h"
#include "aggregator/scrub/child.h"
#include "aggregator/scrub/put_back.h"
#include "common/base/last_words.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "common/daemon/daemon.h"

namespace {

// What the aggregator starts itself as, to have its stores read through: nobody else needs it, so no flag says so.
std::optional<int> AsScrub(int argc, char** argv) {
  using namespace orgtrail;
  if (argc != 7 || std::string_view(argv[1]) != kScrubCommand) return std::nullopt;
  NameFilesThatFail();
  ScrubOrder order;
  order.ledger_dir = argv[2];
  order.history_dir = argv[3];
  order.from_shard = static_cast<uint32_t>(ParseUint(argv[4]).value_or(1));
  order.bytes_per_second = ParseUint(argv[5]).value_or(0);
  order.kek_file = argv[6];
  return RunScrubChild(order, PosixFs(), SystemClock());
}

// … and to have what came back put in its place.
std::optional<int> AsPutBack(int argc, char** argv) {
  using namespace orgtrail;
  if (argc != 5 || std::string_view(argv[1]) != kPutBackCommand) return std::nullopt;
  NameFilesThatFail();
  return RunPutBackChild({argv[2], static_cast<uint32_t>(ParseUint(argv[3]).value_or(0)), argv[4]}, PosixFs(), SystemClock());
}

}  // namespace

int main(int argc, char** argv) {
  using namespace orgtrail;
  if (const std::optional<int> code = AsScrub(argc, argv)) return *code;
  if (const std::optional<int> code = AsPutBack(argc, argv)) return *code;
  Daemon daemon({.name = "orgtrail-aggregator",
                 .description = "orgtrail-aggregator: takes in every agent's signed batches, logs them, proves them, answers who did what.",
                 .summary = "the log of an organization's audit trails",
                 .config = "The configuration file; `orgtrail org init` writes one",
                 .no_config = "`orgtrail org init --dir DIR …` writes one with all that belongs to it: DIR/aggregator/aggregator.yaml",
                 .footer = "SIGTERM drains and exits 0. SIGHUP: certificates are read again whenever they change, without it.\n"
                           "Exit codes: 0 fine, 1 failed, 2 bad usage or configuration.\n"});
  if (const std::optional<int> code = daemon.Parse(argc, argv)) return *code;
  Fs& fs = PosixFs();
  const absl::StatusOr<std::string> text = daemon.ReadConfig(fs);
  absl::StatusOr<AggregatorConfig> config = text.ok() ? ParseAggregatorConfig(daemon.config_path(), *text) : text.status();
  if (const std::optional<int> code = daemon.Checked(config.status())) return *code;
  daemon.Begin();
  absl::StatusOr<std::unique_ptr<Aggregator>> aggregator = Aggregator::Start(*config, *text, fs, SystemClock(), SystemRng());
  if (!aggregator.ok()) {
    LogError("cannot start", {{"why", Describe(aggregator.status())}});
    return 1;
  }
  for (int received = 0; received != SIGTERM;) {
    received = daemon.NextSignal(absl::Hours(1));
    if (received == SIGHUP) LogInfo("certificates are read again whenever their files change; other settings need a restart");
  }
  LogInfo("stopping");
  aggregator->reset();
  LogInfo("stopped");
  return 0;
}
