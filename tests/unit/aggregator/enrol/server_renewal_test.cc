#include "aggregator/enrol/server_renewal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "common/base/status.h"
#include "common/crypto/server_certificate.h"
#include "tests/support/fixed_world.h"
#include "tests/support/sized_fs.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kUri[] = "spiffe://o-demo/aggregator/eu-west-1";
const absl::Duration kDay = absl::Hours(24);

// A directory nobody may write to any more.
class ReadOnlyFs final : public ForwardingFs {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(std::string_view path, OpenMode mode, int permissions) override {
    if (mode != OpenMode::kRead) return absl::PermissionDeniedError("read-only");
    return ForwardingFs::Open(path, mode, permissions);
  }
};

class ServerRenewalTest : public ::testing::Test {
 protected:
  void Show(const CaCertificate& ca, absl::Duration life) {
    const ServerCertificate made = IssueServerCertificate(ca, kUri, {"trail.example.org"}, clock_.Wall(), life).value();
    CHECK_OK(WriteFileAtomically(PosixFs(), certificate_, made.certificate_pem));
    CHECK_OK(WriteFileAtomically(PosixFs(), key_, made.key_pem, 0600));
  }
  CertificateFacts Shown() { return ReadCertificate(ReadFile(PosixFs(), certificate_).value()).value(); }
  std::unique_ptr<ServerRenewal> Renewal(Fs& fs) {
    return std::make_unique<ServerRenewal>(
        certificate_, key_, authority_,
        [this](bool page, std::string_view subject, std::string_view detail) {
          if (detail.empty()) {
            alarms_.erase(std::string(subject));
          } else {
            alarms_[std::string(subject)] = (page ? "page: " : "warn: ") + std::string(detail);
          }
        },
        fs, clock_);
  }

  FixedClock clock_;
  TempDir dir_;
  const std::string certificate_ = dir_ / "tls.crt", key_ = dir_ / "tls.key";
  const CertificateAuthority authority_ = CertificateAuthority::Create("o-demo", clock_.Wall(), 3650 * kDay).value();
  std::map<std::string, std::string> alarms_;
};

TEST_F(ServerRenewalTest, RenewsTheSameKeyAndNamesInTheLastThirdOfALife) {
  Show(authority_.files(), 825 * kDay);
  const CertificateFacts first = Shown();
  const auto renewal = Renewal(PosixFs());
  const Tick next = renewal->Step(clock_.Now());
  EXPECT_EQ(next - clock_.Now(), absl::Hours(1));
  clock_.Pass(549 * kDay);
  renewal->Step(clock_.Now());
  EXPECT_EQ(Shown().serial_hex, first.serial_hex);
  clock_.Pass(2 * kDay);
  renewal->Step(clock_.Now());
  const CertificateFacts renewed = Shown();
  EXPECT_EQ(renewed.not_after, absl::FromUnixSeconds(absl::ToUnixSeconds(clock_.Wall() + 825 * kDay)));
  EXPECT_EQ(renewed.spki_hash, first.spki_hash);
  EXPECT_EQ(renewed.dns, first.dns);
  EXPECT_THAT(renewed.uris, ElementsAre(kUri));
  EXPECT_TRUE(CheckIssued(ReadFile(PosixFs(), certificate_).value(), authority_.files().cert_pem, clock_.Wall()).ok());
  EXPECT_THAT(ReadFile(PosixFs(), certificate_).value(), HasSubstr(authority_.files().cert_pem));
  EXPECT_EQ(renewal->facts().server_not_after_ns, absl::ToUnixNanos(renewed.not_after));
  EXPECT_THAT(alarms_, IsEmpty());
}

TEST_F(ServerRenewalTest, OneThatRanOutWhileNothingRanIsRenewedAtTheStart) {
  Show(authority_.files(), kDay);
  clock_.Pass(3 * kDay);
  Renewal(PosixFs())->Step(clock_.Now());
  EXPECT_GT(Shown().not_after, clock_.Wall() + 800 * kDay);
  EXPECT_THAT(alarms_, IsEmpty());
}

TEST_F(ServerRenewalTest, WhatItCannotRenewIsAnAlarmAndInTheLastWeekAPage) {
  Show(authority_.files(), 825 * kDay);
  ReadOnlyFs read_only;
  const auto renewal = Renewal(read_only);
  clock_.Pass(790 * kDay);
  renewal->Step(clock_.Now());
  EXPECT_THAT(alarms_, IsEmpty());   // there is time, and it tries again
  clock_.Pass(10 * kDay);
  renewal->Step(clock_.Now());
  EXPECT_THAT(alarms_[certificate_], ::testing::AllOf(HasSubstr("warn: runs out at"), HasSubstr("read-only"), HasSubstr("org certificate")));
  clock_.Pass(20 * kDay);
  renewal->Step(clock_.Now());
  EXPECT_THAT(alarms_[certificate_], HasSubstr("page: runs out at"));
  Show(authority_.files(), 825 * kDay);
  renewal->Step(clock_.Now());
  EXPECT_THAT(alarms_, IsEmpty());
}

TEST_F(ServerRenewalTest, ACertificateOfAnotherCaIsLeftAlone) {
  const CaCertificate other = NewCa("o-demo", clock_.Wall(), 3650 * kDay).value();
  Show(other, 20 * kDay);
  const CertificateFacts before = Shown();
  Renewal(PosixFs())->Step(clock_.Now());
  EXPECT_EQ(Shown().serial_hex, before.serial_hex);
  EXPECT_THAT(alarms_[certificate_], HasSubstr("not one of this CA's"));
}

TEST_F(ServerRenewalTest, AFileThatCannotBeReadIsAPage) {
  Renewal(PosixFs())->Step(clock_.Now());
  EXPECT_THAT(alarms_[certificate_], HasSubstr("page: cannot be read"));
}

TEST_F(ServerRenewalTest, NothingOutlivesTheCaAndItsEndIsToldAYearAhead) {
  clock_.Pass(3400 * kDay);
  Show(authority_.files(), 825 * kDay);
  EXPECT_EQ(Shown().not_after, ReadCertificate(authority_.files().cert_pem).value().not_after);
  const auto renewal = Renewal(PosixFs());
  renewal->Step(clock_.Now());
  EXPECT_THAT(alarms_["CA"], HasSubstr("warn: runs out at"));
  clock_.Pass(245 * kDay);
  renewal->Step(clock_.Now());
  EXPECT_THAT(alarms_["CA"], HasSubstr("page: runs out at"));
}

}  // namespace
}  // namespace orgtrail
