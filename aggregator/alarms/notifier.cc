#include "aggregator/alarms/notifier.h"

#include <signal.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/worker.h"
#include "common/http/client.h"

extern char** environ;

namespace orgtrail {
namespace {

constexpr int kAttempts = 8;  // 1, 2, 4, … 128 s: about four minutes
constexpr absl::Duration kProgramLimit = absl::Seconds(30);

}  // namespace

Notifier::Notifier(std::string webhook, std::string exec, Metrics& metrics)
    : webhook_(std::move(webhook)), exec_(std::move(exec)),
      sent_(metrics.GetCounter("orgtrail_alarm_notifications_total", "alarms delivered to a person's webhook or program")),
      failed_(metrics.GetCounter("orgtrail_alarm_notifications_failed_total", "alarms no attempt could deliver; they are in the ledger")) {}

Notifier::~Notifier() { Stop(); }

void Notifier::Start() {
  if (webhook_.empty() && exec_.empty()) return;
  thread_ = std::thread([this] { Run(); });
}

void Notifier::Stop() {
  stopping_.With([](bool& s) { s = true; });
  inbox_.Close();
  if (thread_.joinable()) thread_.join();
}

void Notifier::Notify(const AlarmState& alarm) {
  if (webhook_.empty() && exec_.empty()) return;
  if (!inbox_.TryPush(AlarmJson(alarm))) failed_.Add();
}

void Notifier::Run() {
  NameThread("notifier");
  for (;;) {
    std::vector<std::string> group = inbox_.TakeAll(absl::Hours(1));
    if (group.empty() && inbox_.closed()) return;
    for (const std::string& json : group) {
      bool posted = webhook_.empty(), executed = exec_.empty();
      for (int attempt = 0; attempt < kAttempts; ++attempt) {
        if (!posted) posted = Post(json);
        if (!executed) executed = Execute(json);
        if (posted && executed) break;
        const bool stop = stopping_.WhenFor(
            absl::Seconds(1 << attempt), [](bool s) { return s; }, [](bool, bool is_ready) { return is_ready; });
        if (stop) return;
      }
      (posted && executed ? sent_ : failed_).Add();
      if (!posted || !executed) LogError("an alarm could not be delivered", {{"alarm", json}});
    }
  }
}

bool Notifier::Post(const std::string& json) {
  absl::StatusOr<HttpResponse> answer = HttpPost(webhook_, json, {{"content-type", "application/json"}}, absl::Seconds(10));
  if (!answer.ok()) {
    LogWarn("the alarm webhook did not answer", {{"error", std::string(answer.status().message())}});
    return false;
  }
  if (answer->status / 100 != 2) {
    LogWarn("the alarm webhook refused", {{"status", std::to_string(answer->status)}});
    return false;
  }
  return true;
}

bool Notifier::Execute(const std::string& json) {
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return false;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe_fds[0], STDIN_FILENO);
  char* argv[] = {const_cast<char*>(exec_.c_str()), nullptr};
  pid_t pid = 0;
  const int spawned = posix_spawn(&pid, exec_.c_str(), &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(pipe_fds[0]);
  if (spawned != 0) {
    close(pipe_fds[1]);
    LogWarn("the alarm program cannot be started", {{"program", exec_}});
    return false;
  }
  // An alarm is under 4 KiB with its bounds, so it fits the pipe's buffer: this write does not wait for the program.
  const bool written = write(pipe_fds[1], json.data(), json.size()) == static_cast<ssize_t>(json.size());
  close(pipe_fds[1]);
  int status = 0;
  for (absl::Duration waited; waited < kProgramLimit; waited += absl::Milliseconds(50)) {
    const pid_t done = waitpid(pid, &status, WNOHANG);
    if (done == pid) return written && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (done < 0) return false;
    stopping_.WhenFor(absl::Milliseconds(50), [](bool s) { return s; }, [](bool, bool) {});
  }
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  LogWarn("the alarm program ran over 30 s and was killed", {{"program", exec_}});
  return false;
}

}  // namespace orgtrail
