#include "agent/uplink/uplink.h"

#include <thread>

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/sync_stream.h>

#include "agent/uplink/backoff.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/worker.h"
#include "common/format/push_request.h"
#include "common/rpc/credentials.h"

namespace orgtrail {
namespace {

constexpr char kPush[] = "/orgtrail.v1.Ingest/Push";
constexpr absl::Duration kConnect = absl::Seconds(10);
constexpr absl::Duration kRenewAgain = absl::Minutes(1);
constexpr absl::Duration kDial = absl::Milliseconds(100);    // how often a stop is looked at while a connection is made
constexpr absl::Duration kLook = absl::Seconds(1);           // … and stalls while a stream is open; what cannot wait wakes it

using Stream = grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

grpc::Slice Own(std::string bytes) {
  auto* kept = new std::string(std::move(bytes));
  return grpc::Slice(kept->data(), kept->size(), [](void* p) { delete static_cast<std::string*>(p); }, kept);
}

grpc::ByteBuffer FrameMessage(std::string frame) {
  const grpc::Slice slices[2] = {grpc::Slice(FramePrefix(frame.size())), Own(std::move(frame))};
  return grpc::ByteBuffer(slices, 2);
}

std::string Flat(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string out;
  if (!buffer.Dump(&slices).ok()) return out;
  for (const grpc::Slice& s : slices) out.append(reinterpret_cast<const char*>(s.begin()), s.size());
  return out;
}

}  // namespace

struct Uplink::Impl {
  Impl(const UplinkOptions& o, NoteKey log_key, Spool& s, const Clock& c, Rng& r, Metrics& m, UplinkReports reports)
      : options(o),
        clock(c),
        rng(r),
        report(reports.report),
        session(o.session, std::move(log_key), s, c, std::move(reports)),
        streams(m.GetCounter("orgtrail_uplink_streams_total", "Streams opened to an aggregator; many mean an unstable link.")),
        failures(m.GetCounter("orgtrail_uplink_failures_total", "Streams that ended other than by a stop.")),
        frames(m.GetCounter("orgtrail_uplink_batches_sent_total", "Batches written to a stream, repeats included.")),
        bytes(m.GetCounter("orgtrail_uplink_sent_bytes_total", "Bytes of those batches.")) {
    Gauge& connected = m.GetGauge("orgtrail_uplink_connected", "1 while an aggregator has said welcome.");
    Gauge& unacked = m.GetGauge("orgtrail_uplink_unacked_bytes", "Sent and not yet proven to be logged.");
    Gauge& receipt = m.GetGauge("orgtrail_uplink_last_receipt_timestamp_seconds", "When the last receipt verified; 0: none since start.");
    Gauge& evidence = m.GetGauge("orgtrail_uplink_evidence_files", "Contradictions of the log kept as evidence since start: call governance.");
    // Metrics may outlive the uplink; it asks what is shared.
    m.OnCollect([shared = shared, &connected, &unacked, &receipt, &evidence] {
      shared->Peek([&](const Shared& sh) {
        connected.Set(sh.state == UplinkState::kConnected || (sh.state == UplinkState::kDraining && sh.welcomed) ? 1 : 0);
        unacked.Set(static_cast<double>(sh.facts.unacked_bytes));
        receipt.Set(static_cast<double>(sh.facts.last_receipt_ns) / 1e9);
        evidence.Set(static_cast<double>(sh.facts.evidence));
      });
    });
  }

  struct Shared {
    UplinkState state = UplinkState::kConnecting;
    bool stopping = false, draining = false, welcomed = false;
    bool renewed = false;                     // a certificate is on disk that the stream in use does not have
    grpc::ClientContext* context = nullptr;   // of the stream in use
    Tick connected{};
    std::string endpoint, last_error;
    absl::Status read_ended;                  // why the reading thread gave up
    bool reading = false;
    UplinkFacts facts;
  };

  bool stopping() const {
    return shared->Peek([](const Shared& s) { return s.stopping; });
  }

  // A connection and its stream. Ends the stream when it goes.
  struct Link {
    std::string endpoint;
    std::shared_ptr<grpc::Channel> channel;
    grpc::ClientContext context;
    std::unique_ptr<Stream> stream;
    bool finished = false;
    ~Link() {
      if (stream == nullptr || finished) return;
      context.TryCancel();
      (void)stream->Finish();
    }
  };

