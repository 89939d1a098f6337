// Relay: a TCP port on loopback that leads to another one, and a firewall in between: while it is cut nothing passes, nothing is closed and
// nobody is told; what was under way arrives afterwards.
//
// Threads  one of its own; Cut and Mend: any. Ends its connections with the object.
#pragma once

#include <atomic>
#include <list>
#include <mutex>
#include <string>
#include <thread>

#include "tests/e2e/support/process.h"

namespace orgtrail::e2e {

class Relay {
 public:
  explicit Relay(int to_port);
  ~Relay();
  Relay(const Relay&) = delete;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  void Cut() { Set(true); }            // returned, nothing passes
  void Mend() { Set(false); }

 private:
  struct Side {
    int fd = -1;
    std::string bytes;               // to be written to it
    bool ended = false;              // it sends nothing more
  };
  struct Pair {
    Side sides[2];
  };
  void Set(bool cut) {
    const std::lock_guard lock(moving_);
    cut_ = cut;
  }
  void Run();
  void Accept();
  static bool Move(Pair& pair);      // false: it is over

  const int to_port_;
  int port_ = 0, listen_ = -1;
  std::atomic<bool> cut_{false}, stop_{false};
  std::mutex moving_;                // held while bytes are on their way
  std::list<Pair> pairs_;            // the thread's
  std::thread thread_;
};

}  // namespace orgtrail::e2e
