// What the log lost and asks for once more.
#include <algorithm>
#include <utility>
#include <vector>

#include "agent/uplink/session.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/format/frame.h"
#include "common/merkle/tree.h"
#include "orgtrail/v1/ingest.pb.h"

namespace orgtrail {
namespace {

constexpr size_t kWanted = 64;   // batches the log may ask for at once

}  // namespace

// The log names batches whose bodies it lost. What it does not need to be told twice is left out.
void UplinkSession::OnWanted(State& s, const v1::Wanted& w) {
  if (!s.welcomed) return;
  for (const v1::BatchName& b : w.batches()) {
    const BatchKey key{b.epoch(), b.batch_seq()};
    if (s.wanted.size() >= kWanted) break;
    if (std::any_of(s.wanted.begin(), s.wanted.end(), [&](const auto& asked) { return asked.first == key; })) continue;
    s.wanted.emplace_back(key, b.leaf());
  }
  s.woken = true;
  s.calls.push_back([this] { spool_.Wake(); });
}

std::optional<std::string> UplinkSession::Answer() {
  const std::vector<BatchKey> lacking = state_.With([](State& s) { return std::exchange(s.lacking, {}); });
  if (lacking.empty()) return std::nullopt;
  v1::PushRequest request;
  for (const BatchKey key : lacking) {
    v1::BatchName& b = *request.mutable_lacking()->add_batches();
    b.set_epoch(key.epoch);
    b.set_batch_seq(key.batch_seq);
  }
  return request.SerializeAsString();
}

// Only what is whole here and is the very leaf the log names: anything else would be a contradiction that nobody asked for.
std::optional<std::string> UplinkSession::NextWanted() {
  for (;;) {
    const auto asked = state_.With([&](State& s) -> std::optional<std::pair<BatchKey, std::string>> {
      if (s.wanted.empty() || clock_.Now() < s.paused_until) return std::nullopt;
      auto first = std::move(s.wanted.front());
      s.wanted.pop_front();
      return first;
    });
    if (!asked) return std::nullopt;
    absl::StatusOr<std::string> frame = spool_.Read(asked->first);
    const absl::StatusOr<FrameView> view = frame.ok() ? FrameView::Decode(*frame) : frame.status();
    if (view.ok() && !view->bodies_gone && LeafHash(view->entry).view() == asked->second) {
      state_.With([](State& s) { ++s.facts.returned; });
      LogInfo("A batch is sent once more: the log lost what it says.", {{"epoch", std::to_string(asked->first.epoch)}, {"batch", std::to_string(asked->first.batch_seq)}});
      return *std::move(frame);
    }
    state_.With([&](State& s) { s.lacking.push_back(asked->first); });
  }
}

}  // namespace orgtrail
