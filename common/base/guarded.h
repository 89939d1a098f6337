// Guarded: the lock and its data are one object; unlocked access does not compile.
#pragma once

#include <condition_variable>
#include <mutex>
#include <utility>

#include "absl/time/time.h"

namespace orgtrail {

template <class T>
class Guarded {
 public:
  template <class... Args>
  explicit Guarded(Args&&... args) : value_(std::forward<Args>(args)...) {}
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  // Locks, runs f(value), wakes waiters. Nothing may block in f.
  template <class F>
  auto With(F f) {
    struct Wake {
      std::condition_variable& cv;
      ~Wake() { cv.notify_all(); }
    } wake{cv_};
    std::lock_guard lock(mu_);
    return f(value_);
  }
  // Locks and runs f(value) without waking anybody: for reads.
  template <class F>
  auto Peek(F f) const {
    std::lock_guard lock(mu_);
    return f(value_);
  }
  // Waits until ready(value), then f(value) under the same lock.
  template <class Ready, class F>
  auto When(Ready ready, F f) {
    std::unique_lock lock(mu_);
    cv_.wait(lock, [&] { return ready(value_); });
    return f(value_);
  }
  // Waits until ready(value) or the time is over; f(value, whether it was ready).
  template <class Ready, class F>
  auto WhenFor(absl::Duration limit, Ready ready, F f) {
    std::unique_lock lock(mu_);
    const bool is_ready = cv_.wait_for(lock, absl::ToChronoNanoseconds(limit), [&] { return ready(value_); });
    return f(value_, is_ready);
  }

 private:
  mutable std::mutex mu_;  // not absl::Mutex: Debian's is not instrumented, so TSan calls correct code a race
  std::condition_variable cv_;
  T value_;
};

}  // namespace orgtrail
