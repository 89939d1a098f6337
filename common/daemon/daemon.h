// Daemon: what the main() of every daemon has in common: --config, --check, --log-format, --log-level, --version, --man; signals; exit
// codes (0 fine, 1 failed, 2 bad usage or configuration).
//
//   Daemon daemon({…});                          further flags go to daemon.flags()
//   if (auto code = daemon.Parse(argc, argv)) return *code;
//   absl::StatusOr<Config> config = …daemon.ReadConfig(fs)…;
//   if (auto code = daemon.Checked(config.status())) return *code;
//   daemon.Begin();                              before the first thread: signals are held from here on
//   … Start(…) …
//   while (daemon.NextSignal(…) != SIGTERM) …
//
// Threads  main's.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/fs/file.h"

namespace CLI {
class App;
}

namespace orgtrail {

struct DaemonTexts {
  std::string name;             // "orgtrail-agent"
  std::string description;      // one sentence, for --help
  std::string summary;          // a few words, for the manual page's first line
  std::string config;           // what --config says
  std::string no_config;        // what to do when there is no such file, a sentence
  std::string footer;           // signals, exit codes, an example; line by line
};

class Daemon {
 public:
  explicit Daemon(DaemonTexts texts);
  ~Daemon();
  Daemon(const Daemon&) = delete;

  CLI::App& flags();
  // The exit code when that is all there is to do: help, version, manual page, a mistake. Sets up the log.
  std::optional<int> Parse(int argc, char** argv);

  const std::string& config_path() const { return config_path_; }
  absl::StatusOr<std::string> ReadConfig(Fs& fs) const;   // its text, at most 1 MiB
  // After the configuration was parsed: 2 with every mistake on standard error, 0 for --check, else go on.
  std::optional<int> Checked(const absl::Status& parsed) const;

  // Holds SIGTERM, SIGINT and SIGHUP for NextSignal, ignores SIGPIPE and SIGXFSZ, names files that fail under their mapping (SIGBUS), prepares memory
  // and gRPC.
  void Begin();
  // The next of them (SIGINT counts as SIGTERM), or 0 after `limit`.
  int NextSignal(absl::Duration limit);

 private:
  const DaemonTexts texts_;
  std::unique_ptr<CLI::App> app_;
  std::string config_path_, log_format_ = "human", log_level_ = "info";
  bool check_ = false;
};

}  // namespace orgtrail
