// Agent: the wiring. capture → record → seal → spool ⇐ uplink; enrolment beside it.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "agent/config.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/fs/file.h"

namespace orgtrail {

class Agent {
 public:
  // Opens the spool, enrols when needed, starts the stages, then the sources. Errors say which file, key or address, and what to do.
  static absl::StatusOr<std::unique_ptr<Agent>> Start(const AgentConfig& config, const std::string& config_text, Fs& fs,
                                                      const Clock& clock, Rng& rng);
  // Stops the sources, closes the epoch (as retired: for ever), sends what is left for at most `drain`. True: everything is acked.
  bool Stop(bool retire, absl::Duration drain);
  // SIGHUP: connects with the certificates that are on disk now.
  void Reload();
  // Whether something fatal was noticed (the spool is gone): the process should end with 1.
  bool Broken() const;
  ~Agent();

 private:
  Agent();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace orgtrail
