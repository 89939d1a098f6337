#include "tests/e2e/support/organization.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "common/base/random.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "common/http/client.h"

namespace orgtrail::e2e {
namespace {

constexpr int kFirstPort = 20'000, kPorts = 12'000;
constexpr size_t kTailLines = 12;

bool Bindable(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool bound = bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return bound;
}

std::string Tail(const std::string& path) {
  const std::vector<std::string> lines = LinesOf(ReadWhole(path));
  std::string tail = path + ":\n";
  for (size_t i = lines.size() > kTailLines ? lines.size() - kTailLines : 0; i < lines.size(); ++i) tail += "  " + lines[i] + "\n";
  return tail;
}

bool Answers200(int port, std::string_view path) {
  absl::StatusOr<HttpResponse> answer = HttpGet("http://127.0.0.1:" + std::to_string(port) + std::string(path), {}, absl::Seconds(2));
  return answer.ok() && answer->status == 200;
}

double MetricAt(int port, std::string_view name) {
  absl::StatusOr<HttpResponse> answer = HttpGet("http://127.0.0.1:" + std::to_string(port) + "/metrics", {}, absl::Seconds(5));
if (!answer.ok()) return -1;
  double sum = -1;
  for (const std::string& line : LinesOf(answer->body)) {
    if (!line.starts_with(name) || (line[name.size()] != ' ' && line[name.size()] != '{')) continue;
    sum = std::max(sum, 0.0) + std::strtod(line.c_str() + line.rfind(' '), nullptr);
  }
  return sum;
}

}  // namespace

int FreePort() {
  const std::string dir = "/tmp/orgtrail-test-ports";
  mkdir(dir.c_str(), 0777);
  for (int tries = 0; tries < 1000; ++tries) {
    const int port = kFirstPort + static_cast<int>(SystemRng().Below(kPorts));
    const int fd = open((dir + "/" + std::to_string(port)).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) continue;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && Bindable(port)) return port;  // held until the process ends
    close(fd);
  }
  Fail("no free port");
}

std::string Program(std::string_view name) {
  const char* dir = getenv("ORGTRAIL_BIN");
  return std::string(dir != nullptr ? dir : ORGTRAIL_BIN_DIR) + "/" + std::string(name);
}

std::string MemberOf(std::string_view json, std::string_view name) {
  const std::string key = "\"" + std::string(name) + "\":";
  const size_t at = json.find(key);
  if (at == std::string_view::npos) return "";
  std::string_view value = json.substr(at + key.size());
  if (value.starts_with('"')) {
    size_t end = 1;
    while (end < value.size() && value[end] != '"') end += value[end] == '\\' ? 2 : 1;
    return std::string(value.substr(1, end - 1));
  }
  return std::string(value.substr(0, value.find_first_of(",}] \n")));
}

// ---- agents

AgentProcess::AgentProcess(Organization& organization, AgentSpec spec) : organization_(organization), spec_(std::move(spec)) {
  dir_ = organization_.Path("agents/" + spec_.account + "-" + spec_.region + "-" + spec_.name);
  std::filesystem::create_directories(dir_);
  port_ = FreePort();
  metrics_port_ = FreePort();
  WriteConfig();
}

void AgentProcess::WriteConfig() {
  std::string y = "account: \"" + spec_.account + "\"\nregion: " + spec_.region + "\nname: " + spec_.name + "\n";
  y += "state_dir: " + state_dir() + "\naggregators: [\"" + organization_.server() + "\"]\n";
  y += "enrol: {endpoint: \"" + organization_.enrol_endpoint() + "\", token_file: " + token_file() + "}\n";
  y += "metrics: {listen: \"127.0.0.1:" + std::to_string(metrics_port_) + "\"}\n" + spec_.yaml + "sources:\n";
  if (!spec_.files.empty()) y += "  - file: {path: \"" + spec_.files + "\"}\n";
  if (spec_.http || spec_.files.empty()) y += "  - http: {listen: \"127.0.0.1:" + std::to_string(port_) + "\"}\n";
  WriteWhole(config(), y);
}

