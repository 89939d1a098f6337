#include "aggregator/client/child.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "common/base/last_words.h"

namespace orgtrail::client {
namespace {

constexpr size_t kOutputBytes = 64 << 10, kLineBytes = 1 << 20;

void WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n <= 0) return;   // nobody listens any more
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

absl::StatusOr<ChildEnd> InChild(const std::function<int(const std::function<void(std::string_view)>&)>& work,
                                 const std::function<bool(std::string_view)>& heard) {
  int ends[2];
  if (::pipe(ends) != 0) return absl::ResourceExhaustedError("cannot make a pipe to a process that looks");
  std::fflush(stdout);
  const pid_t parent = ::getpid();
  const pid_t child = fork();
  if (child < 0) {
    ::close(ends[0]);
    ::close(ends[1]);
    return absl::ResourceExhaustedError("cannot start a process to look in");
  }
  if (child == 0) {
    // It holds its parent's locks: who kills that and starts again must not meet them.
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::getppid() != parent) _exit(1);
    ::close(ends[0]);
    ::dup2(ends[1], STDERR_FILENO);   // last words too
    NameFilesThatFail();
    const int code = work([&](std::string_view line) { WriteAll(ends[1], std::string(line) + "\n"); });
    _exit(code);
  }
  ::close(ends[1]);
  ChildEnd end;
  std::string line;
  char piece[4096];
  for (ssize_t n; (n = ::read(ends[0], piece, sizeof piece)) != 0;) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    for (const char c : std::string_view(piece, static_cast<size_t>(n))) {
      if (c != '\n') {
        if (line.size() < kLineBytes) line += c;
        continue;
      }
      if (!heard(line) && end.output.size() + line.size() < kOutputBytes) end.output += (end.output.empty() ? "" : "\n") + line;
      line.clear();
    }
  }
  ::close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return absl::InternalError("cannot wait for the process that looked");
  }
  if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
  if (WIFEXITED(status)) end.code = WEXITSTATUS(status);
  return end;
}

}  // namespace orgtrail::client
