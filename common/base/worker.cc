#include "common/base/worker.h"

#include <pthread.h>

namespace orgtrail {

void NameThread(std::string_view name) {
  pthread_setname_np(pthread_self(), std::string(name.substr(0, 15)).c_str());
}

Worker::Worker(std::string name, Stage& stage, const Clock& clock) : name_(std::move(name)), stage_(stage), clock_(clock) {}

Worker::~Worker() { Stop(); }

void Worker::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Worker::Poke() {
  state_.With([](State& s) { s.poked = true; });
}

void Worker::Stop() {
  if (!thread_.joinable()) return;
  state_.With([](State& s) { s.stopping = true; });
  thread_.join();
}

void Worker::Run() {
  NameThread(name_);
  for (;;) {
    const Tick now = clock_.Now();
    const Tick next = stage_.Step(now);
    if (next <= now && !state_.Peek([](const State& s) { return s.stopping; })) continue;
    absl::Duration wait = next == Tick::Never() ? absl::Hours(1) : next - clock_.Now();
    if (wait < absl::ZeroDuration()) wait = absl::ZeroDuration();
    const bool stop = state_.WhenFor(
        wait, [](const State& s) { return s.poked || s.stopping; },
        [](State& s, bool) {
          s.poked = false;
          return s.stopping;
        });
    if (stop) return;
  }
}

}  // namespace orgtrail
