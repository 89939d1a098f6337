#include "aggregator/client/organization.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_join.h"
#include "aggregator/config.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/server_certificate.h"
#include "common/crypto/sign.h"
#include "common/crypto/x509.h"
#include "common/format/note.h"

namespace orgtrail::client {
namespace {

constexpr absl::Duration kCaLife = absl::Hours(24 * 3650);
constexpr absl::Duration kPersonLife = absl::Hours(24 * 365);
constexpr absl::Duration kBackdate = absl::Minutes(5);  // clocks of clients may be a little behind

struct GovernanceKey {
  std::string name, pem;
  NoteKey note_key;
};

bool IsHost(std::string_view text) {
  return !text.empty() && text.size() <= 253 &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:") == std::string_view::npos;
}

void DropRepeats(std::vector<std::string>* items) {
  std::vector<std::string> kept;
  for (std::string& i : *items) {
    if (std::find(kept.begin(), kept.end(), i) == kept.end()) kept.push_back(std::move(i));
  }
  *items = std::move(kept);
}

std::string HostPort(const std::string& host, int port) {
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(port);
}

// Reads every key before anything is written. One person must not count twice.
absl::StatusOr<std::vector<GovernanceKey>> ReadGovernanceKeys(const OrganizationOptions& o, Fs& fs) {
  std::vector<GovernanceKey> keys;
  for (const std::string& spec : o.governance_keys) {
    const size_t eq = spec.find('=');
    if (eq == std::string::npos || !IsName(std::string_view(spec).substr(0, eq))) {
      return absl::InvalidArgumentError(absl::StrCat("--governance-key ", spec, ": NAME=FILE.pub, a PEM public key (openssl pkey -pubout)"));
    }
    absl::StatusOr<std::string> pem = ReadFile(fs, spec.substr(eq + 1));
    if (!pem.ok()) return absl::InvalidArgumentError(absl::StrCat("--governance-key ", spec, ": ", pem.status().message()));
    absl::StatusOr<PublicKey> key = PublicKeyFromPem(*pem);
    if (!key.ok()) return Annotate(key.status(), "--governance-key " + spec);
    const std::string name = spec.substr(0, eq);
    for (const GovernanceKey& known : keys) {
      if (known.name == name || known.note_key.key == *key) {
        return absl::InvalidArgumentError(absl::StrCat("--governance-key ", spec, ": the same name or key as ", known.name));
      }
    }
    keys.push_back({name, *std::move(pem), NoteKey{o.org + "/governance/" + name, 1, *key}});
  }
  return keys;
}

// Every mistake at once, one a line.
absl::Status Check(const OrganizationOptions& o) {
  std::vector<std::string> wrong;
  const auto need = [&wrong](bool holds, std::string_view what) {
    if (!holds) wrong.emplace_back(what);
  };
  need(IsName(o.org), "--org-id: a name of a-z, 0-9, '.', '_' and '-', such as o-demo");
  need(IsName(o.domain), "--domain: a domain name in lower case, such as example.org");
  need(IsAccountId(o.management_account), "--management-account: an account id is 12 digits, such as 111111111111");
  for (const std::string& a : o.accounts) {
    need(IsAccountId(a) || a == o.management_account, "--account " + a + ": an account id is 12 digits, such as 222222222222");
  }
  need(!o.regions.empty(), "--region: at least one, such as us-east-1; the first is the home region");
  for (const std::string& r : o.regions) need(IsName(r), "--region " + r + ": a name such as eu-west-1");
  need(!o.dir.empty() && o.dir[0] == '/', "--dir: an absolute path");
  for (const std::string& h : o.hosts) need(IsHost(h), "--host " + h + ": a name or address such as trail.example.org");
  need(IsHost(o.listen_address), "--listen: an address such as 0.0.0.0");
  for (const auto& [flag, port] : {std::pair{"--port", o.port}, {"--enrol-port", o.enrol_port}, {"--metrics-port", o.metrics_port}}) {
    need(port >= 1 && port <= 65535, std::string(flag) + ": between 1 and 65535");
  }
  need(o.port != o.enrol_port && o.port != o.metrics_port && o.enrol_port != o.metrics_port,
       "--port, --enrol-port and --metrics-port: three different ones");
  const int n = std::max<int>(1, static_cast<int>(o.governance_keys.size()));
  need(o.threshold >= 1 && o.threshold <= n, "--threshold: between 1 and the number of governance keys, " + std::to_string(n));
  need(o.weaken_threshold >= o.threshold && o.weaken_threshold <= n, "--weaken-threshold: between --threshold and the number of governance keys, " + std::to_string(n));
  return wrong.empty() ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrJoin(wrong, "\n  "));
}

std::string PolicyBody(const OrganizationOptions& o, const std::string& origin, const std::string& log_vkey) {
  const auto list = [](const std::vector<std::string>& items) {
    std::string json = "[";
    for (const std::string& i : items) json += (json.size() > 1 ? "," : "") + JsonString(i);
    return json + "]";
  };
  std::string json = "{\n  \"org\": " + JsonString(o.org) + ",\n  \"managementAccount\": " + JsonString(o.management_account);
  json += ",\n  \"accounts\": " + list(o.accounts) + ",\n  \"regions\": " + list(o.regions);
  json += ",\n  \"logs\": [{\"origin\": " + JsonString(origin) + ", \"vkey\": " + JsonString(log_vkey) + ", \"home\": true}]";
  json += ",\n  \"trails\": [{\"name\": \"organization\", \"kind\": \"OrganizationTrail\", \"management\": true, \"data\": true}]";
  json += ",\n  \"retentionDays\": 400\n}\n";
  return json;
}

std::string PolicyText(const OrganizationOptions& o, const std::vector<GovernanceKey>& keys, const std::string& body, absl::Time now) {
  std::string text = "orgtrail/policy/v1\norg " + o.org + "\nversion 1\nprev " + Base64(Hash{}.view()) + "\n";
  text += "effective " + std::to_string(absl::ToUnixSeconds(now)) + "\n";
  text += "admins " + std::to_string(o.threshold);
  for (const GovernanceKey& k : keys) text += " " + k.note_key.Encode();
  text += "\nweaken-threshold " + std::to_string(o.weaken_threshold) + "\nweaken-delay 86400\n";
  text += "expires " + std::to_string(absl::ToUnixSeconds(now + absl::Hours(24 * 365))) + "\n";
  text += "body-sha256 " + Hex(Sha256(body).view()) + " " + std::to_string(body.size()) + "\n";
  return text;
}

class Writer {  // remembers the first failure, so that the list of files reads as a list
 public:
  Writer(Fs& fs, std::string dir) : fs_(fs), dir_(std::move(dir)) {}
  std::string Path(std::string_view name) const { return JoinPath(dir_, name); }
  void Dir(std::string_view name, int permissions) { Note(fs_.MakeDirs(Path(name), permissions)); }
  std::string Put(std::string_view name, std::string_view text, int permissions) {
    Note(WriteFileAtomically(fs_, Path(name), text, permissions));
    return Path(name);
  }
  const absl::Status& status() const { return status_; }

