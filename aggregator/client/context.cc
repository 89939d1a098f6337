#include "aggregator/client/context.h"

#include <stdlib.h>
#include <unistd.h>

#include <cstdio>

#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/yaml.h"
#include "common/crypto/x509.h"

namespace orgtrail::client {
namespace {

std::string Environment(const char* name) {
  const char* value = ::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::string DefaultProfilePath() {
  std::string base = Environment("XDG_CONFIG_HOME");
  if (base.empty()) base = JoinPath(Environment("HOME"), ".config");
  return JoinPath(base, "orgtrail/profile.yaml");
}

constexpr size_t kKekBytes = 32;
constexpr size_t kInputBytes = 64 << 20;

// What would make the connection fail without saying why.
absl::Status CheckCredentials(const Profile& p, Fs& fs, absl::Time now) {
  const size_t colon = p.server.rfind(':');
  if (colon == std::string::npos || !ParseUint(std::string_view(p.server).substr(colon + 1)).has_value()) {
    return absl::InvalidArgumentError("server " + p.server + ": HOST:PORT, such as " + p.server.substr(0, colon) + ":7443");
  }
  const auto of_profile = [&](const absl::Status& s) { return Annotate(s, "profile " + p.path); };
  std::string text[3];
  for (size_t i = 0; const std::string& file : {p.ca, p.certificate, p.key}) {
    absl::StatusOr<std::string> read = ReadFile(fs, file);
    if (!read.ok()) return of_profile(read.status());
    text[i++] = *std::move(read);
  }
  const auto& [ca, certificate, key] = text;
  const absl::StatusOr<CertificateFacts> facts = ReadCertificate(certificate);
  if (!facts.ok()) return of_profile(Annotate(facts.status(), p.certificate));
  const std::string who = facts->uris.empty() ? p.certificate : facts->uris.front();
  if (now > facts->not_after) {
    return absl::FailedPreconditionError("the certificate " + p.certificate + " (" + who + ") ran out on " + Rfc3339(facts->not_after) +
                                         ": governance makes another with `orgtrail user create`");
  }
  if (now < facts->not_before) {
    return absl::FailedPreconditionError("the certificate " + p.certificate + " (" + who + ") is not valid before " + Rfc3339(facts->not_before) +
                                         ": is this machine's clock right? It says " + Rfc3339(now));
  }
  if (const absl::StatusOr<Hash> of_key = SpkiHashOfKey(key); !of_key.ok() || *of_key != facts->spki_hash) {
    return absl::FailedPreconditionError("the key " + p.key + " is not that of the certificate " + p.certificate + (of_key.ok() ? "" : ", or no PEM key") +
                                         ": name the two files that were made together");
  }
  if (const absl::Status issued = CheckIssued(certificate, ca, now); !issued.ok()) {
    return absl::FailedPreconditionError("the certificate " + p.certificate + " (" + who + ") was not issued by the CA " + p.ca +
                                         ": name the two of one organization");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> LedgerKek(Fs& fs, const std::string& file, const std::string& ledger_dir) {
  const std::string path = file.empty() ? JoinPath(ledger_dir, "../../kek.key") : file;
  absl::StatusOr<std::string> key = ReadFile(fs, path, 1024);
  if (file.empty() && absl::IsNotFound(key.status())) return std::string();
  if (!key.ok()) return key.status();
  if (key->size() != kKekBytes) return absl::InvalidArgumentError(absl::StrCat(path, ": a key-encryption key has exactly ", kKekBytes, " bytes"));
  return key;
}

Output Context::output() const {
  if (output_flag == "json") return Output::kJson;
  if (output_flag == "jsonl") return Output::kJsonl;
  if (output_flag == "table" || output_flag == "wide") return Output::kTable;
  return isatty(STDOUT_FILENO) ? Output::kTable : Output::kJsonl;
}

bool Context::color() const { return !no_color && isatty(STDOUT_FILENO) && Environment("NO_COLOR").empty(); }

absl::StatusOr<Profile> Context::LoadProfile() const {
  Profile p;
  std::string path = profile.empty() ? Environment("ORGTRAIL_PROFILE") : profile;
  const bool named = !path.empty();
  if (!named) path = DefaultProfilePath();
  if (named && path.find('/') == std::string::npos) path = JoinPath(DirName(DefaultProfilePath()), path + ".yaml");
  absl::StatusOr<std::string> text = ReadFile(fs, path);
  if (text.ok()) {
    p.path = path;
    ASSIGN_OR_RETURN(YamlFile file, YamlFile::Parse(path, *text));
    const YamlNode root = file.root();
    root.String("server", &p.server);
    root.String("ca", &p.ca);
    root.String("certificate", &p.certificate);
    root.String("key", &p.key);
    root.String("trust", &p.trust);
    RETURN_IF_ERROR(file.Finish());
  } else if (named && absl::IsNotFound(text.status())) {
    return absl::NotFoundError("there is no profile " + path + ": --profile and ORGTRAIL_PROFILE take a file, with a / in it, or the name of one under " +
                               DirName(DefaultProfilePath()) + "; `orgtrail org init` and `orgtrail user create` write them");
  } else if (named) {
    return Annotate(text.status(), "profile " + path);
  }
  const auto over = [](const std::string& flag, std::string* value) {
    if (!flag.empty()) *value = flag;
  };
  over(server, &p.server);
  over(ca, &p.ca);
  over(certificate, &p.certificate);
  over(key, &p.key);
  over(trust, &p.trust);
  return p;
}

absl::StatusOr<std::unique_ptr<Rpc>> Context::Connect() const {
  ASSIGN_OR_RETURN(Profile p, LoadProfile());
  if (p.server.empty() || p.ca.empty() || p.certificate.empty() || p.key.empty()) {
    return absl::FailedPreconditionError(
        "no server to talk to: `orgtrail org init` writes a profile; name one with --profile FILE or ORGTRAIL_PROFILE, or give "
        "--server, --ca, --certificate and --key");
  }
  RETURN_IF_ERROR(CheckCredentials(p, fs, clock.Wall()));
  return Rpc::Connect(p);
}

int Context::Fail(const absl::Status& status, int code) {
  std::fprintf(stderr, "orgtrail: %s\n", std::string(status.message()).c_str());
  exit_code = code;
  return code;
}

void Context::Run(const std::function<absl::Status()>& body) {
  if (absl::Status s = body(); !s.ok()) {
    if (exit_code == kOk) exit_code = absl::IsInvalidArgument(s) ? kUsage : kFailed;
    Fail(s, exit_code);
  }
}

absl::StatusOr<EventRef> ParseEventRef(std::string_view text) {
  const size_t colon = text.find(':');
  const std::optional<uint64_t> leaf = ParseUint(text.substr(0, colon));
  const std::optional<uint64_t> event = colon == std::string_view::npos ? std::nullopt : ParseUint(text.substr(colon + 1));
  if (!leaf || !event || *event > UINT32_MAX) return absl::InvalidArgumentError("--at: LEAF:EVENT, such as 1042:7");
  return EventRef{*leaf, static_cast<uint32_t>(*event)};
}

absl::StatusOr<std::string> ReadStandardInput() {
  std::string text;
  char buffer[65536];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, stdin)) > 0;) {
    if (text.size() + n > kInputBytes) return absl::InvalidArgumentError("standard input is longer than 64 MiB");
    text.append(buffer, n);
  }
  if (std::ferror(stdin) != 0) return absl::DataLossError("standard input could not be read");
  return text;
}

std::string AbsolutePath(const std::string& path) {
  if (path.starts_with('/')) return path;
  const std::unique_ptr<char, decltype(&free)> here(::getcwd(nullptr, 0), &free);
  return here == nullptr ? path : JoinPath(here.get(), path);
}

}  // namespace orgtrail::client
