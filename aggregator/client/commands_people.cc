#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "aggregator/client/context.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/crypto/x509.h"

namespace orgtrail::client {
namespace {

struct PersonFlags {
  std::string kind = "user", account, name, csr, out, reason, uri;
  int64_t days = 90;
};

absl::Status Issue(Context& context, const PersonFlags& f, const std::string& csr, const std::string& key_pem) {
  ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
  ASSIGN_OR_RETURN(Profile profile, context.LoadProfile());
  pb::CreateUserRequest request;
  request.set_uri_kind(f.kind);
  request.set_account(f.account);
  request.set_name(f.name);
  request.set_csr_pem(csr);
  request.set_ttl_s(f.days * 86'400);
  ASSIGN_OR_RETURN(pb::CreateUserResponse made, rpc->CreateUser(request));
  const std::string base = f.out.empty() ? f.name : f.out;
  RETURN_IF_ERROR(WriteFileAtomically(context.fs, base + ".crt", made.certificate_pem()));
  std::printf("%s\n  certificate %s.crt, valid %lld days\n", made.uri().c_str(), base.c_str(), static_cast<long long>(f.days));
  if (key_pem.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(WriteFileAtomically(context.fs, base + ".key", key_pem, 0600));
  RETURN_IF_ERROR(WriteFileAtomically(context.fs, base + ".ca.crt", made.ca_pem()));
  const std::string here = AbsolutePath(base);
  RETURN_IF_ERROR(WriteFileAtomically(context.fs, base + ".yaml",
                                      "server: " + profile.server + "\nca: " + here + ".ca.crt\ncertificate: " + here +
                                          ".crt\nkey: " + here + ".key\ntrust: " + profile.trust + "\n"));
  std::printf("  key         %s.key\n  profile     export ORGTRAIL_PROFILE=%s.yaml\n", base.c_str(), here.c_str());
  return absl::OkStatus();
}

}  // namespace

void AddPeople(CLI::App& app, Context& context) {
  CLI::App* user = app.add_subcommand("user", "People: certificates for members, auditors, operators and governance");
  user->require_subcommand(1);
  auto f = std::make_shared<PersonFlags>();
  CLI::App* create = user->add_subcommand("create", "Make a key and a certificate for a person, and a profile to use them");
  CLI::App* cert = user->add_subcommand("cert", "Issue a certificate for a request somebody made on their own machine");
  for (CLI::App* c : {create, cert}) {
    c->add_option("name", f->name, "The person's name, such as ivy")->required();
    c->add_option("--kind", f->kind, "user (sees one account), auditor (reads all), operator (runs it, reads no bodies), governance")
        ->check(CLI::IsMember({"user", "auditor", "operator", "governance"}))->capture_default_str();
    c->add_option("--account", f->account, "For --kind user: the account they see");
    c->add_option("--days", f->days, "Life of the certificate")->check(CLI::Range(1, 825))->capture_default_str();
    c->add_option("--out", f->out, "Path prefix of the files written; default: the name");
  }
  cert->add_option("--csr", f->csr, "PEM file of the request (P-256): openssl req -new -newkey ec …")->required();
  create->callback([f, &context] {
    context.Run([&]() -> absl::Status {
      ASSIGN_OR_RETURN(std::string key, NewTlsKeyPem());
      ASSIGN_OR_RETURN(std::string csr, NewCsrPem(key));
      return Issue(context, *f, csr, key);
    });
  });
  cert->callback([f, &context] {
    context.Run([&]() -> absl::Status {
      ASSIGN_OR_RETURN(std::string csr, ReadFile(context.fs, f->csr, 64 << 10));
      return Issue(context, *f, csr, "");
    });
  });
  CLI::App* revoke = user->add_subcommand("revoke", "End every certificate a person holds, at once");
  revoke->add_option("uri", f->uri, "SPIFFE id, as `user create` printed it: spiffe://o-demo/role/auditor/ivy")->required();
  revoke->add_option("--reason", f->reason, "Why, for the record");
  revoke->callback([f, &context] {
    context.Run([&]() -> absl::Status {
      if (!Identity::Parse(f->uri)) return absl::InvalidArgumentError("not a SPIFFE id: spiffe://ORG/account/ID/user/NAME or spiffe://ORG/role/ROLE/NAME");
      ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
      pb::RevokeUserRequest request;
      request.set_uri(f->uri);
      request.set_reason(f->reason);
      RETURN_IF_ERROR(rpc->RevokeUser(request));
      std::printf("revoked %s\n", f->uri.c_str());
      return absl::OkStatus();
    });
  });
}

}  // namespace orgtrail::client
