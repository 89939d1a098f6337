// orgtrail-agent: flags, signals and exit code.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <string>

#include "agent/agent.h"
#include "agent/config.h"
#include "agent/uplink/backoff.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/crypto/digest.h"
#include "common/daemon/daemon.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kDrain = absl::Seconds(10);
constexpr absl::Duration kRetireDrain = absl::Minutes(2);
constexpr absl::Duration kLook = absl::Seconds(1);     // whether the agent found something fatal
constexpr absl::Duration kLeastWait = absl::Seconds(1);      // between two attempts to start

// An aggregator that is away or busy while an agent joins is not the agent's mistake: a fleet that is installed at once, or before
// its aggregator, joins by itself. Cancelled: a signal came first.
absl::StatusOr<std::unique_ptr<Agent>> StartPatiently(const AgentConfig& config, const std::string& text, Daemon& daemon) {
  Backoff backoff(SystemRng());
  for (;;) {
    absl::StatusOr<std::unique_ptr<Agent>> agent = Agent::Start(config, text, PosixFs(), SystemClock(), SystemRng());
    const bool passes = absl::IsUnavailable(agent.status()) || absl::IsResourceExhausted(agent.status()) || absl::IsDeadlineExceeded(agent.status());
    if (!passes || config.retiring) return agent;
    const absl::Duration wait = backoff.Next(absl::ZeroDuration()) + kLeastWait;
    LogWarn("not started yet; trying again", {{"why", Describe(agent.status())}, {"next", absl::FormatDuration(wait)}});
    if (daemon.NextSignal(wait) == SIGTERM) return absl::CancelledError("stopped before it had started");
  }
}

}  // namespace
}  // namespace orgtrail

int main(int argc, char** argv) {
  using namespace orgtrail;
  Daemon daemon({.name = "orgtrail-agent",
                 .description = "orgtrail-agent: captures who did what in one account, signs it, and never loses it on its way to the aggregator.",
                 .summary = "audit trail agent of one account",
                 .config = "The configuration file",
                 .no_config = "`orgtrail-agent --help` ends with the smallest one: put in your account, region and aggregator",
                 .footer = "SIGTERM closes the epoch, sends what is left for up to 10 s and exits 0; what is not sent stays in the spool.\n"
                           "SIGHUP opens a new connection with the certificate that is on disk, then ends the old one. Renewal does so by itself.\n"
                           "Exit codes: 0 fine, 1 failed, 2 bad usage or configuration.\n\nThe smallest configuration:\n"
                           "  account: \"222222222222\"\n  region: eu-west-1\n  name: web-1\n  aggregators: [aggregator.example.org:7443]\n"
                           "  enrol: {endpoint: aggregator.example.org:7444, token_file: /etc/orgtrail/join-token}\n"
                           "  sources:\n    - file: {path: /var/log/audit-events/*.jsonl}\n"});
  std::string resend_from;
  daemon.flags()
      .add_option("--resend-from", resend_from, "head: the aggregator was restored from a backup. Gives up, once, the newer head this agent verified (kept as evidence) and sends again what the log lacks")
      ->check(CLI::IsMember({"head"}));
  const CLI::App* retire = daemon.flags().add_subcommand("retire", "End this agent's identity: sends what is left, says goodbye, frees the name. Stop the running agent first");
  if (const std::optional<int> code = daemon.Parse(argc, argv)) return *code;
  Fs& fs = PosixFs();
  const absl::StatusOr<std::string> text = daemon.ReadConfig(fs);
  absl::StatusOr<AgentConfig> config = text.ok() ? ParseAgentConfig(daemon.config_path(), *text) : text.status();
  if (const std::optional<int> code = daemon.Checked(config.status())) return *code;
  daemon.Begin();
  config->accept_restored_log = !resend_from.empty();
  config->retiring = retire->parsed();
  if (config->retiring) {
    config->files.clear();
    config->https.clear();
  }
  absl::StatusOr<std::unique_ptr<Agent>> agent = StartPatiently(*config, *text, daemon);
  if (!agent.ok()) {
    if (absl::IsCancelled(agent.status())) return 0;
    LogError("cannot start", {{"why", Describe(agent.status())}});
    return 1;
  }
  if (config->retiring) {
    const bool drained = (*agent)->Stop(true, kRetireDrain);
    if (!drained) {
      LogError("not everything could be sent within 2 minutes; the goodbye is in the spool: retire again when the aggregator is reachable");
      return 1;
    }
    LogInfo("retired: the identity is free");
    return 0;
  }
  for (int received = 0; received != SIGTERM && !(*agent)->Broken();) {
    received = daemon.NextSignal(kLook);
    if (received == SIGHUP) {
      LogInfo("the stream moves to a connection with the certificate that is on disk; other settings need a restart");
      (*agent)->Reload();
    }
  }
  const bool broken = (*agent)->Broken();
  LogInfo("stopping");
  const bool drained = (*agent)->Stop(config->ephemeral, broken ? absl::ZeroDuration() : kDrain);
  if (!drained) LogInfo("what was not sent waits in the spool");
  LogInfo("stopped");
  return broken ? 1 : 0;
}
