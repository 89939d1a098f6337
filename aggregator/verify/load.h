// Load: how many bytes are on their way through verification, per agent and in all. What bounds memory.
// Threads  any.
#pragma once

#include <deque>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "aggregator/verify/verifier.h"
#include "common/base/guarded.h"

namespace orgtrail {

struct Verifier::Load {
  struct State {
    size_t queued = 0, inflated = 0;
    std::unordered_map<Uuid, size_t> queued_by;
    std::unordered_map<Uuid, std::deque<size_t>> submitted_by;   // in order of submission, which is the order of commits
    std::unordered_set<StreamId> waiting;
  };
  explicit Load(const VerifierOptions& options) : limits(options) {}

  // Room for `bytes` of this agent? An agent with nothing queued may always have one frame. Refused streams are remembered.
  bool Enter(const Uuid& uuid, StreamId stream, size_t bytes) {
    return state.With([&](State& s) {
      size_t& mine = s.queued_by[uuid];
      const bool fits = mine == 0 ? s.queued <= limits.queued_bytes
                                  : mine + bytes <= limits.agent_bytes && s.queued + bytes <= limits.queued_bytes;
      if (!fits) {
        s.waiting.insert(stream);
        return false;
      }
      mine += bytes;
      s.queued += bytes;
      return true;
    });
  }
  // Entered but could not be queued: undo, and remember the stream.
  void Return(const Uuid& uuid, StreamId stream, size_t bytes) {
    state.With([&](State& s) {
      Subtract(s, uuid, bytes);
      s.waiting.insert(stream);
    });
  }
  // A frame's checks are over, whatever came of it. Who may try again now.
  std::vector<StreamId> Leave(const Uuid& uuid, size_t bytes) {
    return state.With([&](State& s) {
      Subtract(s, uuid, bytes);
      std::vector<StreamId> again(s.waiting.begin(), s.waiting.end());
      s.waiting.clear();
      return again;
    });
  }
  void Submitted(const Uuid& uuid, size_t bytes) {
    state.With([&](State& s) {
      s.inflated += bytes;
      s.submitted_by[uuid].push_back(bytes);
    });
  }
  void Committed(const Uuid& uuid) {
    state.With([&](State& s) {
      auto it = s.submitted_by.find(uuid);
      if (it == s.submitted_by.end()) return;   // not through a lane: the aggregator's own agent
      s.inflated -= it->second.front();
      it->second.pop_front();
      if (it->second.empty()) s.submitted_by.erase(it);
    });
  }
  bool Full() const {
    return state.Peek([&](const State& s) { return s.inflated > limits.inflated_bytes; });
  }
  size_t queued() const {
    return state.Peek([](const State& s) { return s.queued; });
  }
  size_t inflated() const {
    return state.Peek([](const State& s) { return s.inflated; });
  }

  static void Subtract(State& s, const Uuid& uuid, size_t bytes) {
    s.queued -= bytes;
    if (auto it = s.queued_by.find(uuid); it != s.queued_by.end() && (it->second -= bytes) == 0) s.queued_by.erase(it);
  }
  const VerifierOptions limits;
  Guarded<State> state;
};

}  // namespace orgtrail