  void Run() {
    NameThread("uplink");
    Backoff backoff(rng);
    std::unique_ptr<Link> next;   // open already: of a renewed certificate
    for (size_t turn = 0; !stopping(); ++turn) {
      const std::string endpoint = next ? next->endpoint : options.endpoints[turn % options.endpoints.size()];
      const Tick begun = clock.Now();
      const absl::Status ended = RunStream(endpoint, next);
      absl::Duration healthy;
      shared->With([&](Shared& s) {
        healthy = s.welcomed ? clock.Now() - s.connected : absl::ZeroDuration();
        s.welcomed = false;
        if (s.state != UplinkState::kStopped) s.state = s.draining ? UplinkState::kDraining : UplinkState::kConnecting;
        if (!s.stopping) s.last_error = Describe(ended);
      });
      if (stopping()) return;
      if (next) {
        LogInfo("The stream goes on over a connection with the certificate on disk.", {{"endpoint", next->endpoint}});
        --turn;
        continue;
      }
      // A stream that is refused before its first message says why in its status only.
      if (const std::string_view said = ToStd(ended.message()); report && absl::IsUnauthenticated(ended) && said.starts_with("AUTH_")) {
        report(said.substr(0, said.find(' ')), said);
      }
      failures.Add();
      if (healthy >= Backoff::kHealthy) turn = options.endpoints.size() - 1;   // it worked: the preferred one again
      const absl::Duration wait = backoff.Next(healthy);
      LogWarn("The stream to the aggregator ended; what is captured waits in the spool.",
              {{"endpoint", endpoint}, {"error", Describe(ended)}, {"after", absl::FormatDuration(absl::Trunc(clock.Now() - begun, absl::Milliseconds(1)))},
               {"next", absl::FormatDuration(absl::Trunc(wait, absl::Milliseconds(1)))}});
      shared->WhenFor(wait, [](const Shared& s) { return s.stopping; }, [](Shared&, bool) {});
    }
  }

  // A channel of its own per stream: its handshake reads the certificate that is on disk now.
  std::unique_ptr<Link> NewLink(const std::string& endpoint) const {
    auto link = std::make_unique<Link>();
    link->endpoint = endpoint;
    link->channel = OpenChannel(endpoint, MutualChannelCredentials({options.cert, options.key, options.ca}));
    return link;
  }
  static void OpenStream(Link& link) {
    const grpc::internal::RpcMethod method(kPush, grpc::internal::RpcMethod::BIDI_STREAMING, link.channel);
    link.stream.reset(
        grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(link.channel.get(), method, &link.context));
  }

  // Over `next` when it is open. When the stream ends because another one is open instead, that one is `next`.
  absl::Status RunStream(const std::string& endpoint, std::unique_ptr<Link>& next) {
    std::unique_ptr<Link> link = next ? std::move(next) : NewLink(endpoint);
    shared->With([&](Shared& s) {
      s.endpoint = endpoint;
      s.context = &link->context;
      s.reading = true;
      s.read_ended = absl::OkStatus();
    });
    struct Forget {
      Impl& impl;
      ~Forget() {
        impl.shared->With([](Shared& s) { s.context = nullptr; });
      }
    } forget{*this};
    if (stopping()) return absl::CancelledError("stopping");
    if (link->stream == nullptr) {
      shared->With([](Shared& s) { s.renewed = false; });   // this connection has what is on disk
      RETURN_IF_ERROR(Connect(*link->channel, endpoint));
      OpenStream(*link);
    }
    streams.Add();
    Stream& stream = *link->stream;
    const grpc::Slice hello = Own(session.Begin());
    std::thread reader([this, &stream, &link] { Read(stream, link->context); });
    absl::Status ended;
    if (stream.Write(grpc::ByteBuffer(&hello, 1))) ended = Write(stream, endpoint, next);
    if (!ended.ok() || stopping() || next) link->context.TryCancel();   // else the stream has ended, and Finish says why
    reader.join();
    link->finished = true;
    const grpc::Status finished = stream.Finish();
    if (next) return absl::OkStatus();
    const absl::Status read = shared->Peek([](const Shared& s) { return s.read_ended; });
    if (!read.ok()) return read;
    if (!ended.ok()) return ended;
    return finished.ok() ? absl::UnavailableError("the aggregator ended the stream") : FromGrpc(finished);
  }

