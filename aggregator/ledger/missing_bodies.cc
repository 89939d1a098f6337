#include "aggregator/ledger/missing_bodies.h"

#include <algorithm>
#include <utility>

namespace orgtrail {

void MissingBodies::GiveUp(State& s, Entry& e) {
  if (e.frame != nullptr) s.frame_bytes -= e.frame->size();
  e.frame.reset();
  e.at = Entry::At::kGivenUp;
}

bool MissingBodies::Add(const Leaf& leaf, Why why) {
  return state_.With([&](State& s) {
    if (s.entries.contains(leaf.index)) return true;
    if (s.entries.size() >= options_.leaves) {   // what nobody has makes room
      const auto old = std::find_if(s.entries.begin(), s.entries.end(), [](const auto& e) { return e.second.at == Entry::At::kGivenUp; });
      if (old == s.entries.end()) return false;
      s.entries.erase(old);
    }
    Entry& e = s.entries[leaf.index];
    e.leaf = leaf;
    e.why = why;
    count_ = s.entries.size();
    return true;
  });
}

bool MissingBodies::Wants(uint64_t index) const {
  if (count_ == 0) return false;
  return state_.Peek([&](const State& s) {
    const auto it = s.entries.find(index);
    return it != s.entries.end() && it->second.at != Entry::At::kCame;
  });
}

std::vector<MissingBodies::Leaf> MissingBodies::AskOf(const Uuid& agent, Tick now) {
  std::vector<Leaf> ask;
  if (count_ == 0) return ask;
  state_.With([&](State& s) {
    if (const auto last = s.asked_at.find(agent); last != s.asked_at.end() && now - last->second < options_.between) return;
    for (auto& [index, e] : s.entries) {
      if (e.at != Entry::At::kWanted || e.leaf.batch.uuid != agent || now < e.not_before) continue;
      if (e.times >= options_.times) {
        GiveUp(s, e);
        continue;
      }
      if (ask.size() >= options_.question) continue;
      ++e.times;
      e.not_before = now + options_.again;
      ask.push_back(e.leaf);
    }
    s.asked += ask.size();
    if (!ask.empty()) {
      s.asked_at[agent] = now;
    } else {
      s.asked_at.erase(agent);
    }
  });
  return ask;
}

void MissingBodies::HasNot(const BatchId& batch) {
  state_.With([&](State& s) {
    for (auto& [index, e] : s.entries) {
      if (e.at != Entry::At::kWanted || e.leaf.batch != batch || e.times == 0) continue;   // nobody is believed unasked
      ++s.lacking;
      GiveUp(s, e);
    }
  });
}

void MissingBodies::HasNot(uint64_t index) {
  state_.With([&](State& s) {
    if (const auto it = s.entries.find(index); it != s.entries.end() && it->second.at == Entry::At::kWanted) {
      ++s.lacking;
      GiveUp(s, it->second);
    }
  });
}

void MissingBodies::GiveUpOn(const std::function<bool(const Uuid&)>& gone) {
  if (count_ == 0) return;
  std::map<Uuid, bool> known;   // asked of the registry outside the lock
  state_.Peek([&](const State& s) {
    for (const auto& [index, e] : s.entries) {
      if (e.at == Entry::At::kWanted) known.emplace(e.leaf.batch.uuid, false);
    }
  });
  for (auto& [uuid, is_gone] : known) is_gone = gone(uuid);
  state_.With([&](State& s) {
    for (auto& [index, e] : s.entries) {
      const auto it = known.find(e.leaf.batch.uuid);
      if (e.at == Entry::At::kWanted && it != known.end() && it->second) GiveUp(s, e);
    }
  });
}

bool MissingBodies::Came(uint64_t index, std::string frame, Tick now) {
  return state_.With([&](State& s) {
    const auto it = s.entries.find(index);
    if (it == s.entries.end() || it->second.at == Entry::At::kCame) return true;
    Entry& e = it->second;
    if (s.frame_bytes + frame.size() > options_.frame_bytes) {
      e.at = Entry::At::kWanted;
      if (e.times > 0) --e.times;      // it answered
      return false;
    }
    s.frame_bytes += frame.size();
    e.frame = std::make_shared<const std::string>(std::move(frame));
    e.at = Entry::At::kCame;
    e.came_at = now;
    return true;
  });
}

std::vector<MissingBodies::Returned> MissingBodies::Came() const {
  std::vector<Returned> came;
  if (count_ == 0) return came;
  state_.Peek([&](const State& s) {
    for (const auto& [index, e] : s.entries) {
      if (e.at == Entry::At::kCame) came.push_back({e.leaf, e.why, e.frame, e.came_at});
    }
  });
  return came;
}

void MissingBodies::Done(uint64_t index) {
  state_.With([&](State& s) {
    const auto it = s.entries.find(index);
    if (it == s.entries.end()) return;
    if (it->second.frame != nullptr) s.frame_bytes -= it->second.frame->size();
    s.entries.erase(it);
    ++s.done;
    count_ = s.entries.size();
  });
}

void MissingBodies::Failed(uint64_t index) {
  state_.With([&](State& s) {
    const auto it = s.entries.find(index);
    if (it == s.entries.end() || it->second.at != Entry::At::kCame) return;
    GiveUp(s, it->second);
    if (it->second.times < options_.times) it->second.at = Entry::At::kWanted;
  });
}

MissingBodies::Facts MissingBodies::facts() const {
  return state_.Peek([](const State& s) {
    Facts f{0, 0, 0, s.asked, s.lacking, s.done};
    for (const auto& [index, e] : s.entries) {
      (e.at == Entry::At::kWanted ? f.wanted : e.at == Entry::At::kCame ? f.came : f.given_up) += 1;
    }
    return f;
  });
}

uint64_t MissingBodies::LeftOf(const Uuid& agent) const {
  return state_.Peek([&](const State& s) {
    return static_cast<uint64_t>(std::count_if(s.entries.begin(), s.entries.end(), [&](const auto& e) { return e.second.leaf.batch.uuid == agent; }));
  });
}

}  // namespace orgtrail
