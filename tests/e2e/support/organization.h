// Organization: a whole orgtrail on loopback: `orgtrail org init` in a directory of its own, the real aggregator, real agents,
// the real command line; started, stopped and killed as a test pleases.
//
// Errors   what cannot be set up throws (see process.h), with the last lines of the program's log.
// Leaves   nothing: programs are killed and reaped, the directory is removed. ORGTRAIL_E2E_KEEP=1 keeps it and says where.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/http/server.h"
#include "tests/e2e/support/process.h"

namespace orgtrail::e2e {

inline constexpr char kManagement[] = "111111111111";
inline constexpr char kAlice[] = "222222222222";
inline constexpr char kBob[] = "333333333333";

// A loopback port that nobody else takes while this process lives: below the range from which the kernel serves clients, so that
// an agent that dials a stopped aggregator never reaches itself.
int FreePort();

std::string Program(std::string_view name);         // of this build, or of $ORGTRAIL_BIN

// The command line without a profile.
Ran RunOrgtrail(std::vector<std::string> args);

// The n-th record of account 222222222222, which nothing is changed in or added to; `members`: further ones, such as `,"a":1`.
std::string CountRecord(int n, std::string_view members = "");
inline std::string PaddedRecord(int n, std::string_view padding = "") {
  return CountRecord(n, ",\"requestParameters\":{\"padding\":\"" + std::string(padding) + "\"}");
}

struct AgentSpec {
  std::string account = kAlice, region = "us-east-1", name = "web-1";
  std::string carries = "";                            // of its token: "", "any"
  std::string files = "";                              // a glob; empty: no file source
  bool http = true;
  std::string yaml = "";                               // further lines of its configuration
  Environment env = {};                                // of its process, besides the test's own
  std::vector<std::string> wrapper = {};               // that starts it, such as setpriv
  std::string program = "";                            // another one than this build's
  std::string server = "";                             // HOST:PORT it sends to, when that is not the aggregator itself
};

class Organization;

class AgentProcess {
 public:
  AgentProcess(Organization& organization, AgentSpec spec);

  void Launch();                                    // starts it, does not wait
  void Start();                                     // … and waits until it is connected
  int Stop(absl::Duration limit = kSoon);           // SIGTERM; its exit code
  void Kill();                                      // SIGKILL
  bool Running() { return process_ && process_->Running(); }
  Process& process() { return *process_; }

  // Posts to its http source; Unavailable and so on when it is not there.
  absl::StatusOr<HttpResponse> Post(std::string_view body, const std::vector<std::pair<std::string, std::string>>& headers = {},
                                    std::string_view path = "/records", absl::Duration limit = absl::Seconds(20)) const;
  void Record(std::string_view body) const;         // must be answered 200
  bool Ready() const;                               // /readyz
  double Metric(std::string_view name) const;       // sum over labels; -1: not reachable or no such metric
  bool Logged(std::string_view words) const;        // in any run so far
  std::string LogTail() const;

  const AgentSpec& spec() const { return spec_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  const std::string& dir() const { return dir_; }
  std::string state_dir() const { return dir_ + "/state"; }
  std::string token_file() const { return dir_ + "/token"; }
  std::string config() const { return dir_ + "/agent.yaml"; }
  std::string log() const { return dir_ + "/log"; }
  void WriteConfig();                               // after a change of `mutable_spec`
  AgentSpec& mutable_spec() { return spec_; }

 private:
  Organization& organization_;
  AgentSpec spec_;
  std::string dir_;
  int port_ = 0, metrics_port_ = 0;
  std::unique_ptr<Process> process_;
};

class Organization {
 public:
  struct Options {
    std::vector<std::string> accounts = {kAlice, kBob};
    std::vector<std::string> regions = {"us-east-1", "eu-west-1"};
    std::vector<std::pair<std::string, std::string>> replace = {};  // in aggregator.yaml, whole lines by their beginning
    bool start = true;
  };
  Organization() : Organization(Options{}) {}
  explicit Organization(Options options);
  ~Organization();

  void LaunchAggregator();                          // starts it, does not wait
  void StartAggregator();                           // … and waits until it is ready
  int StopAggregator(absl::Duration limit = kSoon);
  void KillAggregator();
  Environment aggregator_env;                       // of its process from the next start on, besides the test's own
  Process& aggregator() { return *aggregator_; }
  bool AggregatorLogged(std::string_view words) const;
  std::string AggregatorLogTail() const;
  void Reconfigure(std::string_view line_start, std::string_view line);  // in aggregator.yaml; takes effect at the next start

  // Makes a token and the agent's configuration; does not start it. Stays valid as long as the organization.
  AgentProcess& AddAgent(AgentSpec spec);
  AgentProcess& StartAgent(AgentSpec spec) {
    AgentProcess& agent = AddAgent(std::move(spec));
    agent.Start();
    return agent;
  }
  void Token(const AgentSpec& spec, const std::string& file, const std::vector<std::string>& flags = {});

  // The command line, as somebody: "admin", "auditor", or who was made with CreateUser.
  Ran Orgtrail(const std::vector<std::string>& args, std::string_view as = "admin", std::string_view input = {}) const;
  std::vector<std::string> OrgtrailArgs(const std::vector<std::string>& args, std::string_view as = "admin") const;
  std::string Must(const std::vector<std::string>& args, std::string_view as = "admin") const;  // standard output; must exit 0
  // A feed of everything logged so far: one record a line.
  std::vector<std::string> Feed(const std::vector<std::string>& flags = {}, std::string_view as = "auditor") const;
  std::string CreateUser(const std::string& name, const std::string& kind, const std::string& account = "");  // its SPIFFE id
  std::string Alarms(std::string_view which = "--all") const;   // one a line; "": only those that are open
  bool Alarmed(std::string_view words) const { return Alarms().find(words) != std::string::npos; }   // by now, cleared or not
  Ran Verify(const std::vector<std::string>& flags = {}) const;   // `verify ledger --strict` of the running log, as the auditor
  // Of the ledger's files, by somebody who has no profile.
  Ran Fsck() const { return RunOrgtrail({"fsck", ledger_dir()}); }
  Ran VerifyFiles() const { return RunOrgtrail({"verify", "ledger", ledger_dir(), "--trust", trust(), "--strict"}); }
  bool Ready() const;
  double Metric(std::string_view name) const;         // of the aggregator; sum over labels; -1: not reachable or no such metric
  absl::StatusOr<HttpResponse> MetricsGet(std::string_view path) const;   // of the aggregator

  std::string Path(std::string_view name) const { return dir_ + "/" + std::string(name); }
  std::string ledger_dir() const;
  std::string state_dir() const;                      // of the aggregator
  std::string trust() const { return Path("org/trust.policy"); }
  std::string profile(std::string_view who) const { return Path("org/profiles/" + std::string(who) + ".yaml"); }
  std::string config() const { return Path("org/aggregator/aggregator.yaml"); }
  std::string server() const { return "127.0.0.1:" + std::to_string(port_); }
  std::string enrol_endpoint() const { return "127.0.0.1:" + std::to_string(enrol_port_); }
  int port() const { return port_; }
  int enrol_port() const { return enrol_port_; }

 private:
  std::string dir_;
  int port_ = 0, enrol_port_ = 0, metrics_port_ = 0;
  std::unique_ptr<Process> aggregator_;
  std::vector<std::unique_ptr<AgentProcess>> agents_;
};

// Finds `"name":"value"` or `"name":value` as the first such member of a JSON text: for looking at our own output in tests.
std::string MemberOf(std::string_view json, std::string_view name);

}  // namespace orgtrail::e2e
