// Aggregator: the wiring. Built top to bottom, destroyed in reverse: doors, verify, committer, followers, stores.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "aggregator/config.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/fs/file.h"

namespace orgtrail {

class Aggregator {
 public:
  // Opens every store, starts every stage, then the doors. Errors say which file, key or address, and what to do.
  static absl::StatusOr<std::unique_ptr<Aggregator>> Start(const AggregatorConfig& config, const std::string& config_text,
                                                           Fs& fs, const Clock& clock, Rng& rng);
  // Closes the doors, lets what was accepted reach the disk, says the own agent's last words.
  ~Aggregator();

 private:
  struct Impl;
  explicit Aggregator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace orgtrail
