#include "aggregator/alarms/notifier.h"

#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "common/base/log.h"
#include "common/base/worker.h"
#include "common/http/client.h"

extern char** environ;

namespace orgtrail {
namespace {

constexpr int kAttempts = 8;  // over about two minutes
constexpr absl::Duration kProgramLimit = absl::Seconds(30), kProgramLook = absl::Milliseconds(50);

}  // namespace

Notifier::Notifier(std::string webhook, std::string exec, Metrics& metrics, absl::Duration first_wait)
    : webhook_(std::move(webhook)), exec_(std::move(exec)), first_wait_(first_wait),
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
        if ((posted && executed) || attempt + 1 == kAttempts) break;
        const bool stop = stopping_.WhenFor(
            first_wait_ * (1 << attempt), [](bool s) { return s; }, [](bool, bool is_ready) { return is_ready; });
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
  // Standard input is a file in memory: it holds an alarm of any length, and a program that does not read it harms nobody.
  const int input = memfd_create("alarm", MFD_CLOEXEC);
  if (input < 0) return false;
  const bool written = write(input, json.data(), json.size()) == static_cast<ssize_t>(json.size()) && lseek(input, 0, SEEK_SET) == 0;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawnattr_init(&attributes);
  sigset_t none, ignored;   // this process blocks and ignores signals that a program expects to die of
  sigemptyset(&none);
  sigemptyset(&ignored);
  sigaddset(&ignored, SIGPIPE);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &ignored);
  posix_spawnattr_setpgroup(&attributes, 0);  // a group of its own: what it starts ends with it
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  char* argv[] = {const_cast<char*>(exec_.c_str()), nullptr};
  pid_t pid = 0;
  const int spawned = written ? posix_spawn(&pid, exec_.c_str(), &actions, &attributes, argv, environ) : EIO;
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(input);
  if (spawned != 0) {
    LogWarn("the alarm program cannot be started", {{"program", exec_}, {"error", std::string(strerror(spawned))}});
    return false;
  }
  int status = 0;
  bool stop = false;
  for (absl::Duration waited; waited < kProgramLimit && !stop; waited += kProgramLook) {
    const pid_t done = waitpid(pid, &status, WNOHANG);
    if (done == pid) {
      const bool fine = WIFEXITED(status) && WEXITSTATUS(status) == 0;
      if (!fine) LogWarn("the alarm program failed", {{"program", exec_}, {"status", std::to_string(WIFEXITED(status) ? WEXITSTATUS(status) : -1)}});
      return fine;
    }
    if (done < 0) return false;
    stop = stopping_.WhenFor(kProgramLook, [](bool s) { return s; }, [](bool, bool is_ready) { return is_ready; });
  }
  kill(-pid, SIGKILL);
  waitpid(pid, &status, 0);
  LogWarn(stop ? "the alarm program was killed: the aggregator stops" : "the alarm program ran over 30 s and was killed", {{"program", exec_}});
  return false;
}

}  // namespace orgtrail
