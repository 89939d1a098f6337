#include "agent/enrol/enrolment.h"

#include <chrono>
#include <map>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/x509.h"
#include "common/format/enrolment.h"
#include "common/format/token.h"
#include "orgtrail/v1/enrol.grpc.pb.h"

namespace orgtrail {

struct Enrolment::Answer {
  v1::EnrolResponse response;
  absl::Time received;                   // by our clock
};

namespace {

constexpr absl::Duration kDial = absl::Seconds(10);
constexpr std::chrono::seconds kCall(30);
constexpr absl::Duration kClockIsOff = absl::Minutes(5);
constexpr std::string_view kFirstLine = "orgtrail agent identity 1";

absl::Status Damaged(std::string_view path, std::string_view what) {
  return absl::DataLossError(absl::StrCat(ToAbsl(path), " is damaged (", ToAbsl(what),
                                          "). Restore it from a backup; without one, move the whole state directory away, revoke "
                                          "this agent and enrol again"));
}

// What gRPC says of a connection that was never made is long and about itself.
absl::Status CallFailed(const grpc::Status& status, std::string_view endpoint) {
  const absl::Status failed = FromGrpc(status);
  if (absl::IsUnavailable(failed)) {
    return absl::UnavailableError(absl::StrCat("no enrolment at ", ToAbsl(endpoint), ": ", failed.message()));
  }
  if (absl::IsDeadlineExceeded(failed)) {
    return absl::DeadlineExceededError(absl::StrCat("no answer from ", ToAbsl(endpoint), " in ", kCall.count(), " s; it is tried again"));
  }
  return failed;
}

absl::StatusOr<v1::EnrolResponse> Call(std::string_view endpoint, const std::string& ca_pem, const auto& method, const auto& request) {
  const auto stub = v1::Enrol::NewStub(OpenChannel(std::string(endpoint), PinnedChannelCredentials(ca_pem)));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kCall);
  v1::EnrolResponse response;
  const grpc::Status status = ((*stub).*method)(&context, request, &response);
  if (!status.ok()) return CallFailed(status, endpoint);
  return response;
}

// The CA among the certificates shown whose key is the one the token names, and that really issued the server's certificate.
absl::StatusOr<std::string> PinnedCa(std::string_view endpoint, const Hash& ca_spki, absl::Time now) {
  ASSIGN_OR_RETURN(const std::vector<std::string> chain, FetchServerChain(endpoint, kDial));
  for (const std::string& pem : chain) {
    ASSIGN_OR_RETURN(const CertificateFacts facts, ReadCertificate(pem));
    if (!facts.is_ca || facts.spki_hash != ca_spki) continue;
    RETURN_IF_ERROR(Annotate(CheckIssued(chain.front(), pem, now), std::string("the server at ") + std::string(endpoint)));
    return pem;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the CA at ", ToAbsl(endpoint), " is not the one this token was made for: either the endpoint is another "
                   "organization's, or somebody stands between. Nothing was sent. Check the endpoint, or make a new token there"));
}

}  // namespace

std::string EnrolledAs::Uri() const {
  Identity identity;
  identity.kind = Identity::Kind::kAgent;
  identity.org = org;
  identity.account = account;
  identity.region = region;
  identity.name = name;
  return identity.ToUri();
}

std::string EnrolledAs::Encode() const {
  std::string text(kFirstLine);
  text += "\nuuid " + uuid.ToString() + "\nuri " + Uri() + "\norigin " + origin + "\nlog_key " + log_key.Encode() + "\ncarries " +
          carries + "\nenrolled_leaf " + std::to_string(enrolled_leaf) + "\naggregator_ahead_ns " +
          std::to_string(absl::ToInt64Nanoseconds(aggregator_ahead)) + "\n";
  return text;
}

absl::StatusOr<EnrolledAs> EnrolledAs::Decode(std::string_view text) {
  std::map<std::string, std::string, std::less<>> fields;
  bool first = true;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return absl::DataLossError("the last line is cut short");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (first && line != kFirstLine) return absl::DataLossError("not an agent's identity of this version");
    if (!first) {
      const size_t space = line.find(' ');
      if (space == std::string_view::npos) return absl::DataLossError("a line has no value");
      fields.emplace(line.substr(0, space), line.substr(space + 1));
    }
    first = false;
  }
  EnrolledAs as;
  const std::optional<Uuid> uuid = Uuid::Parse(fields["uuid"]);
  const std::optional<Identity> identity = Identity::Parse(fields["uri"]);
  const std::optional<uint64_t> leaf = ParseUint(fields["enrolled_leaf"]);
  const std::string& ahead = fields["aggregator_ahead_ns"];
  const bool behind = ahead.starts_with('-');
  const std::optional<uint64_t> ahead_ns = ParseUint(std::string_view(ahead).substr(behind ? 1 : 0));
  if (!uuid || !identity || identity->kind != Identity::Kind::kAgent || !leaf || !ahead_ns || *ahead_ns > INT64_MAX) {
    return absl::DataLossError("uuid, uri, enrolled_leaf or aggregator_ahead_ns is missing or malformed");
  }
  ASSIGN_OR_RETURN(as.log_key, NoteKey::Decode(fields["log_key"]));
  as.uuid = *uuid;
  as.org = identity->org;
  as.account = identity->account;
  as.region = identity->region;
  as.name = identity->name;
  as.origin = fields["origin"];
  as.carries = fields["carries"];
  as.enrolled_leaf = *leaf;
  as.aggregator_ahead = absl::Nanoseconds(static_cast<int64_t>(*ahead_ns)) * (behind ? -1 : 1);
  if (as.origin.empty()) return absl::DataLossError("origin is missing");
  return as;
}

