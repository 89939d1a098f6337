// orgtrail-agent: flags, signals and exit code.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "agent/agent.h"
#include "agent/config.h"
#include "agent/uplink/backoff.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/status.h"
#include "common/crypto/digest.h"
#include "common/fs/file.h"
#include "common/rpc/credentials.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kDrain = absl::Seconds(10);
constexpr absl::Duration kRetireDrain = absl::Minutes(2);
constexpr absl::Duration kLeastWait = absl::Seconds(1);      // between two attempts to start

// An aggregator that is away or busy while an agent joins is not the agent's mistake: a fleet that is installed at once, or before
// its aggregator, joins by itself. Cancelled: a signal came first.
absl::StatusOr<std::unique_ptr<Agent>> StartPatiently(const AgentConfig& config, const std::string& text, bool once, const sigset_t& signals) {
  Backoff backoff(SystemRng());
  for (;;) {
    absl::StatusOr<std::unique_ptr<Agent>> agent = Agent::Start(config, text, PosixFs(), SystemClock(), SystemRng());
    const bool passes = absl::IsUnavailable(agent.status()) || absl::IsResourceExhausted(agent.status()) || absl::IsDeadlineExceeded(agent.status());
    if (!passes || once) return agent;
    const absl::Duration wait = backoff.Next(absl::ZeroDuration()) + kLeastWait;
    LogWarn("not started yet; trying again", {{"why", Describe(agent.status())}, {"next", absl::FormatDuration(wait)}});
    const timespec limit = absl::ToTimespec(wait);
    const int received = sigtimedwait(&signals, nullptr, &limit);
    if (received == SIGTERM || received == SIGINT) return absl::CancelledError("stopped before it had started");
  }
}

}  // namespace
}  // namespace orgtrail

int main(int argc, char** argv) {
  using namespace orgtrail;
  CLI::App app("orgtrail-agent: captures who did what in one account, signs it, and never loses it on its way to the aggregator.", "orgtrail-agent");
  std::string path, format = "human", level = "info";
  bool check = false;
  std::string resend_from;
  app.fallthrough();
  app.add_option("--config", path, "The configuration file")->required();
  app.add_flag("--check", check, "Validate the configuration: exit 0, or 2 with every mistake by file, line and key");
  app.add_option("--log-format", format, "human or json")->check(CLI::IsMember({"human", "json"}))->capture_default_str();
  app.add_option("--log-level", level, "debug, info, warn or error")->check(CLI::IsMember({"debug", "info", "warn", "error"}))->capture_default_str();
  app.set_version_flag("--version", std::string("orgtrail-agent ") + ORGTRAIL_VERSION);
  app.add_option("--resend-from", resend_from, "head: the aggregator was restored from a backup. Gives up, once, the newer head this agent verified (kept as evidence) and sends again what the log lacks")
      ->check(CLI::IsMember({"head"}));
  CLI::App* retire = app.add_subcommand("retire", "End this agent's identity: sends what is left, says goodbye, frees the name. Stop the running agent first");
  app.footer("\nSIGTERM closes the epoch, sends what is left for up to 10 s and exits 0; what is not sent stays in the spool.\n"
             "SIGHUP: certificates and join tokens are read again whenever they change, without it.\n"
             "Exit codes: 0 fine, 1 failed, 2 bad usage or configuration.\n\nThe smallest configuration:\n"
             "  account: \"222222222222\"\n  region: eu-west-1\n  name: web-1\n  aggregators: [aggregator.example.org:7443]\n"
             "  enrol: {endpoint: aggregator.example.org:7444, token_file: /etc/orgtrail/join-token}\n"
             "  sources:\n    - file: {path: /var/log/audit-events/*.jsonl}\n");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  LogLevel least = LogLevel::kInfo;
  ParseLogLevel(level, &least);
  SetLog(format == "json" ? LogFormat::kJson : LogFormat::kHuman, least);

  Fs& fs = PosixFs();
  absl::StatusOr<std::string> text = ReadFile(fs, path, 1 << 20);
  absl::StatusOr<AgentConfig> config = text.ok() ? ParseAgentConfig(path, *text) : text.status();
  if (!config.ok()) {
    std::fprintf(stderr, "%s\n", std::string(config.status().message()).c_str());
    return 2;
  }
  if (check) {
    std::printf("%s: ok\n", path.c_str());
    return 0;
  }
  sigset_t set;
  sigemptyset(&set);
  for (int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, s);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  KeepFewHeaps();
  InitRpc();
  config->accept_restored_log = !resend_from.empty();
  const bool retiring = retire->parsed();
  if (retiring) {
    config->files.clear();
    config->https.clear();
  }
  absl::StatusOr<std::unique_ptr<Agent>> agent = StartPatiently(*config, *text, retiring, set);
  if (!agent.ok()) {
    if (absl::IsCancelled(agent.status())) return 0;
    LogError("cannot start", {{"why", Describe(agent.status())}});
    return 1;
  }
  if (retiring) {
    const bool drained = (*agent)->Stop(true, kRetireDrain);
    if (!drained) {
      LogError("not everything could be sent within 2 minutes; the goodbye is in the spool: start the agent again, or retire again, when the aggregator is reachable");
      return 1;
    }
    LogInfo("retired: the identity is free");
    return 0;
  }
  bool broken = false;
  for (;;) {
    const timespec second{1, 0};
    const int received = sigtimedwait(&set, nullptr, &second);
    if (received == SIGHUP) LogInfo("certificates and tokens are read again whenever they change; other settings need a restart");
    if (received == SIGTERM || received == SIGINT) break;
    if ((*agent)->Broken()) {
      broken = true;
      break;
    }
  }
  LogInfo("stopping");
  const bool drained = (*agent)->Stop(config->ephemeral, broken ? absl::ZeroDuration() : kDrain);
  if (!drained) LogInfo("what was not sent waits in the spool");
  LogInfo("stopped");
  return broken ? 1 : 0;
}
