#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "absl/strings/str_join.h"
#include "aggregator/client/context.h"
#include "aggregator/client/organization.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "common/crypto/x509.h"

namespace orgtrail::client {
namespace {

struct ServerCertFlags {
  std::string dir;
  std::vector<std::string> hosts;
  int64_t days = 825;
};

void AddCertificate(CLI::App& org, Context& context) {
  auto f = std::make_shared<ServerCertFlags>();
  CLI::App* cert = org.add_subcommand("certificate", "Make a new key and certificate for the aggregator: another host name, or a key that was seen");
  cert->add_option("--dir", f->dir, "The organization's directory, as given to `org init`; its CA key must be there")->required();
  cert->add_option("--host", f->hosts, "A further name or address the aggregator is dialled by; repeat for each; those of the old certificate stay");
  cert->add_option("--days", f->days, "Life of the certificate; never longer than the CA's")->check(CLI::Range(1, 825))->capture_default_str();
  cert->footer("The aggregator renews its certificate by itself while it can write the file. This is for a new name, and for a new key.\n");
  cert->callback([f, &context] {
    context.Run([&]() -> absl::Status {
      ASSIGN_OR_RETURN(const ServerCertificateMade made, ReplaceServerCertificate(f->dir, f->hosts, absl::Hours(24 * f->days), context.fs, context.clock));
      std::printf("%s\n  until  %s\n  for    %s\n", made.path.c_str(), Rfc3339(made.until).c_str(), absl::StrJoin(made.hosts, ", ").c_str());
      std::printf("  A running aggregator shows it within a second; connections go on.\n");
      return absl::OkStatus();
    });
  });
}

}  // namespace

void AddOrg(CLI::App& app, Context& context) {
  CLI::App* org = app.add_subcommand("org", "The organization: make one, and the certificate its aggregator shows");
  org->require_subcommand(1);
  auto o = std::make_shared<OrganizationOptions>();
  CLI::App* init = org->add_subcommand("init", "Write a complete, working organization: CA, keys, aggregator.yaml, first policy, profiles");
  init->add_option("--dir", o->dir, "Where to write it; must not hold an organization yet")->required();
  init->add_option("--org-id", o->org, "The organization's id, such as o-demo; also the trust domain of its certificates")->required();
  init->add_option("--domain", o->domain, "The log's origin is orgtrail.DOMAIN/ORG-ID")->capture_default_str();
  init->add_option("--management-account", o->management_account, "12 digits")->required();
  init->add_option("--account", o->accounts, "A member account, 12 digits; repeat for each");
  init->add_option("--region", o->regions, "A region; repeat for each; the first is the home region")->required();
  init->add_option("--host", o->hosts, "A name or address the aggregator is dialled by; repeat for each; localhost is always one");
  init->add_option("--governance-key", o->governance_keys, "NAME=FILE.pub: a governance admin's public key; repeat for each. Without any, one key is made here and the organization is a DEMO");
  init->add_option("--threshold", o->threshold, "Governance signatures a policy needs")->capture_default_str();
  init->add_option("--weaken-threshold", o->weaken_threshold, "… and one that weakens anything")->capture_default_str();
  init->add_option("--listen", o->listen_address, "Address the aggregator listens on; 0.0.0.0 for other machines")->capture_default_str();
  init->add_option("--port", o->port, "gRPC port, mutual TLS")->capture_default_str();
  init->add_option("--enrol-port", o->enrol_port, "Enrolment port")->capture_default_str();
  init->add_option("--metrics-port", o->metrics_port, "Metrics and health, loopback only")->capture_default_str();
  init->footer("Example:\n  orgtrail org init --dir ~/acme --org-id o-acme --management-account 111111111111 \\\n"
               "      --account 222222222222 --region us-east-1 --host trail.acme.example\n");
  init->callback([o, &context] {
    context.Run([&]() -> absl::Status {
      o->dir = AbsolutePath(o->dir);
      ASSIGN_OR_RETURN(OrganizationMade made, MakeOrganization(*o, context.fs, context.clock, SystemRng()));
      std::printf("Organization %s is ready in %s\n", o->org.c_str(), o->dir.c_str());
      if (made.demo) {
        std::printf("  DEMO: one governance key, made here (governance/demo.key). For a real organization give --governance-key.\n");
      } else {
        std::printf("  First, governance signs: orgtrail policy sign %s/policy/policy-1.unsigned --governance-key-file KEY\n", o->dir.c_str());
      }
      std::printf("  Start the aggregator:  orgtrail-aggregator --config %s\n", made.config.c_str());
      std::printf("  Use it as governance:  export ORGTRAIL_PROFILE=%s\n", made.admin_profile.c_str());
      std::printf("  … as an auditor:       export ORGTRAIL_PROFILE=%s\n", made.auditor_profile.c_str());
      std::printf("  Give to verifiers:     %s\n", made.trust.c_str());
      std::printf("  Keep a copy offline:   %s/ca/ca.key, and log.key and kek.key in %s/aggregator\n", o->dir.c_str(), o->dir.c_str());
      return absl::OkStatus();
    });
  });
  AddCertificate(*org, context);
}

}  // namespace orgtrail::client