absl::StatusOr<std::unique_ptr<Enrolment>> Enrolment::Open(std::string_view state_dir, Fs& fs, const Clock& clock, Rng& rng) {
  const std::string dir = JoinPath(state_dir, "identity");
  RETURN_IF_ERROR(fs.MakeDirs(dir, 0700));
  const std::string key_path = JoinPath(dir, "identity.key");
  absl::StatusOr<std::string> key_pem = ReadFile(fs, key_path, 64 << 10);
  SigningKey key;
  if (absl::IsNotFound(key_pem.status())) {
    // A certificate without its identity key: making another key would make another agent, silently.
    if (fs.Facts(JoinPath(dir, "enrolled")).ok()) return Damaged(key_path, "it is gone, although this agent is enrolled");
    key = SigningKey::Generate(rng);
    std::string pem = key.ToPem();
    const absl::Status written = WriteFileAtomically(fs, key_path, pem, 0600);
    Cleanse(pem);
    RETURN_IF_ERROR(written);
  } else {
    RETURN_IF_ERROR(key_pem.status());
    absl::StatusOr<SigningKey> read = SigningKey::FromPem(*key_pem);
    Cleanse(*key_pem);
    if (!read.ok()) return Damaged(key_path, ToStd(read.status().message()));
    key = *std::move(read);
  }

  std::unique_ptr<Enrolment> enrolment(new Enrolment(dir, fs, clock, std::move(key)));
  const std::string path = JoinPath(dir, "enrolled");
  const absl::StatusOr<std::string> text = ReadFile(fs, path, 64 << 10);
  if (absl::IsNotFound(text.status())) return enrolment;
  RETURN_IF_ERROR(text.status());
  absl::StatusOr<EnrolledAs> as = EnrolledAs::Decode(*text);
  if (!as.ok()) return Damaged(path, ToStd(as.status().message()));
  enrolment->enrolled_ = *std::move(as);

  // A certificate that is missing or does not fit is no loss: the identity key gets another.
  const absl::StatusOr<std::string> tls = ReadFile(fs, enrolment->tls_files().cert, 64 << 10);
  const absl::StatusOr<CertificateFacts> facts = tls.ok() ? ReadCertificate(*tls) : tls.status();
  const absl::StatusOr<Hash> tls_key = tls.ok() ? SpkiHashOfKey(*tls) : tls.status();
  if (facts.ok() && tls_key.ok() && *tls_key == facts->spki_hash) {
    enrolment->Remember(*facts);
  }
  return enrolment;
}

TlsFiles Enrolment::tls_files() const {
  return TlsFiles{JoinPath(dir_, "tls.pem"), JoinPath(dir_, "tls.pem"), JoinPath(dir_, "ca.crt")};
}

void Enrolment::Remember(const CertificateFacts& facts) {
  valid_from_ = facts.not_before;
  renew_at_ = facts.not_before + (facts.not_after - facts.not_before) / 2 - enrolled_->aggregator_ahead;
}

absl::Time Enrolment::RenewAt() const { return renew_at_; }

// Checks every word of the answer against what was asked, then keeps it.
absl::Status Enrolment::Keep(const Answer& answer, const EnrolledAs& expected, const std::string& tls_key_pem) {
  const v1::EnrolResponse& response = answer.response;
  EnrolledAs as = expected;
  if (response.agent_uuid().size() != 16) return absl::InternalError("the aggregator answered without a uuid");
  as.uuid = Uuid::FromBytes(response.agent_uuid());
  as.org = response.org();
  as.origin = response.origin();
  as.carries = response.carries();
  as.enrolled_leaf = response.enrolment_leaf();
  as.aggregator_ahead = absl::FromUnixNanos(response.wall_ns()) - answer.received;
  ASSIGN_OR_RETURN(as.log_key, NoteKey::Decode(response.log_vkey()));
  if (as.log_key.name != as.origin) return absl::InternalError("the aggregator's log key is for another log than it names");
  if (enrolled_ && (as.uuid != enrolled_->uuid || as.org != enrolled_->org)) {
    return absl::InternalError("the aggregator answered for another agent than the one that asked");
  }
  ASSIGN_OR_RETURN(const CertificateFacts facts, ReadCertificate(response.certificate_pem()));
  ASSIGN_OR_RETURN(const Hash our_key, SpkiHashOfKey(tls_key_pem));
  if (facts.uris != std::vector<std::string>{as.Uri()} || facts.spki_hash != our_key) {
    return absl::InternalError("the aggregator's certificate is for another name or key than was asked for");
  }
  RETURN_IF_ERROR(CheckIssued(response.certificate_pem(), response.ca_pem(), facts.not_before + absl::Seconds(1)));

  if (absl::AbsDuration(as.aggregator_ahead) > kClockIsOff) {
    LogWarn("This machine's clock differs from the aggregator's; records carry both times, but set the clock.",
            {{"aggregator_ahead", absl::FormatDuration(absl::Trunc(as.aggregator_ahead, absl::Seconds(1)))}});
  }
  const TlsFiles files = tls_files();
  RETURN_IF_ERROR(WriteFileAtomically(fs_, files.ca, response.ca_pem()));
  std::string pair = tls_key_pem + response.certificate_pem();
  const absl::Status written = WriteFileAtomically(fs_, files.cert, pair, 0600);
  Cleanse(pair);
  RETURN_IF_ERROR(written);
  RETURN_IF_ERROR(WriteFileAtomically(fs_, JoinPath(dir_, "enrolled"), as.Encode()));
  enrolled_ = std::move(as);
  Remember(facts);
  return absl::OkStatus();
}

