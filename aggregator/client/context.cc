#include "aggregator/client/context.h"

#include <stdlib.h>
#include <unistd.h>

#include <cstdio>

#include "common/base/status.h"
#include "common/config/yaml.h"

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
  if (output_flag == "table") return Output::kTable;
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
  for (const std::string& file : {p.ca, p.certificate, p.key}) {
    if (absl::Status s = ReadFile(fs, file).status(); !s.ok()) return Annotate(s, "profile " + p.path);
  }
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

}  // namespace orgtrail::client
