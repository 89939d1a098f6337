#include "aggregator/keys.h"

#include "common/base/status.h"
#include "common/format/note.h"

namespace orgtrail {
namespace {

constexpr size_t kSecretBytes = 32;
constexpr size_t kPolicyNoteBytes = 4000;   // of the leaf that logs it: docs/formats/control.md, OTP1

absl::StatusOr<std::string> ReadSecret(Fs& fs, const std::string& path, const std::string& key) {
  absl::StatusOr<std::string> bytes = ReadFile(fs, path, 1024);
  if (bytes.ok() && bytes->size() != kSecretBytes) return absl::FailedPreconditionError(absl::StrCat(path, ": must hold exactly ", kSecretBytes, " random bytes (", key, ")"));
  return bytes;
}

absl::StatusOr<CertificateAuthority> ReadAuthority(const AggregatorConfig& config, Fs& fs) {
  CaCertificate ca;
  ASSIGN_OR_RETURN(ca.cert_pem, ReadFile(fs, config.ca_certificate, 1 << 20));
  ASSIGN_OR_RETURN(ca.key_pem, ReadFile(fs, config.ca_key, 64 << 10));
  absl::StatusOr<CertificateAuthority> opened = CertificateAuthority::Open(config.org, ca);
  return opened.ok() ? std::move(opened) : Annotate(opened.status(), config.ca_certificate);
}

absl::StatusOr<std::pair<std::string, std::string>> ReadPolicy(const AggregatorConfig& config, Fs& fs) {
  absl::StatusOr<std::string> note = ReadFile(fs, config.policy_note, 1 << 20);
  if (!note.ok()) return Annotate(note.status(), "policy.note: the first one is there once governance has signed it (orgtrail policy sign)");
  if (note->size() > kPolicyNoteBytes) {
    return absl::FailedPreconditionError(
        absl::StrCat(config.policy_note, ": a policy's note has at most ", kPolicyNoteBytes, " bytes; fewer governance keys make it shorter"));
  }
  ASSIGN_OR_RETURN(std::string body, ReadFile(fs, config.policy_body, 50 << 20));
  return std::pair(*std::move(note), std::move(body));
}

}  // namespace

absl::StatusOr<AggregatorKeys> AggregatorKeys::Read(const AggregatorConfig& config, Fs& fs) {
  ASSIGN_OR_RETURN(const std::string pem, ReadFile(fs, config.log_key, 64 << 10));
  absl::StatusOr<SigningKey> log = SigningKey::FromPem(pem);
  if (!log.ok()) return Annotate(log.status(), config.log_key);
  const std::string log_vkey = NoteKey{config.Origin(), 1, log->public_key()}.Encode();
  ASSIGN_OR_RETURN(std::string mac, ReadSecret(fs, config.secrets, "keys.secrets"));
  std::string kek;
  if (!config.ledger_kek.empty()) {
    absl::StatusOr<std::string> bytes = ReadSecret(fs, config.ledger_kek, "ledger.key_encryption_key");
    if (!bytes.ok()) return Annotate(bytes.status(), "ledger.key_encryption_key: what is logged under it can be neither read nor continued without it");
    kek = *std::move(bytes);
  }
  ASSIGN_OR_RETURN(CertificateAuthority authority, ReadAuthority(config, fs));
  for (const std::string& file : {config.tls_certificate, config.tls_key}) RETURN_IF_ERROR(ReadFile(fs, file, 1 << 20).status());
  std::pair<std::string, std::string> policy;
  if (!config.policy_note.empty()) {
    ASSIGN_OR_RETURN(policy, ReadPolicy(config, fs));
  }
  return AggregatorKeys{*std::move(log), log_vkey, std::move(mac), std::move(kek), std::move(authority), std::move(policy)};
}

}  // namespace orgtrail
