#include "tests/redteam/rogue.h"

#include <filesystem>

#include "common/base/random.h"
#include "common/base/status.h"
#include "common/fs/file.h"
#include "common/rpc/credentials.h"

namespace orgtrail::e2e {
namespace {

grpc::ByteBuffer Wrap(std::string bytes) {
  grpc::Slice slice(bytes.data(), bytes.size());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

PushStream::PushStream(const std::string& server, const TlsFiles& files, absl::Duration limit)
    : channel_(OpenChannel(server, MutualChannelCredentials(files))) {
  context_.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(limit));
  const grpc::internal::RpcMethod method("/orgtrail.v1.Ingest/Push", grpc::internal::RpcMethod::BIDI_STREAMING, channel_);
  stream_.reset(grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(channel_.get(), method, &context_));
}

PushStream::~PushStream() { Finish(); }

bool PushStream::Hello(const Uuid& uuid) {
  v1::PushRequest request;
  request.mutable_hello()->set_agent_uuid(std::string(uuid.view()));
  request.mutable_hello()->set_version("red");
  return Raw(request.SerializeAsString());
}

bool PushStream::Frame(const std::string& frame) {
  v1::PushRequest request;
  request.set_frame(frame);
  return Raw(request.SerializeAsString());
}

bool PushStream::Raw(std::string bytes) { return stream_->Write(Wrap(std::move(bytes))); }

std::optional<v1::PushResponse> PushStream::Next() {
  grpc::ByteBuffer buffer;
  if (!stream_->Read(&buffer)) {
    ended_ = true;
    return std::nullopt;
  }
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return std::nullopt;
  for (const grpc::Slice& s : slices) bytes.append(reinterpret_cast<const char*>(s.begin()), s.size());
  v1::PushResponse response;
  if (!response.ParseFromString(bytes)) return std::nullopt;
  return response;
}

grpc::Status PushStream::Finish() {
  if (!finished_) {
    if (!ended_) context_.TryCancel();
    finished_ = stream_->Finish();
  }
  return *finished_;
}

Rogue::Rogue(Organization& organization, const std::string& n, const std::string& account, const std::string& token)
    : name(n), organization_(organization), state_dir_(organization.Path("rogues/" + n)), seed_(std::hash<std::string>()(n)) {
  std::filesystem::create_directories(state_dir_);
  std::string text = token;
  if (text.empty()) {
    const std::string file = state_dir_ + "/token";
    organization.Token({.account = account, .name = n}, file);
    text = ReadWhole(file);
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  absl::StatusOr<std::unique_ptr<Enrolment>> opened = Enrolment::Open(state_dir_, PosixFs(), SystemClock(), SystemRng());
  CHECK_OK(opened.status());
  enrolment_ = *std::move(opened);
  absl::Status enrolled;
  const bool done = Eventually(kSoon, [&] {   // many from one address are told to wait
    enrolled = enrolment_->Enrol(organization.enrol_endpoint(), text, account, "us-east-1", n, "red");
    return !absl::IsResourceExhausted(enrolled);
  });
  if (!done || !enrolled.ok()) Fail(n + " cannot enrol: " + Describe(enrolled));
}

Forger Rogue::Signer() const {
  const EnrolledAs& as = *enrolment_->enrolled();
  Forger forger({as.uuid, as.org, as.account, as.region, as.name}, seed_, SystemClock());
  absl::StatusOr<SigningKey> key = SigningKey::FromPem(ReadWhole(state_dir_ + "/identity/identity.key"));
  CHECK_OK(key.status());
  forger.key = *std::move(key);
  forger.origin = as.origin;
  return forger;
}

absl::Status Rogue::Renew() { return enrolment_->Renew(organization_.enrol_endpoint()); }

Answer Rogue::Send(const std::vector<std::string>& frames, absl::Duration limit) const {
  (void)limit;
  return SendAs(files(), uuid(), frames);
}

Answer Rogue::SendAs(const TlsFiles& files, const Uuid& hello, const std::vector<std::string>& frames) const {
  PushStream stream(organization_.server(), files);
  Answer answer;
  stream.Hello(hello);
  for (const std::string& frame : frames) stream.Frame(frame);
  std::optional<BatchHeader> last;
  if (!frames.empty()) {
    if (const absl::StatusOr<FrameView> view = FrameView::Decode(frames.back()); view.ok()) {
      if (absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(view->entry); entry.ok()) last = entry->header;
    }
  }
  while (const std::optional<v1::PushResponse> r = stream.Next()) {
    if (r->has_refusal()) {
      const v1::Refusal& refusal = r->refusal();
      answer.code = refusal.code();
      answer.detail = refusal.detail();
      answer.epoch = refusal.epoch();
      answer.batch_seq = refusal.batch_seq();
      answer.retry_ms = refusal.retry_ms();
      answer.closes = refusal.closes();
      if (!answer.closes) return answer;
    } else if (r->has_welcome() && frames.empty()) {
      return answer;
    }
    for (const v1::LeafReceipt& leaf : r->receipt().leaves()) {
      if (!last || leaf.epoch() != last->epoch || leaf.batch_seq() != last->batch_seq) continue;
      answer.duplicate = leaf.duplicate();
      answer.leaf_index = leaf.leaf_index();
      return answer;
    }
  }
  const grpc::Status status = stream.Finish();
  answer.status = status.error_code();
  if (answer.code.empty()) {   // refused before a word was said
    answer.code = status.error_message().substr(0, status.error_message().find(' '));
    answer.detail = status.error_message();
  }
  return answer;
}

BatchHeader HeaderOf(const std::string& frame) {
  const absl::StatusOr<FrameView> view = FrameView::Decode(frame);
  CHECK_OK(view.status());
  const absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(view->entry);
  CHECK_OK(entry.status());
  return entry->header;
}

}  // namespace orgtrail::e2e