  // In looks of a moment, so that stopping does not wait for an aggregator that is not there.
  absl::Status Connect(grpc::Channel& channel, const std::string& endpoint) {
    const auto until = std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kConnect);
    while (!channel.WaitForConnected(std::min(until, std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kDial)))) {
      if (stopping()) return absl::CancelledError("stopping");
      if (std::chrono::system_clock::now() >= until) return absl::UnavailableError("no connection to " + endpoint + " within 10 s" + WhyNot(channel));
    }
    return absl::OkStatus();
  }

  // gRPC says why a connection fails only to a call.
  static std::string WhyNot(grpc::Channel& channel) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kLook));
    const grpc::internal::RpcMethod method(kPush, grpc::internal::RpcMethod::BIDI_STREAMING);
    const std::unique_ptr<Stream> call(
        grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(&channel, method, &context));
    const std::string words = call->Finish().error_message();
    if (words.find("refused") != std::string::npos || words.find("esolution") != std::string::npos) return ": " + words;
    return ": " + words + ". If the address is right, compare both machines' clocks: certificates count from one time to another";
  }

  // The connection with the renewed certificate, while the stream in use goes on.
  struct Renewal {
    std::unique_ptr<Link> link;
    Tick since{}, not_before{};
  };
  // One look; true when `next` is open.
  bool Renew(Renewal& r, const std::string& endpoint, Tick now, std::unique_ptr<Link>& next) {
    if (r.link == nullptr) {
      if (now < r.not_before || !shared->Peek([](const Shared& s) { return s.renewed && s.welcomed; })) return false;
      r.link = NewLink(endpoint);
      r.since = now;
    }
    if (r.link->channel->GetState(true) == GRPC_CHANNEL_READY) {
      shared->With([](Shared& s) { s.renewed = false; });
      OpenStream(*r.link);
      next = std::move(r.link);
      return true;
    }
    if (now - r.since > kConnect) {
      LogWarn("No connection with the renewed certificate yet; the stream in use goes on.", {{"endpoint", endpoint}});
      r.link.reset();
      r.not_before = now + kRenewAgain;
    }
    return false;
  }

  absl::Status Write(Stream& stream, const std::string& endpoint, std::unique_ptr<Link>& next) {
    Tick looked = clock.Now();
    Renewal renewal;
    for (;;) {
      const bool go = shared->Peek([](const Shared& s) { return !s.stopping && s.reading; });
      if (!go) return absl::OkStatus();
      if (const Tick now = clock.Now(); now - looked > (renewal.link ? kDial : kLook)) {
        looked = now;
        RETURN_IF_ERROR(session.CheckStalls());
        if (Renew(renewal, endpoint, now, next)) return absl::OkStatus();
      }
      ASSIGN_OR_RETURN(std::optional<std::string> frame, session.Next());
      if (std::optional<std::string> answer = session.Answer()) {
        const grpc::Slice said = Own(*std::move(answer));
        if (!stream.Write(grpc::ByteBuffer(&said, 1))) return absl::OkStatus();
      }
      if (!frame) {
        session.Wait(renewal.link ? kDial : kLook);
        continue;
      }
      frames.Add();
      bytes.Add(static_cast<double>(frame->size()));
      if (!stream.Write(FrameMessage(*std::move(frame)))) return absl::OkStatus();   // Finish says why
    }
  }

  void Read(Stream& stream, grpc::ClientContext& context) {
    NameThread("uplink-read");
    grpc::ByteBuffer message;
    absl::Status status;
    while (stream.Read(&message)) {
      status = session.OnMessage(Flat(message));
      shared->With([&](Shared& s) {
        s.facts = session.Facts();
        if (!s.welcomed && session.welcomed()) {
          s.welcomed = true;
          s.connected = clock.Now();
          s.state = s.draining ? UplinkState::kDraining : UplinkState::kConnected;
          s.last_error.clear();
        }
      });
      if (!status.ok()) break;
    }
    if (!status.ok()) context.TryCancel();
    shared->With([&](Shared& s) {
      s.reading = false;
      s.read_ended = status;
    });
    session.Wake();
  }

  const UplinkOptions options;
  const Clock& clock;
  Rng& rng;
  const std::function<void(std::string_view code, std::string_view detail)> report;
  UplinkSession session;
  std::shared_ptr<Guarded<Shared>> shared = std::make_shared<Guarded<Shared>>();
  Counter& streams;
  Counter& failures;
  Counter& frames;
  Counter& bytes;
  std::thread thread;
};

Uplink::Uplink(const UplinkOptions& options, NoteKey log_key, Spool& spool, const Clock& clock, Rng& rng, Metrics& metrics,
               UplinkReports reports)
    : impl_(std::make_unique<Impl>(options, std::move(log_key), spool, clock, rng, metrics, std::move(reports))) {
  CHECK(!options.endpoints.empty());
}

Uplink::~Uplink() { Stop(); }

void Uplink::Start() {
  impl_->thread = std::thread([this] { impl_->Run(); });
}

void Uplink::Renewed() {
  impl_->shared->With([](Impl::Shared& s) { s.renewed = true; });
  impl_->session.Wake();
}

bool Uplink::Drain(absl::Duration limit) {
  impl_->shared->With([](Impl::Shared& s) {
    s.draining = true;
    if (s.state != UplinkState::kStopped) s.state = UplinkState::kDraining;
  });
  const Tick until = impl_->clock.Now() + limit;
  while (!impl_->session.Drained()) {
    const absl::Duration left = until - impl_->clock.Now();
    if (left <= absl::ZeroDuration()) return false;
    // Every answer passes through here, so this wakes with each.
    impl_->shared->WhenFor(std::min(left, absl::Milliseconds(20)), [](const Impl::Shared& s) { return s.stopping; },
                           [](Impl::Shared&, bool) {});
  }
  return true;
}

void Uplink::Stop() {
  impl_->shared->With([](Impl::Shared& s) {
    s.stopping = true;
    s.state = UplinkState::kStopped;
    if (s.context != nullptr) s.context->TryCancel();
  });
  impl_->session.Wake();
  if (impl_->thread.joinable()) impl_->thread.join();
}

UplinkSession& Uplink::session() { return impl_->session; }
UplinkState Uplink::state() const {
  return impl_->shared->Peek([](const Impl::Shared& s) { return s.state; });
}
std::string Uplink::endpoint() const {
  return impl_->shared->Peek([](const Impl::Shared& s) { return s.endpoint; });
}
std::string Uplink::last_error() const {
  return impl_->shared->Peek([](const Impl::Shared& s) { return s.last_error; });
}

}  // namespace orgtrail
