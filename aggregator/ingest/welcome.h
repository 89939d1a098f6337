// Welcome: the first answer on a stream. Where the log stands with this agent, its head, that it continues what the agent was shown, and what
// governance declared. What the agent says of itself in Hello is held against the log on the way: findings.
//
// Threads  one at a time: the sessions' Step.
// Bytes    docs/formats/wire.md
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "aggregator/ledger/reader.h"
#include "aggregator/ledger/registry.h"
#include "aggregator/verify/finding.h"

namespace orgtrail {

namespace v1 {
class Welcome;
}

// What an agent says of itself when it opens a stream.
struct Hello {
  Uuid uuid;
  uint64_t seen_size = 0;                        // the newest head it verified of …
  std::string seen_root, seen_origin;
  std::string version;
  std::string run;                               // 16 random bytes of its process
  std::pair<uint64_t, uint64_t> acked, oldest;   // (epoch, batch_seq): acknowledged through, and the first it still has

  static std::optional<Hello> Parse(std::string_view message);   // nullopt: it is none
};

class WelcomeDesk {
 public:
  // All outlive it. `findings` may be null.
  WelcomeDesk(const LedgerReader& ledger, const Registry& registry, const Findings& findings)
      : ledger_(ledger), registry_(registry), findings_(findings) {}
  // What the log says to it under `log`, its newest head. `subject`: account/region/agent.
  v1::Welcome Answer(const Hello& hello, const std::string& subject, const SignedHead& log) const;

 private:
  void ShowConsistency(const Hello& hello, const std::string& subject, const SignedHead& log, v1::Welcome& w) const;
  void ShowRecoveries(const SignedHead& log, v1::Welcome& w) const;
  void FindMissing(const Hello& hello, const std::optional<AgentHead>& head, const std::string& subject) const;

  const LedgerReader& ledger_;
  const Registry& registry_;
  const Findings& findings_;
};

}  // namespace orgtrail
