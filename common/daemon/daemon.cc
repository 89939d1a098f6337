#include "common/daemon/daemon.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "common/base/last_words.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/daemon/manual.h"
#include "common/daemon/usage.h"
#include "common/rpc/credentials.h"

namespace orgtrail {
namespace {

sigset_t Held() {
  sigset_t set;
  sigemptyset(&set);
  for (const int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, s);
  return set;
}

// Keys that are not used yet wait in locked memory; where the system grants none, signing goes on without. Somebody has to say it.
void ReportUnlockedMemory() {
  constexpr size_t kTrees = 256 << 10;   // two trees of one-time keys and more
  void* const pages = ::mmap(nullptr, kTrees, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return;
  if (::mlock(pages, kTrees) != 0) {
    rlimit limit{};
    const bool known = ::getrlimit(RLIMIT_MEMLOCK, &limit) == 0;
    LogWarn("memory cannot be locked, so signing keys that are not used yet may be written to swap: raise the limit (systemd: LimitMEMLOCK=4M; "
            "a shell: ulimit -l 4096), or switch swap off or encrypt it",
            {{"limit_kib", known ? std::to_string(limit.rlim_cur >> 10) : "unknown"}, {"needed_kib", std::to_string(kTrees >> 10)}});
  }
  ::munmap(pages, kTrees);
}

}  // namespace

Daemon::Daemon(DaemonTexts texts) : texts_(std::move(texts)), app_(std::make_unique<CLI::App>(texts_.description, texts_.name)) {
  app_->fallthrough();
  app_->add_option("--config", config_path_, texts_.config)->required();
  app_->add_flag("--check", check_, "Validate the configuration: exit 0, or 2 with every mistake by file, line and key");
  app_->add_option("--log-format", log_format_, "human or json")->check(CLI::IsMember({"human", "json"}))->capture_default_str();
  app_->add_option("--log-level", log_level_, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  app_->set_version_flag("--version", texts_.name + " " ORGTRAIL_VERSION);
  app_->add_flag_callback(
      "--man",
      [this] {
        ManualPage page;
        page.section = 8;
        page.program = texts_.name;
        page.summary = texts_.summary;
        page.synopsis = "\\fB--config\\fR \\fIFILE\\fR [options]";
        std::fputs(page.Text(*app_).c_str(), stdout);
        throw CLI::Success();
      },
      "The manual page, in roff: " + texts_.name + " --man | man -l -");
  app_->footer("\n" + texts_.footer);
}

Daemon::~Daemon() = default;

CLI::App& Daemon::flags() { return *app_; }

std::optional<int> Daemon::Parse(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app_->exit(e);   // --help and the like
    std::fputs(ExplainUsage(*app_, argc, argv, e).c_str(), stderr);
    return 2;
  }
  LogLevel least = LogLevel::kInfo;
  ParseLogLevel(log_level_, &least);
  SetLog(log_format_ == "json" ? LogFormat::kJson : LogFormat::kHuman, least);
  return std::nullopt;
}

absl::StatusOr<std::string> Daemon::ReadConfig(Fs& fs) const {
  absl::StatusOr<std::string> text = ReadFile(fs, config_path_, 1 << 20);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(absl::StrCat(texts_.name, ": --config ", config_path_, ": there is no such file. ", texts_.no_config));
  }
  if (!text.ok()) return absl::Status(text.status().code(), absl::StrCat(texts_.name, ": --config: ", text.status().message()));
  return text;
}

std::optional<int> Daemon::Checked(const absl::Status& parsed) const {
  if (!parsed.ok()) {
    std::fprintf(stderr, "%s\n", std::string(parsed.message()).c_str());
    return 2;
  }
  if (!check_) return std::nullopt;
  std::printf("%s: ok\n", config_path_.c_str());
  return 0;
}

void Daemon::Begin() {
  const sigset_t held = Held();
  pthread_sigmask(SIG_BLOCK, &held, nullptr);
  for (const int s : {SIGPIPE, SIGXFSZ}) signal(s, SIG_IGN);  // the write says so itself
  NameFilesThatFail();
  KeepFewHeaps();
  ReportUnlockedMemory();
  InitRpc();
}

int Daemon::NextSignal(absl::Duration limit) {
  const sigset_t held = Held();
  const timespec wait = absl::ToTimespec(limit);
  const int received = sigtimedwait(&held, nullptr, &wait);
  return received == SIGINT ? SIGTERM : received == SIGTERM || received == SIGHUP ? received : 0;
}

}  // namespace orgtrail
