#include "aggregator/enrol/server_renewal.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/base/status.h"
#include "common/crypto/server_certificate.h"
#include "common/crypto/x509.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kEvery = absl::Hours(1);
constexpr absl::Duration kNotice = absl::Hours(24 * 30), kPage = absl::Hours(24 * 7);
constexpr absl::Duration kCaNotice = absl::Hours(24 * 365);   // a new CA is a new certificate for everybody

}  // namespace

ServerRenewal::ServerRenewal(std::string certificate, std::string key, const CertificateAuthority& authority, Alarm alarm, Fs& fs,
                             const Clock& clock)
    : certificate_(std::move(certificate)), key_(std::move(key)), authority_(authority), alarm_(std::move(alarm)), fs_(fs), clock_(clock) {}

Tick ServerRenewal::Step(Tick now) {
  const absl::Time wall = clock_.Wall();
  std::string why_not;
  const absl::StatusOr<absl::Time> server = Renewed(wall, &why_not);
  if (server.ok()) {
    server_not_after_ns_ = absl::ToUnixNanos(*server);
    Judge(certificate_, *server, wall, kNotice, why_not + "; replace it: orgtrail org certificate, or by hand as docs/KEYS.md says");
  } else {
    alarm_(true, certificate_, "cannot be read: " + Describe(server.status()) + "; restore it, or make another: orgtrail org certificate");
  }
  if (const absl::StatusOr<CertificateFacts> ca = ReadCertificate(authority_.files().cert_pem); ca.ok()) {
    ca_not_after_ns_ = absl::ToUnixNanos(ca->not_after);
    Judge("CA", ca->not_after, wall, kCaNotice, "with it every agent and person is locked out; plan a new organization CA as docs/KEYS.md says");
  }
  return now + kEvery;
}

absl::StatusOr<absl::Time> ServerRenewal::Renewed(absl::Time now, std::string* why_not) {
  ASSIGN_OR_RETURN(const std::string shown, ReadFile(fs_, certificate_, 1 << 20));
  ASSIGN_OR_RETURN(const CertificateFacts facts, ReadCertificate(shown));
  if (facts.not_after - now > std::max(kNotice, (facts.not_after - facts.not_before) / 3)) return facts.not_after;
  const auto renew = [&]() -> absl::StatusOr<absl::Time> {
    ASSIGN_OR_RETURN(const std::string key, ReadFile(fs_, key_, 64 << 10));
    ASSIGN_OR_RETURN(const std::string renewed, RenewServerCertificate(authority_.files(), shown, key, now));
    ASSIGN_OR_RETURN(const CertificateFacts next, ReadCertificate(renewed));
    if (next.not_after <= facts.not_after) return facts.not_after;   // the CA's own end is nearer: Judge says so
    RETURN_IF_ERROR(WriteFileAtomically(fs_, certificate_, renewed));
    LogInfo("the aggregator's certificate is renewed", {{"file", certificate_}, {"until", Rfc3339(next.not_after)}});
    return next.not_after;
  };
  absl::StatusOr<absl::Time> renewed = renew();
  if (renewed.ok()) return renewed;
  *why_not = "not renewed: " + Describe(renewed.status());
  LogWarn("the aggregator's certificate was not renewed", {{"file", certificate_}, {"until", Rfc3339(facts.not_after)},
                                                          {"why", Describe(renewed.status())}});
  return facts.not_after;
}

void ServerRenewal::Judge(std::string_view subject, absl::Time not_after, absl::Time now, absl::Duration notice, std::string_view detail) {
  const absl::Duration left = not_after - now;
  if (left > notice) return alarm_(false, subject, "");
  std::string text = left > absl::ZeroDuration() ? "runs out at " : "ran out at ";
  text += Rfc3339(not_after);
  text += " ";
  text += detail;
  alarm_(left <= kPage, subject, text);
}

}  // namespace orgtrail
