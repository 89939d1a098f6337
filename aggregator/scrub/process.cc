#include "aggregator/scrub/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "common/base/log.h"

extern char** environ;

namespace orgtrail {
namespace {

constexpr size_t kLongestLine = 16 << 10;

}  // namespace

ChildProcess::~ChildProcess() {
  if (child_ > 0) {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  if (pipe_ >= 0) close(pipe_);
}

bool ChildProcess::Start(const std::string& program, std::vector<std::string> words, int input) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  if (input >= 0) posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  posix_spawnattr_init(&attributes);
  sigset_t none, ignored;   // this process blocks and ignores what that one should die of
  sigemptyset(&none);
  sigemptyset(&ignored);
  for (const int s : {SIGPIPE, SIGXFSZ}) sigaddset(&ignored, s);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &ignored);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  words.insert(words.begin(), "orgtrail-aggregator");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const int spawned = posix_spawn(&child_, program.c_str(), &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(ends[1]);
  if (spawned != 0) {
    close(ends[0]);
    child_ = -1;
    LogWarn("a process that looks into the stores cannot be started", {{"error", std::string(strerror(spawned))}});
    return false;
  }
  if (pipe_ >= 0) close(pipe_);
  pipe_ = ends[0];
  unfinished_.clear();
  lines_.clear();
  return true;
}

void ChildProcess::Read() {
  char piece[4096];
  for (ssize_t n; pipe_ >= 0 && (n = read(pipe_, piece, sizeof piece)) > 0;) {
    for (ssize_t i = 0; i < n; ++i) {
      if (piece[i] == '\n') {
        lines_.push_back(std::exchange(unfinished_, {}));
      } else if (unfinished_.size() < kLongestLine) {
        unfinished_ += piece[i];
      }
    }
  }
}

std::vector<std::string> ChildProcess::Lines() {
  Read();
  return std::exchange(lines_, {});
}

std::optional<int> ChildProcess::Ended() {
  int status = 0;
  if (child_ < 0 || waitpid(child_, &status, WNOHANG) == 0) return std::nullopt;
  child_ = -1;
  Read();   // what it said last
  close(std::exchange(pipe_, -1));
  return status;
}

}  // namespace orgtrail
