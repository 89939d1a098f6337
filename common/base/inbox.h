// Inbox: a bounded queue between two threads. TryPush never blocks; its false is backpressure.
#pragma once

#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include "common/base/guarded.h"

namespace orgtrail {

template <class T>
class Inbox {
 public:
  explicit Inbox(size_t capacity) : capacity_(capacity) {}

  bool TryPush(T item) {
    return state_.With([&](State& s) {
      if (s.closed || s.items.size() >= capacity_) return false;
      s.items.push_back(std::move(item));
      return true;
    });
  }
  // Waits for room; false once closed. For a thread that may block (a source), never for a gRPC reaction.
  bool Push(T item) {
    return state_.When([&](const State& s) { return s.closed || s.items.size() < capacity_; },
                       [&](State& s) {
                         if (s.closed) return false;
                         s.items.push_back(std::move(item));
                         return true;
                       }) &&
           Wake();
  }
  // Everything that queued up; waits up to `limit` for the first. Empty when the time is over or closed and drained.
  std::vector<T> TakeAll(absl::Duration limit) {
    std::vector<T> taken = state_.WhenFor(
        limit, [](const State& s) { return s.closed || !s.items.empty(); },
        [](State& s, bool) {
          std::vector<T> all(std::make_move_iterator(s.items.begin()), std::make_move_iterator(s.items.end()));
          s.items.clear();
          return all;
        });
    Wake();
    return taken;
  }
  void Close() {
    state_.With([](State& s) { s.closed = true; });
  }
  bool closed() const {
    return state_.Peek([](const State& s) { return s.closed; });
  }
  size_t size() const {
    return state_.Peek([](const State& s) { return s.items.size(); });
  }
  size_t capacity() const { return capacity_; }

 private:
  struct State {
    std::deque<T> items;
    bool closed = false;
  };
  bool Wake() {
    state_.With([](State&) {});
    return true;
  }

  const size_t capacity_;
  Guarded<State> state_;
};

}  // namespace orgtrail
