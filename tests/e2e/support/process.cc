#include "tests/e2e/support/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "absl/time/clock.h"

extern char** environ;

namespace orgtrail::e2e {
namespace {

constexpr int kPollMs = 5;

int CodeOf(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

// The child of a fork between it and exec: only calls that are safe there.
pid_t Spawn(const std::vector<std::string>& argv, const Environment& env, int in, int out, int err) {
  std::vector<std::string> variables;
  for (char** v = environ; *v != nullptr; ++v) {
    if (std::string_view(*v).starts_with("ORGTRAIL_")) continue;  // the tests' own
    variables.emplace_back(*v);
  }
  for (const auto& [name, value] : env) variables.push_back(name + "=" + value);
  std::vector<char*> args, vars;
  for (const std::string& a : argv) args.push_back(const_cast<char*>(a.c_str()));
  for (const std::string& v : variables) vars.push_back(const_cast<char*>(v.c_str()));
  args.push_back(nullptr);
  vars.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) Fail("fork: " + std::string(std::strerror(errno)));
  if (pid == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(126);
    dup2(in, 0);
    dup2(out, 1);
    dup2(err, 2);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    signal(SIGPIPE, SIG_DFL);
    execve(args[0], args.data(), vars.data());
    _exit(127);
  }
  setpgid(pid, pid);
  return pid;
}

std::string Drain(int fd) {
  std::string text;
  char buffer[65536];
  off_t at = 0;
  for (ssize_t n; (n = pread(fd, buffer, sizeof buffer, at)) > 0; at += n) text.append(buffer, static_cast<size_t>(n));
  return text;
}

}  // namespace

void Fail(const std::string& what) { throw std::runtime_error(what); }

bool Eventually(absl::Duration limit, const std::function<bool()>& done) {
  const absl::Time deadline = absl::Now() + limit;
  while (!done()) {
    if (absl::Now() > deadline) return done();
    poll(nullptr, 0, kPollMs);
  }
  return true;
}

std::unique_ptr<Process> Process::Start(const std::vector<std::string>& argv, const std::string& output, const Environment& env) {
  const int out = open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (out < 0 || in < 0) Fail(output + ": " + std::strerror(errno));
  std::unique_ptr<Process> process(new Process());
  process->pid_ = Spawn(argv, env, in, out, out);
  close(out);
  close(in);
  return process;
}

Process::~Process() { Kill(); }

bool Process::Running() {
  if (code_) return false;
  int status = 0;
  const pid_t done = waitpid(pid_, &status, WNOHANG);
  if (done == pid_) code_ = CodeOf(status);
  return !code_;
}

void Process::Signal(int signal) {
  if (Running()) kill(-pid_, signal);
}

std::optional<int> Process::Wait(absl::Duration limit) {
  Eventually(limit, [this] { return !Running(); });
  return code_;
}

std::string Process::Fate() { return Running() ? "it runs" : "it ended with " + std::to_string(*code_); }

int Process::Kill() {
  if (Running()) {
    kill(-pid_, SIGKILL);
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    code_ = CodeOf(status);
  }
  return *code_;
}

int64_t Process::ResidentBytes() const {
  std::istringstream text(ReadWhole("/proc/" + std::to_string(pid_) + "/statm"));
  int64_t size = 0, resident = 0;
  text >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

int64_t Process::PeakBytes() const {
  const std::string status = ReadWhole("/proc/" + std::to_string(pid_) + "/status");
  const size_t at = status.find("VmHWM:");
  return at == std::string::npos ? 0 : std::strtoll(status.c_str() + at + 6, nullptr, 10) * 1024;
}

Ran RunProgram(const std::vector<std::string>& argv, std::string_view input, const Environment& env, absl::Duration limit) {
  const int in = memfd_create("in", MFD_CLOEXEC), out = memfd_create("out", MFD_CLOEXEC), err = memfd_create("err", MFD_CLOEXEC);
  if (in < 0 || out < 0 || err < 0) Fail("memfd_create: " + std::string(std::strerror(errno)));
  for (size_t at = 0; at < input.size();) {
    const ssize_t n = write(in, input.data() + at, input.size() - at);
    if (n <= 0) Fail("the program's input cannot be written");
    at += static_cast<size_t>(n);
  }
  lseek(in, 0, SEEK_SET);
  Ran ran;
  const pid_t pid = Spawn(argv, env, in, out, err);
  int status = 0;
  const bool ended = Eventually(limit, [&] { return waitpid(pid, &status, WNOHANG) == pid; });
  if (!ended) {
    kill(-pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
  }
  ran.code = ended ? CodeOf(status) : -1;
  ran.out = Drain(out);
  ran.err = Drain(err);
  for (int fd : {in, out, err}) close(fd);
  return ran;
}

std::string ReadWhole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

void WriteWhole(const std::string& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) Fail(path + " cannot be written");
}

std::string MakeDirs(const std::string& path) {
  std::filesystem::create_directories(path);
  return path;
}

void AppendTo(const std::string& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::app);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) Fail(path + " cannot be written");
}

std::vector<std::string> LinesOf(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    lines.emplace_back(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return lines;
}

}  // namespace orgtrail::e2e