absl::Status Enrolment::Enrol(std::string_view endpoint, std::string_view token_text, std::string_view account,
                              std::string_view region, std::string_view name, std::string_view version) {
  EnrolledAs wanted;
  wanted.account = std::string(account);
  wanted.region = std::string(region);
  wanted.name = std::string(name);
  if (enrolled_) {
    if (enrolled_->account == wanted.account && enrolled_->region == wanted.region && enrolled_->name == wanted.name) {
      return absl::OkStatus();
    }
    return absl::FailedPreconditionError(
        "this state directory belongs to " + enrolled_->account + "/" + enrolled_->region + "/" + enrolled_->name +
        ", the configuration says " + wanted.account + "/" + wanted.region + "/" + wanted.name +
        ". An agent keeps its name for life: correct the configuration, or give the new agent an empty state directory");
  }
  ASSIGN_OR_RETURN(JoinToken token, JoinToken::Decode(token_text));
  ASSIGN_OR_RETURN(const std::string ca_pem, PinnedCa(endpoint, token.ca_spki, clock_.Wall()));

  ASSIGN_OR_RETURN(std::string tls_key, NewTlsKeyPem());
  v1::EnrolRequest request;
  ASSIGN_OR_RETURN(*request.mutable_csr_pem(), NewCsrPem(tls_key));
  request.set_token_secret(token.secret);
  request.set_account(wanted.account);
  request.set_region(wanted.region);
  request.set_name(wanted.name);
  request.set_identity_key(std::string(View(key_.public_key())));
  request.set_version(std::string(version));
  const Signature proof = key_.Sign(kEnrolLabel, EnrolProofMessage(request.csr_pem(), token.secret, account, region, name));
  request.set_proof(std::string(View(proof)));
  Cleanse(token.secret);

  absl::StatusOr<v1::EnrolResponse> response = Call(endpoint, ca_pem, &v1::Enrol::Stub::Enrol, request);
  if (!response.ok()) return response.status();
  const absl::Status kept = Keep(Answer{*std::move(response), clock_.Wall()}, wanted, tls_key);
  Cleanse(tls_key);
  return kept;
}

absl::Status Enrolment::Renew(std::string_view endpoint) {
  if (!enrolled_) return absl::FailedPreconditionError("this agent is not enrolled: it needs a join token");
  ASSIGN_OR_RETURN(const std::string ca_pem, ReadFile(fs_, tls_files().ca, 64 << 10));
  ASSIGN_OR_RETURN(std::string tls_key, NewTlsKeyPem());
  v1::RenewRequest request;
  ASSIGN_OR_RETURN(*request.mutable_csr_pem(), NewCsrPem(tls_key));
  request.set_agent_uuid(std::string(enrolled_->uuid.view()));
  const auto ask = [&]() -> absl::StatusOr<v1::EnrolResponse> {
    request.set_wall_ns(clock_.WallNanos());
    const Signature proof = key_.Sign(
        kEnrolLabel, RenewProofMessage(enrolled_->uuid, request.csr_pem(), request.wall_ns(), request.challenge()));
    request.set_proof(std::string(View(proof)));
    return Call(endpoint, ca_pem, &v1::Enrol::Stub::Renew, request);
  };
  absl::StatusOr<v1::EnrolResponse> response = ask();
  if (response.ok() && !response->challenge().empty()) {
    // Our clock is off: the aggregator wants to see that we sign now.
    request.set_challenge(response->challenge());
    response = ask();
  }
  if (!response.ok()) return response.status();
  if (response->certificate_pem().empty()) {
    return absl::UnavailableError("the aggregator asked for another proof of time; renewal is tried again");
  }
  const absl::Status kept = Keep(Answer{*std::move(response), clock_.Wall()}, *enrolled_, tls_key);
  Cleanse(tls_key);
  return kept;
}

}  // namespace orgtrail
