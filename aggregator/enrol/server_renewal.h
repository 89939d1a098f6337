// ServerRenewal: keeps the certificate the doors show from running out. With less than a third of its life left, or a month, the CA signs the
// same key and names again and the file is replaced; gRPC reads it within a second and streams go on.
// A certificate of somebody else's CA, or a directory that cannot be written, is left to people: CERTIFICATE_EXPIRING, a page in the last week.
// A Stage, stepped hourly by one Worker ("renewal"); facts(): any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "aggregator/enrol/authority.h"
#include "common/base/clock.h"
#include "common/base/stage.h"
#include "common/fs/file.h"

namespace orgtrail {

class ServerRenewal final : public Stage {
 public:
  // What runs out, and how soon it must be seen to. An empty detail: it is over.
  using Alarm = std::function<void(bool page, std::string_view subject, std::string_view detail)>;
  struct Facts {
    int64_t server_not_after_ns = 0, ca_not_after_ns = 0;   // 0: not read yet
  };

  // `certificate` and `key` are the PEM files the doors show. All outlive it.
  ServerRenewal(std::string certificate, std::string key, const CertificateAuthority& authority, Alarm alarm, Fs& fs, const Clock& clock);
  Tick Step(Tick now) override;
  Facts facts() const { return {server_not_after_ns_.load(), ca_not_after_ns_.load()}; }

 private:
  // When what is shown runs out, after renewing it if it is time. Its own life is all a failure costs: it is tried again in an hour.
  absl::StatusOr<absl::Time> Renewed(absl::Time now, std::string* why_not);
  void Judge(std::string_view subject, absl::Time not_after, absl::Time now, absl::Duration notice, std::string_view detail);

  const std::string certificate_, key_;
  const CertificateAuthority& authority_;
  const Alarm alarm_;
  Fs& fs_;
  const Clock& clock_;
  std::atomic<int64_t> server_not_after_ns_{0}, ca_not_after_ns_{0};
};

}  // namespace orgtrail
