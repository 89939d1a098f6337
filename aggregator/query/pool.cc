#include "aggregator/query/pool.h"

#include "common/base/worker.h"

namespace orgtrail {

Pool::Pool(std::string name, size_t threads, size_t queued) : capacity_(queued) {
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this, name] { Run(name); });
}

Pool::~Pool() {
  Close();
  for (std::thread& t : threads_) t.join();
}

bool Pool::TrySubmit(std::function<void()> work) {
  return state_.With([&](State& s) {
    if (s.closed || s.work.size() >= capacity_) return false;
    s.work.push_back(std::move(work));
    return true;
  });
}

void Pool::Close() {
  state_.With([](State& s) { s.closed = true; });
}

void Pool::Run(const std::string& name) {
  NameThread(name);
  for (;;) {
    std::function<void()> work = state_.When([](const State& s) { return s.closed || !s.work.empty(); },
                                             [](State& s) {
                                               std::function<void()> next;
                                               if (s.work.empty()) return next;
                                               next = std::move(s.work.front());
                                               s.work.pop_front();
                                               return next;
                                             });
    if (!work) return;
    work();
  }
}

}  // namespace orgtrail
