// Worker: one thread that steps one Stage until stopped. Poke() from any thread makes it step at once.
#pragma once

#include <string>
#include <thread>

#include "common/base/clock.h"
#include "common/base/guarded.h"
#include "common/base/stage.h"

namespace orgtrail {

void NameThread(std::string_view name);  // of the calling thread, at most 15 bytes; seen in top -H and perf

class Worker {
 public:
  Worker(std::string name, Stage& stage, const Clock& clock);  // stage and clock outlive it
  ~Worker();                                                   // stops and joins
  void Start();
  void Poke();
  void Stop();                                                 // returns after the last Step
 private:
  struct State {
    bool poked = false;
    bool stopping = false;
  };
  void Run();

  const std::string name_;
  Stage& stage_;
  const Clock& clock_;
  Guarded<State> state_;
  std::thread thread_;
};

}  // namespace orgtrail