 private:
  void Note(const absl::Status& s) {
    if (status_.ok()) status_ = s;
  }
  Fs& fs_;
  const std::string dir_;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<OrganizationMade> MakeOrganization(const OrganizationOptions& options, Fs& fs, const Clock& clock, Rng& rng) {
  OrganizationOptions o = options;
  if (std::find(o.accounts.begin(), o.accounts.end(), o.management_account) == o.accounts.end()) {
    o.accounts.insert(o.accounts.begin(), o.management_account);
  }
  DropRepeats(&o.accounts);
  DropRepeats(&o.regions);
  RETURN_IF_ERROR(Check(o));
  ASSIGN_OR_RETURN(std::vector<GovernanceKey> governance, ReadGovernanceKeys(o, fs));
  Writer w(fs, o.dir);
  if (fs.Facts(w.Path("aggregator/aggregator.yaml")).ok()) {
    return absl::AlreadyExistsError(absl::StrCat(o.dir, " already holds an organization; choose another --dir, or keep using it"));
  }
  const absl::Time now = clock.Wall();
  w.Dir("ca", 0700);
  w.Dir("aggregator/state", 0700);
  w.Dir("governance", 0700);
  w.Dir("policy", 0755);
  w.Dir("people", 0700);
  w.Dir("profiles", 0755);
  RETURN_IF_ERROR(w.status());

  ASSIGN_OR_RETURN(CaCertificate ca, NewCa(o.org, now - kBackdate, kCaLife));
  const std::string ca_path = w.Put("ca/ca.crt", ca.cert_pem, 0644);
  const std::string ca_key_path = w.Put("ca/ca.key", ca.key_pem, 0600);

  AggregatorConfig config;
  config.org = o.org;
  config.domain = o.domain;
  config.region = o.regions.front();
  config.management_account = o.management_account;
  config.accounts = o.accounts;
  config.regions = o.regions;
  config.state_dir = w.Path("aggregator/state");
  config.listen = HostPort(o.listen_address, o.port);
  config.enrol_listen = HostPort(o.listen_address, o.enrol_port);
  config.metrics_listen = "127.0.0.1:" + std::to_string(o.metrics_port);
  config.ca_certificate = ca_path;
  config.ca_key = ca_key_path;

  std::vector<std::string> hosts = o.hosts;
  char hostname[256] = {};
  if (gethostname(hostname, sizeof hostname - 1) == 0 && IsHost(hostname)) hosts.emplace_back(hostname);
  DropRepeats(&hosts);
  Identity server;
  server.kind = Identity::Kind::kAggregator;
  server.org = o.org;
  server.region = config.region;
  ASSIGN_OR_RETURN(const ServerCertificate shown, IssueServerCertificate(ca, server.ToUri(), hosts, now));
  config.tls_certificate = w.Put("aggregator/tls.crt", shown.certificate_pem, 0644);
  config.tls_key = w.Put("aggregator/tls.key", shown.key_pem, 0600);

  OrganizationMade made;
  const SigningKey log_key = SigningKey::Generate(rng);
  config.log_key = w.Put("aggregator/log.key", log_key.ToPem(), 0600);
  config.secrets = w.Put("aggregator/secrets.key", rng.Bytes(32), 0600);
  config.ledger_kek = w.Put("aggregator/kek.key", rng.Bytes(32), 0600);
  made.origin = config.Origin();
  made.log_vkey = NoteKey{made.origin, 1, log_key.public_key()}.Encode();

  SigningKey demo_key;
  if (o.governance_keys.empty()) {
    made.demo = true;
    demo_key = SigningKey::Generate(rng);
    w.Put("governance/demo.key", demo_key.ToPem(), 0600);
    governance.push_back({"demo", PublicKeyToPem(demo_key.public_key()), NoteKey{o.org + "/governance/demo", 1, demo_key.public_key()}});
  }
  for (const GovernanceKey& key : governance) w.Put("governance/" + key.name + ".pub", key.pem, 0644);
  const std::string body = PolicyBody(o, made.origin, made.log_vkey);
  std::string note = PolicyText(o, governance, body, now);
  if (made.demo) note = SignNote(note, governance.front().note_key.name, demo_key);
  config.policy_note = w.Path("policy/policy-1.note");
  w.Put(made.demo ? "policy/policy-1.note" : "policy/policy-1.unsigned", note, 0644);
  config.policy_body = w.Put("policy/policy-1.json", body, 0644);

  made.trust = w.Put("trust.policy", TrustPolicy{{NoteKey{made.origin, 1, log_key.public_key()}}}.Encode(), 0644);
  made.config = w.Put("aggregator/aggregator.yaml", RenderAggregatorConfig(config), 0644);

  const auto person = [&](Identity::Kind kind, const std::string& name, std::string* profile) -> absl::Status {
    Identity identity;
    identity.kind = kind;
    identity.org = o.org;
    identity.name = name;
    ASSIGN_OR_RETURN(const std::string key_pem, NewTlsKeyPem());
    ASSIGN_OR_RETURN(const std::string csr, NewCsrPem(key_pem));
    ASSIGN_OR_RETURN(const std::string cert, IssueLeafPem(ca, LeafRequest{csr, identity.ToUri(), {}, now - kBackdate, now + kPersonLife}));
    const std::string cert_path = w.Put("people/" + name + ".crt", cert, 0644);
    const std::string key_path = w.Put("people/" + name + ".key", key_pem, 0600);
    *profile = w.Put("profiles/" + name + ".yaml",
                     "server: " + JsonString(HostPort(o.hosts.empty() ? "127.0.0.1" : o.hosts.front(), o.port)) + "\nca: " + JsonString(ca_path) +
                         "\ncertificate: " + JsonString(cert_path) + "\nkey: " + JsonString(key_path) + "\ntrust: " + JsonString(made.trust) + "\n",
                     0644);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(person(Identity::Kind::kGovernance, "admin", &made.admin_profile));
  RETURN_IF_ERROR(person(Identity::Kind::kAuditor, "auditor", &made.auditor_profile));
  RETURN_IF_ERROR(w.status());
  return made;
}

absl::StatusOr<ServerCertificateMade> ReplaceServerCertificate(const std::string& dir, std::vector<std::string> hosts, absl::Duration life, Fs& fs,
                                                               const Clock& clock) {
  const std::string config_path = JoinPath(dir, "aggregator/aggregator.yaml");
  ASSIGN_OR_RETURN(const std::string text, ReadFile(fs, config_path, 1 << 20));
  ASSIGN_OR_RETURN(const AggregatorConfig config, ParseAggregatorConfig(config_path, text));
  CaCertificate ca;
  ASSIGN_OR_RETURN(ca.cert_pem, ReadFile(fs, config.ca_certificate, 1 << 20));
  ASSIGN_OR_RETURN(ca.key_pem, ReadFile(fs, config.ca_key, 64 << 10));
  for (const std::string& h : hosts) {
    if (!IsHost(h)) return absl::InvalidArgumentError(absl::StrCat("--host ", h, ": a name or address such as trail.example.org"));
  }
  const absl::StatusOr<std::string> old = ReadFile(fs, config.tls_certificate, 1 << 20);
  if (old.ok()) {
    absl::StatusOr<CertificateFacts> facts = ReadCertificate(*old);
    if (!facts.ok()) return Annotate(facts.status(), config.tls_certificate + ", whose names are kept; remove it to begin anew");
    hosts.insert(hosts.end(), facts->dns.begin(), facts->dns.end());
  } else if (!absl::IsNotFound(old.status())) {
    return old.status();
  }
  DropRepeats(&hosts);
  Identity identity;
  identity.kind = Identity::Kind::kAggregator;
  identity.org = config.org;
  identity.region = config.region;
  ASSIGN_OR_RETURN(const ServerCertificate made, IssueServerCertificate(ca, identity.ToUri(), hosts, clock.Wall(), life));
  RETURN_IF_ERROR(WriteFileAtomically(fs, config.tls_key, made.key_pem, 0600));
  RETURN_IF_ERROR(WriteFileAtomically(fs, config.tls_certificate, made.certificate_pem));
  ASSIGN_OR_RETURN(const CertificateFacts facts, ReadCertificate(made.certificate_pem));
  return ServerCertificateMade{config.tls_certificate, facts.not_after, facts.dns};
}

}  // namespace orgtrail::client
