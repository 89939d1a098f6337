// Context: what every command of `orgtrail` shares: flags, profile, output form, exit code.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/client/rpc.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/fs/file.h"

namespace CLI {
class App;
}

namespace orgtrail::client {

// Exit codes of the public contract.
inline constexpr int kOk = 0, kFailed = 1, kUsage = 2;
inline constexpr int kTampered = 2, kIncomplete = 3, kNoTrust = 5, kVerifyUsage = 64;

enum class Output { kTable, kJson, kJsonl };

struct Context {
  std::string profile, server, output_flag, ca, certificate, key, trust;   // flags; empty: from the profile
  bool no_color = false;
  int exit_code = kOk;
  const Clock& clock = SystemClock();
  Fs& fs = PosixFs();

  Output output() const;                       // table on a terminal, else jsonl, unless -o says
  bool wide() const { return output_flag == "wide"; }   // a table with every column
  bool color() const;
  absl::StatusOr<Profile> LoadProfile() const; // flags over the profile's file
  absl::StatusOr<std::unique_ptr<Rpc>> Connect() const;
  // Prints "orgtrail: MESSAGE" to stderr; the exit code.
  int Fail(const absl::Status& status, int code = kFailed);
  // Runs a command's body: its status becomes message and exit code.
  void Run(const std::function<absl::Status()>& body);
};

// "1042:7", as --at takes it. InvalidArgument says what is expected.
absl::StatusOr<EventRef> ParseEventRef(std::string_view text);
// Into a request for one event: which of those with its id; an empty --at says nothing.
template <class Request>
absl::Status SetAt(const std::string& at, Request* request) {
  if (at.empty()) return absl::OkStatus();
  const absl::StatusOr<EventRef> ref = ParseEventRef(at);
  if (!ref.ok()) return ref.status();
  request->set_at_set(true);
  request->set_leaf_index(ref->leaf);
  request->set_event_index(ref->event);
  return absl::OkStatus();
}

// All of it, 64 MiB at most.
absl::StatusOr<std::string> ReadStandardInput();

// The working directory's `path`, or an absolute path as it is.
std::string AbsolutePath(const std::string& path);

// The ledger's key-encryption key: `file`, or when that is empty kek.key where org init puts it, seen from the ledger's directory. Empty:
// there is none.
absl::StatusOr<std::string> LedgerKek(Fs& fs, const std::string& file, const std::string& ledger_dir);

// Each adds its commands to the application; definitions in commands_*.cc.
void AddOrg(CLI::App& app, Context& context);
void AddPeople(CLI::App& app, Context& context);    // user create|revoke|cert
void AddAgents(CLI::App& app, Context& context);    // agent token, agents list|show|revoke
void AddEvents(CLI::App& app, Context& context);    // events lookup|show
void AddFeed(CLI::App& app, Context& context);
void AddRecord(CLI::App& app, Context& context);
void AddAlarms(CLI::App& app, Context& context);
void AddProve(CLI::App& app, Context& context);     // prove, verify proof|ledger|feed
void AddStore(CLI::App& app, Context& context);     // fsck, inspect
void AddBackup(CLI::App& app, Context& context);    // backup, restore, recovery declare
void AddPolicy(CLI::App& app, Context& context);    // policy sign|text
void AddRetention(CLI::App& app, Context& context); // retention order
void AddRepair(CLI::App& app, Context& context);
void AddStatus(CLI::App& app, Context& context);    
void AddHelp(CLI::App& app);                        // version, completion, man

}  // namespace orgtrail::client
