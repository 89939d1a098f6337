// Pool: a few threads for work that may block, so that gRPC reactions never do. Threads: TrySubmit: any.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/inbox.h"

namespace orgtrail {

class Pool {
 public:
  Pool(std::string name, size_t threads, size_t queued);
  ~Pool();                                           // finishes what is queued, then joins
  [[nodiscard]] bool TrySubmit(std::function<void()> work);  // false: the queue is full or the pool is closing
  void Close();

 private:
  void Run(const std::string& name);
  struct State {
    std::deque<std::function<void()>> work;
    bool closed = false;
  };
  const size_t capacity_;
  Guarded<State> state_;
  std::vector<std::thread> threads_;
};

}  // namespace orgtrail