void AgentProcess::Launch() {
  std::vector<std::string> argv = spec_.wrapper;
  argv.insert(argv.end(), {spec_.program.empty() ? Program("orgtrail-agent") : spec_.program, "--config", config()});
  process_ = Process::Start(argv, log(), spec_.env);
}

void AgentProcess::Start() {
  Launch();
  if (!Eventually(kPatience, [this] { return Ready() || !Running(); }) || !Running()) Fail("the agent does not come up, " + process_->Fate() + ": " + LogTail());
}

int AgentProcess::Stop(absl::Duration limit) {
  process_->Signal(SIGTERM);
  const std::optional<int> code = process_->Wait(limit);
  if (!code) Fail("the agent does not stop: " + LogTail());
  return *code;
}

void AgentProcess::Kill() { process_->Kill(); }

absl::StatusOr<HttpResponse> AgentProcess::Post(std::string_view body, const std::vector<std::pair<std::string, std::string>>& headers,
                                                std::string_view path, absl::Duration limit) const {
  return HttpPost(url() + std::string(path), body, headers, limit);
}

void AgentProcess::Record(std::string_view body) const {
  absl::StatusOr<HttpResponse> answer = Post(body);
  if (!answer.ok()) Fail("POST /records: " + std::string(answer.status().message()) + "\n" + LogTail());
  if (answer->status != 200) Fail("POST /records: " + std::to_string(answer->status) + " " + answer->body);
}

bool AgentProcess::Ready() const { return Answers200(metrics_port_, "/readyz"); }

double AgentProcess::Metric(std::string_view name) const { return MetricAt(metrics_port_, name); }

bool AgentProcess::Logged(std::string_view words) const { return ReadWhole(log()).find(words) != std::string::npos; }
std::string AgentProcess::LogTail() const { return Tail(log()); }

// ---- the organization

