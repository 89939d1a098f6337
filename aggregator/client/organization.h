// Organization: a complete, working organization on disk: CA, log key, aggregator.yaml, first policy, profiles.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/fs/file.h"

namespace orgtrail::client {

struct OrganizationOptions {
  std::string dir, org, domain = "internal", management_account;
  std::vector<std::string> accounts, regions;       // members; the management account is added
  std::vector<std::string> hosts;                   // names and addresses the aggregator is dialled by
  std::vector<std::string> governance_keys;         // NAME=FILE.pub (PEM); empty: one key is made here: DEMO
  int threshold = 1, weaken_threshold = 1;
  int port = 7443, enrol_port = 7444, metrics_port = 7481;
  std::string listen_address = "127.0.0.1";
};

struct OrganizationMade {
  std::string config, trust, admin_profile, auditor_profile, log_vkey, origin;
  bool demo = false;
};

// Writes everything below options.dir, the secrets mode 0600. With governance_keys the first policy is policy/policy-1.unsigned and waits for
// their signatures (governance.h); the aggregator does not start before. AlreadyExists when the directory holds an organization already.
absl::StatusOr<OrganizationMade> MakeOrganization(const OrganizationOptions& options, Fs& fs, const Clock& clock, Rng& rng);

struct ServerCertificateMade {
  std::string path;
  absl::Time until;
  std::vector<std::string> hosts;
};
// A new key and certificate for the aggregator of the organization in `dir`, for the old one's names and these. Its CA key must be there.
// The aggregator may run meanwhile: the key is replaced first, and until the certificate follows it shows the pair it has read.
absl::StatusOr<ServerCertificateMade> ReplaceServerCertificate(const std::string& dir, std::vector<std::string> hosts, absl::Duration life, Fs& fs,
                                                               const Clock& clock);

}  // namespace orgtrail::client
