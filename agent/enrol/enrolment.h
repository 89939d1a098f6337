// Enrolment: who this agent is, and how it came to be: by a join token once, by its identity key ever after.
//
//   STATE_DIR/identity/identity.key   Ed25519, PKCS#8 PEM, 0600. Made before the first call, never replaced.
//                      tls.pem        TLS key and certificate in one file, 0600: they change together or not at all
//                      ca.crt         the organization's CA
//                      enrolled       what the aggregator answered; its presence means enrolled
//
// Threads: one. Each file is replaced atomically, `enrolled` last: a crash anywhere leaves an agent that asks again and, having
// the same identity key, is given the same identity again. Bytes: docs/formats/enrolment.md
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/crypto/sign.h"
#include "common/crypto/x509.h"
#include "common/format/note.h"
#include "common/fs/file.h"
#include "common/rpc/credentials.h"

namespace orgtrail {

struct EnrolledAs {
  Uuid uuid;
  std::string org, account, region, name;
  std::string origin;                    // of the log
  NoteKey log_key;                       // that signs its checkpoints
  std::string carries;                   // "", "any", or account ids
  uint64_t enrolled_leaf = 0;
  absl::Duration aggregator_ahead;       // the aggregator's clock minus ours, at the last answer
  std::string Uri() const;
  std::string Encode() const;
  static absl::StatusOr<EnrolledAs> Decode(std::string_view text);
};

class Enrolment {
 public:
  // Reads what is there and makes an identity key where there is none. DataLoss names a file that is damaged and the remedy.
  static absl::StatusOr<std::unique_ptr<Enrolment>> Open(std::string_view state_dir, Fs& fs, const Clock& clock, Rng& rng);

  const std::optional<EnrolledAs>& enrolled() const { return enrolled_; }
  const SigningKey& identity_key() const { return key_; }
  TlsFiles tls_files() const;            // for MutualChannelCredentials; cert and key are the same file

  // By join token, at `endpoint` (HOST:PORT of the enrolment port). Sends nothing before the server has shown that it holds a
  // certificate of the CA that the token names. FailedPrecondition: already enrolled as somebody else, or the server is another's;
  // PermissionDenied: the token, as the aggregator says; Unavailable, ResourceExhausted, DeadlineExceeded: later.
  absl::Status Enrol(std::string_view endpoint, std::string_view token, std::string_view account, std::string_view region,
                     std::string_view name, std::string_view version);
  // A new certificate under the same identity; works after the old one expired. FailedPrecondition: not enrolled.
  absl::Status Renew(std::string_view endpoint);
  // By this machine's clock: when half of the certificate's life is over. InfinitePast when there is none that works.
  absl::Time RenewAt() const;
  // What its certificate says; by a right clock it is past. InfinitePast when there is none.
  absl::Time valid_from() const { return valid_from_; }

 private:
  Enrolment(std::string dir, Fs& fs, const Clock& clock, SigningKey key)
      : dir_(std::move(dir)), fs_(fs), clock_(clock), key_(std::move(key)) {}
  struct Answer;
  absl::Status Keep(const Answer& answer, const EnrolledAs& expected, const std::string& tls_key_pem);

  const std::string dir_;                // STATE_DIR/identity
  Fs& fs_;
  const Clock& clock_;
  const SigningKey key_;
  std::optional<EnrolledAs> enrolled_;
  void Remember(const CertificateFacts& facts);
  absl::Time renew_at_ = absl::InfinitePast(), valid_from_ = absl::InfinitePast();
};

}  // namespace orgtrail