Organization::Organization(Options options) {
  std::string name = (std::filesystem::temp_directory_path() / "orgtrail-e2e-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) Fail("no temporary directory");
  dir_ = name;
  port_ = FreePort();
  enrol_port_ = FreePort();
  metrics_port_ = FreePort();
  std::vector<std::string> args = {Program("orgtrail"), "org", "init", "--dir", Path("org"), "--org-id", "o-e2e",
                                   "--management-account", kManagement};
  for (const std::string& a : options.accounts) args.insert(args.end(), {"--account", a});
  for (const std::string& r : options.regions) args.insert(args.end(), {"--region", r});
  args.insert(args.end(), {"--port", std::to_string(port_), "--enrol-port", std::to_string(enrol_port_), "--metrics-port",
                           std::to_string(metrics_port_)});
  const Ran init = RunProgram(args);
  if (init.code != 0) Fail("org init: " + init.err);
  Reconfigure("  map_bytes", "  map_bytes: 64GiB");   // a sanitizer leaves less address space than the usual 1 TiB
  for (const auto& [start, line] : options.replace) Reconfigure(start, line);
  if (options.start) StartAggregator();
}

Organization::~Organization() {
  agents_.clear();
  aggregator_.reset();
  if (getenv("ORGTRAIL_E2E_KEEP") != nullptr) {
    std::fprintf(stderr, "kept: %s\n", dir_.c_str());
    return;
  }
  std::error_code ignored;
  std::filesystem::remove_all(dir_, ignored);
}

void Organization::Reconfigure(std::string_view line_start, std::string_view line) {
  std::string text;
  bool found = false;
  for (const std::string& l : LinesOf(ReadWhole(config()))) {
    const bool here = l.starts_with(line_start);
    found |= here;
    text += here ? std::string(line) : l;
    text += '\n';
  }
  if (!found) Fail("aggregator.yaml has no line that begins with " + std::string(line_start));
  WriteWhole(config(), text);
}

void Organization::LaunchAggregator() {
  aggregator_ = Process::Start({Program("orgtrail-aggregator"), "--config", config()}, Path("aggregator.log"), aggregator_env);
}

void Organization::StartAggregator() {
  LaunchAggregator();
  if (!Eventually(kPatience, [this] { return Ready() || !aggregator_->Running(); }) || !aggregator_->Running()) {
    Fail("the aggregator does not come up, " + aggregator_->Fate() + ": " + AggregatorLogTail());
  }
}

int Organization::StopAggregator(absl::Duration limit) {
  aggregator_->Signal(SIGTERM);
  const std::optional<int> code = aggregator_->Wait(limit);
  if (!code) Fail("the aggregator does not stop: " + AggregatorLogTail());
  return *code;
}

void Organization::KillAggregator() { aggregator_->Kill(); }

absl::StatusOr<HttpResponse> Organization::MetricsGet(std::string_view path) const {
  return HttpGet("http://127.0.0.1:" + std::to_string(metrics_port_) + std::string(path), {}, absl::Seconds(5));
}
bool Organization::Ready() const { return Answers200(metrics_port_, "/readyz"); }
double Organization::Metric(std::string_view name) const { return MetricAt(metrics_port_, name); }
bool Organization::AggregatorLogged(std::string_view words) const { return ReadWhole(Path("aggregator.log")).find(words) != std::string::npos; }
std::string Organization::AggregatorLogTail() const { return Tail(Path("aggregator.log")); }

std::string Organization::ledger_dir() const {
  for (const std::string& l : LinesOf(ReadWhole(config()))) {
    if (!l.starts_with("state_dir: ")) continue;
    const size_t begin = l.find('/');
    return l.substr(begin, l.find_first_of("\" #", begin) - begin) + "/ledger";
  }
  Fail("aggregator.yaml has no state_dir");
}

void Organization::Token(const AgentSpec& spec, const std::string& file, const std::vector<std::string>& flags) {
  std::vector<std::string> args = {"agent", "token", "--account", spec.account, "--region", spec.region, "--out", file};
  if (!spec.carries.empty()) args.insert(args.end(), {"--carries", spec.carries});
  args.insert(args.end(), flags.begin(), flags.end());
  Must(args);
}

AgentProcess& Organization::AddAgent(AgentSpec spec) {
  agents_.push_back(std::make_unique<AgentProcess>(*this, std::move(spec)));
  AgentProcess& agent = *agents_.back();
  Token(agent.spec(), agent.token_file());
  return agent;
}

std::vector<std::string> Organization::OrgtrailArgs(const std::vector<std::string>& args, std::string_view as) const {
  std::vector<std::string> all = {Program("orgtrail"), "--profile", profile(as)};
  all.insert(all.end(), args.begin(), args.end());
  return all;
}

Ran Organization::Orgtrail(const std::vector<std::string>& args, std::string_view as, std::string_view input) const {
  return RunProgram(OrgtrailArgs(args, as), input);
}

std::string Organization::Must(const std::vector<std::string>& args, std::string_view as) const {
  Ran ran = Orgtrail(args, as);
  if (ran.code == 0) return std::move(ran.out);
  std::string line = "orgtrail";
  for (const std::string& a : args) line += " " + a;
  Fail(line + ": exit " + std::to_string(ran.code) + ": " + ran.err + ran.out.substr(0, 2000) + "\n" + AggregatorLogTail());
}

std::vector<std::string> Organization::Feed(const std::vector<std::string>& flags, std::string_view as) const {
  std::vector<std::string> args = {"feed", "--from", "start", "--no-follow", "-o", "jsonl"};
  args.insert(args.end(), flags.begin(), flags.end());
  return LinesOf(Must(args, as));
}

std::string Organization::CreateUser(const std::string& name, const std::string& kind, const std::string& account) {
  std::vector<std::string> args = {"user", "create", name, "--kind", kind, "--out", Path("org/profiles/" + name)};
  if (!account.empty()) args.insert(args.end(), {"--account", account});
  const std::string out = Must(args);
  return out.substr(0, out.find('\n'));
}

}  // namespace orgtrail::e2e
