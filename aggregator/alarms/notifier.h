// Notifier: tells people of alarms, by webhook or by running a program, with retries: 1, 2, 4, … 64 s apart, eight attempts. A
// program gets the alarm's JSON as its standard input, a file it need not read, and 30 s. One thread; at most 1,000 alarms wait.
#pragma once

#include <string>
#include <thread>

#include "aggregator/alarms/alarms.h"
#include "common/base/inbox.h"

namespace orgtrail {

class Notifier {
 public:
  Notifier(std::string webhook, std::string exec, Metrics& metrics, absl::Duration first_wait = absl::Seconds(1));  // either may be empty
  ~Notifier();                                                         // gives up what waits
  void Start();
  void Stop();
  void Notify(const AlarmState& alarm);                                // never blocks; dropped (and counted) when 1,000 wait

 private:
  void Run();
  bool Post(const std::string& json);
  bool Execute(const std::string& json);

  const std::string webhook_, exec_;
  const absl::Duration first_wait_;
  Counter& sent_;
  Counter& failed_;
  Inbox<std::string> inbox_{1000};
  Guarded<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace orgtrail
