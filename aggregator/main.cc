// orgtrail-aggregator: flags, signals and exit code.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "aggregator/aggregator.h"
#include "aggregator/config.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/status.h"
#include "common/crypto/digest.h"
#include "common/fs/file.h"
#include "common/rpc/credentials.h"

int main(int argc, char** argv) {
  using namespace orgtrail;
  CLI::App app("orgtrail-aggregator: takes in every agent's signed batches, logs them, proves them, answers who did what.", "orgtrail-aggregator");
  std::string path, format = "human", level = "info";
  bool check = false;
  app.add_option("--config", path, "The configuration file; `orgtrail org init` writes one")->required();
  app.add_flag("--check", check, "Validate the configuration: exit 0, or 2 with every mistake by file, line and key");
  app.add_option("--log-format", format, "human or json")->check(CLI::IsMember({"human", "json"}))->capture_default_str();
  app.add_option("--log-level", level, "debug, info, warn or error")->check(CLI::IsMember({"debug", "info", "warn", "error"}))->capture_default_str();
  app.set_version_flag("--version", std::string("orgtrail-aggregator ") + ORGTRAIL_VERSION);
  app.footer("\nSIGTERM drains and exits 0. SIGHUP: certificates are read again whenever they change, without it.\n"
             "Exit codes: 0 fine, 1 failed, 2 bad usage or configuration.\n");
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
  absl::StatusOr<AggregatorConfig> config = text.ok() ? ParseAggregatorConfig(path, *text) : text.status();
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
  for (int s : {SIGPIPE, SIGXFSZ}) signal(s, SIG_IGN);  // the write says so itself
  KeepFewHeaps();
  InitRpc();
  absl::StatusOr<std::unique_ptr<Aggregator>> aggregator = Aggregator::Start(*config, *text, fs, SystemClock(), SystemRng());
  if (!aggregator.ok()) {
    LogError("cannot start", {{"why", Describe(aggregator.status())}});
    return 1;
  }
  for (int received = 0;;) {
    sigwait(&set, &received);
    if (received != SIGHUP) break;
    LogInfo("certificates are read again whenever their files change; other settings need a restart");
  }
  LogInfo("stopping");
  aggregator->reset();
  LogInfo("stopped");
  return 0;
}
