// Who may knock at the enrolment door: requests as they come off the wire. After "~" the token's secret, key and proof are made good, so
// that name, account and certificate request are all that is odd. Nobody gets a certificate for another account than the token's.
#include <algorithm>

#include "aggregator/enrol/desk.h"
#include "common/crypto/digest.h"
#include "common/crypto/x509.h"
#include "common/format/enrolment.h"
#include <google/protobuf/stubs/logging.h>

#include "tests/fuzz/target.h"
#include "tests/support/ledger_builder.h"

namespace orgtrail::fuzz {
namespace {

constexpr char kAccount[] = "222222222222";

class World {
 public:
  World()
      : authority_(CertificateAuthority::Create("o-demo", clock_.wall, absl::Hours(24 * 3650)).value()),
        key_(SigningKey::FromSeed(rng_.Bytes(32))),
        desk_(Options(), authority_, registry_, [this](const IdentityLeaf& act) { return Log(act); },
              [](std::string_view, std::string_view, std::string_view) {}, [] { return std::pair<std::string, std::string>(); }, clock_,
              SystemRng()) {
    CertificateAuthority::TokenOrder order;
    order.account = kAccount;
    order.uses = 1'000'000;
    CertificateAuthority::IssuedToken issued = authority_.IssueToken(order, clock_.wall, SystemRng()).value();
    CHECK_OK(Log(issued.leaf).status());
    secret_ = issued.token.secret;
  }
  void Run(std::string_view in) {
    clock_.Advance(absl::Seconds(30));   // the door is limited per address
    if (in.starts_with('R')) {
      v1::RenewRequest request;
      if (request.ParseFromArray(in.data() + 1, static_cast<int>(in.size() - 1))) CHECK(!desk_.Renew(request, "192.0.2.1:4242").ok());
      return;
    }
    const bool good = in.starts_with('~');
    v1::EnrolRequest request;
    if (good) in.remove_prefix(1);
    if (!request.ParseFromArray(in.data(), static_cast<int>(in.size()))) return;
    const bool fits = std::max({request.account().size(), request.region().size(), request.name().size()}) <= 255;   // no proof names more
    if (good && fits) {
      request.set_token_secret(secret_);
      request.set_identity_key(std::string(View(key_.public_key())));
      request.set_proof(std::string(View(key_.Sign(
          kEnrolLabel, EnrolProofMessage(request.csr_pem(), secret_, request.account(), request.region(), request.name())))));
    }
    const absl::StatusOr<v1::EnrolResponse> answer = desk_.Enrol(request, "192.0.2.1:4242");
    CHECK(!answer.ok() || (good && fits && request.account() == kAccount));
  }

 private:
  static EnrolOptions Options() {
    EnrolOptions options;
    options.origin = "orgtrail.orgtrail.internal/o-demo";
    options.log_vkey = "vkey";
    return options;
  }
  absl::StatusOr<uint64_t> Log(const IdentityLeaf& act) {
    registry_.Apply(act, leaves_);
    return leaves_++;
  }

  StillClock clock_;
  SeededRng rng_{3};
  const CertificateAuthority authority_;
  Registry registry_;
  SigningKey key_;
  EnrolDesk desk_;
  std::string secret_;
  uint64_t leaves_ = 0;
};

}  // namespace

void One(std::string_view in) {
  static google::protobuf::LogSilencer quiet;   // about text that is not UTF-8, and fields that do not end
  static World world;
  world.Run(in);
}

std::vector<std::string> Seeds() {
  v1::EnrolRequest request;
  request.set_account(kAccount);
  request.set_region("eu-west-1");
  request.set_name("web-1");
  request.set_csr_pem(NewCsrPem(NewTlsKeyPem().value()).value());
  v1::RenewRequest renew;
  renew.set_agent_uuid("0123456789abcdef");
  renew.set_csr_pem(request.csr_pem());
  return {request.SerializeAsString(), "~" + request.SerializeAsString(), "R" + renew.SerializeAsString()};
}

}  // namespace orgtrail::fuzz
